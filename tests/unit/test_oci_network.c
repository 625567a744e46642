/* SPDX-License-Identifier: Apache-2.0
 *
 * Interfaces of a network namespace as a guest's: what is found there, what the agent makes of the words in
 * another namespace, which stands for the guest, and where frames go. Needs root, as the runtime does.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include "guest/agent/net.h"
#include "shim/network.h"
#include "shim/redirect.h"
#include "tests/unit/util.h"
#include "vmm/util.h"

#define HEADER 10 /* before each frame of a tap device's, until somebody says that it is 12 */

static struct oci_network net;
static struct net_config taps[NET_MAX];
static struct err e;
static int lan, container; /* namespaces */

static void run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void run(const char *fmt, ...)
{
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (system(text))
		ck_abort_msg("%s", text);
}

static void enter(int ns)
{
	ck_assert_int_eq(setns(ns, CLONE_NEWNET), 0);
}

static int new_namespace(void)
{
	int fd;

	if (unshare(CLONE_NEWNET))
		ck_abort_msg("no network namespace can be made: %s", strerror(errno));
	fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	run("ip link set lo up");
	return fd;
}

/* A pair of interfaces: one here, one in the LAN. */
static void plug(const char *name, unsigned int mtu)
{
	run("ip link add %s mtu %u type veth peer name lan_%s mtu %u && ip link set lan_%s netns "
	    "/proc/%d/fd/%d && ip link set %s up",
	    name, mtu, name, mtu, name, (int)getpid(), lan, name);
	enter(lan);
	run("ip link set lan_%s up", name);
	enter(container);
}

static void setup(void)
{
	lan = new_namespace();
	container = new_namespace();
}

static const char *path_of(int ns)
{
	static char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", ns);
	return path;
}

/* --- what is found --- */

START_TEST(found)
{
	plug("eth0", 1400);
	run("ip link set eth0 down && ip link set eth0 address 02:00:00:00:00:77 && ip link set eth0 up &&"
	    "ip addr add 10.9.0.2/24 dev eth0 && ip addr add 10.8.0.1 peer 10.8.0.2 dev eth0 && "
	    "ip addr add 10.7.0.1/24 dev eth0 noprefixroute && ip addr add fd09::2/64 dev eth0 nodad && "
	    "ip route add default via 10.9.0.1 metric 100 && ip route add 10.6.0.0/15 dev eth0 src 10.9.0.2 && "
	    "ip -6 route add default via fd09::1");
	ck_ok(oci_network_open(&net, NULL, &e));
	ck_assert_uint_eq(net.links, 1);
	ck_assert_str_eq(net.link[0].name, "eth0");
	ck_assert_uint_eq(net.link[0].mtu, 1400);
	ck_assert_mem_eq(net.link[0].mac, "\x02\0\0\0\0\x77", 6);
	ck_assert_str_eq(net.link[0].words,
			 ",ip=10.9.0.2/24,ip=10.8.0.1/32,ip=10.7.0.1/24/noroute,ip=fd09::2/64,"
			 "route=10.6.0.0/15/0//10.9.0.2,route=10.8.0.2/32/0//10.8.0.1,"
			 "route=0.0.0.0/0/100/10.9.0.1,route=::/0/1024/fd09::1");
	oci_network_close(&net);
}
END_TEST

/* Those that are down, and lo, are nobody's; each of the others has the name that it is to have. */
START_TEST(every_name)
{
	static const char *const made[] = {"wan", "eth1", "eth0", "eth7"};

	ck_ok(oci_network_open(&net, NULL, &e));
	ck_assert_uint_eq(net.links, 0);
	oci_network_close(&net);
	for (size_t i = 0; i < ARRAY_SIZE(made); i++)
		plug(made[i], 1500);
	plug("off", 1500);
	run("ip link set off down");
	ck_ok(oci_network_open(&net, NULL, &e));
	ck_assert_uint_eq(net.links, 4);
	ck_assert_str_eq(net.link[0].name, "eth0");
	ck_assert_str_eq(net.link[0].words, "");
	ck_assert_str_eq(net.link[1].name, "eth1");
	ck_assert_str_eq(net.link[1].words, "");
	ck_assert_str_eq(net.link[2].words[6] == 'w' ? net.link[2].words : net.link[3].words, ",name=wan");
	ck_assert_str_eq(net.link[2].words[6] == 'w' ? net.link[3].words : net.link[2].words, ",name=eth7");
	oci_network_close(&net);
}
END_TEST

START_TEST(refused)
{
	ck_refused(oci_network_open(&net, "/no/such", &e), ENOENT, "/no/such");
	ck_refused(oci_network_open(&net, "/proc/self/ns/uts", &e), EINVAL, "/proc/self/ns/uts");
	ck_refused(oci_network_open(&net, "/proc/self/ns/net", &e), EINVAL, "is the host's");
	plug("eth0", 1500);
	run("ip addr add 10.9.0.2/24 dev eth0 && ip route add 10.1.0.0/16 nexthop via 10.9.0.3 nexthop via 10.9.0.4");
	ck_refused(oci_network_open(&net, NULL, &e), EOPNOTSUPP, "several next hops");
	run("ip route del 10.1.0.0/16 && ip tuntap add raw mode tun && ip link set raw up");
	ck_refused(oci_network_open(&net, NULL, &e), EOPNOTSUPP, "raw has no Ethernet");
	run("ip link set raw down && for i in $(seq 3 18); do ip addr add 10.9.0.$i/24 dev eth0; done");
	ck_refused(oci_network_open(&net, NULL, &e), E2BIG, "16 addresses");
	run("ip addr flush dev eth0 && for i in $(seq 33); do ip route add 10.1.0.$i dev eth0; done");
	ck_refused(oci_network_open(&net, NULL, &e), E2BIG, "32 routes");
	run("ip addr flush dev eth0; ip link del eth0");
	for (unsigned int i = 0; i <= NET_MAX; i++) {
		char name[16];

		snprintf(name, sizeof(name), "eth%u", i);
		plug(name, 1500);
	}
	ck_refused(oci_network_open(&net, NULL, &e), E2BIG, "8 network interfaces");
}
END_TEST

/* --- what the agent makes of it --- */

static void show(char *text, size_t size)
{
	FILE *f = popen("ip -o addr show dev eth0 scope global | sed 's/ valid_lft.*//; s/^[0-9]*: //'; ip route; "
			"ip -6 route | grep -v fe80; cat /sys/class/net/eth0/mtu /sys/class/net/eth0/address",
			"r");

	text[fread(text, 1, size - 1, f)] = 0;
	pclose(f);
}

START_TEST(guest_is_the_same)
{
	char before[4000], after[4000], word[5000];
	struct net_setup s;
	const char *what;

	plug("eth0", 1400);
	run("ip addr add 10.9.0.2/24 brd + dev eth0 && ip addr add 10.9.0.3/24 brd + dev eth0 && "
	    "ip addr add fd09::2/64 dev eth0 nodad && ip addr add fd09::3/128 dev eth0 nodad && "
	    "ip route add default via 10.9.0.1 metric 100 && ip route add 169.254.1.1 dev eth0 && "
	    "ip route add 10.1.0.0/16 via 169.254.1.1 && ip route add 10.6.0.0/15 dev eth0 src 10.9.0.3 && "
	    "ip route add 10.2.0.0/16 via 10.99.0.1 dev eth0 onlink && "
	    "ip -6 route add default via fd09::1 metric 3 && ip -6 route add fd10::/64 dev eth0 metric 9");
	ck_ok(oci_network_open(&net, NULL, &e));
	show(before, sizeof(before));
	snprintf(word, sizeof(word), "eth0,mtu=1400,mac=%02x:%02x:%02x:%02x:%02x:%02x%s", net.link[0].mac[0],
		 net.link[0].mac[1], net.link[0].mac[2], net.link[0].mac[3], net.link[0].mac[4],
		 net.link[0].mac[5], net.link[0].words);
	oci_network_close(&net);
	new_namespace();
	/* With an address that the copied guest had. */
	run("ip link add eth0 type veth peer name other && ip link set other up && ip addr add 10.3.0.1/16 dev eth0");
	ck_assert_int_eq(net_setup_parse(&s, word), 0);
	if (net_setup_apply(&s, &what))
		ck_abort_msg("%s", what);
	show(after, sizeof(after));
	ck_assert_str_eq(before, after);
}
END_TEST

/* --- frames --- */

static int open_lan(const char *name)
{
	struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int fd;

	enter(lan);
	at.sll_ifindex = (int)if_nametoindex(name);
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	enter(container);
	return fd;
}

/* A frame of type 0x88b5 (for experiments), or an ARP request for 10.9.0.2 to all. */
static size_t make_frame(uint8_t frame[60], bool arp)
{
	static const uint8_t request[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0,
					  6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 9, 0, 1, 0, 0, 0, 0, 0, 0, 10, 9, 0, 2};

	memset(frame, 0x5a, 60);
	memcpy(frame, request, arp ? sizeof(request) : 12);
	if (!arp)
		memcpy(frame + 12, "\x88\xb5", 2);
	return 60;
}

/* The next frame of our kind: within two seconds, or, if there is to be none, a tenth of one. */
static bool arrives(int fd, size_t header, const char type[2], bool expected)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint8_t frame[2000];

	while (poll(&p, 1, expected ? 2000 : 100) == 1) {
		ssize_t n = read(fd, frame, sizeof(frame));

		if (n >= (ssize_t)header + 14 && !memcmp(frame + header + 12, type, 2))
			return true;
	}
	return false;
}

START_TEST(frames)
{
	uint8_t frame[HEADER + 60] = {0};
	int wire, tap;

	plug("eth0", 1500);
	run("ip addr add 10.9.0.2/24 dev eth0");
	wire = open_lan("lan_eth0");
	ck_ok(oci_network_open(&net, NULL, &e));
	ck_ok(oci_network_join(&net, taps, &e));
	oci_network_close(&net);
	tap = (int)taps[0].fd;
	make_frame(frame + HEADER, false);
	ck_assert_int_eq(write(tap, frame, sizeof(frame)), sizeof(frame));
	ck_assert(arrives(wire, 0, "\x88\xb5", true));
	ck_assert_int_eq(send(wire, frame + HEADER, 60, 0), 60);
	ck_assert(arrives(tap, HEADER, "\x88\xb5", true));
	/* Whoever asks for the address asks the guest: the namespace that has it as well is silent. */
	make_frame(frame + HEADER, true);
	ck_assert_int_eq(send(wire, frame + HEADER, 60, 0), 60);
	ck_assert(arrives(tap, HEADER, "\x08\x06", true));
	ck_assert(!arrives(wire, 0, "\x08\x06", false));
}
END_TEST

static unsigned int queues(void)
{
	char text[16];
	FILE *f = popen("tc qdisc show | grep -c ' ingress '", "r");

	text[fread(text, 1, sizeof(text) - 1, f)] = 0;
	pclose(f);
	return (unsigned int)atoi(text);
}

START_TEST(what_is_left)
{
	static const char path[] = "/proc/self/ns/net";

	plug("eth0", 1500);
	plug("eth1", 9000);
	enter(lan);
	ck_ok(oci_network_open(&net, path_of(container), &e));
	enter(container);
	ck_ok(oci_network_join(&net, taps, &e));
	ck_assert_uint_eq(taps[1].mtu, 9000);
	ck_assert_uint_eq(queues(), 4);
	/* Another one cannot have what this one has. */
	ck_refused(oci_network_open(&net, NULL, &e), EBUSY, "another container's");
	/* As when the process is killed; the next one takes over. */
	close((int)taps[0].fd);
	close((int)taps[1].fd);
	ck_assert_uint_eq(queues(), 2);
	ck_ok(oci_network_open(&net, NULL, &e));
	ck_ok(oci_network_join(&net, taps, &e));
	/* The first one is deleted only now. */
	enter(lan);
	oci_network_leave(path_of(container));
	enter(container);
	ck_assert_uint_eq(queues(), 4);
	close((int)taps[0].fd);
	close((int)taps[1].fd);
	oci_network_leave(path); /* the caller's own: nothing */
	ck_assert_uint_eq(queues(), 2);
	enter(lan);
	oci_network_leave(path_of(container));
	oci_network_leave(path_of(container));
	oci_network_leave("/no/such");
	enter(container);
	ck_assert_uint_eq(queues(), 0);
	/* Somebody else's queue stays, and is in the way. */
	run("tc qdisc add dev eth1 ingress");
	ck_ok(oci_network_open(&net, NULL, &e));
	ck_refused(oci_network_join(&net, taps, &e), EBUSY, "eth1");
	close((int)taps[0].fd);
	close((int)taps[1].fd);
	enter(lan);
	oci_network_leave(path_of(container));
	enter(container);
	ck_assert_uint_eq(queues(), 1);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {found, every_name, refused, guest_is_the_same, frames, what_is_left};

	return run_tests("oci_network", tests, ARRAY_SIZE(tests), setup, NULL);
}

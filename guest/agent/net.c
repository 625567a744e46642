/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Beside the agent's other files: the image's own stays as it is, and may be read-only. */
#define DIRECTORY "/dev/.uvm"
#define FILE_NAME DIRECTORY "/resolv.conf"
#define RESOLV	  "/etc/resolv.conf"

/* --- the text --- */

/* A decimal number up to max, or -1. */
static int number(const char *text, int max)
{
	int v = 0;

	if (!*text)
		return -1;
	for (; *text; text++) {
		if (*text < '0' || *text > '9' || (v = v * 10 + (*text - '0')) > max)
			return -1;
	}
	return v;
}

static int hex(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c ? strchr(digits, c | ('A' <= c && c <= 'F' ? 0x20 : 0)) : NULL;

	return at ? (int)(at - digits) : -1;
}

static bool take_mac(struct net_setup *s, const char *text)
{
	for (int i = 0; i < 6; i++, text += 3) {
		int high = hex(text[0]), low = high < 0 ? -1 : hex(text[1]);

		if (low < 0 || text[2] != (i < 5 ? ':' : '\0'))
			return false;
		s->mac[i] = (uint8_t)(high << 4 | low);
	}
	return s->has_mac = true;
}

static bool take_ip(struct net_setup *s, char *text)
{
	char *slash = strchr(text, '/');
	int v6 = strchr(text, ':') != NULL;

	if (!slash)
		return false;
	*slash = '\0';
	s->prefix[v6] = number(slash + 1, v6 ? 128 : 32);
	s->has_ip[v6] = s->prefix[v6] > 0 &&
			inet_pton(v6 ? AF_INET6 : AF_INET, text,
				  v6 ? (void *)&s->ip6 : (void *)&s->ip) == 1;
	return s->has_ip[v6];
}

static bool take_gateway(struct net_setup *s, const char *text)
{
	int v6 = strchr(text, ':') != NULL;

	s->has_gateway[v6] = inet_pton(v6 ? AF_INET6 : AF_INET, text,
				       v6 ? (void *)&s->gateway6 : (void *)&s->gateway) == 1;
	return s->has_gateway[v6];
}

static bool take_dns(struct net_setup *s, const char *text)
{
	struct in6_addr any;

	if (strlen(text) >= sizeof(s->dns) ||
	    (inet_pton(AF_INET, text, &any) != 1 && inet_pton(AF_INET6, text, &any) != 1))
		return false;
	strcpy(s->dns, text);
	return true;
}

static bool take(struct net_setup *s, char *word)
{
	if (!strncmp(word, "mac=", 4))
		return take_mac(s, word + 4);
	if (!strncmp(word, "mtu=", 4))
		return (s->mtu = number(word + 4, 65535)) > 0;
	if (!strncmp(word, "ip=", 3))
		return take_ip(s, word + 3);
	if (!strncmp(word, "gw=", 3))
		return take_gateway(s, word + 3);
	return !strncmp(word, "dns=", 4) && take_dns(s, word + 4);
}

int net_setup_parse(struct net_setup *s, char *text)
{
	char *rest = NULL, *word = strtok_r(text, ",", &rest);

	memset(s, 0, sizeof(*s));
	if (!word || strlen(word) >= sizeof(s->name) || strpbrk(word, "/=:"))
		return -EINVAL;
	strcpy(s->name, word);
	while ((word = strtok_r(NULL, ",", &rest)))
		if (!take(s, word))
			return -EINVAL;
	return 0;
}

/* --- what is done --- */

struct result {
	int error;
	const char *what;
};

/* The first failure counts. */
static void note(struct result *r, bool failed, const char *what)
{
	if (!failed || r->error)
		return;
	r->error = -errno;
	r->what = what;
}

static struct ifreq request(const struct net_setup *s)
{
	struct ifreq ifr = {0};

	memcpy(ifr.ifr_name, s->name, sizeof(ifr.ifr_name));
	return ifr;
}

static void set_link(const struct net_setup *s, int fd, struct result *r)
{
	struct ifreq ifr = request(s);

	if (s->has_mac) {
		ifr.ifr_hwaddr.sa_family = ARPHRD_ETHER;
		memcpy(ifr.ifr_hwaddr.sa_data, s->mac, sizeof(s->mac));
		note(r, ioctl(fd, SIOCSIFHWADDR, &ifr), "MAC address");
	}
	if (s->mtu) {
		ifr.ifr_mtu = s->mtu;
		note(r, ioctl(fd, SIOCSIFMTU, &ifr), "MTU");
	}
}

static void set_up(const struct net_setup *s, int fd, struct result *r)
{
	struct ifreq ifr = request(s);
	bool failed = ioctl(fd, SIOCGIFFLAGS, &ifr);

	ifr.ifr_flags |= IFF_UP;
	note(r, failed || ioctl(fd, SIOCSIFFLAGS, &ifr), "interface");
}

static void write_address(struct sockaddr *to, struct in_addr a)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = a};

	memcpy(to, &in, sizeof(in));
}

static void set_ipv4(const struct net_setup *s, int fd, struct result *r)
{
	struct in_addr any = {0}, mask;
	struct ifreq ifr = request(s);
	struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY, .rt_dev = (char *)s->name};

	if (s->has_ip[0]) {
		mask.s_addr = htonl(~0u << (32 - s->prefix[0]));
		write_address(&ifr.ifr_addr, s->ip);
		note(r, ioctl(fd, SIOCSIFADDR, &ifr), "address");
		write_address(&ifr.ifr_netmask, mask);
		note(r, ioctl(fd, SIOCSIFNETMASK, &ifr), "netmask");
	}
	if (s->has_gateway[0]) {
		write_address(&route.rt_dst, any);
		write_address(&route.rt_genmask, any);
		write_address(&route.rt_gateway, s->gateway);
		note(r, ioctl(fd, SIOCADDRT, &route) && errno != EEXIST, "gateway");
	}
}

/* The host gives an address to one guest, which need not wait a second to see that nobody has it. */
static void no_duplicate_detection(const struct net_setup *s)
{
	char path[64] = "/proc/sys/net/ipv6/conf/";
	int fd;

	strcat(strcat(path, s->name), "/accept_dad");
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return; /* a kernel without IPv6, as the next call will tell */
	(void)!write(fd, "0", 1);
	close(fd);
}

static void set_ipv6(const struct net_setup *s, int index, struct result *r)
{
	struct { /* in6_ifreq of linux/ipv6.h, which musl's headers exclude */
		struct in6_addr address;
		uint32_t prefix;
		int index;
	} request6 = {s->ip6, (uint32_t)s->prefix[1], index};
	struct in6_rtmsg route = {.rtmsg_gateway = s->gateway6,
				  .rtmsg_flags = RTF_UP | RTF_GATEWAY,
				  .rtmsg_metric = 1,
				  .rtmsg_ifindex = index};
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	note(r, fd < 0, "IPv6");
	if (fd < 0)
		return;
	if (s->has_ip[1])
		note(r, ioctl(fd, SIOCSIFADDR, &request6) && errno != EEXIST, "IPv6 address");
	if (s->has_gateway[1])
		note(r, ioctl(fd, SIOCADDRT, &route) && errno != EEXIST, "IPv6 gateway");
	close(fd);
}

/* Our file is mounted over the root file system's when it is made; then writing to it is enough. */
static bool set_dns(const struct net_setup *s)
{
	static const char begin[] = "nameserver ";
	bool first, done;
	int fd;

	mkdir(DIRECTORY, 0755);
	mkdir("/etc", 0755); /* the initramfs has none */
	first = access(FILE_NAME, F_OK);
	fd = open(FILE_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	done = fd >= 0 && write(fd, begin, sizeof(begin) - 1) > 0 &&
	       write(fd, s->dns, strlen(s->dns)) > 0 && write(fd, "\n", 1) > 0;
	if (fd >= 0)
		close(fd);
	if (done && first) {
		fd = open(RESOLV, O_RDONLY | O_CREAT | O_CLOEXEC, 0644);
		if (fd >= 0)
			close(fd);
		done = !mount(FILE_NAME, RESOLV, NULL, MS_BIND, NULL);
		if (!done)
			unlink(FILE_NAME);
	}
	return done;
}

int net_setup_apply(const struct net_setup *s, const char **what)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), index;
	struct ifreq ifr = request(s);
	struct result r = {0};

	index = fd >= 0 && !ioctl(fd, SIOCGIFINDEX, &ifr) ? ifr.ifr_ifindex : -1;
	note(&r, index < 0, "interface");
	if (index >= 0) {
		set_link(s, fd, &r);
		if (s->has_ip[1])
			no_duplicate_detection(s);
		set_up(s, fd, &r);
		set_ipv4(s, fd, &r);
		if (s->has_ip[1] || s->has_gateway[1])
			set_ipv6(s, index, &r);
	}
	if (*s->dns)
		note(&r, !set_dns(s), "name server");
	if (fd >= 0)
		close(fd);
	*what = r.what;
	return r.error;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * What --net says, on the host, and what the agent makes of the words that follow from it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/agent/net.h"
#include "tests/unit/util.h"
#include "vmm/net.h"
#include "vmm/sock.h"

static struct net_config cfg;
static struct err e;
static char text[800];

static int parse(const char *value)
{
	snprintf(text, sizeof(text), "%s", value);
	return net_parse(&cfg, text, &e);
}

START_TEST(kinds)
{
	static const struct {
		const char *value;
		enum net_kind kind;
		const char *target;
		bool offload;
	} t[] = {{"none", NET_NONE, "", false},
		 {"placeholder", NET_NONE, "", false},
		 {"none,offload=on", NET_NONE, "", true},
		 {"tap=vm0", NET_TAP, "vm0", true},
		 {"tap=vm0,offload=off", NET_TAP, "vm0", false},
		 {"fd=17", NET_FD, "17", true},
		 {"unix=/a/b", NET_UNIX, "/a/b", false},
		 {"passt", NET_PASST, "", false}};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		ck_ok(parse(t[i].value));
		ck_assert_int_eq(cfg.kind, t[i].kind);
		ck_assert_str_eq(cfg.target, t[i].target);
		ck_assert_int_eq(cfg.offload, t[i].offload);
		ck_assert_uint_eq(cfg.fd, cfg.kind == NET_FD ? 17 : 0);
	}
}
END_TEST

START_TEST(details)
{
	static const uint8_t mac[] = {0x52, 0x54, 0, 0xaB, 0xcd, 0xff};

	ck_ok(parse("tap=t,mac=52:54:00:aB:cd:ff,mtu=9000,bps=50M,ip=fd00::2/64,gw=10.0.0.1,"
		    "ip=10.0.0.2/24,dns=10.0.0.3"));
	ck_assert(cfg.has_mac && !memcmp(cfg.mac, mac, 6));
	ck_assert_uint_eq(cfg.mtu, 9000);
	ck_assert_uint_eq(cfg.rate, 50u << 20);
	ck_assert_str_eq(cfg.ip[0], "10.0.0.2");
	ck_assert_str_eq(cfg.ip[1], "fd00::2");
	ck_assert_uint_eq(cfg.prefix[0], 24);
	ck_assert_str_eq(cfg.gateway[0], "10.0.0.1");
	ck_assert(!cfg.gateway[1]);
	ck_ok(parse("passt,tcp=8080:80,udp=53,tcp=127.0.0.1/9090-9099"));
	ck_assert_str_eq(cfg.tcp, "8080:80,127.0.0.1/9090-9099");
	ck_assert_str_eq(cfg.udp, "53");
	ck_assert_str_eq(cfg.ip[0], "10.0.2.15");
	ck_ok(parse("passt,ip=fd00::2/64"));
	ck_assert(!cfg.ip[0] && !cfg.gateway[0] && !cfg.dns);
}
END_TEST

START_TEST(refused)
{
	static const char *const bad[] = {
		"", "tap", "tap=", "tun=x", "none=x", "passt=x", "nones", "fd=", "fd=x", "fd=-1",
		"fd=99999999999", "unix=", "tap=a\nb",
		"none,", "none,x", "none,,mtu=1500", "none,mac=", "none,mac=1:2:3:4:5:6",
		"none,mac=03:00:00:00:00:01", "none,mac=00:00:00:00:00:00",
		"none,mac=02:00:00:00:00:0g", "none,mac=02:00:00:00:00:001",
		"none,mac=02:00:00:00:00: 1", "none,mtu=67", "none,mtu=65536", "none,mtu=x",
		"none,bps=x", "none,ip=10.0.0.1", "none,ip=10.0.0.1/33", "none,ip=10.0.0.1/0",
		"none,ip=fd00::1/129", "none,ip=10.0.0/24", "none,ip=x/1", "none,ip=/24",
		"none,ip=10.0.0.1/24,ip=10.0.0.2/24", "none,gw=10.0.0.1", "none,gw=x",
		"none,ip=10.0.0.1/24,gw=fd00::1", "none,dns=x", "none,dns=1.1.1.1,dns=1.1.1.2",
		"none,offload=maybe", "unix=/a,offload=on", "passt,offload=on", "none,tcp=80",
		"passt,tcp=", "passt,tcp=80 -x", "none,ip=fe80::1%lo/64",
		"passt,tcp=11111111111111111111111111111111111111111111111111111111111111111111111"
		"11111111111111111111111111111111111111111111111111111111111111111111111111111",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		e.text[0] = 0;
		if (parse(bad[i]) >= 0 || !e.text[0])
			ck_abort_msg("'%s' is taken", bad[i]);
	}
}
END_TEST

/* The agent reads what the host writes, the longest too. */
START_TEST(words)
{
	struct net n = {.mac = {2, 0xab, 3, 4, 5, 0xff}, .mtu = 1400};
	struct net_setup setup;
	char word[400];
	size_t len;

	ck_ok(parse("tap=t"));
	ck_assert_uint_eq(net_words(&cfg, 0, NULL, word, sizeof(word)), 0);
	ck_assert_uint_eq(net_words(&cfg, 3, &n, word, sizeof(word)), 35);
	ck_assert_str_eq(word, "eth3,mac=02:ab:03:04:05:ff,mtu=1400");
	ck_assert_int_eq(net_setup_parse(&setup, word), 0);
	ck_assert(setup.has_mac && !memcmp(setup.mac, n.mac, 6) && !setup.ips && setup.mtu == 1400);
	ck_ok(parse("tap=t,ip=255.255.255.255/32,gw=255.255.255.255,"
		    "ip=ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255/128,"
		    "gw=ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255,"
		    "dns=ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"));
	cfg.words = ",name=x,route=10.0.0.0/8/5//10.0.0.1";
	len = net_words(&cfg, 7, &n, word, sizeof(word));
	ck_assert_uint_eq(len, strlen(word));
	ck_assert_uint_eq(net_words(&cfg, 7, &n, word, len), len); /* cut, and said so */
	ck_assert_uint_eq(strlen(word), len - 1);
	net_words(&cfg, 7, &n, word, sizeof(word));
	ck_assert_int_eq(net_setup_parse(&setup, word), 0);
	ck_assert_str_eq(setup.name, "eth7");
	ck_assert_str_eq(setup.new_name, "x");
	ck_assert(*setup.dns);
	ck_assert_uint_eq(setup.ips, 2);
	ck_assert_uint_eq(setup.ip[0].bits, 32);
	ck_assert_uint_eq(setup.ip[1].bits, 128);
	ck_assert_uint_eq(setup.routes, 3);
}
END_TEST

/* Routes, whose parts may be missing. */
START_TEST(agent_routes)
{
	struct net_setup s;

	strcpy(text, "eth0,ip=10.0.0.2/24/noroute,ip=10.0.0.3/32,route=10.1.0.0/16/0,"
		     "route=0.0.0.0/0/100/10.0.0.1,route=::/0/1024/fd00::1/fd00::2,"
		     "route=10.2.0.0/16/4294967295//10.0.0.3,gw=fd00::9,gw=10.0.0.9");
	ck_assert_int_eq(net_setup_parse(&s, text), 0);
	ck_assert_uint_eq(s.ips, 2);
	ck_assert(s.ip[0].no_route && !s.ip[1].no_route);
	ck_assert_uint_eq(s.routes, 6);
	ck_assert_uint_eq(s.route[0].to.bits, 16);
	ck_assert(!s.route[0].gateway.family && !s.route[0].source.family && !s.route[0].metric);
	ck_assert_uint_eq(s.route[1].gateway.family, AF_INET);
	ck_assert_uint_eq(s.route[1].metric, 100);
	ck_assert_uint_eq(s.route[2].source.family, AF_INET6);
	ck_assert(!s.route[3].gateway.family && s.route[3].source.family);
	ck_assert_uint_eq(s.route[3].metric, UINT32_MAX);
	ck_assert(s.route[4].metric == 1 && s.route[4].to.family == AF_INET6);
	ck_assert(!s.route[5].metric && !s.route[5].to.bits);
}
END_TEST

START_TEST(agent_refuses)
{
	static const char *const bad[] = {
		"", ",", "an-interface-name", "../x,mtu=1", "a:b", "eth0,x", "eth0,mac=02:00:00:00:00",
		"eth0,mac=02:00:00:00:00:0", "eth0,mac=02:00:00:00:00:00:", "eth0,mac=02-00-00-00-00-00",
		"eth0,mac=0g:00:00:00:00:00", "eth0,mtu=0", "eth0,mtu=65536", "eth0,mtu=99999999999",
		"eth0,mtu=", "eth0,ip=10.0.0.1", "eth0,ip=10.0.0.1/33", "eth0,ip=10.0.0.1/0",
		"eth0,ip=10.0.0.1/", "eth0,ip=10.0.0.256/8", "eth0,ip=::1/129", "eth0,ip=:/1",
		"eth0,gw=", "eth0,gw=1", "eth0,gw=::x", "eth0,dns=", "eth0,dns=x",
		"eth0,dns=1111111111111111111111111111111111111111111111111111111111", "eth0,name=",
		"eth0,name=a/b", "eth0,name=an-interface-name", "eth0,ip=10.0.0.1/8/no", "eth0,ip=10.0.0.1/8/",
		"eth0,ip=10.0.0.1/8/noroute/", "eth0,route=10.0.0.0/8", "eth0,route=10.0.0.0/33/0",
		"eth0,route=10.0.0.0/8/", "eth0,route=10.0.0.0/8/x", "eth0,route=10.0.0.0/8/4294967296",
		"eth0,route=10.0.0.0/8/0/fd00::1", "eth0,route=10.0.0.0/8/0/1", "eth0,route=::/0/0//10.0.0.1",
		"eth0,route=10.0.0.0/8/0/10.0.0.1/10.0.0.2/", "eth0,route=", "eth0,route=/0/0",
	};
	static const char more[][24] = {",ip=10.0.0.1/8", ",gw=10.0.0.1", ",route=10.0.0.0/8/0"};
	static const unsigned int most[] = {AGENT_NET_ADDRESSES, AGENT_NET_ROUTES, AGENT_NET_ROUTES};
	struct net_setup setup;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(text, sizeof(text), "%s", bad[i]);
		if (net_setup_parse(&setup, text) != -EINVAL)
			ck_abort_msg("'%s' is taken", bad[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(more); i++) {
		for (unsigned int n = most[i]; n <= most[i] + 1; n++) {
			strcpy(text, "eth0");
			for (unsigned int k = 0; k < n; k++)
				strcat(text, more[i]);
			ck_assert_int_eq(net_setup_parse(&setup, text), n > most[i] ? -EINVAL : 0);
		}
	}
	strcpy(text, "eth0,mtu=1400");
	ck_assert_int_eq(net_setup_parse(&setup, text), 0);
	ck_assert_int_eq(setup.mtu, 1400);
	strcpy(text, "eth0");
	ck_assert_int_eq(net_setup_parse(&setup, text), 0);
}
END_TEST

/* --- opening --- */

START_TEST(opens_sockets)
{
	struct net n = {0};
	char value[400];
	int listener;

	ck_ok(listener = sock_listen(tmp_dir, "net", &e));
	snprintf(value, sizeof(value), "unix=%s", tmp_path("net"));
	ck_ok(parse(value));
	ck_ok(net_open(&n, &cfg, &e));
	ck_assert_ptr_eq(n.backend, &n.stream.backend);
	ck_assert_uint_eq(n.mac[0] & 3, 2);
	net_stream_close(&n.stream);
	close(listener);
	ck_refused(net_open(&n, &cfg, &e), ECONNREFUSED, tmp_path("net"));
	snprintf(value, sizeof(value), "unix=%s", tmp_path("none/net"));
	ck_ok(parse(value));
	ck_refused(net_open(&n, &cfg, &e), ENOENT, "none/net");
	ck_ok(parse("unix=no-such"));
	ck_refused(net_open(&n, &cfg, &e), ENOENT, "no-such");
}
END_TEST

START_TEST(what_is_no_tap)
{
	static const char *const bad[] = {"fd=0", "fd=2", "fd=4294967295", "fd=1000", "tap=no-such-tap",
					  "tap=a-name-that-is-too-long", "tap=lo"};
	unsigned int before = open_fds();
	struct net n = {0};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_ok(parse(bad[i]));
		e.text[0] = 0;
		if (net_open(&n, &cfg, &e) >= 0 || !e.text[0] || n.backend)
			ck_abort_msg("'%s' is taken", bad[i]);
	}
	snprintf(text, sizeof(text), "fd=%d", tmp_dir);
	ck_ok(net_parse(&cfg, text, &e));
	ck_refused(net_open(&n, &cfg, &e), EINVAL, "no tap device's");
	ck_assert_uint_eq(open_fds(), before);
}
END_TEST

/* A passt of the test's own: what it is called with, and with which descriptors. */
START_TEST(starts_passt)
{
	static const char script[] = "#!/bin/sh\n"
				     "echo \"$*\" >\"$OUT\"\n"
				     "for n in 3 4 5 6 7 8 9 11 12 13 14 15 16; do\n"
				     "[ ! -e /proc/$$/fd/$n ] || echo $n >>\"$OUT\"\n"
				     "done\n"
				     "printf '\\0\\0\\0\\016aaaaaaaaaaaaaa' >&3\n";
	const char *out = tmp_path("out");
	struct net n = {0};
	struct net_frame f;
	size_t len;

	fchmodat(tmp_dir, strrchr(tmp_file("passt", script, sizeof(script) - 1), '/') + 1, 0755, 0);
	setenv("OUT", out, 1);
	snprintf(text, sizeof(text), "%s:/usr/bin:/bin", tmp);
	setenv("PATH", text, 1);
	ck_ok(parse("passt,tcp=8080:80"));
	ck_ok(net_open(&n, &cfg, &e));
	while (n.backend->receive(n.backend, &f) == -EAGAIN)
		usleep(1000);
	ck_assert_uint_eq(f.len, 14);
	while (n.backend->receive(n.backend, &f) == -EAGAIN)
		usleep(1000);
	ck_assert_int_eq(n.backend->receive(n.backend, &f), -ENOTCONN);
	ck_assert_str_eq(file_text(out, &len),
			 "--foreground --quiet --fd 3 --no-map-gw --address 10.0.2.15 --gateway "
			 "10.0.2.2 --netmask 24 --ipv4-only --dns-forward 10.0.2.3 --tcp-ports "
			 "8080:80\n3\n");
	net_stream_close(&n.stream);
	setenv("PATH", "/nowhere", 1);
	ck_refused(net_open(&n, &cfg, &e), ENOENT, "cannot start passt");
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {kinds, details, refused, words, agent_routes, agent_refuses};
	const TTest *const opening[] = {opens_sockets, what_is_no_tap, starts_passt};
	const struct test_group groups[] = {{tests, ARRAY_SIZE(tests), NULL, NULL},
					    {opening, ARRAY_SIZE(opening), tmp_setup, tmp_teardown}};

	return run_groups("net", groups, ARRAY_SIZE(groups));
}

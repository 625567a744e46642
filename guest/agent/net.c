/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/rtnetlink.h>

#include "guest/agent/text.h"
#include "guest/netlink.h"

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

static bool metric_of(uint32_t *to, const char *text)
{
	const char *end = text;
	uint64_t v = number_of(text, &end);

	*to = (uint32_t)v;
	return end != text && !*end && v <= UINT32_MAX;
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

static bool take_name(char name[IFNAMSIZ], const char *text)
{
	if (!*text || strlen(text) >= IFNAMSIZ || strpbrk(text, "/=: \t"))
		return false;
	strcpy(name, text);
	return true;
}

/* Of a text's parts between slashes the next one, or NULL. */
static char *part(char **text)
{
	char *at = *text, *slash = at ? strchr(at, '/') : NULL;

	*text = slash ? slash + 1 : NULL;
	if (slash)
		*slash = '\0';
	return at;
}

static bool take_address(struct net_address *a, const char *text)
{
	bool v6 = strchr(text, ':') != NULL;

	*a = (struct net_address){.family = v6 ? AF_INET6 : AF_INET, .bits = v6 ? 128 : 32};
	return inet_pton(a->family, text, a->bytes) == 1;
}

/* ADDRESS/BITS; least: of bits. */
static bool take_prefix(struct net_address *a, char **text, int least)
{
	const char *address = part(text), *bits = part(text);
	int n;

	if (!take_address(a, address) || !bits)
		return false;
	n = number(bits, a->bits);
	a->bits = (uint8_t)n;
	return n >= least;
}

static bool take_ip(struct net_setup *s, char *text)
{
	struct net_address *a = &s->ip[s->ips];
	const char *more;

	if (s->ips == AGENT_NET_ADDRESSES || !take_prefix(a, &text, 1))
		return false;
	more = part(&text);
	a->no_route = more && !strcmp(more, "noroute");
	s->ips++;
	return (!more || a->no_route) && !text;
}

/* A part that may be empty or missing. */
static bool take_optional(struct net_address *a, const char *text, uint8_t family)
{
	return !text || !*text || (take_address(a, text) && a->family == family);
}

static bool take_route(struct net_setup *s, char *text)
{
	struct net_route *r = &s->route[s->routes];
	const char *metric;

	if (s->routes == AGENT_NET_ROUTES || !take_prefix(&r->to, &text, 0))
		return false;
	metric = part(&text);
	s->routes++;
	return metric && metric_of(&r->metric, metric) &&
	       take_optional(&r->gateway, part(&text), r->to.family) &&
	       take_optional(&r->source, part(&text), r->to.family) && !text;
}

static bool take_gateway(struct net_setup *s, const char *text)
{
	struct net_route *r = &s->route[s->routes];

	if (s->routes == AGENT_NET_ROUTES || !take_address(&r->gateway, text))
		return false;
	r->to.family = r->gateway.family;
	/* Before what a router announces, which the kernel takes as it comes. */
	r->metric = r->to.family == AF_INET6;
	s->routes++;
	return true;
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
	if (!strncmp(word, "name=", 5))
		return take_name(s->new_name, word + 5);
	if (!strncmp(word, "mac=", 4))
		return take_mac(s, word + 4);
	if (!strncmp(word, "mtu=", 4))
		return (s->mtu = number(word + 4, 65535)) > 0;
	if (!strncmp(word, "ip=", 3))
		return take_ip(s, word + 3);
	if (!strncmp(word, "gw=", 3))
		return take_gateway(s, word + 3);
	if (!strncmp(word, "route=", 6))
		return take_route(s, word + 6);
	return !strncmp(word, "dns=", 4) && take_dns(s, word + 4);
}

int net_setup_parse(struct net_setup *s, char *text)
{
	char *rest = NULL, *word = strtok_r(text, ",", &rest);

	memset(s, 0, sizeof(*s));
	if (!word || !take_name(s->name, word))
		return -EINVAL;
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

/* The first failure counts. error: 0 or -errno. */
static void note(struct result *r, int error, const char *what)
{
	if (!error || r->error)
		return;
	r->error = error;
	r->what = what;
}

/* Changes one thing of an interface. up: brings it up. */
static int change_link(struct netlink *n, int index, uint16_t type, const void *data, size_t size, bool up)
{
	struct ifinfomsg body = {.ifi_index = index,
				 .ifi_flags = up ? IFF_UP : 0,
				 .ifi_change = up ? IFF_UP : 0};

	netlink_begin(n, RTM_NEWLINK, 0, &body, sizeof(body));
	if (size)
		netlink_put(n, type, data, size);
	return netlink_send(n);
}

static void set_link(const struct net_setup *s, struct netlink *n, int index, struct result *r)
{
	if (s->has_mac)
		note(r, change_link(n, index, IFLA_ADDRESS, s->mac, sizeof(s->mac), false),
		     "MAC address");
	if (s->mtu)
		note(r, change_link(n, index, IFLA_MTU, &s->mtu, sizeof(s->mtu), false), "MTU");
	if (*s->new_name)
		note(r, change_link(n, index, IFLA_IFNAME, s->new_name, strlen(s->new_name) + 1, false),
		     "name");
}

/* The host gives an address to one guest, which need not wait a second to see that nobody has it. */
static void no_duplicate_detection(const struct net_setup *s)
{
	const char *name = *s->new_name ? s->new_name : s->name;
	char path[64];
	int fd;

	compose(path, sizeof(path), "/proc/sys/net/ipv6/conf/", name, "/accept_dad", NULL);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return; /* a kernel without IPv6, as the next call will tell */
	(void)!write(fd, "0", 1);
	close(fd);
}

static bool has_family(const struct net_setup *s, int family)
{
	for (unsigned int i = 0; i < s->ips; i++)
		if (s->ip[i].family == family)
			return true;
	return false;
}

static size_t size_of(const struct net_address *a)
{
	return a->family == AF_INET6 ? sizeof(struct in6_addr) : sizeof(struct in_addr);
}

static int change_address(struct netlink *n, uint16_t type, int index, const struct net_address *a)
{
	struct ifaddrmsg body = {
		.ifa_family = a->family, .ifa_prefixlen = a->bits, .ifa_index = (uint32_t)index};
	uint32_t flags = IFA_F_PERMANENT | (a->no_route ? IFA_F_NOPREFIXROUTE : 0u) |
			 (a->family == AF_INET6 ? IFA_F_NODAD : 0u);
	uint32_t broadcast;

	netlink_begin(n, type, type == RTM_NEWADDR ? NLM_F_CREATE | NLM_F_EXCL : 0, &body, sizeof(body));
	netlink_put(n, IFA_LOCAL, a->bytes, size_of(a));
	netlink_put(n, IFA_ADDRESS, a->bytes, size_of(a));
	netlink_put(n, IFA_FLAGS, &flags, sizeof(flags));
	if (a->family == AF_INET && a->bits < 31) {
		memcpy(&broadcast, a->bytes, sizeof(broadcast));
		broadcast |= htonl(UINT32_MAX >> a->bits);
		netlink_put(n, IFA_BROADCAST, &broadcast, sizeof(broadcast));
	}
	return netlink_send(n);
}

struct search {
	int index;
	struct net_address found;
};

static int see_address(void *ctx, const struct nlmsghdr *m)
{
	const struct ifaddrmsg *body = NLMSG_DATA(m);
	const struct nlattr *a = netlink_find(m, sizeof(*body), IFA_LOCAL, sizeof(struct in_addr));
	struct search *s = ctx;

	if (!a || body->ifa_index != (uint32_t)s->index || body->ifa_family != AF_INET)
		return 0;
	s->found = (struct net_address){.family = AF_INET, .bits = body->ifa_prefixlen};
	memcpy(s->found.bytes, netlink_data(a), sizeof(struct in_addr));
	return 0;
}

/* Of a guest that had a network when it was copied. Each takes others with it, perhaps. */
static int drop_addresses(struct netlink *n, int index)
{
	struct search s = {.index = index};
	struct ifaddrmsg body = {.ifa_family = AF_INET};
	int r;

	do {
		s.found.family = 0;
		netlink_begin(n, RTM_GETADDR, 0, &body, sizeof(body));
		r = netlink_dump(n, see_address, &s);
		if (!r && s.found.family)
			r = change_address(n, RTM_DELADDR, index, &s.found);
	} while (!r && s.found.family);
	return r;
}

static int add_route(struct netlink *n, int index, const struct net_route *route, bool on_link)
{
	struct rtmsg body = {.rtm_family = route->to.family,
			     .rtm_dst_len = route->to.bits,
			     .rtm_table = RT_TABLE_MAIN,
			     .rtm_protocol = RTPROT_BOOT,
			     .rtm_scope = route->gateway.family ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK,
			     .rtm_type = RTN_UNICAST,
			     .rtm_flags = on_link ? RTNH_F_ONLINK : 0};

	netlink_begin(n, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &body, sizeof(body));
	if (route->to.bits)
		netlink_put(n, RTA_DST, route->to.bytes, size_of(&route->to));
	if (route->gateway.family)
		netlink_put(n, RTA_GATEWAY, route->gateway.bytes, size_of(&route->gateway));
	if (route->source.family)
		netlink_put(n, RTA_PREFSRC, route->source.bytes, size_of(&route->source));
	if (route->metric)
		netlink_put(n, RTA_PRIORITY, &route->metric, sizeof(route->metric));
	netlink_put(n, RTA_OIF, &index, sizeof(index));
	return netlink_send(n);
}

/* A gateway that no route leads to is on the link all the same: so it was where the host has the route from. */
static int set_route(struct netlink *n, int index, const struct net_route *route)
{
	int r = add_route(n, index, route, false);

	if (route->gateway.family && (r == -ENETUNREACH || r == -EHOSTUNREACH))
		r = add_route(n, index, route, true);
	return r == -EEXIST ? 0 : r;
}

static void set_addresses(const struct net_setup *s, struct netlink *n, int index, struct result *r)
{
	if (has_family(s, AF_INET))
		note(r, drop_addresses(n, index), "addresses");
	for (unsigned int i = 0; i < s->ips; i++) {
		int error = change_address(n, RTM_NEWADDR, index, &s->ip[i]);

		note(r, error == -EEXIST ? 0 : error,
		     s->ip[i].family == AF_INET6 ? "IPv6 address" : "address");
	}
	for (unsigned int i = 0; i < s->routes; i++)
		note(r, set_route(n, index, &s->route[i]), "route");
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
	int index = (int)if_nametoindex(s->name), error;
	struct result r = {0};
	struct netlink n;

	note(&r, index ? 0 : -ENODEV, "interface");
	error = netlink_open(&n);
	note(&r, error, "interface");
	if (index && !error) {
		set_link(s, &n, index, &r);
		if (has_family(s, AF_INET6))
			no_duplicate_detection(s);
		note(&r, change_link(&n, index, 0, NULL, 0, true), "interface");
		set_addresses(s, &n, index, &r);
	}
	if (!error)
		netlink_close(&n);
	if (*s->dns)
		note(&r, set_dns(s) ? 0 : -errno, "name server");
	*what = r.what;
	return r.error;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if_arp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/if_tun.h>
#include <linux/rtnetlink.h>

#include "shim/redirect.h"
#include "vmm/util.h"

#define TAP_NAME "uvm_tap%d" /* of the index of the interface that it belongs to */
#define LEFT_MAX 64u	     /* interfaces that are looked at when a namespace is left */
#define TRIES	 10	     /* to see a namespace in which nothing changes meanwhile */

/* --- what is there --- */

/* Of a dump: the first error's message counts. */
struct scan {
	struct oci_network *n;
	struct err *e;
};

static struct oci_interface *find_link(struct oci_network *n, int index)
{
	for (unsigned int i = 0; i < n->links; i++)
		if (n->link[i].index == index)
			return &n->link[i];
	return NULL;
}

/* Whether it is a tap's name: of which interface. */
static bool owner_of(const char *name, int *index)
{
	int end = 0;

	return sscanf(name, TAP_NAME "%n", index, &end) == 1 && end && !name[end];
}

static int see_link(void *ctx, const struct nlmsghdr *m)
{
	const struct ifinfomsg *body = NLMSG_DATA(m);
	const struct nlattr *name = netlink_find(m, sizeof(*body), IFLA_IFNAME, 2),
			    *mac = netlink_find(m, sizeof(*body), IFLA_ADDRESS, 6),
			    *mtu = netlink_find(m, sizeof(*body), IFLA_MTU, sizeof(uint32_t));
	struct scan *s = ctx;
	struct oci_interface *i;
	int owner;

	if (m->nlmsg_type != RTM_NEWLINK || !name || body->ifi_flags & IFF_LOOPBACK ||
	    !(body->ifi_flags & IFF_UP))
		return 0;
	if (owner_of(netlink_data(name), &owner))
		return err_set(s->e, EBUSY,
			       "network interface %s is another container's already: give each a network namespace "
			       "of its own",
			       (const char *)netlink_data(name));
	if (body->ifi_type != ARPHRD_ETHER || !mac || !mtu)
		return err_set(s->e, EOPNOTSUPP,
			       "network interface %s has no Ethernet frames, and cannot be a VM's",
			       (const char *)netlink_data(name));
	if (s->n->links == NET_MAX)
		return err_set(s->e, E2BIG, "more than %u network interfaces", NET_MAX);
	i = &s->n->link[s->n->links++];
	*i = (struct oci_interface){.index = body->ifi_index};
	snprintf(i->name, sizeof(i->name), "%s", (const char *)netlink_data(name));
	snprintf(i->tap, sizeof(i->tap), TAP_NAME, i->index);
	memcpy(i->mac, netlink_data(mac), sizeof(i->mac));
	memcpy(&i->mtu, netlink_data(mtu), sizeof(i->mtu));
	return 0;
}

static size_t bytes_of(uint8_t family)
{
	return family == AF_INET6 ? 16 : 4;
}

static bool take(struct oci_address *to, uint8_t family, uint8_t bits, const struct nlattr *a)
{
	if ((family != AF_INET && family != AF_INET6) || (a && netlink_size(a) != bytes_of(family)))
		return false;
	*to = (struct oci_address){.family = family, .bits = bits};
	if (a)
		memcpy(to->bytes, netlink_data(a), bytes_of(family));
	return true;
}

static bool is_link_local(const struct oci_address *a)
{
	return a->family == AF_INET6 && a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80;
}

static int see_address(void *ctx, const struct nlmsghdr *m)
{
	const struct ifaddrmsg *body = NLMSG_DATA(m);
	const struct nlattr *local = netlink_find(m, sizeof(*body), IFA_LOCAL, 4),
			    *address = netlink_find(m, sizeof(*body), IFA_ADDRESS, 4);
	struct scan *s = ctx;
	struct oci_interface *i = find_link(s->n, (int)body->ifa_index);
	struct oci_address a;

	if (!i || !take(&a, body->ifa_family, body->ifa_prefixlen, local ? local : address) ||
	    is_link_local(&a))
		return 0;
	if (a.family == AF_INET6 && !(body->ifa_flags & IFA_F_PERMANENT))
		return 0; /* a router's */
	/* To another host at the other end there is a route, which is seen as well. */
	if (local && address && memcmp(netlink_data(local), netlink_data(address), bytes_of(a.family)))
		a.bits = (uint8_t)(8 * bytes_of(a.family));
	if (i->addresses == AGENT_NET_ADDRESSES)
		return err_set(s->e, E2BIG, "network interface %s has more than %u addresses", i->name,
			       AGENT_NET_ADDRESSES);
	i->address[i->addresses++] = a;
	return 0;
}

static int see_route(void *ctx, const struct nlmsghdr *m)
{
	const struct rtmsg *body = NLMSG_DATA(m);
	const struct nlattr *to = netlink_find(m, sizeof(*body), RTA_DST, 4),
			    *via = netlink_find(m, sizeof(*body), RTA_GATEWAY, 4),
			    *source = netlink_find(m, sizeof(*body), RTA_PREFSRC, 4),
			    *out = netlink_find(m, sizeof(*body), RTA_OIF, sizeof(int)),
			    *metric = netlink_find(m, sizeof(*body), RTA_PRIORITY, sizeof(uint32_t));
	struct oci_route r = {.kernels = body->rtm_protocol == RTPROT_KERNEL};
	struct scan *s = ctx;
	struct oci_interface *i;
	int index = 0;

	if (body->rtm_table != RT_TABLE_MAIN || body->rtm_type != RTN_UNICAST ||
	    body->rtm_flags & RTM_F_CLONED || body->rtm_protocol == RTPROT_RA)
		return 0;
	if (netlink_find(m, sizeof(*body), RTA_MULTIPATH, 0) || netlink_find(m, sizeof(*body), RTA_VIA, 0))
		return err_set(s->e, EOPNOTSUPP,
			       "the network namespace has a route with several next hops, or one of "
			       "another family, which is not supported");
	if (out)
		memcpy(&index, netlink_data(out), sizeof(index));
	if (metric)
		memcpy(&r.metric, netlink_data(metric), sizeof(r.metric));
	i = find_link(s->n, index);
	if (!i || !take(&r.to, body->rtm_family, body->rtm_dst_len, to) || is_link_local(&r.to) ||
	    (via && !take(&r.gateway, body->rtm_family, 0, via)) ||
	    (source && !take(&r.source, body->rtm_family, 0, source)))
		return 0;
	if (i->routes == AGENT_NET_ROUTES)
		return err_set(s->e, E2BIG, "network interface %s has more than %u routes", i->name,
			       AGENT_NET_ROUTES);
	i->route[i->routes++] = r;
	return 0;
}

static int dump(struct scan *s, uint16_t type, int (*visit)(void *ctx, const struct nlmsghdr *m))
{
	union { /* of which each begins with the family, and 0 is all */
		struct ifinfomsg link;
		struct ifaddrmsg address;
		struct rtmsg route;
	} all = {.route = {0}};
	size_t size = type == RTM_GETLINK   ? sizeof(all.link)
		      : type == RTM_GETADDR ? sizeof(all.address)
					    : sizeof(all.route);
	int r;

	*s->e->text = 0;
	netlink_begin(&s->n->netlink, type, 0, &all, size);
	r = netlink_dump(&s->n->netlink, visit, s);
	if (r && !*s->e->text)
		err_set(s->e, -r, "cannot look into the network namespace: %s", strerror(-r));
	return r;
}

static int look(struct oci_network *n, struct err *e)
{
	struct scan s = {n, e};
	int r = -EINTR;

	for (int i = 0; r == -EINTR && i < TRIES; i++) {
		n->links = 0;
		r = dump(&s, RTM_GETLINK, see_link);
		if (!r)
			r = dump(&s, RTM_GETADDR, see_address);
		if (!r)
			r = dump(&s, RTM_GETROUTE, see_route);
	}
	return r;
}

/* --- what the guest gets --- */

/* The guest's interfaces are eth0 and so on in the order of their devices, and are renamed one after the
 * other: none may want a name that another one has still.
 */
static void order(struct oci_network *n)
{
	for (unsigned int i = 0; i < n->links;) {
		struct oci_interface *a = &n->link[i], other;
		unsigned int number;
		int end = 0;

		if (sscanf(a->name, "eth%u%n", &number, &end) != 1 || a->name[end] || number >= n->links ||
		    number == i) {
			i++;
			continue;
		}
		other = n->link[number];
		n->link[number] = *a;
		*a = other; /* which is looked at next */
	}
}

static bool same_network(const struct oci_address *a, const struct oci_address *net)
{
	uint8_t mask = (uint8_t)(0xff00 >> net->bits % 8);

	return a->family == net->family && a->bits == net->bits &&
	       !memcmp(a->bytes, net->bytes, net->bits / 8) &&
	       (!(net->bits % 8) || !((a->bytes[net->bits / 8] ^ net->bytes[net->bits / 8]) & mask));
}

/* Whether the guest's kernel makes this route when it gets the address, as the host's did. */
static bool follows(const struct oci_route *r, const struct oci_address *a)
{
	return r->kernels && !r->gateway.family && same_network(a, &r->to) &&
	       r->metric == (a->family == AF_INET6 ? 256 : 0);
}

static void put(struct oci_interface *i, size_t *len, const char *before, const struct oci_address *a)
{
	char text[INET6_ADDRSTRLEN] = "";

	if (a->family)
		inet_ntop(a->family, a->bytes, text, sizeof(text));
	text_append(i->words, sizeof(i->words), len, "%s%s", before, text);
}

static void put_address(struct oci_interface *i, size_t *len, const struct oci_address *a)
{
	bool route = a->family == AF_INET && a->bits == 32; /* it makes none */

	for (unsigned int k = 0; k < i->routes; k++)
		route |= follows(&i->route[k], a);
	put(i, len, ",ip=", a);
	text_append(i->words, sizeof(i->words), len, "/%u%s", a->bits, route ? "" : "/noroute");
}

static void put_route(struct oci_interface *i, size_t *len, const struct oci_route *r)
{
	for (unsigned int k = 0; k < i->addresses; k++)
		if (follows(r, &i->address[k]))
			return;
	put(i, len, ",route=", &r->to);
	text_append(i->words, sizeof(i->words), len, "/%u/%u", r->to.bits, r->metric);
	put(i, len, "/", &r->gateway);
	if (r->source.family)
		put(i, len, "/", &r->source);
}

/* Routes without a gateway first: others lead through them. */
static int compose(struct oci_interface *i, unsigned int number, struct err *e)
{
	char usual[IFNAMSIZ];
	size_t len = 0;

	*i->words = 0;
	snprintf(usual, sizeof(usual), "eth%u", number);
	if (strcmp(i->name, usual))
		text_append(i->words, sizeof(i->words), &len, ",name=%s", i->name);
	/* Of IPv6's, the kernel has the latest first. */
	for (unsigned int k = 0; k < i->addresses; k++)
		if (i->address[k].family == AF_INET)
			put_address(i, &len, &i->address[k]);
	for (unsigned int k = i->addresses; k--;)
		if (i->address[k].family == AF_INET6)
			put_address(i, &len, &i->address[k]);
	for (int gateway = 0; gateway < 2; gateway++)
		for (unsigned int k = 0; k < i->routes; k++)
			if (!!i->route[k].gateway.family == gateway)
				put_route(i, &len, &i->route[k]);
	return len < sizeof(i->words)
		       ? 0
		       : err_set(e, E2BIG, "network interface %s has too many addresses and routes", i->name);
}

/* --- namespaces --- */

/* A socket to the namespace at path. It must not be the caller's, which is the host's. */
static int open_in(struct netlink *n, const char *path, struct err *e)
{
	int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), there = -1, r = 0;
	struct stat a, b;

	if (own < 0)
		return err_sys(e, "/proc/self/ns/net");
	there = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (there < 0 || fstat(own, &a) || fstat(there, &b))
		r = err_sys(e, "network namespace %s", path);
	else if (a.st_dev == b.st_dev && a.st_ino == b.st_ino)
		r = err_set(e, EINVAL,
			    "linux.namespaces: the network namespace %s is the host's, which cannot be a "
			    "virtual machine's",
			    path);
	else if (setns(there, CLONE_NEWNET))
		r = err_sys(e, "cannot join the network namespace %s", path);
	if (!r) {
		r = netlink_open(n);
		if (r)
			err_set(e, -r, "cannot look into the network namespace: %s", strerror(-r));
		if (setns(own, CLONE_NEWNET)) {
			if (!r)
				netlink_close(n);
			r = err_sys(e, "cannot leave the network namespace %s", path);
		}
	}
	if (there >= 0)
		close(there);
	close(own);
	return r;
}

int oci_network_open(struct oci_network *n, const char *path, struct err *e)
{
	int r = path ? open_in(&n->netlink, path, e) : netlink_open(&n->netlink);

	if (r)
		return path ? r : err_set(e, -r, "cannot ask the kernel about networks: %s", strerror(-r));
	r = look(n, e);
	order(n);
	for (unsigned int i = 0; i < n->links && !r; i++)
		r = compose(&n->link[i], i, e);
	if (r)
		netlink_close(&n->netlink);
	return r;
}

void oci_network_close(struct oci_network *n)
{
	netlink_close(&n->netlink);
}

/* --- joining --- */

/* Returns a descriptor or -errno. */
static int make_tap(const struct oci_interface *i)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK), r;

	if (fd < 0)
		return -errno;
	memcpy(ifr.ifr_name, i->tap, sizeof(ifr.ifr_name));
	if (!ioctl(fd, TUNSETIFF, &ifr))
		return fd;
	r = -errno;
	close(fd);
	return r;
}

/* The host's stack has nothing to say there: no address of its own, and so no router to look for. */
static int silence(struct netlink *n, int index)
{
	struct ifinfomsg body = {.ifi_index = index};
	uint8_t mode = IN6_ADDR_GEN_MODE_NONE;
	size_t spec, inet6;
	int r;

	netlink_begin(n, RTM_NEWLINK, 0, &body, sizeof(body));
	spec = netlink_nest(n, IFLA_AF_SPEC);
	inet6 = netlink_nest(n, AF_INET6);
	netlink_put(n, IFLA_INET6_ADDR_GEN_MODE, &mode, sizeof(mode));
	netlink_end(n, inet6);
	netlink_end(n, spec);
	r = netlink_send(n);
	return r == -EAFNOSUPPORT || r == -EOPNOTSUPP ? 0 : r; /* a kernel without IPv6 */
}

static int bring_up(struct netlink *n, int index, uint32_t mtu)
{
	struct ifinfomsg body = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};

	netlink_begin(n, RTM_NEWLINK, 0, &body, sizeof(body));
	netlink_put(n, IFLA_MTU, &mtu, sizeof(mtu));
	return netlink_send(n);
}

static int join(struct netlink *n, const struct oci_interface *i)
{
	int tap = (int)if_nametoindex(i->tap), r = tap ? silence(n, tap) : -errno;

	if (!r)
		r = bring_up(n, tap, i->mtu);
	if (!r)
		r = redirect_make(n, tap, i->index);
	return r ? r : redirect_make(n, i->index, tap);
}

int oci_network_join(struct oci_network *n, struct net_config *net, struct err *e)
{
	for (unsigned int k = 0; k < n->links; k++) {
		struct oci_interface *i = &n->link[k];
		int fd = make_tap(i), r;

		if (fd < 0)
			return err_set(e, -fd, "network interface %s: cannot make a tap device: %s", i->name,
				       strerror(-fd));
		net[k] = (struct net_config){.kind = NET_FD,
					     .fd = (uint32_t)fd,
					     .target = i->tap,
					     .offload = true,
					     .has_mac = true,
					     .mtu = i->mtu,
					     .words = i->words};
		memcpy(net[k].mac, i->mac, sizeof(i->mac));
		r = join(&n->netlink, i);
		if (r)
			return err_set(e, -r, "network interface %s: cannot be joined to a tap device: %s", i->name,
				       r == -EBUSY ? "it has an ingress queue already ('tc qdisc del dev NAME "
						     "ingress' removes it)"
						   : strerror(-r));
	}
	return 0;
}

/* What there is in a namespace that is left: interfaces, and the owners of taps among them. */
struct left {
	int index[LEFT_MAX], owner[LEFT_MAX];
	unsigned int links, taps;
};

static int see_left(void *ctx, const struct nlmsghdr *m)
{
	const struct ifinfomsg *body = NLMSG_DATA(m);
	const struct nlattr *name = netlink_find(m, sizeof(*body), IFLA_IFNAME, 2);
	struct left *l = ctx;
	int owner;

	if (m->nlmsg_type != RTM_NEWLINK || !name || l->links == LEFT_MAX || l->taps == LEFT_MAX)
		return 0;
	if (owner_of(netlink_data(name), &owner))
		l->owner[l->taps++] = owner;
	else
		l->index[l->links++] = body->ifi_index;
	return 0;
}

/* Whether an interface has a tap, which is then another container's: that one goes on. */
static bool is_joined(const struct left *l, int index)
{
	for (unsigned int i = 0; i < l->taps; i++)
		if (l->owner[i] == index)
			return true;
	return false;
}

void oci_network_leave(const char *path)
{
	struct ifinfomsg all = {0};
	struct left left = {.links = 0};
	struct netlink n;
	struct err ignored;

	if (open_in(&n, path, &ignored))
		return;
	netlink_begin(&n, RTM_GETLINK, 0, &all, sizeof(all));
	netlink_dump(&n, see_left, &left);
	for (unsigned int i = 0; i < left.links; i++)
		if (!is_joined(&left, left.index[i]))
			redirect_remove(&n, left.index[i]);
	netlink_close(&n);
}

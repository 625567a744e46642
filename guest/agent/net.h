/* SPDX-License-Identifier: Apache-2.0
 *
 * net: sets a network interface up as the host says: at boot by the word uvm.net= of the kernel's
 * command line, in text that is the same wherever it comes from:
 *
 *	INTERFACE[,name=NAME][,mac=ADDRESS][,mtu=N][,ip=ADDRESS/BITS[/noroute]]...[,gw=ADDRESS]...
 *		[,route=ADDRESS/BITS/METRIC[/[GATEWAY][/SOURCE]]]...[,dns=ADDRESS]
 *
 * Addresses are of IPv4 or IPv6, and are given in their order. One with "noroute" makes no route to its own
 * network. What is not named stays.
 */
#ifndef UVM_AGENT_NET_H
#define UVM_AGENT_NET_H

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "guest/protocol.h"

struct net_address {
	uint8_t family; /* AF_INET or AF_INET6; 0: there is none */
	uint8_t bits;	/* of its prefix */
	bool no_route;
	uint8_t bytes[sizeof(struct in6_addr)]; /* of which IPv4 has four */
};

struct net_route {
	struct net_address to;
	struct net_address gateway, source;
	uint32_t metric; /* 0: the kernel's usual one */
};

struct net_setup {
	char name[IFNAMSIZ], new_name[IFNAMSIZ]; /* "": it keeps its name */
	bool has_mac;
	uint8_t mac[6];
	int mtu; /* 0: as it is */
	struct net_address ip[AGENT_NET_ADDRESSES];
	unsigned int ips;
	struct net_route route[AGENT_NET_ROUTES];
	unsigned int routes;
	char dns[INET6_ADDRSTRLEN]; /* "": none */
};

/* Takes a text, which is cut at its commas. Returns 0, or -EINVAL if it is none of these. */
int net_setup_parse(struct net_setup *s, char *text);

/* Does all of it, also after a failure, and brings the interface up. If there are IPv4 addresses, those that
 * were there before go, with their routes; dns is all that /etc/resolv.conf then says. Returns 0, or the
 * first failure as -errno with *what its subject, a text that is never freed.
 */
int net_setup_apply(const struct net_setup *s, const char **what);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * net: sets a network interface up as the host says: at boot by the word uvm.net= of the kernel's
 * command line, in text that is the same wherever it comes from:
 *
 *	INTERFACE[,mac=ADDRESS][,mtu=N][,ip=ADDRESS/BITS][,gw=ADDRESS][,dns=ADDRESS]...
 *
 * ip= and gw= may come once for IPv4 and once for IPv6, in any order. What is not named stays.
 */
#ifndef UVM_AGENT_NET_H
#define UVM_AGENT_NET_H

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct net_setup {
	char name[IFNAMSIZ];
	bool has_mac, has_ip[2], has_gateway[2]; /* [0] IPv4, [1] IPv6 */
	uint8_t mac[6];
	int mtu; /* 0: as it is */
	struct in_addr ip, gateway;
	struct in6_addr ip6, gateway6;
	int prefix[2];
	char dns[INET6_ADDRSTRLEN]; /* "": none */
};

/* Takes a text, which is cut at its commas. Returns 0, or -EINVAL if it is none of these. */
int net_setup_parse(struct net_setup *s, char *text);

/* Does all of it, also after a failure, and brings the interface up. An IPv4 address that was there
 * before is replaced, with its routes; dns is all that /etc/resolv.conf then says. Returns 0, or the
 * first failure as -errno with *what its subject, a text that is never freed.
 */
int net_setup_apply(const struct net_setup *s, const char **what);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * network: the interfaces of a container's network namespace become the guest's.
 *
 * Theory of operation. Whoever has made the namespace (CNI, netavark, docker) has put interfaces into it
 * that lead somewhere, with addresses and routes, and expects them to stay there. Beside each a tap device
 * is made, and frames that arrive at one of the two are sent out of the other by the kernel's traffic
 * control (an ingress queue with one filter, which fits all, and redirects). That is before the host's own
 * network stack sees a frame, so that what has these addresses is the guest, whose interface has the same
 * name, hardware address, MTU, addresses and routes.
 *
 * A tap device lives as long as the VM's process. The queue at the other interface stays behind in a
 * namespace that outlives it: oci_network_leave removes it. It is this runtime's if its filter has our
 * priority; where there is another one, the interface is not touched.
 *
 * What cannot be the guest's is refused: interfaces that have no Ethernet frames, routes with several next
 * hops or with a next hop of the other family. Interfaces that are down, addresses and routes that the
 * kernel has from routers, and IPv6's link-local ones, which the guest makes itself, are left alone.
 */
#ifndef UVM_SHIM_NETWORK_H
#define UVM_SHIM_NETWORK_H

#include <net/if.h>

#include "guest/netlink.h"
#include "guest/protocol.h"
#include "vmm/net.h"

#define NETWORK_WORDS 4096u

struct oci_address {
	uint8_t family; /* AF_INET, AF_INET6; 0: none */
	uint8_t bits;
	uint8_t bytes[16];
};

struct oci_route {
	struct oci_address to, gateway, source;
	uint32_t metric;
	bool kernels; /* made by the kernel, for an address */
};

struct oci_interface {
	char name[IFNAMSIZ], tap[IFNAMSIZ];
	int index; /* in its namespace */
	uint32_t mtu;
	uint8_t mac[6];
	struct oci_address address[AGENT_NET_ADDRESSES];
	struct oci_route route[AGENT_NET_ROUTES];
	unsigned int addresses, routes;
	char words[NETWORK_WORDS]; /* for the guest's agent */
};

struct oci_network {
	struct netlink netlink;
	/* In the order of the guest's: one that is called ethN there is the Nth if there are so many. */
	struct oci_interface link[NET_MAX];
	unsigned int links;
};

/* Finds out what there is in the namespace at path, or in the caller's if it is NULL. Returns 0 or -errno with
 * a message, -EBUSY: some other container has an interface. oci_network_close after 0.
 */
int oci_network_open(struct oci_network *n, const char *path, struct err *e);
void oci_network_close(struct oci_network *n);

/* Makes the tap devices, and net[0] to net[links - 1] of them, which hold their descriptors, and texts that
 * are n's. The caller is in the namespace. Returns 0 or -errno with a message; what is made by then goes with
 * the process, and by oci_network_leave.
 */
int oci_network_join(struct oci_network *n, struct net_config *net, struct err *e);

/* Removes what is left in the namespace at path, if that is still there. */
void oci_network_leave(const char *path);

#endif

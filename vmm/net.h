/* SPDX-License-Identifier: Apache-2.0
 *
 * net: a guest's network devices on the host: what --network says, the back end that this makes, and the
 * thread that serves it.
 *
 * A device whose other end is given has a worker of its own, so that a network that is flooded
 * delays nobody else. One without (its link is down) is served by the main loop.
 */
#ifndef UVM_VMM_NET_H
#define UVM_VMM_NET_H

#include "devices/net_stream.h"
#include "devices/net_tap.h"
#include "vmm/worker.h"

#define NET_MAX	      8u
#define NET_DESCRIBED 512u /* bytes of net_describe */

/* A MAC address, for printf. */
#define NET_MAC_FORMAT	 "%02x:%02x:%02x:%02x:%02x:%02x"
#define NET_MAC_BYTES(m) (m)[0], (m)[1], (m)[2], (m)[3], (m)[4], (m)[5]

enum net_kind {
	NET_NONE,  /* the link is down: for a clone to fill */
	NET_TAP,   /* a tap device, by its name */
	NET_FD,	   /* a tap device's descriptor, inherited */
	NET_UNIX,  /* a stream socket */
	NET_PASST, /* a child that is passt(1) */
};

/* Texts are the command line's. */
struct net_config {
	enum net_kind kind;
	const char *target; /* NET_TAP: name; NET_UNIX: path */
	uint32_t fd;	    /* NET_FD */
	bool has_mac, offload, offload_said;
	uint8_t mac[6];
	uint32_t mtu;  /* 0: not said */
	uint64_t rate; /* bytes each second, each way; 0: no limit */
	/* Addresses for the guest: [0] IPv4, [1] IPv6; NULL: none. */
	const char *ip[2], *gateway[2]; /* ip without the prefix's length */
	uint32_t prefix[2];
	const char *dns;
	const char *words; /* more for the guest's agent, in its own form, ",ip=..."; NULL: none */
	char tcp[128], udp[128]; /* ports that passt forwards, as its -t and -u have them */
};

struct net {
	struct net_config config;
	char *text; /* malloc'ed, which config's are in; NULL: the command line's */
	uint8_t mac[6]; /* of config, or a random one */
	uint16_t mtu;	/* of config, or the usual one */
	struct virtio_net dev;
	struct net_tap tap;
	struct net_stream stream;
	struct net_backend *backend; /* in one of them, or NULL */
	struct worker worker;	     /* if there is a back end */
};

/* Takes the value of a --network option, which is the process's own argv and is cut at its commas. */
int net_parse(struct net_config *cfg, const char *value, struct err *e);

/* Writes the words of cfg for the agent (guest/agent/net.h), for the guest's interface eth<index>. n: the
 * device of a clone, whose address and MTU the interface is to take, or NULL. Returns their length as
 * snprintf does; 0 if there is nothing to say.
 */
size_t net_words(const struct net_config *cfg, unsigned int index, const struct net *n, char *text,
		 size_t size);

/* Opens what cfg names (its texts outlive n); for NET_PASST starts it. Before any thread is made. Returns
 * 0, or -errno with a message.
 */
int net_open(struct net *n, const struct net_config *cfg, struct err *e);

/* The same where fd is what cfg names, opened by net_open in another process: a tap device's, or a stream
 * socket. It becomes n's, or is closed.
 */
int net_open_fd(struct net *n, const struct net_config *cfg, int fd, struct err *e);

/* Gives back all that n has, whose worker has stopped; of one that was not initialised (net_init) the back
 * end.
 */
void net_close(struct net *n);
void net_close_backend(struct net *n);

/* Makes the device of an opened n, with its link down. irq and main stay the caller's. */
int net_init(struct net *n, const struct mem *m, struct irq irq, struct loop *main, struct err *e);

/* Brings the link up if there is a back end, while nothing runs. In a device that was loaded the
 * address becomes n's; its MTU stays if none was said, unless it is the largest that there is, which is a
 * template's and to be replaced. The guest takes both when it is told to (net_words). Returns 0, or -errno
 * with a message: an MTU that is more than the device's.
 */
int net_connect(struct net *n, struct err *e);

/* The worker, if there is one; when it is needed, as main finds. */
int net_start(struct net *n, struct loop *main, struct err *e);
void net_stop(struct net *n);

/* "net.I KIND", "mac.I", "mtu.I" and "link.I" as lines of the control socket's status. Returns their
 * length, at most NET_DESCRIBED.
 */
size_t net_describe(struct net *n, unsigned int index, char *text, size_t size);

#endif

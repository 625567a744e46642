/* SPDX-License-Identifier: Apache-2.0
 *
 * netlink: requests to the kernel about network interfaces (rtnetlink(7)). The agent uses it in the guest,
 * too: so nothing of ours is included, and results are numbers.
 *
 * A request is put together in the structure's own room: netlink_begin, netlink_put for each attribute,
 * then netlink_send. One that is too long for the room fails as a whole when it is sent.
 */
#ifndef UVM_GUEST_NETLINK_H
#define UVM_GUEST_NETLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/netlink.h>

#define NETLINK_ROOM 1024u

struct netlink {
	int fd;
	uint32_t sequence;
	bool full; /* something did not fit */
	union {
		struct nlmsghdr head;
		uint8_t bytes[NETLINK_ROOM];
	} request;
};

/* Opens a socket to the caller's network namespace, whose it stays wherever the caller goes. Returns 0 or
 * -errno.
 */
int netlink_open(struct netlink *n);
void netlink_close(struct netlink *n);

/* Begins a request: RTM_*, NLM_F_* beside NLM_F_REQUEST, and the structure of size bytes that it has before its
 * attributes.
 */
void netlink_begin(struct netlink *n, uint16_t type, uint16_t flags, const void *body, size_t size);
void netlink_put(struct netlink *n, uint16_t type, const void *data, size_t size);

/* An attribute that consists of those that are put until netlink_end gets what this returns. */
size_t netlink_nest(struct netlink *n, uint16_t type);
void netlink_end(struct netlink *n, size_t nest);

/* Sends the request, and returns what became of it: 0 or -errno. */
int netlink_send(struct netlink *n);

/* Sends it as one that asks for all there is, and calls visit for each message of the answer, until that
 * returns something else than 0, which is returned. visit sends nothing through n. -EINTR: the tables have
 * changed meanwhile, what was seen may not fit together.
 */
int netlink_dump(struct netlink *n, int (*visit)(void *ctx, const struct nlmsghdr *m), void *ctx);

/* The attribute of that type in a message, behind its structure of size bytes, or in another attribute; NULL
 * if there is none of at least min bytes.
 */
const struct nlattr *netlink_find(const struct nlmsghdr *m, size_t size, uint16_t type, size_t min);
const struct nlattr *netlink_find_in(const struct nlattr *nest, uint16_t type, size_t min);

static inline const void *netlink_data(const struct nlattr *a)
{
	return a + 1;
}

static inline size_t netlink_size(const struct nlattr *a)
{
	return a->nla_len - sizeof(*a);
}

#endif

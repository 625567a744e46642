/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/netlink.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/rtnetlink.h>

#define ANSWER_MAX 16384 /* as much as the kernel sends at once: it looks how much is asked for */

int netlink_open(struct netlink *n)
{
	n->sequence = 0;
	n->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	return n->fd < 0 ? -errno : 0;
}

void netlink_close(struct netlink *n)
{
	close(n->fd);
}

/* Appends, with zeros up to the alignment. Returns where it is, or NULL. */
static void *append(struct netlink *n, const void *data, size_t size)
{
	uint8_t *to = n->request.bytes + n->request.head.nlmsg_len;

	if (NLMSG_ALIGN(size) > NETLINK_ROOM - n->request.head.nlmsg_len) {
		n->full = true;
		return NULL;
	}
	memset(to, 0, NLMSG_ALIGN(size));
	if (data)
		memcpy(to, data, size);
	n->request.head.nlmsg_len += (uint32_t)NLMSG_ALIGN(size);
	return to;
}

void netlink_begin(struct netlink *n, uint16_t type, uint16_t flags, const void *body, size_t size)
{
	n->full = false;
	n->request.head = (struct nlmsghdr){.nlmsg_len = NLMSG_HDRLEN,
					    .nlmsg_type = type,
					    .nlmsg_flags = (uint16_t)(flags | NLM_F_REQUEST)};
	append(n, body, size);
}

static void put(struct netlink *n, uint16_t type, const void *data, size_t size)
{
	struct nlattr *a = append(n, NULL, sizeof(*a) + size);

	if (!a)
		return;
	*a = (struct nlattr){.nla_len = (uint16_t)(sizeof(*a) + size), .nla_type = type};
	if (size)
		memcpy(a + 1, data, size);
}

void netlink_put(struct netlink *n, uint16_t type, const void *data, size_t size)
{
	put(n, type, data, size);
}

size_t netlink_nest(struct netlink *n, uint16_t type)
{
	size_t at = n->request.head.nlmsg_len;

	put(n, type | NLA_F_NESTED, NULL, 0);
	return at;
}

void netlink_end(struct netlink *n, size_t nest)
{
	struct nlattr *a = (struct nlattr *)(n->request.bytes + nest);

	if (!n->full)
		a->nla_len = (uint16_t)(n->request.head.nlmsg_len - nest);
}

/* --- answers --- */

static int transmit(struct netlink *n, uint16_t flags)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	struct nlmsghdr *h = &n->request.head;

	if (n->full)
		return -EMSGSIZE;
	h->nlmsg_flags |= flags;
	h->nlmsg_seq = ++n->sequence;
	while (sendto(n->fd, h, h->nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

/* One message. Returns 0 to go on, 1 when that was the last, or visit's result or -errno. */
static int take(const struct nlmsghdr *m, int (*visit)(void *ctx, const struct nlmsghdr *m), void *ctx)
{
	int error = 0;

	if (m->nlmsg_type == NLMSG_DONE || m->nlmsg_type == NLMSG_ERROR) {
		if (m->nlmsg_len >= NLMSG_LENGTH(sizeof(error)))
			memcpy(&error, NLMSG_DATA(m), sizeof(error));
		return error < 0 ? error : 1;
	}
	if (m->nlmsg_flags & NLM_F_DUMP_INTR)
		return -EINTR;
	return visit ? visit(ctx, m) : 0;
}

static int receive(struct netlink *n, int (*visit)(void *ctx, const struct nlmsghdr *m), void *ctx)
{
	union {
		struct nlmsghdr head;
		uint8_t bytes[ANSWER_MAX];
	} answer;
	int r = 0;

	while (!r) {
		ssize_t len = recv(n->fd, &answer, sizeof(answer), MSG_TRUNC);
		const struct nlmsghdr *m = &answer.head;
		size_t left = (size_t)len;

		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0 || left > sizeof(answer))
			return len < 0 ? -errno : -EMSGSIZE;
		for (; !r && NLMSG_OK(m, left); m = NLMSG_NEXT(m, left))
			if (m->nlmsg_seq == n->sequence) /* else it belongs to a dump that was left */
				r = take(m, visit, ctx);
	}
	return r == 1 ? 0 : r;
}

int netlink_send(struct netlink *n)
{
	int r = transmit(n, NLM_F_ACK);

	return r ? r : receive(n, NULL, NULL);
}

int netlink_dump(struct netlink *n, int (*visit)(void *ctx, const struct nlmsghdr *m), void *ctx)
{
	int r = transmit(n, NLM_F_DUMP);

	return r ? r : receive(n, visit, ctx);
}

/* --- attributes --- */

static const struct nlattr *find(const uint8_t *at, const uint8_t *end, uint16_t type, size_t min)
{
	const struct nlattr *a = (const struct nlattr *)at;

	while ((size_t)(end - at) >= sizeof(*a) && a->nla_len >= sizeof(*a) &&
	       a->nla_len <= (size_t)(end - at)) {
		if ((a->nla_type & NLA_TYPE_MASK) == type)
			return netlink_size(a) >= min ? a : NULL;
		if ((size_t)NLA_ALIGN(a->nla_len) > (size_t)(end - at))
			return NULL;
		at += NLA_ALIGN(a->nla_len);
		a = (const struct nlattr *)at;
	}
	return NULL;
}

const struct nlattr *netlink_find(const struct nlmsghdr *m, size_t size, uint16_t type, size_t min)
{
	const uint8_t *body = (const uint8_t *)NLMSG_DATA(m), *end = (const uint8_t *)m + m->nlmsg_len;

	size = NLMSG_ALIGN(size);
	return size > (size_t)(end - body) ? NULL : find(body + size, end, type, min);
}

const struct nlattr *netlink_find_in(const struct nlattr *nest, uint16_t type, size_t min)
{
	return find(netlink_data(nest), (const uint8_t *)nest + nest->nla_len, type, min);
}

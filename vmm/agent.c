/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/agent.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/util.h"

/* Bytes of payload that each message of the agent has. */
static const struct {
	uint16_t type;
	uint32_t min;
	uint32_t max;
} answer_types[] = {
	{AGENT_HELLO, sizeof(struct agent_info), sizeof(struct agent_info)},
	{AGENT_INFO, sizeof(struct agent_info), sizeof(struct agent_info)},
	{AGENT_OK, 0, 0},
	{AGENT_ERROR, sizeof(struct agent_error), AGENT_ANSWER_MAX},
	{AGENT_STARTED, sizeof(struct agent_started), sizeof(struct agent_started)},
	{AGENT_EXITED, sizeof(struct agent_exited), sizeof(struct agent_exited)},
	{AGENT_CREATED, sizeof(struct agent_started), sizeof(struct agent_started)},
	{AGENT_NOTICE, sizeof(struct agent_notice), sizeof(struct agent_notice)},
	{AGENT_PLUGGED, sizeof(struct agent_plugged), sizeof(struct agent_plugged)},
};

uint64_t agent_deadline(void)
{
	return now_ns() + AGENT_HANDSHAKE_MS * UINT64_C(1000000);
}

static bool length_ok(const struct agent_header *h)
{
	for (size_t i = 0; i < ARRAY_SIZE(answer_types); i++)
		if (answer_types[i].type == h->type)
			return h->length >= answer_types[i].min && h->length <= answer_types[i].max;
	return false;
}

/* Whether it is from an agent like ours. */
static int check_magic(const struct agent_header *h, struct err *e)
{
	if (h->magic != AGENT_MAGIC)
		return err_set(e, EPROTO, "what answers in the guest is not uvm's agent");
	if (h->version != AGENT_VERSION)
		return err_set(e, EPROTO,
			       "the guest's agent speaks version %u of the protocol, not %u",
			       h->version, AGENT_VERSION);
	return 0;
}

static int malformed(const struct agent_header *h, struct err *e)
{
	return err_set(e, EPROTO, "the guest's agent sent a malformed message (type %u)", h->type);
}

static int check_header(const struct agent_header *h, struct err *e)
{
	int r = check_magic(h, e);

	return r || length_ok(h) ? r : malformed(h, e);
}

/* Receives what is there of the bytes from *got to want. Returns 1 when all are there, 0 or -errno. */
static int take(int fd, void *to, size_t *got, size_t want, struct err *e)
{
	while (*got < want) {
		ssize_t n = recv(fd, (uint8_t *)to + *got, want - *got, MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0 && errno != ECONNRESET)
			return err_sys(e, "cannot receive from the guest's agent");
		if (n <= 0)
			return err_set(e, ECONNRESET, "the guest's agent closed the connection");
		*got += (size_t)n;
	}
	return 1;
}

int agent_receive(int fd, struct agent_message *m, struct err *e)
{
	size_t got;
	int r;

	if (m->got < sizeof(m->head)) {
		r = take(fd, &m->head, &m->got, sizeof(m->head), e);
		if (r > 0 && check_header(&m->head, e))
			return -EPROTO;
		if (r <= 0)
			return r;
	}
	got = m->got - sizeof(m->head);
	r = take(fd, m->bytes, &got, m->head.length, e);
	m->got = sizeof(m->head) + got;
	if (r > 0 && m->head.type == AGENT_ERROR)
		m->text[m->head.length - sizeof(m->error)] = '\0';
	return r;
}

/* Waits for events on fd. Returns 0, or -errno with the message set. */
static int wait_for(int fd, short events, uint64_t deadline_ns, struct err *e)
{
	for (;;) {
		struct pollfd pfd = {.fd = fd, .events = events};
		uint64_t now = now_ns();
		int r;

		if (now >= deadline_ns)
			return err_set(e, ETIMEDOUT, "the guest's agent does not answer");
		r = poll(&pfd, 1, (int)((deadline_ns - now) / 1000000 + 1));
		if (r > 0)
			return 0;
		if (r < 0 && errno != EINTR)
			return err_sys(e, "poll");
	}
}

int agent_error(const struct agent_message *m, struct err *e)
{
	/* A number that is none must not become success. */
	int code = m->error.code < 1 || m->error.code > 4095 ? EPROTO : (int)m->error.code;

	return err_set(e, code, "%s: %s", m->text, strerror(code));
}

/* The rest of a message. */
static int await_rest(int fd, struct agent_message *m, uint64_t deadline_ns, struct err *e)
{
	for (;;) {
		int r = agent_receive(fd, m, e);

		if (r > 0)
			return m->head.type == AGENT_ERROR ? agent_error(m, e) : 0;
		if (!r)
			r = wait_for(fd, POLLIN, deadline_ns, e);
		if (r)
			return r;
	}
}

int agent_await(int fd, struct agent_message *m, uint64_t deadline_ns, struct err *e)
{
	m->got = 0;
	return await_rest(fd, m, deadline_ns, e);
}

/* Sending has failed: the agent may have said why before it closed. */
static int send_failed(int fd, struct err *e)
{
	struct agent_message m = {0};
	int r = err_sys(e, "cannot send to the guest's agent");
	struct err why;

	if (agent_receive(fd, &m, &why) > 0 && m.head.type == AGENT_ERROR)
		return agent_error(&m, e);
	return r;
}

int agent_send(int fd, enum agent_type type, const void *payload, size_t length,
	       uint64_t deadline_ns, struct err *e)
{
	struct agent_header head = {.magic = AGENT_MAGIC,
				    .version = AGENT_VERSION,
				    .type = (uint16_t)type,
				    .length = (uint32_t)length};
	size_t sent = 0, all = sizeof(head) + length;

	while (sent < all) {
		size_t skip = MIN(sent, sizeof(head)), past = sent - skip;
		struct iovec iov[] = {
			{(uint8_t *)&head + skip, sizeof(head) - skip},
			{(uint8_t *)(uintptr_t)payload + past, length - past},
		};
		struct msghdr m = {.msg_iov = iov, .msg_iovlen = length ? 2 : 1};
		ssize_t n = sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
		int r;

		if (n >= 0) {
			sent += (size_t)n;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return send_failed(fd, e);
		r = wait_for(fd, POLLOUT, deadline_ns, e);
		if (r)
			return r;
	}
	return 0;
}

static int unexpected(const struct agent_message *m, struct err *e)
{
	return err_set(e, EPROTO, "the guest's agent gave an answer out of place (type %u)",
		       m->head.type);
}

/* One request on a connection of its own, answered by a message of one type. Returns the connection or
 * -errno.
 */
static int converse(agent_dial_fn *dial, void *ctx, enum agent_type type, const void *payload,
		    size_t length, uint64_t deadline, enum agent_type wanted, struct agent_message *m,
		    struct err *e)
{
	int fd, r = dial(ctx, &fd, 1, e);

	if (r)
		return r;
	r = agent_send(fd, type, payload, length, deadline, e);
	if (!r)
		r = agent_await(fd, m, deadline, e);
	if (!r && m->head.type != wanted)
		r = unexpected(m, e);
	if (!r)
		return fd;
	close(fd);
	return r;
}

/* The same, answered by OK. */
static int ask(agent_dial_fn *dial, void *ctx, enum agent_type type, const void *payload,
	       size_t length, uint64_t deadline, struct err *e)
{
	struct agent_message m;

	return converse(dial, ctx, type, payload, length, deadline, AGENT_OK, &m, e);
}

/* Receives exactly len bytes. */
static int await_bytes(int fd, void *to, size_t len, uint64_t deadline_ns, struct err *e)
{
	size_t got = 0;
	int r;

	while (!(r = take(fd, to, &got, len, e))) {
		r = wait_for(fd, POLLIN, deadline_ns, e);
		if (r)
			return r;
	}
	return MIN(r, 0);
}

static int await_list(int fd, struct agent_list *l, uint64_t deadline_ns, struct err *e)
{
	struct agent_message m = {.got = sizeof(m.head)};
	int r = await_bytes(fd, &m.head, sizeof(m.head), deadline_ns, e);

	if (!r)
		r = check_magic(&m.head, e);
	if (r)
		return r;
	if (m.head.type != l->type) {
		r = check_header(&m.head, e);
		if (!r)
			r = await_rest(fd, &m, deadline_ns, e);
		return r ? r : unexpected(&m, e);
	}
	if (m.head.length > l->size || m.head.length % l->unit)
		return malformed(&m.head, e);
	l->count = m.head.length / l->unit;
	return await_bytes(fd, l->data, m.head.length, deadline_ns, e);
}

static int set_name(struct agent_name *to, const char *container, struct err *e)
{
	if (strlen(container) > AGENT_NAME_MAX)
		return err_set(e, EINVAL, "'%s' is not a container's name", container);
	strcpy(to->name, container);
	return 0;
}

int agent_fetch(agent_dial_fn *dial, void *ctx, enum agent_type type, const char *container,
		struct agent_list *l, uint64_t deadline_ns, struct err *e)
{
	struct agent_name name = {{0}};
	int fd, r = set_name(&name, container, e);

	if (!r)
		r = dial(ctx, &fd, 1, e);
	if (r)
		return r;
	r = agent_send(fd, type, &name, sizeof(name), deadline_ns, e);
	if (!r)
		r = await_list(fd, l, deadline_ns, e);
	close(fd);
	return r;
}

int agent_order_until(agent_dial_fn *dial, void *ctx, enum agent_type type, const void *payload,
		      size_t length, uint64_t deadline_ns, struct err *e)
{
	int fd = ask(dial, ctx, type, payload, length, deadline_ns, e);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

int agent_order(agent_dial_fn *dial, void *ctx, enum agent_type type, const void *payload,
		size_t length, struct err *e)
{
	return agent_order_until(dial, ctx, type, payload, length, agent_deadline(), e);
}

/* Takes over what the guest says of a device. */
static int take_plugged(agent_dial_fn *dial, void *ctx, enum agent_type type, const void *payload,
			size_t length, struct agent_plugged *to, struct err *e)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
	struct agent_message m;
	int fd = converse(dial, ctx, type, payload, length, agent_deadline(), AGENT_PLUGGED, &m, e);
	size_t len;

	if (fd < 0)
		return fd;
	close(fd);
	*to = m.plugged;
	len = strnlen(to->name, sizeof(to->name));
	return len < sizeof(to->name) && strspn(to->name, allowed) == len ? 0 : malformed(&m.head, e);
}

int agent_plug(agent_dial_fn *dial, void *ctx, unsigned int slot, const char *words,
	       struct agent_plugged *to, struct err *e)
{
	struct agent_plug p = {.slot = slot};

	if (words && strlen(words) >= sizeof(p.words))
		return err_set(e, E2BIG, "more than %zu bytes of words about a network",
			       sizeof(p.words) - 1);
	strcpy(p.words, words ? words : "");
	return take_plugged(dial, ctx, AGENT_PLUG, &p, sizeof(p), to, e);
}

int agent_unplug(agent_dial_fn *dial, void *ctx, uint32_t slots, const char *name,
		 struct agent_plugged *to, struct err *e)
{
	struct agent_unplug u = {.slots = slots};

	if (strlen(name) >= sizeof(u.name))
		return err_set(e, EINVAL, "'%s' is too long for a device's name", name);
	strcpy(u.name, name);
	return take_plugged(dial, ctx, AGENT_UNPLUG, &u, sizeof(u), to, e);
}

int agent_dump(agent_dial_fn *dial, void *ctx, char text[AGENT_DUMP_MAX], struct err *e)
{
	uint64_t deadline = agent_deadline();
	int fd = ask(dial, ctx, AGENT_DUMP, NULL, 0, deadline, e), r = 0;
	size_t len = 0;

	if (fd < 0)
		return fd;
	for (;;) {
		char more;
		bool full = len == AGENT_DUMP_MAX;
		ssize_t n = recv(fd, full ? &more : text + len, full ? 1 : AGENT_DUMP_MAX - len,
				 MSG_DONTWAIT);

		if (!n)
			break;
		if (n > 0 && full)
			r = err_set(e, EPROTO, "the guest's agent says more than it may");
		else if (n > 0)
			len += (size_t)n;
		else if (errno == EAGAIN)
			r = wait_for(fd, POLLIN, deadline, e);
		else if (errno != EINTR)
			r = err_sys(e, "cannot receive from the guest's agent");
		if (r)
			break;
	}
	close(fd);
	return r ? r : (int)len;
}

int agent_stats(agent_dial_fn *dial, void *ctx, const char *container, uint64_t deadline_ns,
		struct agent_properties *to, struct err *e)
{
	struct agent_list l = {
		.type = AGENT_PROPERTIES, .unit = sizeof(*to), .data = to, .size = sizeof(*to)};
	int r = agent_fetch(dial, ctx, AGENT_STATS, container, &l, deadline_ns, e);

	return r || l.count == 1 ? r
				 : err_set(e, EPROTO, "the guest's agent told no figures of '%s'",
					   container);
}

int agent_kill(agent_dial_fn *dial, void *ctx, const char *container, int signo,
	       enum agent_kill_scope scope, struct err *e)
{
	struct agent_kill order = {.signo = (uint32_t)signo, .scope = scope};
	int r = set_name(&order.container, container, e);

	return r ? r : agent_order(dial, ctx, AGENT_KILL, &order, sizeof(order), e);
}

int agent_shutdown(agent_dial_fn *dial, void *ctx, enum agent_shutdown_mode mode, struct err *e)
{
	struct agent_shutdown order = {.mode = mode};
	int r = agent_order(dial, ctx, AGENT_SHUTDOWN, &order, sizeof(order), e);

	/* The guest may be gone faster than its answer. */
	return r == -ECONNRESET ? 0 : r;
}

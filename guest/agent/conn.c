/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages are read to the byte and no further: after an ATTACH the connection is a stream, and
 * its first data may have come along with the message.
 */
#include "guest/agent/agent.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* Messages of one connection before the others have their turn. */
#define TURN_MESSAGES 16

/* What a connection is when a message comes on it. */
enum place {
	PLACE_CLIENT = 1u << 0,	 /* one that the host has made */
	PLACE_SESSION = 1u << 1, /* the same after EXEC */
	PLACE_LINK = 1u << 2,	 /* the one that the agent has made */
};

struct message_type {
	uint16_t type;
	uint32_t min; /* bytes of payload */
	uint32_t max;
	uint32_t places; /* where it may come, enum place */
	void (*handle)(struct agent *a, struct conn *c);
};

static void handle_session(struct agent *a, struct conn *c)
{
	session_request(a, c->session, c->head.length);
}

/* Whether the peer of a parked connection has closed it. Its data cannot be read to find out, and
 * the end of the data may come before the session does; a send of nothing tells.
 */
static bool peer_gone(int fd)
{
	return send(fd, NULL, 0, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN;
}

static void handle_attach(struct agent *a, struct conn *c)
{
	struct session *s = session_find(a, &c->body.attach.key);
	const char *why;

	if (!s) {
		c->state = CONN_PARKED;
		if (peer_gone(c->fd)) /* the event for that may have been this one */
			conn_close(a, c);
		return;
	}
	why = session_attach(a, s, c->body.attach.stream, c->fd);
	if (why)
		conn_fail(a, c, EINVAL, why);
	else
		conn_release(c);
}

static void handle_signal(struct agent *a, struct conn *c)
{
	const struct agent_signal *m = &c->body.signal;

	if (m->signo < 1 || m->signo > 64 || m->scope > AGENT_SIGNAL_GROUP)
		conn_fail(a, c, EINVAL, "SIGNAL has no valid number or scope");
	else
		session_signal(c->session, m);
}

static void handle_resize(struct agent *a, struct conn *c)
{
	(void)a;
	session_resize(c->session, &c->body.resize);
}

static void handle_ping(struct agent *a, struct conn *c)
{
	struct agent_info info = agent_info(a);

	conn_send(c, AGENT_INFO, c->head.tag, &info, sizeof(info));
}

static void handle_shutdown(struct agent *a, struct conn *c)
{
	uint32_t mode = c->body.shutdown.mode;

	if (mode != AGENT_POWEROFF && mode != AGENT_REBOOT) {
		conn_fail(a, c, EINVAL, "SHUTDOWN has no valid mode");
		return;
	}
	conn_send(c, AGENT_OK, c->head.tag, NULL, 0);
	agent_stop(a, mode, 0);
}

#define NAME_SIZE sizeof(struct agent_name)

static const struct message_type message_types[] = {
	{AGENT_EXEC, sizeof(struct agent_exec), AGENT_EXEC_MAX, PLACE_CLIENT, handle_session},
	{AGENT_ATTACH, sizeof(struct agent_attach), sizeof(struct agent_attach), PLACE_CLIENT,
	 handle_attach},
	{AGENT_SIGNAL, sizeof(struct agent_signal), sizeof(struct agent_signal), PLACE_SESSION,
	 handle_signal},
	{AGENT_RESIZE, sizeof(struct agent_resize), sizeof(struct agent_resize), PLACE_SESSION,
	 handle_resize},
	{AGENT_PING, 0, 0, PLACE_CLIENT, handle_ping},
	{AGENT_SHUTDOWN, sizeof(struct agent_shutdown), sizeof(struct agent_shutdown), PLACE_CLIENT,
	 handle_shutdown},
	{AGENT_FREEZE, 0, 0, PLACE_LINK, link_freeze},
	{AGENT_THAW, 0, 0, PLACE_LINK, link_thaw},
	{AGENT_IDENTITY, sizeof(struct agent_identity), sizeof(struct agent_identity), PLACE_LINK,
	 link_identity},
	{AGENT_CMDLINE, 1, AGENT_CMDLINE_MAX, PLACE_LINK, link_cmdline},
	{AGENT_PREPARE, 0, AGENT_PREPARE_MAX, PLACE_LINK, link_prepare},
	{AGENT_CREATE, sizeof(struct agent_create), AGENT_EXEC_MAX, PLACE_CLIENT, handle_session},
	{AGENT_START, 0, 0, PLACE_SESSION, container_start},
	{AGENT_START, NAME_SIZE, NAME_SIZE, PLACE_CLIENT, container_start},
	{AGENT_WAIT, sizeof(struct agent_wait), sizeof(struct agent_wait), PLACE_CLIENT,
	 container_wait},
	{AGENT_KILL, sizeof(struct agent_kill), sizeof(struct agent_kill), PLACE_CLIENT,
	 container_kill},
	{AGENT_DELETE, NAME_SIZE, NAME_SIZE, PLACE_CLIENT, container_delete},
	{AGENT_PAUSE, NAME_SIZE, NAME_SIZE, PLACE_CLIENT, container_pause},
	{AGENT_RESUME, NAME_SIZE, NAME_SIZE, PLACE_CLIENT, container_pause},
	{AGENT_UPDATE, NAME_SIZE, AGENT_UPDATE_MAX, PLACE_CLIENT, handle_session},
	{AGENT_MOUNT, NAME_SIZE, AGENT_UPDATE_MAX, PLACE_CLIENT, handle_session},
	{AGENT_UNMOUNT, NAME_SIZE, AGENT_UPDATE_MAX, PLACE_CLIENT, handle_session},
	{AGENT_STATS, NAME_SIZE, NAME_SIZE, PLACE_CLIENT, container_stats},
	{AGENT_PROCESSES, NAME_SIZE, NAME_SIZE, PLACE_CLIENT, handle_session},
	{AGENT_LIST, 0, 0, PLACE_CLIENT, container_list},
	{AGENT_SET, sizeof(struct agent_identity), sizeof(struct agent_identity), PLACE_CLIENT,
	 handle_session},
	{AGENT_DUMP, 0, 0, PLACE_CLIENT, handle_session},
	{AGENT_PLUG, sizeof(struct agent_plug), sizeof(struct agent_plug), PLACE_CLIENT, handle_session},
	{AGENT_UNPLUG, sizeof(struct agent_unplug), sizeof(struct agent_unplug), PLACE_CLIENT,
	 handle_session},
};

static enum place place_of(const struct agent *a, const struct conn *c)
{
	return c == a->link ? PLACE_LINK : c->session ? PLACE_SESSION : PLACE_CLIENT;
}

/* The type as it is in that place; or else as it is in another, or NULL. */
static const struct message_type *find_type(uint16_t type, enum place place)
{
	const struct message_type *found = NULL;

	for (size_t i = 0; i < sizeof(message_types) / sizeof(message_types[0]); i++) {
		if (message_types[i].type != type)
			continue;
		found = &message_types[i];
		if (found->places & place)
			break;
	}
	return found;
}

void conn_release(struct conn *c)
{
	*c = (struct conn){.fd = -1};
}

void conn_close(struct agent *a, struct conn *c)
{
	struct session *s = c->session;

	if (s && s->control == c) {
		c->session = NULL;
		session_abandon(a, s);
	} else if (s) {
		session_unwatch(c);
	}
	if (c == a->link)
		a->link = NULL;
	close(c->fd);
	conn_release(c);
}

void conn_send(struct conn *c, enum agent_type type, uint32_t tag, const void *payload,
	       uint32_t length)
{
	struct agent_header head = {.magic = AGENT_MAGIC,
				    .version = AGENT_VERSION,
				    .type = (uint16_t)type,
				    .length = length,
				    .tag = tag};
	struct iovec iov[] = {{&head, sizeof(head)}, {(void *)(uintptr_t)payload, length}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = length ? 2 : 1};

	if (sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)(sizeof(head) + length))
		shutdown(c->fd, SHUT_RDWR);
}

uint32_t refusal_make(struct refusal *m, int code, const char *text)
{
	size_t n = strnlen(text, sizeof(m->text));

	m->error = (struct agent_error){.code = (uint32_t)code, .kind = AGENT_REFUSED};
	memcpy(m->text, text, n);
	return (uint32_t)(sizeof(m->error) + n);
}

void conn_error(struct conn *c, int code, const char *text)
{
	struct refusal m;
	uint32_t length = refusal_make(&m, code, text);

	conn_send(c, AGENT_ERROR, c->head.tag, &m, length);
}

void conn_fail(struct agent *a, struct conn *c, int code, const char *text)
{
	conn_error(c, code, text);
	conn_close(a, c);
}

/* Makes room in a full table: closes the connection that has waited longest to get on, if that is
 * longer than anybody may take.
 */
static struct conn *evict(struct agent *a, uint64_t now)
{
	struct conn *oldest = NULL;

	for (struct conn *c = a->conns; c < a->conns + AGENT_CONNECTIONS; c++)
		if (!c->session && c != a->link && (!oldest || c->since_ms < oldest->since_ms))
			oldest = c;
	if (!oldest || now - oldest->since_ms < AGENT_HANDSHAKE_MS)
		return NULL;
	conn_fail(a, oldest, ETIMEDOUT, "too slow");
	return oldest;
}

void conn_accept(struct agent *a, int fd)
{
	uint64_t now = now_ms();
	struct conn *c = a->conns;

	while (c < a->conns + AGENT_CONNECTIONS && c->state != CONN_FREE)
		c++;
	if (c == a->conns + AGENT_CONNECTIONS)
		c = evict(a, now);
	if (!c) {
		struct conn refused = {.state = CONN_OPEN, .fd = fd};

		conn_fail(a, &refused, EAGAIN, "too many connections");
		return;
	}
	*c = (struct conn){.state = CONN_OPEN, .fd = fd, .since_ms = now};
	if (watch(a, fd, WATCH_CONN, (uint32_t)(c - a->conns), 0))
		conn_fail(a, c, ENOMEM, "out of memory");
}

/* At the start, when the table is empty. */
void conn_link(struct agent *a, int fd, bool greeted)
{
	struct conn *c = a->conns;

	*c = (struct conn){.state = greeted ? CONN_OPEN : CONN_CALLING, .fd = fd};
	a->link = c;
	if (watch(a, fd, WATCH_CONN, 0, 0))
		conn_close(a, c);
}

/* Judges a header. Returns whether its payload may come. */
static bool header_ok(struct agent *a, struct conn *c)
{
	const struct message_type *t = find_type(c->head.type, place_of(a, c));
	int code = EPROTO;
	const char *why;

	if (c->head.magic != AGENT_MAGIC) {
		why = "not a message of uvm's agent";
	} else if (c->head.version != AGENT_VERSION) {
		why = "unknown protocol version";
		code = EPROTONOSUPPORT;
	} else if (!t) {
		why = "unknown message type";
		code = EOPNOTSUPP;
	} else if (!(t->places & place_of(a, c))) {
		why = "message out of place";
	} else if (c->head.length < t->min || c->head.length > t->max) {
		why = "payload is too short or too long for its type";
		code = EMSGSIZE;
	} else if (t->handle == handle_session && a->stop) {
		why = "the guest is shutting down";
		code = ESHUTDOWN;
	} else if (t->handle == handle_session && !(c->session = session_begin(a, c))) {
		why = "too many sessions";
		code = EAGAIN;
	} else {
		return true;
	}
	conn_fail(a, c, code, why);
	return false;
}

/* Where the payload goes of the message that comes in. */
static void *payload_of(struct agent *a, struct conn *c)
{
	if (c->session && c->session->state == SESSION_RECEIVING)
		return session_buffer(a, c->session);
	if (c->head.type == AGENT_IDENTITY)
		return &a->identity; /* there is one link */
	if (c->head.type == AGENT_CMDLINE)
		return a->cmdline;
	if (c->head.type == AGENT_PREPARE)
		return a->prepare;
	return &c->body;
}

/* Receives once for the current message. Returns 1 when it is complete, 0 when there may be more
 * to receive, -1 when there is nothing now or the connection is closed.
 */
static int receive(struct agent *a, struct conn *c)
{
	uint32_t want = sizeof(c->head);
	uint8_t *to = (uint8_t *)&c->head + c->got;
	ssize_t n;

	if (c->got >= sizeof(c->head)) {
		want += c->head.length;
		to = payload_of(a, c);
		to += c->got - sizeof(c->head);
	}
	n = recv(c->fd, to, want - c->got, MSG_DONTWAIT);
	if (n < 0 && errno == EINTR)
		return 0;
	if (n < 0 && errno == EAGAIN)
		return -1;
	if (n <= 0) {
		conn_close(a, c);
		return -1;
	}
	c->got += (uint32_t)n;
	if (c->got == sizeof(c->head) && !header_ok(a, c))
		return -1;
	return c->got >= sizeof(c->head) && c->got == sizeof(c->head) + c->head.length;
}

/* The link may be connected now, or never. Returns whether messages can come. */
static bool greet(struct agent *a, struct conn *c)
{
	int r = hello_send(c->fd, a->config->start_ns);

	if (!r)
		c->state = CONN_OPEN;
	else if (r != -EAGAIN)
		conn_close(a, c);
	return !r;
}

/* receive() has looked, and closes what is of no type. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wanalyzer-null-dereference"
void conn_event(struct agent *a, struct conn *c, uint32_t events)
{
	int messages = 0;

	if (c->state == CONN_CALLING && !greet(a, c))
		return;
	if (c->state == CONN_PARKED) {
		if (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP) && peer_gone(c->fd))
			conn_close(a, c);
		return;
	}
	while (c->state == CONN_OPEN) {
		int done = receive(a, c);

		if (done < 0)
			return;
		if (!done)
			continue;
		c->got = 0;
		find_type(c->head.type, place_of(a, c))->handle(a, c);
		if (c->state == CONN_OPEN && ++messages == TURN_MESSAGES) {
			/* Registering it again brings the event again if there is more. */
			watch(a, c->fd, WATCH_CONN, (uint32_t)(c - a->conns), 0);
			return;
		}
	}
}
#pragma GCC diagnostic pop

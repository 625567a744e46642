/* SPDX-License-Identifier: Apache-2.0
 *
 * The link's orders, by which a guest is copied. FREEZE brings it to a state in which no process
 * runs and the agent waits for nothing but the link. That is what is saved; the guest itself gets
 * THAW, each copy IDENTITY. Because nothing else is served in between, not even an event that was
 * there before, a copy has its identity before anything in it can tell that it is one.
 */
#include "guest/agent/agent.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* While nothing else runs the agent need not go before others; but its answers are sent by a thread of
 * the kernel's, which would wait until the agent sleeps.
 */
static void give_way(struct agent *a)
{
	a->priority = getpriority(PRIO_PROCESS, 0);
	setpriority(PRIO_PROCESS, 0, 0);
}

static void thaw(struct agent *a)
{
	if (!a->frozen)
		return;
	setpriority(PRIO_PROCESS, 0, a->priority); /* those that go on may be many */
	freezer_thaw(a->config->freezer);
	a->frozen = false;
}

/* Until the order comes that ends it, or the link is lost. */
static void serve_frozen(struct agent *a)
{
	while (a->frozen && a->link) {
		struct pollfd p = {.fd = a->link->fd, .events = POLLIN};

		if (poll(&p, 1, -1) > 0)
			conn_event(a, a->link, 0);
	}
	thaw(a);
}

void link_freeze(struct agent *a, struct conn *c)
{
	bool again = a->frozen;
	const char *why = "the guest is shutting down";
	int r = a->stop ? -ESHUTDOWN : 0;

	if (!r && !again)
		r = freezer_freeze(a->config->freezer, &why);
	if (r) {
		conn_error(c, -r, why);
		return;
	}
	if (!again)
		give_way(a);
	a->frozen = true;
	conn_send(c, AGENT_OK, c->head.tag, NULL, 0);
	if (!again)
		serve_frozen(a);
}

/* The answer comes first, because a thread of the kernel's sends it, which would have to compete
 * with those that thaw: ten of them that never sleep held it up for 80 ms.
 */
static void answer_and_thaw(struct agent *a, struct conn *c)
{
	conn_send(c, AGENT_OK, c->head.tag, NULL, 0);
	if (a->frozen)
		nanosleep(&(struct timespec){.tv_nsec = 1}, NULL);
	thaw(a);
}

void link_thaw(struct agent *a, struct conn *c)
{
	answer_and_thaw(a, c);
}

/* Connections that were waiting to be accepted. Their first message may be there: it was meant for
 * the guest that this one is a copy of. Asked before, because accept would sleep: see watch().
 */
static void drop_waiting(int listen_fd)
{
	struct pollfd p = {.fd = listen_fd, .events = POLLIN};
	int fd;

	while (poll(&p, 1, 0) == 1 && (fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		close(fd);
}

/* All connections but the link are the other guest's. Commands that run go on without a client;
 * what was not begun is forgotten.
 */
static void detach(struct agent *a)
{
	for (struct session *s = a->sessions; s < a->sessions + AGENT_SESSIONS; s++)
		session_detach(a, s);
	for (struct conn *c = a->conns; c < a->conns + AGENT_CONNECTIONS; c++)
		if (c->state != CONN_FREE && c != a->link)
			conn_close(a, c);
	drop_waiting(a->config->listen_fd);
}

static const char *check(const struct agent_identity *m)
{
	if (m->flags)
		return "IDENTITY has unknown flags";
	if (strnlen(m->hostname, sizeof(m->hostname)) > AGENT_HOSTNAME_MAX)
		return "IDENTITY's host name is too long";
	return NULL;
}

/* Its mounts are made by the IDENTITY that follows. */
void link_cmdline(struct agent *a, struct conn *c)
{
	struct words *w = a->config->words;
	size_t len = c->head.length;
	int r;

	a->cmdline[len] = '\0';
	if (strlen(a->cmdline) != len) {
		conn_error(c, EINVAL, "CMDLINE has a NUL in it");
		return;
	}
	r = words_take_all(w, a->cmdline);
	if (r)
		conn_error(c, -r, w->why);
	else
		conn_send(c, AGENT_OK, c->head.tag, NULL, 0);
}

/* Blocks the agent, for no longer than a FREEZE may. */
void link_prepare(struct agent *a, struct conn *c)
{
	const char *why = "the guest is shutting down";
	int r = a->stop ? -ESHUTDOWN : 0;

	if (!r)
		r = prepare_make(a, a->prepare, c->head.length, &why);
	if (r)
		conn_error(c, -r, why);
	else
		conn_send(c, AGENT_OK, c->head.tag, NULL, 0);
}

int identity_set(struct agent *a, const struct agent_identity *m, const char **why)
{
	struct agent_identity copy = *m;
	int r;

	*why = check(&copy);
	r = *why ? -EINVAL : a->config->take_identity(a->config->identity, &copy, why);
	explicit_bzero(&copy, sizeof(copy));
	return r;
}

void link_identity(struct agent *a, struct conn *c)
{
	const char *why = check(&a->identity);
	int r = why ? -EINVAL : 0;

	if (!r)
		r = a->config->take_identity(a->config->identity, &a->identity, &why);
	explicit_bzero(&a->identity, sizeof(a->identity));
	if (!r) { /* with the new clock and random numbers */
		r = a->config->mount_words(a->config->words);
		why = r ? a->config->words->why : NULL;
	}
	if (r) { /* and whoever is stopped stays so */
		conn_error(c, -r, why);
		return;
	}
	detach(a);
	answer_and_thaw(a, c);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/pump.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

/* What a pipe holds unless its owner has enlarged it. */
#define STEP_BYTES 65536u

void pump_open(struct pump *p, int from, int to)
{
	*p = (struct pump){.from = from, .to = to, .sink = -1};
}

void pump_close(struct pump *p)
{
	if (p->from >= 0)
		close(p->from);
	if (p->to >= 0)
		close(p->to);
	p->from = p->to = -1;
}

bool pump_active(const struct pump *p)
{
	return p->from >= 0;
}

void pump_lose(struct pump *p)
{
	if (p->sink < 0 || dup3(p->sink, p->to, O_CLOEXEC) < 0)
		pump_close(p);
	p->sink = -1;
}

/* poll and not FIONREAD: on a terminal it also pushes through what the tty layer has queued. */
static bool readable(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	return poll(&pfd, 1, 0) == 1 && (pfd.revents & POLLIN);
}

bool pump_step(struct pump *p)
{
	size_t want = STEP_BYTES;
	ssize_t n;

	if (!pump_active(p))
		return false;
	if (p->limited && p->left < want)
		want = p->left;
	n = want ? splice(p->from, NULL, p->to, NULL, want, SPLICE_F_MOVE | SPLICE_F_NONBLOCK) : 0;
	if (n > 0) {
		if (p->limited)
			p->left -= (size_t)n;
		return true;
	}
	if (n < 0 && errno == EINTR)
		return true;
	if (n < 0 && errno == EAGAIN && !(p->limited && !readable(p->from)))
		return false;
	/* The source is a pipe, which does not fail. */
	if (n < 0 && errno != EAGAIN && p->sink >= 0) {
		pump_lose(p);
		return true;
	}
	/* At the end of the source, or when it is reset, as a copied guest's connections are. There is
	 * room: splice looks for it before it looks at the source.
	 */
	if (p->last)
		(void)!write(p->to, &p->last, 1);
	pump_close(p);
	return true;
}

void pump_limit(struct pump *p, uint64_t max)
{
	p->limited = true;
	p->left = max;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/loop.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int event_new(struct err *e)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	return fd < 0 ? err_sys(e, "cannot make an eventfd") : fd;
}

void event_post(int fd)
{
	uint64_t one = 1;

	/* Fails only when the counter is full: the reader will come anyway. */
	if (write(fd, &one, sizeof(one)) < 0)
		return;
}

bool event_take(int fd)
{
	uint64_t n;

	return read(fd, &n, sizeof(n)) == sizeof(n);
}

static void woken(struct loop_source *s, uint32_t events)
{
	(void)events;
	event_take(s->fd); /* loop_run looks at stop by itself */
}

int loop_init(struct loop *l, struct err *e)
{
	int r;

	memset(l, 0, sizeof(*l));
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll < 0)
		return err_sys(e, "cannot make an epoll instance");
	r = event_new(e);
	if (r < 0) {
		close(l->epoll);
		return r;
	}
	l->wake.fd = r;
	l->wake.ready = woken;
	return loop_add(l, &l->wake, EPOLLIN);
}

void loop_close(struct loop *l)
{
	close(l->wake.fd);
	close(l->epoll);
}

int loop_add(struct loop *l, struct loop_source *s, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = s};

	s->events = events;
	return epoll_ctl(l->epoll, EPOLL_CTL_ADD, s->fd, &ev) ? -errno : 0;
}

void loop_watch(struct loop *l, struct loop_source *s, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = s};

	if (s->events == events)
		return;
	s->events = events;
	epoll_ctl(l->epoll, EPOLL_CTL_MOD, s->fd, &ev);
}

void loop_del(struct loop *l, struct loop_source *s)
{
	epoll_ctl(l->epoll, EPOLL_CTL_DEL, s->fd, NULL);
	/* Its event may wait in the round in progress, and s may be freed by then. */
	for (int i = 0; i < l->batch_len; i++)
		if (l->batch[i].data.ptr == s)
			l->batch[i].data.ptr = NULL;
}

int loop_run(struct loop *l)
{
	while (!__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE)) {
		int n = epoll_wait(l->epoll, l->batch, LOOP_BATCH, -1);

		if (n < 0 && errno != EINTR)
			return -errno;
		l->batch_len = MAX(n, 0);
		for (int i = 0; i < l->batch_len; i++) {
			struct loop_source *s = l->batch[i].data.ptr;

			if (s)
				s->ready(s, l->batch[i].events);
			if (__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE))
				break;
		}
		l->batch_len = 0;
	}
	return 0;
}

void loop_stop(struct loop *l)
{
	__atomic_store_n(&l->stop, true, __ATOMIC_RELEASE);
	event_post(l->wake.fd);
}

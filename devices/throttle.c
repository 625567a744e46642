/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/throttle.h"

#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define SECOND 1000000000u

void throttle_init(struct throttle *t, struct virtio_dev *dev)
{
	*t = (struct throttle){.dev = dev, .timer.fd = -1};
}

static void rang(struct loop_source *s, uint32_t events)
{
	(void)events;
	event_take(s->fd);
	virtio_poll(CONTAINER_OF(s, struct throttle, timer)->dev);
}

int throttle_start(struct throttle *t, struct err *e)
{
	int fd, r;

	if (t->timer.fd >= 0)
		return 0;
	fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (fd < 0)
		return err_sys(e, "cannot make a timer");
	t->timer = (struct loop_source){.fd = fd, .ready = rang};
	r = loop_add(t->dev->loop, &t->timer, EPOLLIN);
	return r ? err_set(e, -r, "cannot watch a timer: %s", strerror(-r)) : 0;
}

void throttle_close(struct throttle *t)
{
	if (t->timer.fd < 0)
		return;
	loop_del(t->dev->loop, &t->timer);
	close(t->timer.fd);
	t->timer.fd = -1;
}

void throttle_begin(struct throttle *t)
{
	t->alarm = 0;
}

bool throttle_holds(struct throttle *t, struct limit *l)
{
	uint64_t wait = l->rate ? limit_take(l, now_ns(), 0) : 0;

	if (wait)
		t->alarm = t->alarm ? MIN(t->alarm, wait) : wait;
	return wait;
}

void throttle_charge(struct limit *l, uint64_t n)
{
	if (l->rate)
		limit_take(l, now_ns(), n);
}

void throttle_end(struct throttle *t)
{
	const struct itimerspec at = {.it_value = {.tv_sec = (time_t)(t->alarm / SECOND),
						   .tv_nsec = (long)(t->alarm % SECOND)}};

	if (t->alarm)
		timerfd_settime(t->timer.fd, 0, &at, NULL);
}

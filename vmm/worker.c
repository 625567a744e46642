/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/worker.h"

#include <string.h>

#define STACK_SIZE (64u << 10)

int worker_init(struct worker *w, struct err *e)
{
	w->running = false;
	w->last = NULL;
	w->confine = NULL;
	w->main = NULL;
	return loop_init(&w->loop, e);
}

void worker_confine(struct worker *w, const struct confine *c, enum confine_role role, struct end *end)
{
	w->confine = c;
	w->role = role;
	w->end = end;
}

static void *run(void *arg)
{
	struct worker *w = arg;

	if (w->confine)
		confine_thread(w->confine, w->role);
	loop_run(&w->loop);
	if (w->last)
		w->last(w);
	return NULL;
}

int worker_start(struct worker *w, struct err *e)
{
	pthread_attr_t attr;
	int r;

	w->loop.stop = false; /* of an earlier worker_stop */
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	r = pthread_create(&w->thread, &attr, run, w);
	pthread_attr_destroy(&attr);
	if (r)
		return err_set(e, r, "cannot start a worker thread: %s", strerror(r));
	w->running = true;
	return 0;
}

/* An epoll instance is ready to be read when one of its sources is. */
static void is_needed(struct loop_source *s, uint32_t events)
{
	struct worker *w = CONTAINER_OF(s, struct worker, needed);
	struct err e;

	(void)events;
	loop_del(w->main, &w->needed);
	w->main = NULL;
	if (worker_start(w, &e))
		end_set(w->end, END_FAULT, "%s", e.text);
}

int worker_start_when_needed(struct worker *w, struct loop *main, struct err *e)
{
	int r;

	w->needed = (struct loop_source){.fd = w->loop.epoll, .ready = is_needed};
	r = loop_add(main, &w->needed, EPOLLIN);
	if (r)
		return err_set(e, -r, "cannot wait for a worker's work: %s", strerror(-r));
	w->main = main;
	return 0;
}

void worker_stop(struct worker *w)
{
	if (w->main)
		loop_del(w->main, &w->needed);
	w->main = NULL;
	if (!w->running)
		return;
	loop_stop(&w->loop);
	pthread_join(w->thread, NULL);
	event_take(w->loop.wake.fd); /* nothing to do: it may have ended without a look at it */
	w->running = false;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The event loop, the end of a VM, and the ports by which a guest ends itself.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/power.h"
#include "tests/unit/util.h"
#include "vmm/end.h"
#include "vmm/loop.h"

static struct loop loop;
static struct err e;

/* An eventfd that does something when it is posted. */
struct thing {
	struct loop_source source;
	unsigned int served;
	void (*act)(struct thing *t);
	struct thing *other;
};

static void serve(struct loop_source *s, uint32_t events)
{
	struct thing *t = CONTAINER_OF(s, struct thing, source);

	ck_assert_uint_eq(events, EPOLLIN);
	ck_assert(event_take(s->fd));
	t->served++;
	if (t->act)
		t->act(t);
}

static struct thing *thing(void (*act)(struct thing *t))
{
	struct thing *t = calloc(1, sizeof(*t));

	t->source.ready = serve;
	t->act = act;
	ck_ok(t->source.fd = event_new(&e));
	ck_assert_int_eq(loop_add(&loop, &t->source, EPOLLIN), 0);
	return t;
}

static void release(struct thing *t)
{
	loop_del(&loop, &t->source);
	close(t->source.fd);
	free(t);
}

static void post(struct thing *t)
{
	event_post(t->source.fd);
}

static void setup(void)
{
	ck_ok(loop_init(&loop, &e));
}

static void teardown(void)
{
	loop_close(&loop);
}

START_TEST(events_reach_their_sources)
{
	struct thing *a = thing(NULL), *b = thing(NULL);

	loop_settle(&loop);
	ck_assert_uint_eq(a->served + b->served, 0);
	post(a);
	post(a);
	post(b);
	loop_settle(&loop);
	ck_assert_uint_eq(a->served, 1); /* two posts, one event */
	ck_assert_uint_eq(b->served, 1);
	release(a);
	release(b);
}
END_TEST

START_TEST(watching_is_changed)
{
	struct thing *a = thing(NULL);

	loop_watch(&loop, &a->source, 0);
	post(a);
	loop_settle(&loop);
	ck_assert_uint_eq(a->served, 0);
	loop_watch(&loop, &a->source, EPOLLIN);
	loop_watch(&loop, &a->source, EPOLLIN);
	loop_settle(&loop);
	ck_assert_uint_eq(a->served, 1);
	release(a);
}
END_TEST

START_TEST(bad_descriptors_are_refused)
{
	struct loop_source s = {.fd = -1};
	struct thing *a = thing(NULL);

	ck_assert_int_eq(loop_add(&loop, &s, EPOLLIN), -EBADF);
	ck_assert_int_eq(loop_add(&loop, &a->source, EPOLLIN), -EEXIST);
	release(a);
}
END_TEST

/* A source may go in its own callback, with what holds it. */
START_TEST(source_removes_itself)
{
	struct thing *a = thing(release);

	post(a);
	loop_settle(&loop); /* the sanitizer watches */
}
END_TEST

static struct thing *survivor;

static void release_other(struct thing *t)
{
	release(t->other);
	t->act = NULL;
	survivor = t;
}

/* Whichever of two pending sources is served first frees the other. */
START_TEST(source_removes_another_that_is_pending)
{
	struct thing *a = thing(release_other), *b = thing(release_other);

	a->other = b;
	b->other = a;
	post(a);
	post(b);
	loop_settle(&loop);
	ck_assert_uint_eq(survivor->served, 1);
	release(survivor);
}
END_TEST

static void add_another(struct thing *t)
{
	t->other = thing(NULL);
	post(t->other);
}

START_TEST(source_adds_another)
{
	struct thing *a = thing(add_another);

	post(a);
	loop_settle(&loop);
	ck_assert_uint_eq(a->other->served, 1);
	release(a->other);
	release(a);
}
END_TEST

/* A new source at the address and descriptor of a freed one is not served its events. */
static void replace_other(struct thing *t)
{
	struct thing *old = t->other;
	struct loop_source s = old->source;

	if (old->served)
		return;
	loop_del(&loop, &old->source);
	event_take(s.fd);
	ck_assert_int_eq(loop_add(&loop, &old->source, EPOLLIN), 0);
}

START_TEST(stale_events_are_not_delivered)
{
	struct thing *a = thing(replace_other), *b = thing(NULL);

	a->other = b;
	post(a);
	post(b); /* behind a in the queue */
	loop_settle(&loop);
	ck_assert_uint_eq(a->served, 1);
	ck_assert_uint_eq(b->served, 0);
	post(b);
	loop_settle(&loop);
	ck_assert_uint_eq(b->served, 1);
	release(a);
	release(b);
}
END_TEST

START_TEST(more_sources_than_a_batch)
{
	struct thing *t[5 * LOOP_BATCH];

	for (unsigned int i = 0; i < ARRAY_SIZE(t); i++)
		post(t[i] = thing(NULL));
	loop_settle(&loop);
	for (unsigned int i = 0; i < ARRAY_SIZE(t); i++) {
		ck_that(t[i]->served == 1);
		release(t[i]);
	}
}
END_TEST

static void stop(struct thing *t)
{
	(void)t;
	loop_stop(&loop);
}

/* The loop ends behind the source that is being served; the rest of the batch waits. */
START_TEST(stop_in_a_callback)
{
	struct thing *a = thing(stop), *b = thing(NULL);

	post(a);
	post(b);
	ck_assert_int_eq(loop_run(&loop), 0);
	ck_assert_uint_eq(a->served, 1);
	ck_assert_uint_eq(b->served, 0);
	ck_assert_int_eq(loop_run(&loop), 0); /* it stays stopped */
	ck_assert_uint_eq(b->served, 0);
	release(a);
	release(b);
}
END_TEST

START_TEST(stop_before_the_start)
{
	loop_stop(&loop);
	ck_assert_int_eq(loop_run(&loop), 0);
}
END_TEST

START_TEST(event_counters)
{
	int fd = event_new(&e);

	ck_assert(!event_take(fd));
	event_post(fd);
	event_post(fd);
	ck_assert(event_take(fd));
	ck_assert(!event_take(fd));
	close(fd);
}
END_TEST

/* --- ends --- */

static struct end end;

static void setup_end(void)
{
	setup();
	end = (struct end){.loop = &loop};
}

START_TEST(first_reason_stays)
{
	ck_assert_int_eq(end_get(&end), END_NONE);
	end_set(&end, END_PANIC, "reason %d", 1);
	end_set(&end, END_POWEROFF, "reason %d", 2);
	ck_assert_int_eq(end_get(&end), END_PANIC);
	ck_assert_str_eq(end.text, "reason 1");
	ck_assert_int_eq(loop_run(&loop), 0); /* it has been stopped */
}
END_TEST

/* Writes a byte to a device of the end. */
static enum end_reason after(const struct bus_ops *ops, uint64_t offset, unsigned int v)
{
	uint8_t byte = (uint8_t)v;

	end = (struct end){.loop = &loop};
	ops->write(&end, offset, &byte, 1);
	return end_get(&end);
}

START_TEST(power_off_and_reset)
{
	for (unsigned int v = 0; v < 256; v++) {
		bool off = v & 0x20 && (v >> 2 & 7) == POWER_SLEEP_TYPE_OFF;

		ck_that(after(&power_ops, POWER_SLEEP_CONTROL, v) ==
			(off ? END_POWEROFF : END_NONE));
		ck_that(after(&power_ops, POWER_SLEEP_STATUS, v) == END_NONE);
		ck_that(after(&power_ops, POWER_RESET, v) ==
			(v == POWER_RESET_VALUE ? END_REBOOT : END_NONE));
	}
}
END_TEST

START_TEST(panic_port)
{
	uint8_t events = 0;

	pvpanic_ops.read(&end, 0, &events, 1);
	ck_assert_uint_eq(events, 1);
	for (unsigned int v = 0; v < 256; v++)
		ck_that(after(&pvpanic_ops, 0, v) == ((v & 3) == 1 ? END_PANIC : END_NONE));
}
END_TEST

START_TEST(keyboard_controller)
{
	uint8_t status = 0;

	i8042_ops.read(&end, 4, &status, 1);
	ck_assert_uint_eq(status, 0); /* ready for the next command */
	for (unsigned int v = 0; v < 256; v++) {
		ck_that(after(&i8042_ops, 4, v) == (v == 0xfe ? END_REBOOT : END_NONE));
		for (unsigned int port = 0; port < 4; port++)
			ck_that(after(&i8042_ops, port, v) == END_NONE);
	}
}
END_TEST

int main(void)
{
	const TTest *const loops[] = {
		events_reach_their_sources,
		watching_is_changed,
		bad_descriptors_are_refused,
		source_removes_itself,
		source_removes_another_that_is_pending,
		source_adds_another,
		stale_events_are_not_delivered,
		more_sources_than_a_batch,
		stop_in_a_callback,
		stop_before_the_start,
		event_counters,
	};
	const TTest *const ends[] = {
		first_reason_stays,
		power_off_and_reset,
		panic_port,
		keyboard_controller,
	};
	const struct test_group groups[] = {
		{loops, ARRAY_SIZE(loops), setup, teardown},
		{ends, ARRAY_SIZE(ends), setup_end, teardown},
	};

	return run_groups("loop", groups, ARRAY_SIZE(groups));
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * What a VM's vCPUs and devices do, for a while: a table of what they did how often and how long it
 * took, each of it as it comes, or a file for a browser's trace viewer. The monitor writes entries
 * into memory that was made here (vmm/trace.h); all counting is done on this side.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/client.h"
#include "vmm/cmd.h"
#include "vmm/control.h"
#include "vmm/json.h"
#include "vmm/layout.h"
#include "vmm/trace.h"
#include "vmm/util.h"

#define ROWS	256 /* different things that are counted */
#define HEADS	256 /* of a queue: the longest has as many entries */
#define LOOK_MS 10  /* the ring is looked at as often */

/* One line of the table: exits of a kind at an address, or requests of a queue. */
struct row {
	uint16_t kind, who; /* of exits who is 0: all vCPUs together */
	uint32_t detail;
	uint64_t what;
	uint64_t count, total_ns, longest_ns;
};

struct trace_config {
	uint64_t seconds;
	bool events, json;
	const char *chrome;

	const struct trace_ring *ring;
	uint64_t next, lost, began;
	uint64_t (*taken)[HEADS]; /* of each queue (TRACE_WHO) and head: when it was taken, or 0 */
	struct row row[ROWS];
	unsigned int rows;
	FILE *out; /* of the viewer's file */
	bool some; /* is in it */
};

static const struct opt trace_options[] = {
	{"time", 't', "DURATION", "how long (default 5s)", opt_set_duration,
	 offsetof(struct trace_config, seconds)},
	{"events", 0, NULL, "print each event as it comes", opt_set_flag,
	 offsetof(struct trace_config, events)},
	{"chrome", 0, "FILE", "write the events in Chrome's trace format", opt_set_str,
	 offsetof(struct trace_config, chrome)},
	{"json", 0, NULL, "print the table as a JSON object", opt_set_flag,
	 offsetof(struct trace_config, json)},
	{0},
};

static void trace_defaults(void *cfg)
{
	((struct trace_config *)cfg)->seconds = 5;
}

/* --- names --- */

static const char *reason(uint32_t detail)
{
	static const char *const names[] = {
		[KVM_EXIT_UNKNOWN] = "unknown",
		[KVM_EXIT_IO] = "port",
		[KVM_EXIT_HLT] = "halt",
		[KVM_EXIT_MMIO] = "address",
		[KVM_EXIT_SHUTDOWN] = "triple fault",
		[KVM_EXIT_FAIL_ENTRY] = "entry refused",
		[KVM_EXIT_INTR] = "signal",
		[KVM_EXIT_INTERNAL_ERROR] = "internal error",
		[KVM_EXIT_SYSTEM_EVENT] = "system event",
	};
	uint32_t n = TRACE_REASON(detail);

	return n < ARRAY_SIZE(names) && names[n] ? names[n] : "other";
}

/* The device whose registers are at this address, or NULL. */
static const char *device_at(const struct trace_config *t, uint64_t at)
{
	uint64_t slot = (at - LAYOUT_VIRTIO) / LAYOUT_VIRTIO_SIZE;

	return slot < TRACE_DEVICES && *t->ring->device[slot] ? t->ring->device[slot] : NULL;
}

/* "write port 0x3f8", "read disk0 register 0x70", "disk0 queue 1"; in text, which is returned. */
static const char *name_of(const struct trace_config *t, uint16_t kind, uint16_t who, uint64_t what,
			   uint32_t detail, char text[64])
{
	uint32_t n = TRACE_REASON(detail);
	const char *device = t->ring->device[(who >> 4) % TRACE_DEVICES];

	if (kind != TRACE_EXIT)
		snprintf(text, 64, "%.*s queue %u", (int)TRACE_NAME, device, who & 15u);
	else if (n == KVM_EXIT_MMIO && device_at(t, what))
		snprintf(text, 64, "%s %.*s register 0x%" PRIx64, detail & TRACE_WRITE ? "write" : "read",
			 (int)TRACE_NAME, device_at(t, what), what % LAYOUT_VIRTIO_SIZE);
	else if (n == KVM_EXIT_IO || n == KVM_EXIT_MMIO)
		snprintf(text, 64, "%s %s 0x%" PRIx64, detail & TRACE_WRITE ? "write" : "read",
			 reason(detail), what);
	else
		snprintf(text, 64, "%s", reason(detail));
	return text;
}

/* --- counting --- */

/* The last one stands for all that found no room. */
static struct row *find_row(struct trace_config *t, uint16_t kind, uint16_t who, uint64_t what,
			    uint32_t detail)
{
	struct row *r;

	for (unsigned int i = 0; i < t->rows; i++) {
		r = &t->row[i];
		if (r->kind == kind && r->who == who && r->what == what && r->detail == detail)
			return r;
	}
	if (t->rows == ROWS)
		return &t->row[ROWS - 1];
	r = &t->row[t->rows++];
	*r = (struct row){.kind = kind, .who = who, .what = what, .detail = detail};
	return r;
}

static void count(struct row *r, uint64_t ns)
{
	r->count++;
	r->total_ns += ns;
	r->longest_ns = MAX(r->longest_ns, ns);
}

/* --- what is shown of an event --- */

static void show(struct trace_config *t, const struct trace_entry *e, uint64_t at, uint64_t ns)
{
	bool exits = e->kind == TRACE_EXIT;
	double since = (double)((int64_t)(at - t->began)) / 1e3, us = (double)ns / 1e3;
	char name[64];

	name_of(t, e->kind, e->who, e->what, e->detail, name);
	if (t->events && exits)
		printf("%12.3f ms  vcpu%-5u  %-32s %10.1f us\n", since / 1e3, e->who, name, us);
	else if (t->events)
		printf("%12.3f ms  %-9.9s  %-32s %10.1f us, %" PRIu64 " bytes to the guest\n",
		       since / 1e3, t->ring->device[(e->who >> 4) % TRACE_DEVICES], name, us,
		       e->what);
	if (!t->out)
		return;
	/* A row for each vCPU and each queue; devices stand behind vCPUs. */
	fprintf(t->out,
		"%s{\"name\":\"%s\",\"ph\":\"X\",\"ts\":%.3f,\"dur\":%.3f,\"pid\":1,\"tid\":%u}",
		t->some ? ",\n" : "", name, since, us, exits ? e->who : 1000u + e->who);
	t->some = true;
}

static void take(struct trace_config *t, const struct trace_entry *e)
{
	uint64_t *since = &t->taken[e->who & 1023][e->detail % HEADS];

	switch (e->kind) {
	case TRACE_EXIT:
		count(find_row(t, TRACE_EXIT, 0, e->what, e->detail & ~(0xffu << 16)), e->took);
		show(t, e, e->at, e->took);
		break;
	case TRACE_POP: *since = e->at; break;
	case TRACE_PUSH:
		if (!*since || *since > e->at) /* it was taken before the trace began */
			break;
		count(find_row(t, TRACE_PUSH, e->who, 0, 0), e->at - *since);
		show(t, e, *since, e->at - *since);
		*since = 0;
		break;
	default: break;
	}
}

/* All entries that are whole. The ring goes on being written meanwhile. */
static void look(struct trace_config *t)
{
	uint64_t end = __atomic_load_n(&t->ring->next, __ATOMIC_ACQUIRE);

	if (end - t->next > TRACE_ENTRIES) {
		t->lost += end - TRACE_ENTRIES - t->next;
		t->next = end - TRACE_ENTRIES;
	}
	for (; t->next != end; t->next++) {
		const struct trace_entry *from = &t->ring->entry[t->next & (TRACE_ENTRIES - 1)];
		uint32_t number = (uint32_t)t->next + 1;
		struct trace_entry e;

		if (__atomic_load_n(&from->number, __ATOMIC_ACQUIRE) != number) {
			if (t->next + 16 >= end)
				break; /* it is being written */
			t->lost++;
			continue;
		}
		memcpy(&e, from, sizeof(e));
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (__atomic_load_n(&from->number, __ATOMIC_RELAXED) == number)
			take(t, &e);
		else
			t->lost++;
	}
}

/* --- the table --- */

static int by_total(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	return x->total_ns < y->total_ns ? 1 : x->total_ns > y->total_ns ? -1 : 0;
}

static void print_rows(struct trace_config *t, bool exits, double seconds)
{
	char name[64];

	printf("%-32s %10s %10s %12s %8s\n", exits ? "exits of the vCPUs" : "requests of devices",
	       "count", "each us", "longest us", "of time");
	for (unsigned int i = 0; i < t->rows; i++) {
		const struct row *r = &t->row[i];

		if ((r->kind == TRACE_EXIT) == exits)
			printf("  %-30s %10" PRIu64 " %10.1f %12.1f %6.1f %%\n",
			       name_of(t, r->kind, r->who, r->what, r->detail, name), r->count,
			       (double)r->total_ns / (double)r->count / 1e3,
			       (double)r->longest_ns / 1e3, (double)r->total_ns / seconds / 1e7);
	}
}

static void print_json(struct trace_config *t, double seconds)
{
	struct json_writer w = {.out = stdout};
	char name[64];

	json_put_open(&w, NULL, '{');
	json_put_real(&w, "seconds", seconds);
	json_put_uint(&w, "lost", t->lost);
	for (int exits = 1; exits >= 0; exits--) {
		json_put_open(&w, exits ? "exits" : "requests", '[');
		for (unsigned int i = 0; i < t->rows; i++) {
			const struct row *r = &t->row[i];

			if ((r->kind == TRACE_EXIT) != exits)
				continue;
			json_put_open(&w, NULL, '{');
			json_put_string(&w, "what",
					name_of(t, r->kind, r->who, r->what, r->detail, name));
			json_put_uint(&w, "count", r->count);
			json_put_uint(&w, "total_ns", r->total_ns);
			json_put_uint(&w, "longest_ns", r->longest_ns);
			json_put_close(&w);
		}
		json_put_close(&w);
	}
	json_put_close(&w);
	putchar('\n');
}

static void print_table(struct trace_config *t, double seconds)
{
	qsort(t->row, t->rows, sizeof(t->row[0]), by_total);
	if (t->json) {
		print_json(t, seconds);
		return;
	}
	if (t->events)
		putchar('\n');
	print_rows(t, true, seconds);
	print_rows(t, false, seconds);
	printf("in %.1f s%s", seconds, t->lost ? "" : "\n");
	if (t->lost)
		printf("; %" PRIu64 " events were lost: there were more than could be read\n",
		       t->lost);
}

/* --- */

/* Until the time is over, the VM has ended, or a signal says so. */
static void follow(struct trace_config *t, int control, int signals)
{
	uint64_t until = t->began + t->seconds * UINT64_C(1000000000);
	struct pollfd fds[] = {{.fd = control, .events = POLLIN},
			       {.fd = signals, .events = POLLIN}};

	while (now_ns() < until && !fds[0].revents && !fds[1].revents && !ferror(stdout)) {
		poll(fds, 2, LOOK_MS);
		look(t);
		if (t->events)
			fflush(stdout);
	}
}

static int make_ring(struct trace_config *t, struct err *e)
{
	int fd = memfd_create("uvm-trace", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, sizeof(struct trace_ring)) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW))
		return err_sys(e, "cannot make memory for the trace");
	t->ring = mmap(NULL, sizeof(struct trace_ring), PROT_READ, MAP_SHARED, fd, 0);
	if (t->ring == MAP_FAILED)
		return err_sys(e, "cannot map the memory for the trace");
	t->taken = calloc(1024, sizeof(*t->taken));
	return t->taken ? fd : err_set(e, ENOMEM, "out of memory");
}

static int open_chrome(struct trace_config *t, struct err *e)
{
	t->out = fopen(t->chrome, "we");
	if (!t->out)
		return err_sys(e, "cannot write %s", t->chrome);
	fprintf(t->out, "[\n");
	return 0;
}

static int close_chrome(struct trace_config *t, struct err *e)
{
	bool bad;

	fprintf(t->out, "\n]\n");
	bad = ferror(t->out);
	bad |= fclose(t->out) != 0;
	return bad ? err_set(e, EIO, "cannot write %s", t->chrome) : 0;
}

static int trace(struct trace_config *t, const char *id, struct err *e)
{
	char answer[CONTROL_ANSWER];
	struct rundir vm;
	sigset_t set;
	int control, ring = -1, r = rundir_open(&vm, id, e);

	if (r)
		return r;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	control = r = client_control(&vm, e);
	if (r >= 0)
		ring = r = make_ring(t, e);
	if (r >= 0)
		r = t->chrome ? open_chrome(t, e) : 0;
	t->began = now_ns();
	if (!r)
		r = client_request_long(control, "trace", ring, NULL, NULL, answer, sizeof(answer),
					e);
	if (!r) {
		follow(t, control, signalfd(-1, &set, SFD_CLOEXEC));
		print_table(t, (double)(now_ns() - t->began) / 1e9);
	}
	if (t->out && close_chrome(t, e) && !r)
		r = -EIO;
	rundir_close(&vm);
	return r; /* descriptors and memory are left to the process's end */
}

static int run(void *cfg, int argc, char **argv, struct err *e)
{
	if (argc != 1)
		return cmd_usage(&cmd_trace, e);
	return trace(cfg, argv[0], e) ? EXIT_FAIL : EXIT_OK;
}

const struct cmd cmd_trace = {
	.name = "trace",
	.args = "ID",
	.summary = "Show what a VM's vCPUs and devices do, and how long it takes",
	.notes = "For each kind of VM exit: how often, and how long the vCPU stood outside the "
		 "guest until it\n"
		 "was served; for each queue of a device: how many requests, and how long from "
		 "when the device\n"
		 "took it to its answer. Ctrl-C ends it before its time. Events have the time "
		 "since the trace\n"
		 "began. What the kernel serves by itself (doorbells, timers, the APIC) is no exit "
		 "here; see\n"
		 "/sys/kernel/debug/kvm for that. A file of --chrome is for chrome://tracing and "
		 "ui.perfetto.dev.\n",
	.options = trace_options,
	.examples = "uvm trace web\n"
		    "uvm trace --time 1s --chrome web.json web\n",
	.run = run,
	.cfg_size = sizeof(struct trace_config),
	.defaults = trace_defaults,
};

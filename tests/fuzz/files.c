/* SPDX-License-Identifier: Apache-2.0
 *
 * Targets that are given a whole file or message: kernels, state files, JSON, the agent's messages.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/agent/request.h"
#include "guest/agent/spawn.h"
#include "shim/config.h"
#include "snapshot/snapshot.h"
#include "snapshot/state.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/agent.h"
#include "vmm/container.h"
#include "vmm/json.h"
#include "vmm/kernel.h"
#include "vmm/seccomp.h"

#define MEMORY (4ull << 20)

void fuzz_kernel(const uint8_t *data, size_t len)
{
	static struct kernel kernel;
	struct mem mem = {0};
	char path[32];
	struct err e;
	int fd = memfd_create("kernel", MFD_CLOEXEC);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (fd < 0 || write(fd, data, len) != (ssize_t)len || mem_init(&mem, MEMORY, &e))
		abort();
	kernel_load(&kernel, path, &mem, &e);
	mem_free(&mem);
	close(fd);
}

/* The bytes as the sections of a file whose frame is right, since no fuzzer finds the checksum; and
 * as a whole file. Every section is printed, by its table where it has one and by itself.
 */
static void read_state(const uint8_t *file, size_t len)
{
	struct state_reader r;
	struct state_section s;
	char *text = NULL;
	size_t size;
	FILE *out;
	struct err e;

	if (state_open(&r, file, len, SNAPSHOT_STATE_KIND, "state", &e))
		return;
	out = open_memstream(&text, &size);
	while (state_next(&r, &s, &e) > 0) {
		state_print(&s, snapshot_table(s.name), out, &e);
		state_print(&s, NULL, out, &e);
	}
	fclose(out);
	free(text);
}

void fuzz_state(const uint8_t *data, size_t len)
{
	struct state_writer w;
	struct err e;

	read_state(data, len);
	state_begin(&w, SNAPSHOT_STATE_KIND);
	w.data = realloc(w.data, w.len + len + 1);
	if (!w.data)
		abort();
	memcpy(w.data + w.len, data, len);
	w.len += len;
	w.room = w.len;
	if (!state_finish(&w, &e))
		read_state(w.data, w.len);
	state_discard(&w);
}

void fuzz_json(const uint8_t *data, size_t len)
{
	struct json_doc d;
	char *text = NULL;
	size_t size;
	struct json_writer w = {0};
	struct err e;

	if (json_parse(&d, (const char *)data, len, "fuzz", &e))
		return;
	/* What was read can be written, and is then read again. */
	w.out = open_memstream(&text, &size);
	json_put(&w, NULL, d.root);
	fclose(w.out);
	json_free(&d);
	if (json_parse(&d, text, size, "again", &e))
		abort();
	json_free(&d);
	free(text);
}

void fuzz_seccomp(const uint8_t *data, size_t len)
{
	static struct sock_filter filter[SECCOMP_FILTER_MAX];
	struct json_doc d;
	uint32_t flags;
	struct err e;
	int n;

	if (json_parse(&d, (const char *)data, len, "config.json", &e))
		return;
	n = seccomp_from_oci(d.root, filter, &flags, &e);
	json_free(&d);
	for (int i = 0; i < n; i++) { /* every jump stays inside, as the kernel wants it */
		const struct sock_filter *f = &filter[i];
		uint32_t far = BPF_CLASS(f->code) != BPF_JMP ? 0
			       : BPF_OP(f->code) == BPF_JA   ? f->k
			       : f->jt > f->jf		     ? f->jt
							     : f->jf;

		if (i + 1 + (int64_t)far >= n && BPF_CLASS(f->code) != BPF_RET)
			abort();
	}
}

void fuzz_oci(const uint8_t *data, size_t len)
{
	static struct oci_config c;
	static struct oci_resources r;
	struct agent_exec head = {.streams = 7};
	struct json_doc d;
	uint8_t *payload;
	size_t size;
	struct err e;

	c = (struct oci_config){0};
	if (!oci_config_parse(&c, (const char *)data, len, &e)) {
		c.spec.name = "fuzz";
		if (!container_encode(&c.spec, &c.process.request, &head, &payload, &size, &e))
			free(payload);
	}
	oci_config_free(&c);
	if (json_parse(&d, (const char *)data, len, "resources", &e))
		return;
	r = (struct oci_resources){0};
	oci_resources_parse(&r, d.root, &e);
	json_free(&d);
}

void fuzz_answer(const uint8_t *data, size_t len)
{
	struct agent_message m = {0};
	int pair[2];
	struct err e;

	if (len > 65536 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return;
	if (send(pair[0], data, len, MSG_DONTWAIT) == (ssize_t)len) {
		while (agent_receive(pair[1], &m, &e) > 0) {
			if (m.head.type == AGENT_ERROR)
				agent_error(&m, &e);
			m.got = 0;
		}
	}
	close(pair[0]);
	close(pair[1]);
}

/* --- the agent's end --- */

/* A process as it was understood: every pointer leads to what it says; the strings to end, if given. */
static void check_command(const struct command *c, const uint8_t *end)
{
	const char *s = c->strings;
	/* Only to be read. */
	volatile uint64_t sum = strlen(c->cwd) + (c->user ? strlen(c->user) : 0);

	for (uint32_t i = 0; i < c->exec.argc + c->exec.envc; i++)
		s += strlen(s) + 1;
	if (end && (const uint8_t *)s != end)
		abort();
	for (uint32_t i = 0; i < c->exec.group_count; i++)
		sum += c->groups[i];
	for (uint32_t i = 0; i < c->exec.rlimit_count; i++)
		sum += c->rlimits[i].hard;
	for (uint32_t i = 0; i < c->exec.filter_count; i++)
		sum += c->filter[i].k;
}

/* Copies of their lengths, so that a step beyond is seen. */
static uint8_t *copy_of(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	if (!copy)
		abort();
	memcpy(copy, data, len);
	return copy;
}

void fuzz_command(const uint8_t *data, size_t len)
{
	uint8_t *payload = copy_of(data, len);
	struct command c;

	if (len <= AGENT_EXEC_MAX && !command_parse(&c, payload, (uint32_t)len))
		check_command(&c, payload + len);
	free(payload);
}

/* Reads every byte of every record. */
static void read_records(struct records all)
{
	for (uint32_t type = 0; type < 32; type++) {
		struct records at = all;
		struct record r;
		volatile uint8_t sum = 0;

		while (record_next(&at, type, &r)) {
			if ((uintptr_t)r.body % 8 || r.type != type)
				abort();
			for (uint32_t i = 0; i < r.length; i++)
				sum ^= ((const uint8_t *)r.body)[i];
		}
	}
}

void fuzz_request(const uint8_t *data, size_t len)
{
	unsigned int kind = len ? data[0] % 4 : 0;
	size_t n = len ? len - 1 : 0;
	uint8_t *payload = copy_of(data + (len ? 1 : 0), n);
	struct create c;
	struct records r;
	const char *path;

	if (n > AGENT_EXEC_MAX) {
		free(payload);
		return;
	}
	if (kind == 3 && !unmount_parse(&path, payload, (uint32_t)n) &&
	    (const uint8_t *)path + strlen(path) >= payload + n)
		abort();
	if (kind == 0 && !create_parse(&c, payload, (uint32_t)n)) {
		read_records(c.records);
		check_command(&c.process, NULL);
	}
	if ((kind == 1 || kind == 2) &&
	    !order_parse(&r, kind == 1 ? AGENT_R_CGROUP : AGENT_R_MOUNT, payload, (uint32_t)n))
		read_records(r);
	free(payload);
}

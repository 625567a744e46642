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

#include "guest/agent/spawn.h"
#include "snapshot/snapshot.h"
#include "snapshot/state.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/agent.h"
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

void fuzz_command(const uint8_t *data, size_t len)
{
	struct command c;
	uint8_t *payload;
	uint32_t strings;
	char *s;

	if (len > AGENT_EXEC_MAX)
		return;
	payload = malloc(len ? len : 1); /* of its size, so that a step beyond is seen */
	memcpy(payload, data, len);
	if (!command_parse(&c, payload, (uint32_t)len)) {
		strings = 1 + c.exec.argc + c.exec.envc;
		s = c.strings;
		for (uint32_t i = 0; i < strings; i++)
			s += strlen(s) + 1;
		if ((uint8_t *)s != payload + len)
			abort();
		for (uint32_t i = 0; i < c.exec.group_count; i++)
			strings += c.groups[i];
	}
	free(payload);
}

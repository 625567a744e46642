/* SPDX-License-Identifier: Apache-2.0
 *
 * Each part has its share of the text, so that none, however long a guest makes it, takes another's
 * place.
 */
#include "guest/agent/dump.h"

#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/agent/agent.h"
#include "guest/agent/cgroup.h"
#include "guest/agent/stats.h"
#include "guest/agent/text.h"

/* Of the text: what is left of the whole for the processes is behind what comes first. */
#define KERNEL_MAX  12288u
#define FILE_MAX    2048u

#define SYSLOG_READ_ALL 3 /* syslog(2) */

struct text {
	char *buf;
	size_t size, n;
};

static void put(struct text *t, const char *s)
{
	t->n = append(t->buf, t->size, t->n, s);
}

static void put_number(struct text *t, const char *what, uint64_t number)
{
	char digits[NUMBER_SIZE];

	put(t, what);
	put(t, number_text(digits, number));
}

static void put_time(struct text *t, const char *what, uint64_t ns)
{
	uint64_t ms = ns / 1000000 % 1000;

	put_number(t, what, ns / 1000000000);
	put_number(t, ms < 10 ? ".00" : ms < 100 ? ".0" : ".", ms);
	put(t, " s");
}

static void put_file(struct text *t, const char *path)
{
	char text[FILE_MAX];

	if (cgroup_read(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return;
	put(t, "\n");
	put(t, path);
	put(t, ":\n");
	put(t, text);
}

static void put_agent(struct text *t, const struct agent *a)
{
	struct agent_info info = agent_info(a);

	put_number(t, "agent: protocol ", AGENT_VERSION);
	put_time(t, ", up ", info.uptime_ns);
	put_time(t, ", ready after ", info.ready_ns);
	put_number(t, ", sessions ", info.sessions);
	put_number(t, ", connections ", info.connections);
	put(t, a->link ? ", linked" : ", no link");
	put(t, a->stop ? ", shutting down\n" : "\n");
}

static void put_containers(struct text *t, const struct agent *a)
{
	static const char *const states[] = {"", "creating", "created", "running", "paused", "stopped"};

	put(t, "\ncontainers:\n");
	for (const struct container *c = a->containers; c < a->containers + AGENT_CONTAINERS; c++) {
		if (!c->state)
			continue;
		put(t, c->name.name);
		put(t, " ");
		put(t, states[c->state]);
		put_number(t, " pid ", (uint64_t)c->pid);
		put_number(t, " oom_kills ", c->oom_kills);
		put(t, c->prepared ? " prepared" : "");
		put(t, "\n");
	}
}

static void put_sessions(struct text *t, const struct agent *a, uint64_t now)
{
	static const char *const states[] = {"",	"receiving", "attaching", "starting",
					     "created", "running",   "draining",  "ended"};

	put(t, "\nsessions:\n");
	for (const struct session *s = a->sessions; s < a->sessions + AGENT_SESSIONS; s++) {
		if (s->state == SESSION_FREE)
			continue;
		put_number(t, "type ", s->type);
		put(t, " ");
		put(t, states[s->state]);
		put_number(t, " pid ", (uint64_t)s->pid);
		put_time(t, " since ", (now - s->since_ms) * 1000000);
		put(t, s->control ? "" : " without its client");
		put(t, s->container ? " of " : "");
		put(t, s->container ? s->container->name.name : "");
		put(t, "\n");
	}
}

static void put_connections(struct text *t, const struct agent *a, uint64_t now)
{
	static const char *const states[] = {"", "calling", "open", "parked"};

	put(t, "\nconnections:\n");
	for (const struct conn *c = a->conns; c < a->conns + AGENT_CONNECTIONS; c++) {
		if (c->state == CONN_FREE)
			continue;
		put(t, c == a->link ? "link " : "");
		put(t, states[c->state]);
		put(t, c->session ? " in a session" : "");
		put_number(t, " has sent ", c->got);
		put_time(t, " since ", (now - c->since_ms) * 1000000);
		put(t, "\n");
	}
}

static void put_processes(struct text *t, struct agent_process *list)
{
	uint32_t n = stats_processes(-1, list);
	size_t end;

	put(t, "\nprocesses: pid parent user threads state kbytes cpu command\n");
	for (uint32_t i = 0; i < n; i++) {
		const struct agent_process *p = &list[i];
		const char state[] = {' ', (char)p->state, '\0'};

		end = t->n;
		put_number(t, "", p->pid);
		put_number(t, " ", p->parent);
		put_number(t, " ", p->uid);
		put_number(t, " ", p->threads);
		put(t, state);
		put_number(t, " ", p->resident >> 10);
		put_time(t, " ", p->cpu_us * 1000);
		put(t, " ");
		put(t, p->command);
		put(t, "\n");
		if (t->n < t->size)
			continue;
		t->n = end; /* whole lines */
		return;
	}
}

/* The last ones. Reading does not take them from whoever reads /dev/kmsg. */
static void put_kernel(struct text *t)
{
	size_t left;
	long n;

	put(t, "\nkernel:\n");
	left = t->size - t->n;
	n = syscall(SYS_syslog, SYSLOG_READ_ALL, t->buf + t->n, left);
	t->n += n > 0 ? (size_t)n : 0;
}

size_t dump(const struct agent *a, char *buf)
{
	struct text t = {.buf = buf, .size = AGENT_DUMP_MAX - KERNEL_MAX};
	uint64_t now = now_ms();

	put_agent(&t, a);
	put_containers(&t, a);
	put_file(&t, "/proc/loadavg");
	put_file(&t, "/proc/meminfo");
	put_file(&t, "/proc/pressure/memory");
	put_sessions(&t, a, now);
	put_connections(&t, a, now);
	put_processes(&t, (void *)(buf + AGENT_EXEC_MAX / 2));
	t.size = AGENT_DUMP_MAX;
	put_kernel(&t);
	return t.n;
}

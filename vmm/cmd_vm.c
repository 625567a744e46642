/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands that speak to a running VM, or to the container in it: exec, ps, console, stop, kill.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/client.h"
#include "vmm/cmd.h"
#include "vmm/console.h"
#include "vmm/container.h"
#include "vmm/control.h"
#include "vmm/exec.h"
#include "vmm/json.h"
#include "vmm/record.h"
#include "vmm/tty.h"
#include "vmm/util.h"

#define EXEC_MAX_ENV 256

/* --- exec --- */

struct exec_config {
	struct exec_request rq;
	char *env[EXEC_MAX_ENV + 1];
	uint32_t env_count;
	bool vm, interactive;
};

static int set_env(void *to, const char *value, struct err *e)
{
	struct exec_config *c = to;
	const char *both;
	int r = cmd_env(value, &both, e);

	if (r || !both)
		return r;
	if (c->env_count == EXEC_MAX_ENV)
		return err_set(e, EINVAL, "at most %d variables", EXEC_MAX_ENV);
	c->env[c->env_count++] = (char *)(uintptr_t)both;
	return 0;
}

static const struct opt exec_options[] = {
	{"tty", 't', NULL, "give the command a terminal", opt_set_flag,
	 offsetof(struct exec_config, rq.tty)},
	{"env", 'e', "NAME[=VALUE]", "set a variable, or pass on ours; may be repeated", set_env, 0},
	{"workdir", 'w', "DIR", "run it in this directory (default /)", opt_set_str,
	 offsetof(struct exec_config, rq.cwd)},
	{"user", 'u', "USER[:GROUP]", "run it as this user, by name or number", opt_set_str,
	 offsetof(struct exec_config, rq.user_name)},
	{"interactive", 'i', NULL, "for docker's sake: standard input is always passed on", opt_set_flag,
	 offsetof(struct exec_config, interactive)},
	{"vm", 0, NULL, "run it in the VM itself, and not in the container that it is there for",
	 opt_set_flag, offsetof(struct exec_config, vm)},
	{0},
};

static int run_exec(void *cfg, int argc, char **argv, struct err *e)
{
	struct exec_config *c = cfg;
	struct rundir vm;
	int status;

	argc = cmd_drop_dashes(argc, argv);
	if (argc < 2)
		return cmd_usage(&cmd_exec, e);
	if (rundir_open(&vm, argv[0], e))
		return EXIT_FAIL;
	c->rq.argv = argv + 1;
	c->rq.envp = c->env;
	if (!c->vm && record_is_container(&vm)) {
		c->rq.container = RECORD_CONTAINER;
		c->rq.caps = &container_caps;
	}
	exec_run(&c->rq, client_dial_agent, &vm, &status, e);
	rundir_close(&vm);
	return status;
}

const struct cmd cmd_exec = {
	.name = "exec",
	.args = "ID [--] CMD [ARG...]",
	.summary = "Run a command in a container, or in a VM",
	.options = exec_options,
	.notes = "Standard input, output and error are the command's. The exit status is the\n"
		 "command's; 128 + n if signal n ended it; 127 if there is no such command, 126 if "
		 "it\n"
		 "cannot be executed; 1 if the VM cannot be reached.\n",
	.stop_at_operand = 1,
	.examples = "uvm exec web -- uname -a\n"
		    "uvm exec -t web sh\n"
		    "echo hello | uvm exec -e LANG=C -w /srv web -- sort\n",
	.run = run_exec,
	.cfg_size = sizeof(struct exec_config),
};

/* --- ps --- */

struct ps_config {
	bool json, quiet, all;
	struct json_writer out;
};

static const struct opt ps_options[] = {
	{"all", 'a', NULL, "also containers that have ended", opt_set_flag,
	 offsetof(struct ps_config, all)},
	{"json", 0, NULL, "print a JSON array", opt_set_flag, offsetof(struct ps_config, json)},
	{"quiet", 'q', NULL, "print ids only", opt_set_flag, offsetof(struct ps_config, quiet)},
	{0},
};

/* Its networks, by the keys of the control socket. */
static void put_nets(struct json_writer *w, const char *answer)
{
	static const char *const keys[] = {"net", "mac", "mtu", "link"};

	json_put_open(w, "networks", '[');
	for (unsigned int i = 0;; i++) {
		for (unsigned int k = 0; k < ARRAY_SIZE(keys); k++) {
			char key[16], value[512];

			snprintf(key, sizeof(key), "%s.%u", keys[k], i);
			client_value(answer, key, value, sizeof(value));
			if (!*value) {
				if (k)
					json_put_close(w);
				json_put_close(w);
				return;
			}
			if (!k)
				json_put_open(w, NULL, '{');
			json_put_string(w, keys[k], value);
		}
		json_put_close(w);
	}
}

/* The arguments of a command, for people. */
static void command_text(const struct json *command, char *text, size_t size)
{
	size_t n = 0;

	*text = 0;
	json_each(v, command) {
		if (v->type == JSON_STRING && n < size)
			n += (size_t)snprintf(text + n, size - n, "%s%s", n ? " " : "", v->text);
	}
	text_plain(text);
}

static void print_vm(struct ps_config *c, const char *id, const char *answer,
		     const struct record *rec)
{
	char pid[16], state[16], agent[16], cpus[16], memory[24], uptime[24], kernel[4096];

	client_value(answer, "pid", pid, sizeof(pid));
	client_value(answer, "state", state, sizeof(state));
	client_value(answer, "agent", agent, sizeof(agent));
	client_value(answer, "cpus", cpus, sizeof(cpus));
	client_value(answer, "memory", memory, sizeof(memory));
	client_value(answer, "uptime_ms", uptime, sizeof(uptime));
	client_value(answer, "kernel", kernel, sizeof(kernel));
	if (!c->json) {
		char command[128], image[sizeof(kernel)];

		snprintf(image, sizeof(image), "%s", rec->container ? rec->image : kernel);
		text_plain(image);
		if (rec->container)
			command_text(rec->command, command, sizeof(command));
		printf("%-20s %-8s %-12s %-6s %4s %6lluM %9.1fs  %s%s%s\n", id, pid, state, agent,
		       cpus, strtoull(memory, NULL, 10) >> 20, strtod(uptime, NULL) / 1000,
		       image, rec->container ? ": " : "",
		       rec->container ? command : "");
		return;
	}
	json_put_open(&c->out, NULL, '{');
	json_put_string(&c->out, "id", id);
	json_put_uint(&c->out, "pid", strtoull(pid, NULL, 10));
	json_put_string(&c->out, "state", state);
	json_put_string(&c->out, "agent", agent);
	json_put_uint(&c->out, "cpus", strtoull(cpus, NULL, 10));
	json_put_uint(&c->out, "memory", strtoull(memory, NULL, 10));
	json_put_uint(&c->out, "uptime_ms", strtoull(uptime, NULL, 10));
	json_put_string(&c->out, "kernel", kernel);
	put_nets(&c->out, answer);
	if (rec->container) {
		json_put_string(&c->out, "image", rec->image);
		json_put(&c->out, "command", rec->command);
		json_put_string(&c->out, "created", rec->created);
	}
	if (rec->status >= 0)
		json_put_int(&c->out, "status", rec->status);
	json_put_close(&c->out);
}

/* A VM that does not answer is listed all the same: its id is taken. */
static int visit_vm(void *ctx, const char *id)
{
	struct ps_config *c = ctx;
	char answer[CONTROL_ANSWER];
	struct record rec;
	struct rundir vm;
	bool running;
	struct err e;
	int fd;

	if (c->quiet) {
		printf("%s\n", id);
		return 0;
	}
	if (rundir_open_any(&vm, id, &running, &e))
		return 0; /* gone since it was found */
	if (record_load(&vm, &rec, &e))
		rec = (struct record){.status = -1};
	fd = running ? client_control(&vm, &e) : -1;
	if (fd < 0 || client_request(fd, "status", answer, sizeof(answer), &e)) {
		bool guest = running && fd == -ENOENT && rec.container; /* it is in another's VM */

		snprintf(answer, sizeof(answer),
			 "pid %d\nstate %s\nagent no\ncpus 0\nmemory 0\nuptime_ms 0\n",
			 guest ? (int)MAX(rundir_pid(&vm, &e), 0) : 0,
			 guest ? "running" : running ? "unresponsive" : "exited");
	}
	print_vm(c, id, answer, &rec);
	record_free(&rec);
	if (fd >= 0)
		close(fd);
	rundir_close(&vm);
	return 0;
}

static int run_ps(void *cfg, int argc, char **argv, struct err *e)
{
	struct ps_config *c = cfg;
	int r;

	(void)argv;
	if (argc)
		return cmd_usage(&cmd_ps, e);
	c->out.out = stdout;
	if (c->json)
		json_put_open(&c->out, NULL, '[');
	else if (!c->quiet)
		printf("%-20s %-8s %-12s %-6s %4s %7s %10s  %s\n", "ID", "PID", "STATE", "AGENT",
		       "CPUS", "MEMORY", "UPTIME", "KERNEL, OR IMAGE: COMMAND");
	r = rundir_each(c->all, visit_vm, c, e);
	if (c->json) {
		json_put_close(&c->out);
		putchar('\n');
	}
	return r ? EXIT_FAIL : EXIT_OK;
}

const struct cmd cmd_ps = {
	.name = "ps",
	.args = "",
	.summary = "List containers and VMs",
	.options = ps_options,
	.examples = "uvm ps\n"
		    "uvm ps -a --json\n",
	.run = run_ps,
	.cfg_size = sizeof(struct ps_config),
};

/* --- stop and kill --- */

struct stop_config {
	uint64_t time; /* seconds */
};

static void stop_defaults(void *to)
{
	((struct stop_config *)to)->time = 10;
}

static const struct opt stop_options[] = {
	{"time", 't', "DURATION", "how long the guest may take (default 10s)", opt_set_duration,
	 offsetof(struct stop_config, time)},
	{0},
};

/* The wait is for the process, not for its sockets to close: the lock, by which a directory counts as a live
 * VM's, may be let go of after them.
 */
int cmd_kill_vm(struct rundir *vm, struct err *e)
{
	pid_t pid = client_pid(vm, e);
	struct rundir again;
	struct pollfd p = {.events = POLLIN};
	struct err none;
	int ended;

	if (pid < 0)
		return EXIT_FAIL;
	p.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (p.fd < 0 ? errno != ESRCH
		     : syscall(SYS_pidfd_send_signal, p.fd, SIGKILL, NULL, 0) && errno != ESRCH) {
		err_sys(e, "cannot kill process %d of VM '%s'", (int)pid, vm->id);
		return EXIT_FAIL;
	}
	ended = p.fd < 0 || poll(&p, 1, CLIENT_TIMEOUT_MS) > 0;
	if (p.fd >= 0)
		close(p.fd);
	if (!ended) {
		err_set(e, 0, "process %d of VM '%s' was killed but has not ended", (int)pid,
			vm->id);
		return EXIT_FAIL;
	}
	/* Looking at a dead VM's directory removes it, if its keeper has not begun to. */
	for (int i = 0; i < CLIENT_TIMEOUT_MS && !rundir_open(&again, vm->id, &none); i++) {
		rundir_close(&again);
		usleep(1000);
	}
	return EXIT_OK;
}

/* A container's process is asked, then killed; its VM ends with it. */
static bool stop_container(struct rundir *vm, uint64_t seconds, int fd)
{
	struct err why;

	if (!agent_kill(client_dial_agent, vm, RECORD_CONTAINER, SIGTERM, AGENT_KILL_INIT, &why) &&
	    client_wait_end(fd, (int)MIN(seconds, UINT64_C(1000000)) * 1000))
		return true;
	return !agent_kill(client_dial_agent, vm, RECORD_CONTAINER, SIGKILL, AGENT_KILL_ALL, &why) &&
	       client_wait_end(fd, CLIENT_TIMEOUT_MS);
}

/* Asks the agent, then the monitor, then nobody. */
static int stop_vm(struct rundir *vm, uint64_t seconds, int fd, struct err *e)
{
	char answer[CONTROL_ANSWER];
	struct err why;

	if (record_is_container(vm) && stop_container(vm, seconds, fd))
		return EXIT_OK;
	if (!agent_shutdown(client_dial_agent, vm, AGENT_POWEROFF, &why) &&
	    client_wait_end(fd, (int)MIN(seconds, UINT64_C(1000000)) * 1000))
		return EXIT_OK;
	if (!client_request(fd, "poweroff", answer, sizeof(answer), &why) &&
	    client_wait_end(fd, CLIENT_TIMEOUT_MS))
		return EXIT_OK;
	return cmd_kill_vm(vm, e);
}

/* Each in turn, up to the first that fails. */
static int with_each(const struct cmd *c, int (*one)(struct rundir *vm, void *cfg, struct err *e), void *cfg, int argc,
		     char **argv, struct err *e)
{
	int status = argc ? EXIT_OK : cmd_usage(c, e);

	for (int i = 0; i < argc && !status; i++) {
		struct rundir vm;

		if (rundir_open(&vm, argv[i], e))
			return EXIT_FAIL;
		status = one(&vm, cfg, e);
		rundir_close(&vm);
	}
	return status;
}

static int stop_one(struct rundir *vm, void *cfg, struct err *e)
{
	struct stop_config *c = cfg;
	int status, fd;

	fd = client_control(vm, e);
	status = fd < 0 ? EXIT_FAIL : stop_vm(vm, c->time, fd, e);
	if (fd >= 0)
		close(fd);
	return status;
}

static int run_stop(void *cfg, int argc, char **argv, struct err *e)
{
	return with_each(&cmd_stop, stop_one, cfg, argc, argv, e);
}

const struct cmd cmd_stop = {
	.name = "stop",
	.args = "ID...",
	.summary = "Stop a container, or shut a VM down",
	.options = stop_options,
	.notes = "A container's process gets SIGTERM, and after the time SIGKILL; its VM ends with it.\n\n"
		 "In a VM that is no container's the agent is asked first. When the guest has not ended in time, or has no agent, "
		 "the\n"
		 "monitor switches it off; if even that fails, the monitor is killed.\n",
	.examples = "uvm stop web\n"
		    "uvm stop --time 30s web\n",
	.run = run_stop,
	.cfg_size = sizeof(struct stop_config),
	.defaults = stop_defaults,
};

struct kill_config {
	int signo; /* 0: the VM's end at once, or SIGKILL for the container */
};

int cmd_set_signal(void *to, const char *value, struct err *e)
{
	static const struct {
		const char *name;
		int signo;
	} names[] = {{"HUP", SIGHUP},	{"INT", SIGINT},     {"QUIT", SIGQUIT},
		     {"ILL", SIGILL},	{"TRAP", SIGTRAP},   {"ABRT", SIGABRT},
		     {"BUS", SIGBUS},	{"FPE", SIGFPE},     {"KILL", SIGKILL},
		     {"USR1", SIGUSR1}, {"SEGV", SIGSEGV},   {"USR2", SIGUSR2},
		     {"PIPE", SIGPIPE}, {"ALRM", SIGALRM},   {"TERM", SIGTERM},
		     {"CHLD", SIGCHLD}, {"CONT", SIGCONT},   {"STOP", SIGSTOP},
		     {"TSTP", SIGTSTP}, {"TTIN", SIGTTIN},   {"TTOU", SIGTTOU},
		     {"URG", SIGURG},	{"XCPU", SIGXCPU},   {"XFSZ", SIGXFSZ},
		     {"PROF", SIGPROF}, {"VTALRM", SIGVTALRM}, {"WINCH", SIGWINCH},
		     {"IO", SIGIO},	{"PWR", SIGPWR},     {"SYS", SIGSYS}};
	const char *name = strncmp(value, "SIG", 3) ? value : value + 3;
	char *end;
	long n = strtol(value, &end, 10);

	if (*value && !*end && n >= 1 && n <= 64) {
		*(int *)to = (int)n;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(name, names[i].name)) {
			*(int *)to = names[i].signo;
			return 0;
		}
	return err_set(e, EINVAL, "'%s' is not a signal (use for example TERM, SIGTERM or 15)", value);
}

static const struct opt kill_options[] = {
	{"signal", 's', "SIGNAL", "which one the container's process gets (default KILL)", cmd_set_signal,
	 offsetof(struct kill_config, signo)},
	{0},
};

/* Where the container cannot be killed, its VM is. */
static int kill_container(struct rundir *vm, int signo, struct err *e)
{
	int fd = client_control(vm, e), r;

	if (fd < 0)
		return EXIT_FAIL;
	r = agent_kill(client_dial_agent, vm, RECORD_CONTAINER, signo ? signo : SIGKILL,
		       signo ? AGENT_KILL_INIT : AGENT_KILL_ALL, e);
	if (!signo && (r || !client_wait_end(fd, CLIENT_TIMEOUT_MS))) {
		close(fd);
		return cmd_kill_vm(vm, e);
	}
	close(fd);
	return r ? EXIT_FAIL : EXIT_OK;
}

static int kill_one(struct rundir *vm, void *cfg, struct err *e)
{
	struct kill_config *c = cfg;

	if (record_is_container(vm))
		return kill_container(vm, c->signo, e);
	if (!c->signo)
		return cmd_kill_vm(vm, e);
	err_set(e, 0, "VM '%s' has no container that could get a signal; without --signal the VM ends", vm->id);
	return EXIT_FAIL;
}

static int run_kill(void *cfg, int argc, char **argv, struct err *e)
{
	return with_each(&cmd_kill, kill_one, cfg, argc, argv, e);
}

const struct cmd cmd_kill = {
	.name = "kill",
	.args = "ID...",
	.summary = "Kill a container, or end a VM at once",
	.options = kill_options,
	.examples = "uvm kill web\n"
		    "uvm kill -s HUP web\n",
	.run = run_kill,
	.cfg_size = sizeof(struct kill_config),
};

/* --- console --- */

/* Passes bytes both ways until the escape key or an end. Returns what there is to say about it. */
static const char *pass_bytes(int fd)
{
	struct pollfd p[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
	char buf[4096];

	while (poll(p, 2, -1) > 0 || errno == EINTR) {
		ssize_t n;

		if (p[1].revents) {
			n = read(fd, buf, sizeof(buf));
			if (n <= 0)
				return "the VM has ended";
			if (write_all(STDOUT_FILENO, buf, (size_t)n))
				return "standard output is closed";
		}
		if (p[0].revents) {
			char *key;

			n = read(STDIN_FILENO, buf, sizeof(buf));
			if (n <= 0) {
				p[0].fd = -1; /* no more input; go on showing */
				continue;
			}
			key = memchr(buf, CONSOLE_ESCAPE, (size_t)n);
			if (write_all(fd, buf, key ? (size_t)(key - buf) : (size_t)n))
				return "the VM has ended";
			if (key)
				return "detached";
		}
	}
	return "poll failed";
}

static int run_console(void *cfg, int argc, char **argv, struct err *e)
{
	char answer[CONTROL_ANSWER];
	struct tty tty;
	struct rundir vm;
	int fd;

	(void)cfg;
	if (argc != 1)
		return cmd_usage(&cmd_console, e);
	if (rundir_open(&vm, argv[0], e))
		return EXIT_FAIL;
	fd = client_control(&vm, e);
	if (fd < 0 || client_request(fd, "console", answer, sizeof(answer), e))
		return EXIT_FAIL;
	fprintf(stderr, "uvm: attached to the console of '%s'; Ctrl-] detaches\n", vm.id);
	tty_raw(&tty, STDIN_FILENO);
	err_set(e, 0, "%s", pass_bytes(fd));
	tty_restore(&tty, STDIN_FILENO);
	close(fd);
	rundir_close(&vm);
	return EXIT_OK;
}

const struct cmd cmd_console = {
	.name = "console",
	.args = "ID",
	.summary = "Attach to the serial console of a VM",
	.notes = "Ctrl-] detaches; the VM goes on.\n",
	.examples = "uvm console web\n",
	.run = run_console,
};

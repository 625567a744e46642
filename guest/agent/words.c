/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/words.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "guest/agent/boot.h"
#include "guest/agent/text.h"

/* Sets why: what, and the name that it is about. Returns -code. */
static int refuse(struct words *w, int code, const char *what, const char *name)
{
	size_t n = compose(w->why, sizeof(w->why) - 1, what, " '", name, NULL);

	w->why[n] = '\'';
	w->why[n + 1] = '\0';
	return -code;
}

/* The length of a variable's name, and whether that is one. */
static bool env_name(const char *variable, size_t *len)
{
	*len = strcspn(variable, "=");
	return *len && variable[*len] == '=';
}

static void env_remove(struct words *w, const char *variable, size_t name)
{
	for (char *at = w->env; at < w->env + w->env_len;) {
		size_t size = strlen(at) + 1;

		if (strncmp(at, variable, name + 1)) {
			at += size;
			continue;
		}
		w->env_len -= size;
		w->env_count--;
		memmove(at, at + size, (size_t)(w->env + w->env_len - at));
		return;
	}
}

static int take_env(struct words *w, const char *variable)
{
	size_t name, size = strlen(variable) + 1;

	if (!env_name(variable, &name))
		return refuse(w, EINVAL, "uvm.env is not NAME=VALUE:", variable);
	/* Full is full, even if the same name would make room: it stays as it was. */
	if (w->env_count == WORDS_ENV_MAX || size > sizeof(w->env) - w->env_len)
		return refuse(w, E2BIG, "uvm.env: too many or too long variables:", variable);
	env_remove(w, variable, name);
	memcpy(w->env + w->env_len, variable, size);
	w->env_len += size;
	w->env_count++;
	return 0;
}

/* Takes the part of *text up to a colon or the end. Returns whether it is one, and fits. */
static bool take_part(char *to, size_t size, const char **text)
{
	size_t n = strcspn(*text, ":");

	if (!n || n >= size)
		return false;
	memcpy(to, *text, n);
	to[n] = '\0';
	*text += n + ((*text)[n] == ':');
	return true;
}

static int take_mount(struct words *w, const char *text)
{
	struct words_mount m = {0};
	const char *at = text;

	if (!take_part(m.device, sizeof(m.device), &at) ||
	    !take_part(m.path, sizeof(m.path), &at) || *m.path != '/' ||
	    !take_part(m.type, sizeof(m.type), &at) || (*at && strcmp(at, "ro")) ||
	    (!*at && at[-1] == ':'))
		return refuse(w, EINVAL, "uvm.mount is not DEVICE:/PATH:TYPE[:ro]:", text);
	m.read_only = *at;
	if (w->mounts == WORDS_MOUNTS)
		return refuse(w, E2BIG, "uvm.mount: too many:", text);
	w->mount[w->mounts++] = m;
	return 0;
}

static int take_net(struct words *w, const char *text)
{
	char copy[AGENT_CMDLINE_MAX + 1];

	if (w->nets == WORDS_NETS)
		return refuse(w, E2BIG, "uvm.net: too many:", text);
	if (compose(copy, sizeof(copy), text, NULL) < strlen(text) ||
	    net_setup_parse(&w->net[w->nets], copy))
		return refuse(w, EINVAL, "uvm.net cannot be understood:", text);
	w->nets++;
	return 0;
}

int words_take(struct words *w, const char *word)
{
	static const char env[] = "uvm.env=", mnt[] = "uvm.mount=", net[] = "uvm.net=";

	if (!strncmp(word, env, sizeof(env) - 1))
		return take_env(w, word + sizeof(env) - 1);
	if (!strncmp(word, mnt, sizeof(mnt) - 1))
		return take_mount(w, word + sizeof(mnt) - 1);
	if (!strncmp(word, net, sizeof(net) - 1))
		return take_net(w, word + sizeof(net) - 1);
	return -ENOENT;
}

int words_take_all(struct words *w, char *text)
{
	char *rest = NULL;

	for (char *word = strtok_r(text, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
		int r = words_take(w, word);

		if (r == -ENOENT)
			r = refuse(w, EINVAL, "the agent takes no such word after boot:", word);
		if (r)
			return r;
	}
	return 0;
}

static int make(const struct words_mount *m)
{
	unsigned long flags = MS_SILENT | (m->read_only ? MS_RDONLY : 0);

	if (!strncmp(m->device, "/dev/", 5)) /* else it is no device's name */
		boot_wait_for(m->device);
	mkdir(m->path, 0755); /* it exists as a rule; if it cannot be made, mount says so */
	return mount(m->device, m->path, m->type, flags, NULL) ? -errno : 0;
}

int words_mount(struct words *w)
{
	unsigned int n = w->mounts, nets = w->nets;

	w->mounts = w->nets = 0;
	for (unsigned int i = 0; i < nets; i++) {
		const char *what;
		int r = net_setup_apply(&w->net[i], &what);

		if (r)
			return refuse(w, -r, what, w->net[i].name);
	}
	for (unsigned int i = 0; i < n; i++) {
		const struct words_mount *m = &w->mount[i];
		int r = make(m);

		if (r)
			return refuse(w, -r, "cannot mount at", m->path);
	}
	return 0;
}

static bool has(char *const *envp, const char *variable)
{
	size_t name = strcspn(variable, "=") + 1;

	for (; *envp; envp++)
		if (!strncmp(*envp, variable, name))
			return true;
	return false;
}

char **words_env(const struct words *w, char *const *envp, char **end)
{
	for (const char *at = w->env; at < w->env + w->env_len; at += strlen(at) + 1)
		if (!has(envp, at)) {
			*end++ = (char *)(uintptr_t)at;
			*end = NULL;
		}
	return end;
}

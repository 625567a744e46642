/* SPDX-License-Identifier: Apache-2.0
 *
 * The payload of an EXEC message, which is also a record of CREATE's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/exec.h"

static size_t strings_size(char *const *list, uint32_t *count)
{
	size_t size = 0;

	for (*count = 0; list && *list; list++, ++*count)
		size += strlen(*list) + 1;
	return size;
}

static uint8_t *put(uint8_t *at, const void *data, size_t size)
{
	if (size)
		memcpy(at, data, size);
	return at + size;
}

static uint8_t *put_strings(uint8_t *at, char *const *list)
{
	for (; list && *list; list++)
		at = put(at, *list, strlen(*list) + 1);
	return at;
}

static bool has_env(char *const *envp, const char *name)
{
	size_t len = strlen(name);

	for (; envp && *envp; envp++)
		if (!strncmp(*envp, name, len) && (*envp)[len] == '=')
			return true;
	return false;
}

/* The "TERM=..." that the command gets from us, or an empty string. */
static void term_variable(const struct exec_request *rq, char *buf, size_t size)
{
	const char *term = getenv("TERM");

	*buf = '\0';
	if (rq->tty && term && strlen(term) < size - 5 && !has_env(rq->envp, "TERM"))
		strcat(strcpy(buf, "TERM="), term);
}

static int fill_head(const struct exec_request *rq, struct agent_exec *head, struct err *e)
{
	if (!rq->argv || !rq->argv[0])
		return err_set(e, EINVAL, "no command is given");
	if (rq->group_count > AGENT_GROUPS_MAX)
		return err_set(e, EINVAL, "more than %u groups", AGENT_GROUPS_MAX);
	if (rq->rlimit_count > AGENT_RLIMITS_MAX)
		return err_set(e, EINVAL, "more than %u resource limits", AGENT_RLIMITS_MAX);
	if (rq->filter_count > AGENT_FILTER_MAX)
		return err_set(e, E2BIG, "a seccomp filter of more than %u instructions",
			       AGENT_FILTER_MAX);
	if (rq->container && strlen(rq->container) > AGENT_NAME_MAX)
		return err_set(e, EINVAL, "'%s' is not a container's name", rq->container);
	head->flags |= rq->flags | (rq->user ? AGENT_EXEC_USER : 0) |
		       (rq->user_name ? AGENT_EXEC_NAMED : 0) | (rq->caps ? AGENT_EXEC_CAPS : 0);
	head->uid = rq->user ? rq->uid : 0;
	head->gid = rq->user ? rq->gid : 0;
	head->umask = rq->umask;
	head->oom_score_adj = rq->oom_score_adj;
	head->group_count = (uint32_t)rq->group_count;
	head->rlimit_count = (uint32_t)rq->rlimit_count;
	head->filter_count = (uint32_t)rq->filter_count;
	if (rq->caps)
		head->caps = *rq->caps;
	if (rq->container)
		strcpy(head->container, rq->container);
	return 0;
}

int exec_encode(const struct exec_request *rq, struct agent_exec *head, uint8_t **payload,
		size_t *size, struct err *e)
{
	const char *cwd = rq->cwd ? rq->cwd : "";
	size_t groups = rq->group_count * sizeof(*rq->groups);
	size_t rlimits = rq->rlimit_count * sizeof(*rq->rlimits);
	size_t filter = rq->filter_count * sizeof(*rq->filter);
	char term[64], *const extra[] = {term, NULL};
	int r = fill_head(rq, head, e);
	uint8_t *at;

	if (r)
		return r;
	term_variable(rq, term, sizeof(term));
	*size = sizeof(*head) + rlimits + filter + groups + strlen(cwd) + 1;
	*size += rq->user_name ? strlen(rq->user_name) + 1 : 0;
	*size += strings_size(rq->argv, &head->argc) + strings_size(rq->envp, &head->envc);
	if (*term) {
		*size += strlen(term) + 1;
		head->envc++;
	}
	if (*size > AGENT_EXEC_MAX || head->argc + head->envc > AGENT_STRINGS_MAX)
		return err_set(e, E2BIG, "the command and its environment are too long");

	*payload = malloc(*size);
	if (!*payload)
		return err_set(e, ENOMEM, "out of memory");
	at = put(*payload, head, sizeof(*head));
	at = put(at, rq->rlimits, rlimits);
	at = put(at, rq->filter, filter);
	at = put(at, rq->groups, groups);
	at = put(at, cwd, strlen(cwd) + 1);
	if (rq->user_name)
		at = put(at, rq->user_name, strlen(rq->user_name) + 1);
	at = put_strings(at, rq->argv);
	at = put_strings(at, rq->envp);
	if (*term)
		put_strings(at, extra);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The payload of an EXEC message.
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

int exec_encode(const struct exec_request *rq, struct agent_exec *head, uint8_t **payload,
		size_t *size, struct err *e)
{
	const char *cwd = rq->cwd ? rq->cwd : "";
	size_t groups = rq->group_count * sizeof(*rq->groups);
	char term[64], *const extra[] = {term, NULL};
	uint8_t *at;

	if (!rq->argv || !rq->argv[0])
		return err_set(e, EINVAL, "no command is given");
	if (rq->group_count > AGENT_GROUPS_MAX)
		return err_set(e, EINVAL, "more than %u groups", AGENT_GROUPS_MAX);
	term_variable(rq, term, sizeof(term));
	*size = sizeof(*head) + groups + strlen(cwd) + 1;
	*size += strings_size(rq->argv, &head->argc) + strings_size(rq->envp, &head->envc);
	if (*term) {
		*size += strlen(term) + 1;
		head->envc++;
	}
	if (*size > AGENT_EXEC_MAX || head->argc + head->envc > AGENT_STRINGS_MAX)
		return err_set(e, E2BIG, "the command and its environment are too long");
	head->group_count = (uint32_t)rq->group_count;
	if (rq->user) {
		head->flags |= AGENT_EXEC_USER;
		head->uid = rq->uid;
		head->gid = rq->gid;
	}

	*payload = malloc(*size);
	if (!*payload)
		return err_set(e, ENOMEM, "out of memory");
	at = put(*payload, head, sizeof(*head));
	at = put(at, rq->groups, groups);
	at = put(at, cwd, strlen(cwd) + 1);
	at = put_strings(at, rq->argv);
	at = put_strings(at, rq->envp);
	if (*term)
		put_strings(at, extra);
	return 0;
}

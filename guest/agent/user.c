/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/user.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/agent/text.h"

#define FILE_MAX (4u << 20) /* bytes that are read of a file */
#define FIELDS	 7

struct lines {
	int fd;
	uint32_t read;	   /* bytes so far */
	size_t at, end;	   /* in buf */
	bool skip;	   /* what comes is the rest of too long a line */
	char buf[4096];	   /* a line is shorter */
};

static bool lines_open(struct lines *l, const char *path)
{
	struct stat st;

	l->read = 0;
	l->at = l->end = 0;
	l->skip = false;
	/* Not a fifo, which could keep us for ever, or a device. */
	l->fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (l->fd >= 0 && (fstat(l->fd, &st) || !S_ISREG(st.st_mode))) {
		close(l->fd);
		l->fd = -1;
	}
	return l->fd >= 0;
}

/* The next line without its newline, or NULL at the end, when the file is closed. */
static char *lines_next(struct lines *l)
{
	for (;;) {
		char *line = l->buf + l->at, *newline = memchr(line, '\n', l->end - l->at);
		ssize_t n = 0;

		if (newline) {
			bool skip = l->skip;

			*newline = '\0';
			l->at = (size_t)(newline + 1 - l->buf);
			l->skip = false;
			if (!skip)
				return line;
			continue;
		}
		memmove(l->buf, line, l->end - l->at);
		l->end -= l->at;
		l->at = 0;
		if (l->end == sizeof(l->buf) - 1) {
			l->skip = true;
			l->end = 0;
		}
		if (l->read < FILE_MAX)
			n = read(l->fd, l->buf + l->end, sizeof(l->buf) - 1 - l->end);
		if (n > 0) {
			l->read += (uint32_t)n;
			l->end += (size_t)n;
			continue;
		}
		if (!l->end || l->skip) {
			close(l->fd);
			return NULL;
		}
		l->buf[l->end++] = '\n'; /* the last line has none; there is room for it */
	}
}

/* Cuts a line at its colons. Returns how many fields there are. */
static int split(char *line, char *field[FIELDS])
{
	int n = 0;

	while (n < FIELDS) {
		field[n++] = line;
		line = strchr(line, ':');
		if (!line)
			break;
		*line++ = '\0';
	}
	return n;
}

static bool number(const char *text, uint32_t *value)
{
	const char *end;
	uint64_t v;

	if (*text < '0' || *text > '9')
		return false;
	v = number_of(text, &end);
	*value = (uint32_t)v;
	return !*end && v < UINT32_MAX; /* the last one means "unchanged" */
}

static void set_home(struct user *u, const char *home)
{
	size_t len = strlen(home);

	if (*home == '/' && len < sizeof(u->home))
		memcpy(u->home, home, len + 1);
}

/* Finds the entry with this name or, if there is none with the name, this number. name gets the
 * entry's. Returns whether there is one.
 */
static bool find_entry(struct user *u, const char *text, char *name, size_t size)
{
	bool found = false, is_number;
	uint32_t wanted, uid, gid;
	char *field[FIELDS], *line;
	struct lines l;

	is_number = number(text, &wanted);
	if (!lines_open(&l, "/etc/passwd"))
		return false;
	while ((line = lines_next(&l))) {
		if (split(line, field) < 6 || !number(field[2], &uid) || !number(field[3], &gid) ||
		    !*field[0] || strlen(field[0]) >= size)
			continue;
		if (strcmp(field[0], text) && (found || !is_number || uid != wanted))
			continue;
		u->uid = uid;
		u->gid = gid;
		*u->home = '\0';
		set_home(u, field[5]);
		strcpy(name, field[0]);
		found = true;
		if (!strcmp(field[0], text)) {
			close(l.fd);
			break;
		}
	}
	return found;
}

/* Whether a comma-separated list has this name. */
static bool lists(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (;;) {
		size_t n = strcspn(list, ",");

		if (n == len && !memcmp(list, name, len))
			return true;
		if (!list[n])
			return false;
		list += n + 1;
	}
}

/* The groups that have name as a member. */
static void find_member(struct user *u, const char *name)
{
	char *field[FIELDS], *line;
	struct lines l;
	uint32_t gid;

	if (!lines_open(&l, "/etc/group"))
		return;
	while ((line = lines_next(&l)))
		if (split(line, field) >= 4 && number(field[2], &gid) && lists(field[3], name) &&
		    u->group_count < AGENT_GROUPS_MAX)
			u->groups[u->group_count++] = gid;
}

static bool find_group(struct user *u, const char *text)
{
	bool found = number(text, &u->gid);
	char *field[FIELDS], *line;
	struct lines l;
	uint32_t gid;

	if (!lines_open(&l, "/etc/group"))
		return found;
	while ((line = lines_next(&l))) {
		if (split(line, field) < 3 || !number(field[2], &gid) || strcmp(field[0], text))
			continue;
		u->gid = gid;
		close(l.fd);
		return true;
	}
	return found;
}

bool user_find(struct user *u, const char *text)
{
	const char *group = strchr(text, ':');
	size_t len = group ? (size_t)(group - text) : strlen(text);
	char user[256], name[256];

	*u = (struct user){0};
	if (len >= sizeof(user))
		return false;
	memcpy(user, len ? text : "0", len ? len : 1);
	user[len ? len : 1] = '\0';
	*name = '\0';
	if (!find_entry(u, user, name, sizeof(name)) && !number(user, &u->uid))
		return false;
	if (group && group[1])
		return find_group(u, group + 1);
	if (*name)
		find_member(u, name);
	return true;
}

void user_find_home(struct user *u)
{
	char *field[FIELDS], *line;
	struct lines l;
	uint32_t uid;

	*u->home = '\0';
	if (!lines_open(&l, "/etc/passwd"))
		return;
	while ((line = lines_next(&l))) {
		if (split(line, field) < 6 || !number(field[2], &uid) || uid != u->uid)
			continue;
		set_home(u, field[5]);
		close(l.fd);
		return;
	}
}

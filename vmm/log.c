/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/json.h"
#include "vmm/util.h"

#define TEXT_MAX sizeof(((struct err *)0)->text)
#define LINE_MAX (4 * TEXT_MAX + 256) /* each byte may become an escape */

/* Of the process, as its standard error is. Written before there are threads, but for what is left. */
static struct {
	enum log_level level;
	bool json, limited;
	uint32_t left; /* bytes */
	char id[65];
} setup = {.level = LOG_INFO};

/* As logrus calls them. */
static const char *const names[] = {
	[LOG_ERROR] = "error", [LOG_WARN] = "warning", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"};

int log_set_level(const char *level, struct err *e)
{
	if (!level)
		return 0;
	if (!strcmp(level, "warn"))
		level = names[LOG_WARN];
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(level, names[i])) {
			setup.level = (enum log_level)i;
			return 0;
		}
	return err_set(e, EINVAL, "log level '%s' is none of error, warn, info, debug", level);
}

int log_set_format(const char *format, struct err *e)
{
	if (!format)
		return 0;
	setup.json = !strcmp(format, "json");
	return setup.json || !strcmp(format, "text")
		       ? 0
		       : err_set(e, EINVAL, "log format '%s' is neither 'text' nor 'json'", format);
}

void log_set_id(const char *id)
{
	snprintf(setup.id, sizeof(setup.id), "%s", id);
}

void log_set_limit(uint32_t bytes)
{
	setup.left = bytes;
	setup.limited = true;
}

bool log_wants(enum log_level level)
{
	return level <= setup.level;
}

/* As logrus quotes. */
static void put_quoted(FILE *out, const char *text)
{
	putc('"', out);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			putc('\\', out);
		putc(*text, out);
	}
	putc('"', out);
}

void log_put(FILE *out, bool json, enum log_level level, const char *id, const char *text, int64_t seconds)
{
	struct json_writer w = {.out = out};
	char when[32] = "?";
	time_t t = seconds;
	struct tm tm;

	if (gmtime_r(&t, &tm))
		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	if (json) {
		json_put_open(&w, NULL, '{');
		json_put_string(&w, "level", names[level]);
		json_put_string(&w, "msg", text);
		json_put_string(&w, "time", when);
		if (id)
			json_put_string(&w, "id", id);
		json_put_close(&w);
		putc('\n', out);
		return;
	}
	fprintf(out, "time=\"%s\" level=%s msg=", when, names[level]);
	put_quoted(out, text);
	putc('\n', out);
}

/* Returns the line's length. */
static size_t make_line(char line[LINE_MAX], enum log_level level, const char *text)
{
	FILE *out;

	if (!setup.json || !(out = fmemopen(line, LINE_MAX, "w")))
		return (size_t)snprintf(line, LINE_MAX, "uvm: %s%s\n", level == LOG_DEBUG ? "debug: " : "", text);
	log_put(out, true, level, *setup.id ? setup.id : NULL, text, (int64_t)time(NULL));
	fclose(out);
	return strlen(line);
}

/* Whether there is room for n bytes more. The last one's place is taken by a note that it was the last. */
static bool has_room(size_t n)
{
	uint32_t left = __atomic_load_n(&setup.left, __ATOMIC_RELAXED);

	while (!__atomic_compare_exchange_n(&setup.left, &left, left > n ? left - (uint32_t)n : 0, false,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	if (left && left <= n)
		log_write(LOG_ERROR, "this log is full: but for errors, nothing more is written");
	return left > n;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	char text[TEXT_MAX], line[LINE_MAX];
	va_list ap;
	size_t n;

	if (!log_wants(level))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	text_plain(text);
	n = make_line(line, level, text);
	if (level == LOG_ERROR || !setup.limited || has_room(n))
		write_all(STDERR_FILENO, line, n);
}

void log_add(const char *path, bool json, enum log_level level, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	FILE *out = fd < 0 ? NULL : fdopen(fd, "a");

	if (!out) {
		if (fd >= 0)
			close(fd);
		return;
	}
	log_put(out, json, level, NULL, text, (int64_t)time(NULL));
	fclose(out);
}

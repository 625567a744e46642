/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/log.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "vmm/cmd.h"
#include "vmm/json.h"

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

void shim_log_write(FILE *out, bool json, const char *level, const char *text, long long seconds)
{
	struct json_writer w = {.out = out};
	char when[CMD_TIME];

	cmd_time(seconds, when);
	if (json) {
		json_put_open(&w, NULL, '{');
		json_put_string(&w, "level", level);
		json_put_string(&w, "msg", text);
		json_put_string(&w, "time", when);
		json_put_close(&w);
		putc('\n', out);
		return;
	}
	fprintf(out, "time=\"%s\" level=%s msg=", when, level);
	put_quoted(out, text);
	putc('\n', out);
}

void shim_log(const char *path, bool json, const char *level, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	FILE *out = fd < 0 ? NULL : fdopen(fd, "a");

	if (!out) {
		if (fd >= 0)
			close(fd);
		return;
	}
	shim_log_write(out, json, level, text, (long long)time(NULL));
	fclose(out);
}

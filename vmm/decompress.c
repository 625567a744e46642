/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/decompress.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "vmm/util.h"

static const struct format {
	const char *argv[3], *package, *magic;
	size_t len;
} formats[] = {
	{{"gzip", "-dc", NULL}, "gzip", "\x1f\x8b", 2},
	{{"zstd", "-dcq", NULL}, "zstd", "\x28\xb5\x2f\xfd", 4},
	{{"xz", "-dc", NULL},
	 "xz-utils",
	 "\xfd"
	 "7zXZ\0",
	 6},
	{{"bzip2", "-dc", NULL}, "bzip2", "BZh", 3},
};

static const struct format *format_of(int fd)
{
	char magic[8] = "";

	if (pread(fd, magic, sizeof(magic), 0) < 0)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
		if (!memcmp(magic, formats[i].magic, formats[i].len))
			return &formats[i];
	return NULL;
}

bool decompress_is(int fd)
{
	return format_of(fd);
}

int decompress_open(struct decompress *d, int fd, struct err *e)
{
	const struct format *f = format_of(fd);
	int p[2], r;

	*d = (struct decompress){.fd = fd};
	if (lseek(fd, 0, SEEK_SET) < 0)
		return err_sys(e, "cannot be read");
	if (!f)
		return 0;
	if (pipe2(p, O_CLOEXEC))
		return err_sys(e, "cannot make a pipe");
	fcntl(p[0], F_SETPIPE_SZ, 1 << 20); /* fewer turns; it may be refused */
	r = tool_start(&d->tool, f->argv, f->package, fd, p[1], e);
	close(p[1]);
	if (r)
		close(p[0]);
	else
		d->fd = p[0];
	return r;
}

int decompress_close(struct decompress *d, int r, const char *what, struct err *e)
{
	struct err why;
	int ended;

	if (!d->tool.pid)
		return r;
	close(d->fd);
	ended = tool_end(&d->tool, NULL, &why);
	if (ended && ended != -EPIPE) /* which is our doing */
		return err_set(e, EIO, "%s: %s", what, why.text);
	return r;
}

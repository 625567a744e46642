/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/file.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/util.h"

int file_read(int fd, const char *what, size_t max, char **text, size_t *len, struct err *e)
{
	struct stat st;
	int r;

	*text = NULL;
	*len = 0;
	if (fstat(fd, &st))
		return err_sys(e, "%s", what);
	if (!S_ISREG(st.st_mode))
		return err_set(e, EINVAL, "%s: not a regular file", what);
	if ((uint64_t)st.st_size > max)
		return err_set(e, EFBIG, "%s: larger than %zu bytes", what, max);
	*text = malloc((size_t)st.st_size + 1);
	if (!*text)
		return err_set(e, ENOMEM, "out of memory");
	r = pread_all(fd, *text, (size_t)st.st_size, 0);
	if (r) {
		free(*text);
		*text = NULL;
		return err_set(e, -r, "%s: %s", what, strerror(-r));
	}
	*len = (size_t)st.st_size;
	(*text)[*len] = 0;
	return 0;
}

int file_load(int fd, const char *what, size_t max, char **text, size_t *len, struct err *e)
{
	int r;

	*text = NULL;
	*len = 0;
	if (fd < 0)
		return err_sys(e, "%s", what);
	r = file_read(fd, what, max, text, len, e);
	close(fd);
	return r;
}

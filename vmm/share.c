/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/share.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "vmm/jail.h"
#include "vmm/keeper.h"

/* Descriptors that are left for everything else, whatever guests have open in shares. */
#define FDS_KEPT  512u
#define FDS_MAX	  (1u << 20)
#define FDS_TABLE 4096 /* 32 KiB of the kernel's memory */

static int set_option(struct share_config *cfg, const char *word)
{
	static const char *const cache[] = {[FUSE_CACHE_AUTO] = "cache=auto",
					    [FUSE_CACHE_NONE] = "cache=none",
					    [FUSE_CACHE_ALWAYS] = "cache=always"};

	if (!strcmp(word, "ro")) {
		cfg->read_only = true;
		return 0;
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(cache); i++)
		if (!strcmp(word, cache[i])) {
			cfg->cache = (enum fuse_cache)i;
			return 0;
		}
	return -EINVAL;
}

/* From the right, since a directory's name may have colons in it, and a tag has none. */
int share_parse(struct share_config *cfg, const char *value, struct err *e)
{
	char *colon;

	*cfg = (struct share_config){.path = value};
	while ((colon = strrchr(value, ':')) && !set_option(cfg, colon + 1))
		*colon = 0;
	if (!colon || colon == value)
		return err_set(e, EINVAL, "'%s' is not DIR:TAG, with ':ro', ':cache=none', "
			       ":cache=auto or ':cache=always' behind it", value);
	*colon = 0;
	cfg->tag = colon + 1;
	if (!virtio_fs_tag_valid(cfg->tag, strlen(cfg->tag)))
		return err_set(e, EINVAL, "'%s' is no tag: 1 to %u printable characters", cfg->tag,
			       VIRTIO_FS_TAG);
	return 0;
}

/* What a guest may use of the descriptors that this process may have at most. Each name that the guest
 * knows takes one, and the usual hard limit of a process that systemd has not started, 4096, is too low
 * for a source tree; who has CAP_SYS_RESOURCE may have more.
 */
static uint32_t fds_of(unsigned int n)
{
	const rlim_t enough = FDS_MAX; /* and as much as fs.nr_open lets anybody have */
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return 0;
	if (limit.rlim_max < enough && !setrlimit(RLIMIT_NOFILE, &(struct rlimit){enough, enough}))
		limit = (struct rlimit){enough, enough};
	if (limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) || getrlimit(RLIMIT_NOFILE, &limit))
			return 0;
	}
	return (uint32_t)MIN((limit.rlim_cur - MIN(FDS_KEPT, limit.rlim_cur / 2)) / n, FDS_MAX);
}

/* The kernel doubles a process' table of descriptors as it fills, and a process of several threads waits
 * for an RCU grace period each time, in the midst of a guest's open(2): 10 ms or more. So the first
 * thousands are made at once, before there are threads.
 */
static void widen_table(void)
{
	int fd = open("/", O_PATH | O_CLOEXEC), high = fcntl(fd, F_DUPFD_CLOEXEC, FDS_TABLE - 1);

	if (high >= 0)
		close(high);
	if (fd >= 0)
		close(fd);
}

int share_open(struct share *s, const struct share_config *cfg, unsigned int n, struct err *e)
{
	uint32_t fds;

	if (!strcmp(cfg->path, SHARE_PLACEHOLDER))
		return 0;
	fds = fds_of(n);
	widen_table();
	return fuse_server_open(&s->server, cfg->path, cfg->read_only, cfg->cache, fds, e);
}

int share_adopt(struct share *s, const struct share *parent, const struct rundir *vm, struct err *e)
{
	int fds;

	s->server = parent->server;
	if (!s->server)
		return 0;
	fds = keeper_own_fds(vm);
	return fds < 0 ? err_set(e, -fds, "a share cannot be served on: %s", strerror(-fds))
		       : fuse_server_forked(s->server, fds, e);
}

int share_detach(const struct share *s, bool directory, struct err *e)
{
	int root, own_fds, r = 0;

	if (!s->server)
		return 0;
	fuse_server_roots(s->server, &root, &own_fds);
	if (directory) /* with what is mounted in it */
		r = jail_replace(root, true, "a shared directory", e);
	return r ? r : jail_replace(own_fds, false, "/proc/self/fd", e);
}

int share_fill(struct share *s, unsigned int n, const struct share_config *cfg, struct err *e)
{
	for (unsigned int i = 0; i < n; i++) {
		int r;

		if (strncmp(s[i].fs.config.tag, cfg->tag, VIRTIO_FS_TAG))
			continue;
		if (s[i].server)
			return err_set(e, EEXIST, "the tag %s is given twice", cfg->tag);
		r = share_open(&s[i], cfg, n, e);
		if (!r && s[i].server)
			s[i].fs.backend = fuse_server_backend(s[i].server);
		return r;
	}
	return err_set(e, ENOENT, "the snapshot has no share with the tag %s", cfg->tag);
}

bool share_mounted(const struct share *s)
{
	return s->server && fuse_server_mounted(s->server);
}

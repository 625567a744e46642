/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/image.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vmm/cache.h"
#include "vmm/decompress.h"
#include "vmm/file.h"
#include "vmm/log.h"
#include "vmm/oci_image.h"
#include "vmm/tar.h"
#include "vmm/tool.h"
#include "vmm/tree.h"
#include "vmm/unpack.h"

#define TREE	 "tree"	  /* in an entry that is being made: what becomes the image */
#define LAYOUT	 "layout" /* ... and a layout that was in a tar */
#define TAR_SUM  "sha256"
#define ATTEMPTS 3u	  /* at a tree that changes while it is read */

/* Goes into every key: another way to make images makes other ones. */
#define KEY_VERSION "uvm image 1"

enum kind { KIND_DIR, KIND_TAR, KIND_OCI };

static const char *const kind_names[] = {
	[KIND_DIR] = "directory", [KIND_TAR] = "tar", [KIND_OCI] = "oci"};

/* What an image is made from. */
struct source {
	const struct image_request *req;
	enum kind kind;
	int fd; /* the directory, or the tar */
	bool user;
	struct oci_image oci; /* KIND_OCI, or what was in the tar */
	uint64_t files;
	char digest[SHA256_HEX + 1];
	struct stamp stamp; /* of a tar */
	uint64_t owners, devices, xattrs;
};

/* --- what it is --- */

/* The file system on an image, or NULL. */
static const char *fstype_of(int fd)
{
	uint8_t block[2048] = {0};
	uint32_t erofs;
	uint16_t ext4;

	if (pread(fd, block, sizeof(block), 0) < 1100)
		return NULL;
	memcpy(&erofs, block + 1024, sizeof(erofs)); /* the superblock's s_magic */
	memcpy(&ext4, block + 1024 + 56, sizeof(ext4));
	if (le32toh(erofs) == 0xe0f5e1e2)
		return "erofs";
	return le16toh(ext4) == 0xef53 ? "ext4" : NULL;
}

static bool is_squashfs(int fd)
{
	char magic[4];

	return pread(fd, magic, sizeof(magic), 0) == sizeof(magic) && !memcmp(magic, "hsqs", 4);
}

static int use_as_it_is(const struct image_request *req, const char *fstype, struct image *img,
			struct err *e)
{
	img->fstype = fstype;
	if (!realpath(req->root, img->path))
		return err_sys(e, "%s", req->root);
	return json_parse(&img->config.doc, "{}", 2, "no configuration", e);
}

/* --- configuration --- */

static int keys_of(const struct json *object, const char ***to, struct err *e)
{
	size_t n = 0;

	if (!object)
		return 0;
	*to = calloc(object->count + 1, sizeof(**to));
	if (!*to)
		return err_set(e, ENOMEM, "out of memory");
	json_each(m, object)(*to)[n++] = m->key;
	return 0;
}

/* The members that image-spec's config.md has under "config". */
static int load_config(struct image_config *c, const struct json *v, struct err *e)
{
	const struct json *volumes = NULL;
	int r;

	c->user = c->workdir = c->stop_signal = "";
	r = json_strings(v, "Entrypoint", &c->entrypoint, e);
	if (!r)
		r = json_strings(v, "Cmd", &c->cmd, e);
	if (!r)
		r = json_strings(v, "Env", &c->env, e);
	if (!r)
		r = json_string(v, "User", &c->user, e);
	if (!r)
		r = json_string(v, "WorkingDir", &c->workdir, e);
	if (!r)
		r = json_string(v, "StopSignal", &c->stop_signal, e);
	if (!r)
		r = json_object(v, "Volumes", &volumes, e);
	return r ? r : keys_of(volumes, &c->volumes, e);
}

static void free_config(struct image_config *c)
{
	free(c->entrypoint);
	free(c->cmd);
	free(c->env);
	free(c->volumes);
	json_free(&c->doc);
	*c = (struct image_config){0};
}

int image_about(int dir, struct json_doc *doc, struct err *e)
{
	int fd = openat(dir, CACHE_ABOUT, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char *text;
	size_t len;
	int r = file_load(fd, CACHE_ABOUT, JSON_SIZE_MAX, &text, &len, e);

	if (!r)
		r = json_parse(doc, text, len, CACHE_ABOUT, e);
	free(text);
	return r;
}

static int write_about(const struct source *s, int dir, struct err *e)
{
	int fd = openat(dir, CACHE_ABOUT, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
			0600);
	const struct json *config =
		s->oci.config.root ? json_get(s->oci.config.root, "config") : NULL;
	struct json_writer w = {.out = fd < 0 ? NULL : fdopen(fd, "w")};
	char path[PATH_MAX];

	if (!w.out) {
		err_sys(e, "cannot write " CACHE_ABOUT);
		if (fd >= 0)
			close(fd);
		return -EIO;
	}
	json_put_open(&w, NULL, '{');
	json_put_string(&w, "kind", kind_names[s->oci.config.root ? KIND_OCI : s->kind]);
	json_put_string(&w, "source", realpath(s->req->root, path) ? path : s->req->root);
	json_put_string(&w, "name", s->req->name);
	json_put_int(&w, "created", time(NULL));
	json_put_uint(&w, "files", s->files);
	if (config && config->type == JSON_OBJECT) {
		json_put(&w, "config", config);
	} else {
		json_put_open(&w, "config", '{');
		json_put_close(&w);
	}
	json_put_close(&w);
	fputc('\n', w.out);
	return fflush(w.out) | ferror(w.out) | fclose(w.out)
		       ? err_set(e, EIO, "cannot write " CACHE_ABOUT)
		       : 0;
}

/* --- making --- */

static int run_mkfs(const struct source *s, const char *from, const char *dir, struct err *e)
{
	char image[PATH_MAX + sizeof("/" CACHE_IMAGE)], number[32];
	/* One UUID for all, and one time (tool.c): the same tree makes the same image. */
	const char *argv[] = {"mkfs.erofs", "--quiet", "-U", "00000000-0000-4000-8000-000000000000",
			      image,	    from,      NULL, NULL};
	struct tool tool;
	struct err why;
	int r;

	if (s->user) {
		argv[6] = argv[5];
		argv[5] = argv[4];
		argv[4] = "--all-root";
	}
	snprintf(image, sizeof(image), "%s/" CACHE_IMAGE, dir);
	meter_set(s->req->meter, "making an image of %s: %s files", s->req->root,
		  meter_number(s->files, number));
	r = tool_start(&tool, argv, "erofs-utils", s->kind == KIND_DIR ? s->fd : -1, -1, e);
	if (r)
		return r;
	r = tool_end(&tool, s->req->meter, &why);
	return r ? err_set(e, -r, "%s: %s", s->req->root, why.text) : 0;
}

static bool changed(const struct source *s)
{
	struct stamp now;
	struct stat st;

	if (fstat(s->fd, &st))
		return true;
	now = stamp_of(&st);
	return memcmp(&now, &s->stamp, sizeof(now)) != 0;
}

static int begin_unpack(const struct source *s, int dir, struct unpack *u, char what[PATH_MAX],
			struct err *e)
{
	snprintf(what, PATH_MAX, "making an image of %s", s->req->root);
	*u = (struct unpack){
		.root = -1, .user = s->user, .meter = s->req->meter, .what = what, .parent = -1};
	if (mkdirat(dir, TREE, 0755) || fchmodat(dir, TREE, 0755, 0))
		return err_sys(e, "cannot make a directory to extract into");
	u->root = openat(dir, TREE, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (u->root < 0)
		return err_sys(e, "cannot open the directory to extract into");
	return unpack_begin(u, e);
}

static int end_unpack(struct source *s, struct unpack *u, int r, struct err *e)
{
	s->files = u->files;
	s->owners = u->owners;
	s->devices = u->devices;
	s->xattrs = u->xattrs;
	if (!r)
		r = unpack_end(u, e);
	else
		unpack_free(u);
	if (u->root >= 0)
		close(u->root);
	return r;
}

static int unpack_oci(struct source *s, int dir, struct err *e)
{
	char what[PATH_MAX];
	struct unpack u;
	int r = begin_unpack(s, dir, &u, what, e);
	struct err why;

	if (!r) {
		r = oci_unpack(&s->oci, &u, &why);
		if (r)
			err_set(e, -r, "%s: %s", s->req->root, why.text);
	}
	return end_unpack(s, &u, r, e);
}

/* A tar: a root file system, or an image that is then extracted once more. */
static int unpack_tar_file(struct source *s, int dir, struct err *e)
{
	char what[PATH_MAX];
	struct decompress d;
	struct unpack u;
	int tree, r = begin_unpack(s, dir, &u, what, e);

	if (!r)
		r = decompress_open(&d, s->fd, e);
	if (!r) {
		/* cppcheck-suppress uninitStructMember ; decompress_open has set it */
		r = unpack_tar(&u, d.fd, s->req->root, e);
		r = decompress_close(&d, r, s->req->root, e);
	}
	r = end_unpack(s, &u, r, e);
	if (!r && changed(s))
		r = err_set(e, ESTALE, "%s: it changed while it was read", s->req->root);
	if (r)
		return r;
	tree = openat(dir, TREE, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (tree < 0)
		return err_sys(e, "cannot open what was extracted");
	if (oci_is_layout(tree) || oci_is_docker(tree)) {
		r = renameat(dir, TREE, dir, LAYOUT)
			    ? err_sys(e, "cannot rename a directory")
			    : oci_open(&s->oci, tree, s->req->root, s->req->name, e);
		if (!r)
			r = unpack_oci(s, dir, e);
		tree_remove(dir, LAYOUT);
	} else if (s->req->name) {
		r = err_set(e, EINVAL, "%s is no OCI image, of which '%s' could be chosen",
			    s->req->root, s->req->name);
	}
	close(tree);
	return r;
}

/* A cache_fill. */
static int fill(void *ctx, int dir, const char *path, struct err *e)
{
	char from[PATH_MAX + sizeof("/" TREE)];
	struct source *s = ctx;
	int r = 0;

	/* The directory that was looked at, which is mkfs's standard input, whatever has its name
	 * now. */
	if (s->kind == KIND_DIR)
		snprintf(from, sizeof(from), "/proc/self/fd/0");
	else
		snprintf(from, sizeof(from), "%s/" TREE, path);
	if (s->kind == KIND_OCI)
		r = unpack_oci(s, dir, e);
	else if (s->kind == KIND_TAR)
		r = unpack_tar_file(s, dir, e);
	if (!r)
		r = run_mkfs(s, from, path, e);
	if (s->kind != KIND_DIR)
		tree_remove(dir, TREE);
	if (!r && s->kind == KIND_DIR) {
		char now[SHA256_HEX + 1];
		uint64_t files;
		int64_t newest;

		r = tree_digest(s->fd, s->req->root, now, &files, &newest, e);
		if (!r && strcmp(now, s->digest))
			r = err_set(e, ESTALE, "%s: it changes while it is read", s->req->root);
	}
	return r ? r : write_about(s, dir, e);
}

/* --- keys --- */

static void key_of(const struct source *s, char key[SHA256_HEX + 1])
{
	struct sha256 sum;

	/* Each text with its NUL: none runs into the next. */
	sha256_begin(&sum);
	sha256_add(&sum, KEY_VERSION, sizeof(KEY_VERSION));
	sha256_add(&sum, s->user ? "user" : "root", sizeof("root"));
	sha256_add(&sum, kind_names[s->kind], strlen(kind_names[s->kind]) + 1);
	if (s->kind == KIND_OCI) {
		sha256_add(&sum, s->oci.config_digest, sizeof(s->oci.config_digest));
		for (size_t i = 0; i < s->oci.layers; i++)
			sha256_add(&sum, s->oci.layer[i].digest, sizeof(s->oci.layer[i].digest));
	} else {
		sha256_add(&sum, s->digest, sizeof(s->digest));
	}
	if (s->kind == KIND_TAR && s->req->name) /* there may be several images in it */
		sha256_add(&sum, s->req->name, strlen(s->req->name) + 1);
	sha256_end(&sum, key);
}

static int digest_dir(struct source *s, struct err *e)
{
	int64_t newest = 0;
	int r = tree_digest(s->fd, s->req->root, s->digest, &s->files, &newest, e);

	if (!r)
		stamp_settle(newest); /* before it is read */
	return r;
}

static int digest_tar(struct source *s, const struct cache *c, struct err *e)
{
	struct stat st;
	uint64_t size;
	int r;

	if (fstat(s->fd, &st))
		return err_sys(e, "%s", s->req->root);
	s->stamp = stamp_of(&st);
	if (cache_recall(c->files, TAR_SUM, &s->stamp, s->digest, SHA256_HEX))
		return 0;
	stamp_settle((int64_t)(s->stamp.ctime_s * 1000000000 + s->stamp.ctime_ns));
	meter_set(s->req->meter, "reading %s", s->req->root);
	r = sha256_file(s->fd, s->digest, &size);
	if (r)
		return err_set(e, -r, "%s: %s", s->req->root, strerror(-r));
	if (changed(s))
		return err_set(e, ESTALE, "%s: it changed while it was read", s->req->root);
	cache_remember(c->files, TAR_SUM, &s->stamp, s->digest);
	return 0;
}

/* --- the whole --- */

/* What the image is without, in a line. */
static void say_what_is_lost(const struct source *s)
{
	const char *root = s->req->root;

	if (s->user && (s->kind == KIND_DIR || s->owners || s->devices))
		log_warn("%s: made by an ordinary user: all files in the image belong to root%s",
			 root, s->devices ? ", and it has no devices" : "");
	else if (s->devices)
		log_warn("%s: %" PRIu64 " devices could not be made", root, s->devices);
	if (s->xattrs)
		log_warn("%s: %" PRIu64 " extended attributes could not be kept", root, s->xattrs);
}

static int take_entry(const struct cache *c, int entry, struct image *img, struct err *e)
{
	int fd = openat(entry, CACHE_IMAGE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), r;

	img->use = entry;
	img->cached = true;
	if (snprintf(img->path, sizeof(img->path), "%s/%s/" CACHE_IMAGE, c->path, img->key) >=
	    (int)sizeof(img->path))
		r = err_set(e, ENAMETOOLONG, "the cache's path is too long");
	else
		r = image_about(entry, &img->config.doc, e);
	if (!r)
		r = load_config(&img->config, json_get(img->config.doc.root, "config"), e);
	img->fstype = fd < 0 ? NULL : fstype_of(fd);
	if (fd >= 0)
		close(fd);
	if (!r && !img->fstype)
		r = err_set(e, EINVAL, "%s is damaged; remove it with 'uvm image rm %.12s'",
			    img->path, img->key);
	return r;
}

static int find_or_make(struct source *s, struct image *img, struct err *e)
{
	struct cache c;
	int r = cache_open(&c, true, e);

	if (r)
		return r;
	r = -ESTALE;
	for (unsigned int i = 0; i < ATTEMPTS && r == -ESTALE; i++) {
		r = s->kind == KIND_DIR	  ? digest_dir(s, e)
		    : s->kind == KIND_TAR ? digest_tar(s, &c, e)
		    : s->oci.layer	  ? 0
					  : oci_open(&s->oci, s->fd, s->req->root, s->req->name, e);
		if (!r) {
			key_of(s, img->key);
			r = cache_get_or_make(&c, img->key, fill, s, &img->made, e);
		}
		if (s->kind == KIND_TAR)
			oci_close(&s->oci);
	}
	if (r >= 0 && img->made)
		say_what_is_lost(s);
	if (r >= 0)
		r = take_entry(&c, r, img, e);
	cache_close(&c);
	return r;
}

static int look(struct source *s, struct image *img, struct err *e)
{
	const struct image_request *req = s->req;
	const char *fstype;
	struct stat st;

	/* Not waiting for a fifo's other end. */
	s->fd = open(req->root, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (s->fd < 0 || fstat(s->fd, &st))
		return errno == ENOENT ? err_set(e, ENOENT, "%s: %s; a file or directory is meant, not an image's name "
							    "in a registry", req->root, strerror(ENOENT))
				       : err_sys(e, "%s", req->root);
	if (S_ISDIR(st.st_mode)) {
		s->kind = oci_is_layout(s->fd) ? KIND_OCI : KIND_DIR;
	} else if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		return err_set(e, EINVAL, "%s is neither a file nor a directory", req->root);
	} else {
		fstype = fstype_of(s->fd);
		if (fstype && !req->name)
			return use_as_it_is(req, fstype, img, e);
		if (is_squashfs(s->fd))
			return err_set(e, EINVAL,
				       "%s is a squashfs, which guests do not know; use erofs",
				       req->root);
		if (S_ISBLK(st.st_mode))
			return err_set(e, EINVAL, "%s has no ext4 or erofs on it", req->root);
		if (!decompress_is(s->fd) && !tar_is(s->fd))
			return err_set(
				e, EINVAL,
				"%s is no image (ext4, erofs), no tar (plain, gzip, zstd, xz, "
				"bzip2), and no directory",
				req->root);
		s->kind = KIND_TAR;
	}
	if (req->name && s->kind == KIND_DIR)
		return err_set(e, EINVAL, "%s is no OCI image, of which '%s' could be chosen",
			       req->root, req->name);
	return find_or_make(s, img, e);
}

int image_open(const struct image_request *req, struct image *img, struct err *e)
{
	struct source s = {.req = req, .fd = -1, .user = geteuid() != 0};
	int r;

	*img = (struct image){.use = -1};
	img->config.user = img->config.workdir = img->config.stop_signal = "";
	r = look(&s, img, e);
	oci_close(&s.oci);
	if (s.fd >= 0)
		close(s.fd);
	if (r)
		image_close(img);
	return r;
}

void image_close(struct image *img)
{
	free_config(&img->config);
	if (img->use >= 0)
		close(img->use);
	img->use = -1;
}

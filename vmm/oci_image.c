/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/oci_image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/decompress.h"
#include "vmm/file.h"

#define LAYOUT	  "oci-layout"
#define INDEX	  "index.json"
#define DOCKER	  "manifest.json"
#define LAYER_MAX (UINT64_C(256) << 30)
#define DEPTH_MAX 4u /* of indices in indices */

static const char *const index_types[] = {
	"application/vnd.oci.image.index.v1+json",
	"application/vnd.docker.distribution.manifest.list.v2+json", NULL};
static const char *const manifest_types[] = {"application/vnd.oci.image.manifest.v1+json",
					     "application/vnd.docker.distribution.manifest.v2+json",
					     NULL};
static const char *const config_types[] = {"application/vnd.oci.image.config.v1+json",
					   "application/vnd.docker.container.image.v1+json", NULL};
/* How each is compressed, its own first bytes say. */
static const char *const layer_types[] = {
	"application/vnd.oci.image.layer.v1.tar",
	"application/vnd.oci.image.layer.v1.tar+gzip",
	"application/vnd.oci.image.layer.v1.tar+zstd",
	"application/vnd.oci.image.layer.nondistributable.v1.tar",
	"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
	"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
	"application/vnd.docker.image.rootfs.diff.tar",
	"application/vnd.docker.image.rootfs.diff.tar.gzip",
	"application/vnd.docker.image.rootfs.diff.tar.zstd",
	"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
	NULL};

struct descriptor {
	const char *type;
	char digest[SHA256_HEX + 1], path[sizeof("blobs/sha256/") + SHA256_HEX];
	uint64_t size;
	const struct json *json;
};

/* --- files of the layout --- */

/* Opens a regular file beneath the layout. Returns a descriptor or -1 with errno. */
static int open_beneath(int dir, const char *path)
{
	struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
	struct stat st;
	long fd;

	do
		fd = syscall(SYS_openat2, dir, path, &how, sizeof(how));
	while (fd < 0 && (errno == EAGAIN || errno == EINTR));
	if (fd < 0 || (!fstat((int)fd, &st) && S_ISREG(st.st_mode)))
		return (int)fd;
	close((int)fd);
	errno = EINVAL;
	return -1;
}

static int wrong_size(const char *what, const char *path, struct err *e)
{
	return err_set(e, EINVAL, "%s: %s is not of the size that its descriptor says", what, path);
}

static int wrong_digest(const char *what, const char *path, struct err *e)
{
	return err_set(e, EINVAL, "%s: %s has not the digest that it is named by", what, path);
}

/* Reads a JSON file. With a descriptor its size and digest have to be those; without, digest (or
 * NULL) gets what it is.
 */
static int read_json(int dir, const char *what, const char *path, const struct descriptor *is,
		     char *digest, struct json_doc *doc, struct err *e)
{
	char name[512], hex[SHA256_HEX + 1], *text;
	struct sha256 sum;
	size_t len;
	int r;

	snprintf(name, sizeof(name), "%s: %s", what, path);
	r = file_load(open_beneath(dir, path), name, JSON_SIZE_MAX, &text, &len, e);
	if (!r && is && len != is->size)
		r = wrong_size(what, path, e);
	if (!r) {
		sha256_begin(&sum);
		sha256_add(&sum, text, len);
		sha256_end(&sum, hex);
		if (digest)
			memcpy(digest, hex, sizeof(hex));
		if (is && strcmp(hex, is->digest))
			r = wrong_digest(what, path, e);
	}
	if (!r)
		r = json_parse(doc, text, len, name, e);
	free(text);
	return r;
}

/* --- descriptors --- */

static bool one_of(const char *const *list, const char *s)
{
	for (; *list; list++)
		if (!strcmp(*list, s))
			return true;
	return false;
}

/* "sha256:" and 64 digits, as a file's name: nothing else can name a file. */
static int digest_hex(const struct json *v, const char *digest, char hex[SHA256_HEX + 1],
		      struct err *e)
{
	static const char algorithm[] = "sha256:";

	if (strncmp(digest, algorithm, strlen(algorithm)))
		return json_bad(e, v, "has a digest that is not sha256");
	digest += strlen(algorithm);
	if (strlen(digest) != SHA256_HEX || strspn(digest, "0123456789abcdef") != SHA256_HEX)
		return json_bad(e, v, "has a malformed digest");
	memcpy(hex, digest, SHA256_HEX + 1);
	return 0;
}

static int descriptor(const struct json *v, struct descriptor *d, struct err *e)
{
	const char *digest = NULL;
	int r;

	*d = (struct descriptor){.type = "", .json = v};
	r = json_required(v, "digest", e);
	if (!r)
		r = json_required(v, "size", e);
	if (!r)
		r = json_string(v, "mediaType", &d->type, e);
	if (!r)
		r = json_string(v, "digest", &digest, e);
	if (!r)
		r = json_uint(v, "size", LAYER_MAX, &d->size, e);
	if (!r)
		r = digest_hex(v, digest, d->digest, e);
	if (!r)
		snprintf(d->path, sizeof(d->path), "blobs/sha256/%s", d->digest);
	return r;
}

/* --- which image --- */

struct choice {
	struct oci_image *o;
	const char *what, *name;
	struct err *e;
};

/* The names of an image in the index; containerd has the whole one beside the tag. */
static const char *name_of(const struct json *v, bool whole)
{
	const struct json *a = json_member(json_get(v, "annotations"),
					   whole ? "io.containerd.image.name"
						 : "org.opencontainers.image.ref.name");

	return a && a->type == JSON_STRING && strlen(a->text) == a->len ? a->text : NULL;
}

static bool named(const struct json *v, const char *name)
{
	const char *tag = name_of(v, false), *whole = name_of(v, true);

	return (tag && !strcmp(tag, name)) || (whole && !strcmp(whole, name));
}

/* Whether a descriptor's platform, if it has one, is ours. Attestations are of platform "unknown".
 */
static int for_us(const struct json *v, bool *fits, struct err *e)
{
	const char *os = "linux", *arch = "amd64";
	int r = json_string(v, "platform.os", &os, e);

	if (!r)
		r = json_string(v, "platform.architecture", &arch, e);
	*fits = !r && !strcmp(os, "linux") && !strcmp(arch, "amd64");
	return r;
}

/* Adds to a list in a message. */
static void add_name(char *list, size_t room, const char *name)
{
	size_t n = strlen(list);

	snprintf(list + n, room - n, "%s%s", n ? ", " : "", name);
}

static int refuse(const struct choice *c, unsigned int found, const char *names)
{
	if (!*names)
		return err_set(c->e, ENOENT, "%s: there is no image for linux/amd64 in it",
			       c->what);
	if (c->name && !found)
		return err_set(c->e, ENOENT, "%s: there is no image '%s' in it; there are: %s",
			       c->what, c->name, names);
	return err_set(c->e, EINVAL, "%s: there are several images in it, choose one: %s", c->what,
		       names);
}

/* The descriptor that is meant. Of a nested index the first that fits: variants of one image. */
static int choose(const struct choice *c, const struct json *index, bool nested,
		  struct descriptor *to)
{
	const struct json *list = NULL;
	char names[400] = "";
	unsigned int found = 0;
	int r = json_array(index, "manifests", &list, c->e);

	if (r)
		return r;
	json_each(v, list)
	{
		struct descriptor d;
		bool fits;

		r = descriptor(v, &d, c->e);
		if (!r)
			r = for_us(v, &fits, c->e);
		if (r)
			return r;
		if (!fits || (found && !strcmp(d.digest, to->digest)))
			continue;
		add_name(names, sizeof(names), name_of(v, false) ? name_of(v, false) : d.digest);
		if (!nested && c->name && !named(v, c->name))
			continue;
		if (!found++)
			*to = d;
		if (nested)
			break;
	}
	return found == 1 ? 0 : refuse(c, found, names);
}

/* --- the manifest --- */

static int add_layer(struct oci_image *o, const struct json *v, struct err *e)
{
	struct oci_layer *l = &o->layer[o->layers];
	struct descriptor d;
	int r = descriptor(v, &d, e);

	if (r)
		return r;
	if (!one_of(layer_types, d.type))
		return json_bad(e, v, "is a layer of a type that is not supported: '%.100s'",
				d.type);
	snprintf(l->path, sizeof(l->path), "%s", d.path);
	memcpy(l->digest, d.digest, sizeof(l->digest));
	l->size = d.size;
	l->size_known = true;
	o->layers++;
	return 0;
}

static int room_for_layers(struct oci_image *o, const struct json *list, struct err *e)
{
	if (list->count > OCI_LAYERS_MAX)
		return json_bad(e, list, "has more than %u layers", OCI_LAYERS_MAX);
	o->layer = calloc(list->count + 1, sizeof(*o->layer));
	return o->layer ? 0 : err_set(e, ENOMEM, "out of memory");
}

/* The configuration is of a Linux of ours, and of as many layers. */
static int check_config(const struct oci_image *o, struct err *e)
{
	const struct json *root = o->config.root, *ids = NULL, *config = NULL;
	const char *os = "linux", *arch = "amd64";
	int r = json_string(root, "os", &os, e);

	if (!r)
		r = json_string(root, "architecture", &arch, e);
	if (!r)
		r = json_object(root, "config", &config, e);
	if (!r)
		r = json_array(root, "rootfs.diff_ids", &ids, e);
	if (!r && (strcmp(os, "linux") || strcmp(arch, "amd64")))
		r = json_bad(e, root, "is of an image for %.32s/%.32s, not linux/amd64", os, arch);
	if (!r && ids && ids->count != o->layers)
		r = json_bad(e, ids, "is of %zu layers, the image has %zu", ids->count, o->layers);
	return r;
}

static int manifest(const struct choice *c, const struct json *m)
{
	struct oci_image *o = c->o;
	const struct json *list = NULL, *config;
	struct descriptor d;
	int r = json_required(m, "config", c->e);

	if (!r)
		r = json_required(m, "layers", c->e);
	if (!r)
		r = json_object(m, "config", &config, c->e);
	if (!r)
		r = json_array(m, "layers", &list, c->e);
	if (!r)
		r = descriptor(config, &d, c->e);
	if (!r && !one_of(config_types, d.type))
		r = json_bad(c->e, config, "is not an image's: its type is '%.100s'", d.type);
	if (!r)
		r = room_for_layers(o, list, c->e);
	if (r)
		return r;
	json_each(v, list)
	{
		r = add_layer(o, v, c->e);
		if (r)
			return r;
	}
	memcpy(o->config_digest, d.digest, sizeof(d.digest));
	r = read_json(o->dir, c->what, d.path, &d, NULL, &o->config, c->e);
	return r ? r : check_config(o, c->e);
}

static int follow(const struct choice *c, const struct json *index, unsigned int depth)
{
	struct json_doc doc = {0};
	struct descriptor d;
	int r = choose(c, index, depth > 0, &d);

	if (r)
		return r;
	if (depth == DEPTH_MAX)
		return json_bad(c->e, index, "is an index in an index too often");
	if (!one_of(index_types, d.type) && !one_of(manifest_types, d.type))
		return json_bad(c->e, d.json,
				"is neither an image nor an index: its type is '%.100s'", d.type);
	r = read_json(c->o->dir, c->what, d.path, &d, NULL, &doc, c->e);
	if (!r)
		r = one_of(index_types, d.type) ? follow(c, doc.root, depth + 1)
						: manifest(c, doc.root);
	json_free(&doc);
	return r;
}

/* --- docker's own format --- */

/* One element of manifest.json, named by its tags. */
static bool docker_named(const struct json *v, const char *name)
{
	json_each(tag, json_get(v, "RepoTags"))
	{
		const char *colon;

		if (tag->type != JSON_STRING)
			continue;
		colon = strrchr(tag->text, ':');
		if (!strcmp(tag->text, name) || (colon && !strcmp(colon + 1, name)))
			return true;
	}
	return false;
}

static int docker_choose(const struct choice *c, const struct json *all, const struct json **to)
{
	char names[400] = "";
	unsigned int found = 0;

	json_each(v, all)
	{
		const struct json *tags = json_get(v, "RepoTags");

		add_name(names, sizeof(names),
			 tags && tags->type == JSON_ARRAY && tags->first &&
					 tags->first->type == JSON_STRING
				 ? tags->first->text
				 : "(without a name)");
		if (c->name && !docker_named(v, c->name))
			continue;
		if (!found++)
			*to = v;
	}
	return found == 1 ? 0 : refuse(c, found, names);
}

/* The layers are named by paths; what they have to be, the configuration says: the digests of the
 * uncompressed archives.
 */
static int docker_layers(const struct choice *c, const struct json *v)
{
	const struct json *list = NULL, *ids = NULL, *id;
	struct oci_image *o = c->o;
	int r = json_array(v, "Layers", &list, c->e);

	if (!r)
		r = json_array(o->config.root, "rootfs.diff_ids", &ids, c->e);
	if (!r && (!list || !ids || list->count != ids->count))
		r = json_bad(c->e, v, "has other layers than its configuration");
	if (!r)
		r = room_for_layers(o, list, c->e);
	if (r)
		return r;
	id = ids->first;
	json_each(item, list)
	{
		struct oci_layer *l = &o->layer[o->layers++];
		const char *path = "", *digest = "";

		r = json_string(item, "", &path, c->e);
		if (!r)
			r = json_string(id, "", &digest, c->e);
		if (!r && strlen(path) >= sizeof(l->path))
			r = json_bad(c->e, item, "is too long");
		if (!r)
			r = digest_hex(id, digest, l->digest, c->e);
		if (r)
			return r;
		strcpy(l->path, path);
		id = id->next;
	}
	return check_config(o, c->e);
}

static int docker_open(const struct choice *c)
{
	struct json_doc doc = {0};
	const struct json *v = NULL;
	const char *config = NULL;
	int r = read_json(c->o->dir, c->what, DOCKER, NULL, NULL, &doc, c->e);

	if (!r)
		r = docker_choose(c, doc.root, &v);
	if (!r)
		r = json_required(v, "Config", c->e);
	if (!r)
		r = json_string(v, "Config", &config, c->e);
	if (!r)
		r = read_json(c->o->dir, c->what, config, NULL, c->o->config_digest, &c->o->config,
			      c->e);
	if (!r)
		r = docker_layers(c, v);
	json_free(&doc);
	return r;
}

/* --- the whole --- */

static bool has_file(int dir, const char *name)
{
	struct stat st;

	return !fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode);
}

bool oci_is_layout(int dir)
{
	return has_file(dir, LAYOUT) && has_file(dir, INDEX);
}

bool oci_is_docker(int dir)
{
	struct json_doc doc = {0};
	struct err ignored;
	bool is;

	if (!has_file(dir, DOCKER) || read_json(dir, "", DOCKER, NULL, NULL, &doc, &ignored))
		return false;
	is = doc.root->type == JSON_ARRAY && doc.root->first &&
	     json_get(doc.root->first, "Config") && json_get(doc.root->first, "Layers");
	json_free(&doc);
	return is;
}

static int layout_open(const struct choice *c)
{
	struct json_doc doc = {0};
	const char *version = "";
	int r = read_json(c->o->dir, c->what, LAYOUT, NULL, NULL, &doc, c->e);

	if (!r)
		r = json_string(doc.root, "imageLayoutVersion", &version, c->e);
	if (!r && strncmp(version, "1.", 2))
		r = json_bad(c->e, doc.root, "is of a version that is not supported: '%.32s'",
			     version);
	json_free(&doc);
	if (!r)
		r = read_json(c->o->dir, c->what, INDEX, NULL, NULL, &doc, c->e);
	if (!r)
		r = follow(c, doc.root, 0);
	json_free(&doc);
	return r;
}

int oci_open(struct oci_image *o, int dir, const char *what, const char *name, struct err *e)
{
	const struct choice c = {.o = o, .what = what, .name = name, .e = e};
	int r;

	*o = (struct oci_image){.dir = dir};
	r = oci_is_layout(dir) ? layout_open(&c) : docker_open(&c);
	if (r)
		oci_close(o);
	return r;
}

void oci_close(struct oci_image *o)
{
	json_free(&o->config);
	free(o->layer);
	o->layer = NULL;
	o->layers = 0;
}

/* Compares the digest of a layer, then extracts it from the same open file. Whoever writes to the
 * layout meanwhile is whoever chose it.
 */
static int unpack_layer(const struct oci_image *o, const struct oci_layer *l, struct unpack *u,
			struct err *e)
{
	int fd = open_beneath(o->dir, l->path), r;
	char digest[SHA256_HEX + 1];
	struct decompress d;
	struct err why;
	uint64_t size;

	if (fd < 0)
		return err_sys(e, "layer %s", l->path);
	r = sha256_file(fd, digest, &size);
	if (r)
		err_set(e, -r, "layer %s: %s", l->path, strerror(-r));
	else if (l->size_known && size != l->size)
		r = wrong_size("layer", l->path, e);
	else if (strcmp(digest, l->digest))
		r = wrong_digest("layer", l->path, e);
	if (!r) {
		r = decompress_open(&d, fd, &why);
		if (r)
			err_set(e, -r, "layer %s: %s", l->path, why.text);
	}
	if (!r) {
		/* cppcheck-suppress uninitStructMember ; decompress_open has set it */
		r = unpack_tar(u, d.fd, l->path, e);
		r = decompress_close(&d, r, l->path, e);
	}
	close(fd);
	return r;
}

int oci_unpack(const struct oci_image *o, struct unpack *u, struct err *e)
{
	int r = 0;

	u->layer = true;
	for (size_t i = 0; i < o->layers && !r; i++)
		r = unpack_layer(o, &o->layer[i], u, e);
	return r;
}

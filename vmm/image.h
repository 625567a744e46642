/* SPDX-License-Identifier: Apache-2.0
 *
 * image: what a root file system argument is, and the image that a VM gets for it.
 *
 *   an image of ext4 or erofs      is taken as it is
 *   a directory                    becomes an erofs image
 *   a tar, compressed or not       becomes one; if an OCI image layout is in it, or what "docker
 * save" writes, the image in that does an OCI image layout            becomes one: its layers over
 * each other
 *
 * What is made is kept in the cache (vmm/cache.h) under a key: of a directory the digest of
 * everything that a change in it would change (vmm/tree.h), of a tar its SHA-256, of a layout the
 * digests of the image's configuration and layers. So neither a file of a directory nor a layer is
 * read again, and a tar only if its stamp is new.
 *
 * Owners are those of the tree or archive. An ordinary user can neither extract nor keep them: all
 * files then belong to root. That and what else could not be kept is said on standard error.
 */
#ifndef UVM_VMM_IMAGE_H
#define UVM_VMM_IMAGE_H

#include <limits.h>
#include <stdbool.h>

#include "vmm/err.h"
#include "vmm/json.h"
#include "vmm/meter.h"
#include "vmm/sha256.h"

struct image_request {
	const char *root;    /* the argument */
	const char *name;    /* which image of a layout; NULL: the only one */
	struct meter *meter; /* shows how far making it is; or NULL */
};

/* What a container engine would run. Strings are in doc; vectors end in NULL, and are NULL if
 * absent. */
struct image_config {
	struct json_doc doc;
	const char **entrypoint, **cmd, **env, **volumes;
	const char *user, *workdir, *stop_signal; /* "" if absent */
};

struct image {
	char path[PATH_MAX];	  /* absolute */
	const char *fstype;	  /* "ext4" or "erofs" */
	bool cached;		  /* it is in the cache, and read-only by its kind */
	bool made;		  /* by this call */
	char key[SHA256_HEX + 1]; /* if cached */
	int use; /* a descriptor: as long as it is open, here or in a child, the cache keeps it. Or
		    -1 */
	struct image_config config;
};

/* Finds or makes it. Returns 0, with the caller's image to close, or -errno. */
int image_open(const struct image_request *req, struct image *img, struct err *e);

/* Also of a zeroed one whose use is -1. */
void image_close(struct image *img);

/* Reads an entry's CACHE_ABOUT. */
int image_about(int dir, struct json_doc *doc, struct err *e);

#endif

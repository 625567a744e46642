/* SPDX-License-Identifier: Apache-2.0
 *
 * cache: file system images that were made from something else, each under a key that says from
 * what.
 *
 * $UVM_CACHE, else $XDG_CACHE_HOME/uvm, else $HOME/.cache/uvm, else /var/cache/uvm; in it
 *   images/KEY/image       the image
 *   images/KEY/image.json  what it is (vmm/image.h); its time is when it was last used
 *   images/.uvm-KEY/       one that is being made, see vmm/claim.h
 *   templates/             see vmm/template.h
 *   scratch/SIZE.ext4      see vmm/scratch.h
 *   files/KIND-STAMP       a link whose target is the sum of a file that had this stamp; nothing
 *                          follows it
 * The directory must be the user's own and writable by nobody else: what is in it is trusted.
 *
 * An entry is complete from its rename on, and never changes. Who uses it has a shared lock on its
 * directory: nobody removes it meanwhile.
 */
#ifndef UVM_VMM_CACHE_H
#define UVM_VMM_CACHE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/err.h"
#include "vmm/sha256.h"
#include "vmm/stamp.h"

#define CACHE_IMAGE "image"
#define CACHE_ABOUT "image.json"
#define CACHE_FILES "files"

struct cache {
	int images, files;	   /* descriptors */
	char path[PATH_MAX - 512]; /* of images, so that an entry's has room */
};

/* Opens the cache, and with `make` makes it. Returns 0, -ENOENT if it is not there, or another
 * -errno. */
int cache_open(struct cache *c, bool make, struct err *e);
void cache_close(struct cache *c);

/* Opens, and makes, the directory `name` of the cache, for what has an order of its own in there
 * (templates, scratch). path gets where it is. Returns a descriptor or -errno.
 */
int cache_open_dir(const char *name, char path[PATH_MAX], struct err *e);

/* Opens the entry of a key, locked shared. Returns its directory's descriptor, or -ENOENT. */
int cache_get(const struct cache *c, const char *key, struct err *e);

/* Fills the directory `dir` (whose path is also given) with CACHE_IMAGE and CACHE_ABOUT. */
typedef int cache_fill(void *ctx, int dir, const char *path, struct err *e);

/* As cache_get; without an entry, makes one, or waits for another process that does. *made says
 * whether it was made by us.
 */
int cache_get_or_make(const struct cache *c, const char *key, cache_fill *fill, void *ctx,
		      bool *made, struct err *e);

/* The sum of a file's content that is remembered for its stamp, if one is: len hexadecimal digits, and a
 * NUL. kind: how it was made, a short word. files: the directory CACHE_FILES.
 */
bool cache_recall(int files, const char *kind, const struct stamp *stamp, char *sum, size_t len);
void cache_remember(int files, const char *kind, const struct stamp *stamp, const char *sum);

struct cache_entry {
	char key[SHA256_HEX + 1];
	uint64_t bytes; /* that it takes */
	int64_t used;	/* seconds since 1970 */
	int dir;	/* during a visit */
};

/* Calls visit with each entry, in the order of keys, until it returns something else than 0, and
 * returns that.
 */
int cache_each(const struct cache *c, int (*visit)(void *ctx, const struct cache_entry *entry),
	       void *ctx, struct err *e);

/* Removes an entry. -EBUSY: it is in use. */
int cache_remove(const struct cache *c, const char *key, struct err *e);

/* Removes what dead processes have left, and remembered sums that nobody asked for since
 * `before` (seconds since 1970).
 */
void cache_sweep(const struct cache *c, int64_t before);

#endif

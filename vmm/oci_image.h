/* SPDX-License-Identifier: Apache-2.0
 *
 * oci_image: an image in an OCI image layout (image-spec 1.1: image-layout.md, image-index.md,
 * manifest.md, config.md, layer.md), or in what "docker save" and "podman save" write.
 *
 * All of it is hostile. Files are opened beneath the layout's directory; what a descriptor says of
 * size and SHA-256 is compared before anything in the file counts. An index may name several
 * images: the one for linux/amd64 is meant, or the one of the given name. Opening reads the small
 * JSON files and no layer: digests of configuration and layers say what the image is.
 */
#ifndef UVM_VMM_OCI_IMAGE_H
#define UVM_VMM_OCI_IMAGE_H

#include <stdbool.h>

#include "vmm/json.h"
#include "vmm/sha256.h"
#include "vmm/unpack.h"

#define OCI_LAYERS_MAX 512u

struct oci_layer {
	char path[256]; /* in the layout */
	char digest[SHA256_HEX + 1];
	uint64_t size;
	bool size_known;
};

struct oci_image {
	int dir; /* the layout's; the caller's */
	char config_digest[SHA256_HEX + 1];
	struct json_doc config;	 /* the whole configuration */
	struct oci_layer *layer; /* the lowest first */
	size_t layers;
};

/* Whether a directory is a layout, or holds what "docker save" writes. */
bool oci_is_layout(int dir);
bool oci_is_docker(int dir);

/* Finds the image of that name (NULL: the only one) in the layout in dir. `what` is how messages
 * call the layout. Returns 0 or -errno, -ENOENT with the names there are if there is none of that
 * name.
 */
int oci_open(struct oci_image *o, int dir, const char *what, const char *name, struct err *e);
void oci_close(struct oci_image *o);

/* Extracts the layers, each after its digest was compared. u is ready, and gets u->layer. */
int oci_unpack(const struct oci_image *o, struct unpack *u, struct err *e);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * virtio_fs: the file system device (virtio 1.2, 5.11): FUSE requests of the guest's kernel, for a
 * back end that answers them and knows nothing of virtio.
 *
 * Two queues, both served on the loop that the device is attached to, a worker thread of the
 * share's own: the one for what must not wait (FORGET), and one for requests. Requests are answered
 * in the order of the queue.
 */
#ifndef UVM_DEVICES_VIRTIO_FS_H
#define UVM_DEVICES_VIRTIO_FS_H

#include "devices/virtio_mmio.h"

#define VIRTIO_FS_TAG 36u /* bytes; shorter ones are padded with zeros (5.11.4) */

/* One request. What `in` points to is the guest's and may change at any time. */
struct fs_request {
	const struct iovec *in, *out; /* the request; room for the answer */
	unsigned int ins, outs;	      /* at most VIRTQUEUE_MAX together */
	uint64_t in_len, out_len;     /* bytes of each */
};

/* Who answers. One thread at a time calls; calls may block. */
struct fs_backend {
	/* Does the request. Returns how many bytes of the answer it has written, 0 for a request that
	 * has none, or -EINVAL if it is none.
	 */
	int64_t (*serve)(struct fs_backend *b, const struct fs_request *rq);
	/* The driver is gone, and all that it had open with it. */
	void (*reset)(struct fs_backend *b);
};

struct virtio_fs_config { /* 5.11.4 */
	char tag[VIRTIO_FS_TAG];
	uint32_t num_request_queues;
};

struct virtio_fs {
	struct virtio_dev dev;
	struct virtio_fs_config config;
	struct fs_backend *backend;
	struct vq_chain chain;
};

/* Whether it can be a tag: 1 to VIRTIO_FS_TAG printable characters, no blanks. */
bool virtio_fs_tag_valid(const char *tag, size_t len);

/* Attaches the device to loop. backend and irq stay the caller's; backend NULL is a placeholder, which
 * answers every request with ENODEV until it is given one (set b->backend while the loop stands
 * still). tag NULL: it comes with the state that is loaded. Returns 0 or -errno.
 */
int virtio_fs_init(struct virtio_fs *f, const struct mem *m, struct fs_backend *backend,
		   const char *tag, struct irq irq, struct loop *loop, struct err *e);

/* Saves or loads the device, as virtio_state and under its conditions. What the back end has open is
 * not in it. instance: its slot.
 */
extern const struct state_table virtio_fs_table;
int virtio_fs_state(struct virtio_fs *f, uint32_t instance, struct state_visitor *v, struct err *e);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * vsock_unix: the host's end of a guest's vsock streams, as UNIX stream sockets.
 *
 * The convention is Firecracker's, so that its clients work: a program on the host connects to
 * PATH, writes "CONNECT <guest port>\n", reads "OK <host port>\n", and has a stream; a guest's
 * connection to host port P goes to the socket PATH_P, if a program listens there.
 */
#ifndef UVM_DEVICES_VSOCK_UNIX_H
#define UVM_DEVICES_VSOCK_UNIX_H

#include "devices/virtio_vsock.h"

struct vsock_unix {
	struct vsock_host host;
	struct virtio_vsock *dev;
	struct loop *loop;
	struct loop_source listener;
	int dir;	  /* O_PATH descriptor of the directory that the sockets are in */
	const char *name; /* of PATH in it */
	unsigned int streams;
};

/* Listens on the socket `name` in the directory dir (both stay the caller's and outlive u), and
 * serves it on loop. dev is initialised by the caller afterwards, with &u->host, and before the
 * loop runs. Returns 0 or -errno.
 */
int vsock_unix_init(struct vsock_unix *u, int dir, const char *name, struct virtio_vsock *dev,
		    struct loop *loop, struct err *e);
void vsock_unix_close(struct vsock_unix *u);

#endif

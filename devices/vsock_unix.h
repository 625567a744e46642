/* SPDX-License-Identifier: Apache-2.0
 *
 * vsock_unix: the host's end of a guest's vsock streams, as UNIX stream sockets.
 *
 * The convention is Firecracker's, so that its clients work: a program on the host connects to
 * PATH, writes "CONNECT <guest port>\n", reads "OK <host port>\n", and has a stream; a guest's
 * connection to host port P goes to the socket PATH_P, if a program listens there. Ports that the
 * monitor serves itself have no such socket.
 */
#ifndef UVM_DEVICES_VSOCK_UNIX_H
#define UVM_DEVICES_VSOCK_UNIX_H

#include "devices/virtio_vsock.h"

/* A host port inside the monitor. */
struct vsock_service {
	uint32_t port;
	/* The guest connects. Returns one end of a non-blocking, close-on-exec stream, which
	 * becomes the back end's, or -errno, which the guest sees as a refused connection.
	 */
	int (*connect)(void *ctx);
	void *ctx;
	struct vsock_service *next; /* vsock_unix_serve's */
};

struct vsock_unix {
	struct vsock_host host;
	struct virtio_vsock *dev;
	struct loop *loop;
	struct loop_source listener;
	int dir;	  /* O_PATH descriptor of the directory that the sockets are in */
	const char *name; /* of PATH in it */
	unsigned int streams;
	struct vsock_service *services;
};

/* For sockets in the directory dir whose names begin with `name` (both stay the caller's and outlive
 * u), served on loop. dev is initialised by the caller afterwards, with &u->host, and before the loop
 * runs.
 */
void vsock_unix_init(struct vsock_unix *u, int dir, const char *name, struct virtio_vsock *dev,
		     struct loop *loop);

/* Listens on the socket `name`, for programs on the host that connect to the guest. What the guest
 * connects to does not need it. On the loop's thread. Returns 0 or -errno.
 */
int vsock_unix_listen(struct vsock_unix *u, struct err *e);

/* Has s, which the caller keeps, serve its port in place of a socket. Before the loop runs. */
void vsock_unix_serve(struct vsock_unix *u, struct vsock_service *s);

void vsock_unix_close(struct vsock_unix *u);

#endif

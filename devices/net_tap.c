/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/net_tap.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/if_tun.h>

#define FLAGS	    (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
#define BUFFER_SIZE (NET_HEADER + NET_FRAME_MAX + 1) /* a frame that is too long is seen */

static struct net_tap *tap_of(struct net_backend *b)
{
	return CONTAINER_OF(b, struct net_tap, backend);
}

static int tap_receive(struct net_backend *b, struct net_frame *f)
{
	struct net_tap *t = tap_of(b);
	ssize_t n = read(b->fd, t->buffer, BUFFER_SIZE);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? -EAGAIN : -ENOTCONN;
	if (n < (ssize_t)(NET_HEADER + NET_FRAME_MIN) || n == BUFFER_SIZE)
		return -EBADMSG;
	memcpy(&f->header, t->buffer, NET_HEADER);
	f->data = t->buffer + NET_HEADER;
	f->len = (size_t)n - NET_HEADER;
	return 0;
}

/* The kernel takes a frame as a whole or not at all. What it does not like, and all when the
 * device is down, is dropped.
 */
static int tap_send(struct net_backend *b, const struct net_header *h, struct iovec *iov,
		    unsigned int n, size_t len)
{
	(void)len;
	iov[0] = (struct iovec){(void *)(uintptr_t)h, NET_HEADER};
	if (writev(b->fd, iov, (int)n + 1) >= 0)
		return 0;
	return errno == EAGAIN ? -EAGAIN : -EIO;
}

static void tap_offload(struct net_backend *b, uint64_t features)
{
	unsigned long flags = 0;

	if (features & NET_F_GUEST_CSUM) {
		flags |= TUN_F_CSUM;
		flags |= features & NET_F_GUEST_TSO4 ? TUN_F_TSO4 : 0u;
		flags |= features & NET_F_GUEST_TSO6 ? TUN_F_TSO6 : 0u;
	}
	/* If it fails, frames come that the driver cannot take, and the device drops them. */
	ioctl(b->fd, TUNSETOFFLOAD, flags);
}

/* What is left to do with a descriptor that is attached. */
static int begin(struct net_tap *t, int fd, const char *name, struct err *e)
{
	int size = NET_HEADER, flags = fcntl(fd, F_GETFL);

	if (ioctl(fd, TUNSETVNETHDRSZ, &size))
		return err_sys(e, "network '%s': cannot be used as a tap device", name);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) || fcntl(fd, F_SETFD, FD_CLOEXEC))
		return err_sys(e, "network '%s': cannot be used as a tap device", name);
	t->buffer = malloc(BUFFER_SIZE);
	if (!t->buffer)
		return err_set(e, ENOMEM, "network '%s': out of memory", name);
	t->backend = (struct net_backend){.receive = tap_receive,
					  .send = tap_send,
					  .offload = tap_offload,
					  .offloads = true,
					  .fd = fd};
	return 0;
}

static int attach(int fd, const char *name)
{
	struct ifreq ifr = {.ifr_flags = FLAGS};

	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	if (!ioctl(fd, TUNSETIFF, &ifr))
		return 0;
	if (errno != EINVAL)
		return -1;
	/* It was made for several queues; one of them is as good. */
	ifr.ifr_flags = (short)(FLAGS | IFF_MULTI_QUEUE);
	return ioctl(fd, TUNSETIFF, &ifr);
}

/* errno as it stands says why. */
static int cannot_attach(const char *name, struct err *e)
{
	int r = err_sys(e, "cannot attach to the tap device '%s'", name);

	if (r == -EBUSY)
		err_append(e, "; another process has it");
	else if (r == -EINVAL)
		err_append(e, "; it is not one ('ip tuntap add NAME mode tap' makes one)");
	else if (r == -EPERM)
		err_append(e, "; it is another user's ('ip tuntap add NAME mode tap user USER' makes one for USER)");
	return r;
}

int net_tap_open(struct net_tap *t, const char *name, struct err *e)
{
	int fd, r = 0;

	if (strlen(name) >= IFNAMSIZ || !if_nametoindex(name))
		return err_set(e, ENODEV, "there is no network device '%s'; 'ip tuntap add NAME mode tap' makes one",
			       name);
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT || errno == ENODEV
			       ? err_set(e, errno, "cannot open /dev/net/tun: %s; is the module 'tun' loaded?",
					 strerror(errno))
			       : err_sys(e, "cannot open /dev/net/tun");
	if (attach(fd, name))
		r = cannot_attach(name, e);
	if (!r)
		r = begin(t, fd, name, e);
	if (r)
		close(fd);
	return r;
}

int net_tap_adopt(struct net_tap *t, int fd, struct err *e)
{
	struct ifreq ifr = {0};

	if (ioctl(fd, TUNGETIFF, &ifr))
		return err_set(e, EINVAL,
			       "descriptor %d is no tap device's: it has to be /dev/net/tun, after TUNSETIFF", fd);
	if ((ifr.ifr_flags & FLAGS) != FLAGS)
		return err_set(e, EINVAL,
			       "descriptor %d: '%.*s' is not attached with IFF_TAP, IFF_NO_PI and "
			       "IFF_VNET_HDR",
			       fd, IFNAMSIZ, ifr.ifr_name);
	return begin(t, fd, ifr.ifr_name, e);
}

void net_tap_close(struct net_tap *t)
{
	close(t->backend.fd);
	free(t->buffer);
}

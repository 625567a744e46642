/* SPDX-License-Identifier: Apache-2.0
 *
 * vsock_guest: a guest's end of the socket device, packet by packet, for the tests of the device
 * and of its back end. There is one in a test program.
 */
#ifndef UVM_TESTS_VSOCK_GUEST_H
#define UVM_TESTS_VSOCK_GUEST_H

#include "devices/virtio_vsock.h"
#include "tests/unit/driver.h"

#define CID	    3u
#define RX_BUFFERS  64u
#define RX_SIZE	    2048u
#define TX_SIZE	    (VSOCK_BUFFER + 4096u)
#define GUEST_ALLOC (256u << 10) /* the guest's buffer for each connection, as it says */

enum { RX, TX, EVENT, QUEUES };
enum op { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };

struct packet { /* virtio 1.2, 5.10.6 */
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port;
	uint32_t len;
	uint16_t type, op;
	uint32_t flags;
	uint32_t buf_alloc, fwd_cnt;
} __attribute__((packed));

extern struct driver d;
extern struct virtio_vsock vsock; /* initialised by the test between the next two */
extern uint64_t rx_at, tx_at;	  /* where packets lie in guest memory */

void vsock_guest_init(void);

/* Starts the driver, with RX_BUFFERS receive buffers. Again after a reset. */
void vsock_guest_start(void);

/* Resets the device, which must forget everything, and frees all. */
void vsock_guest_free(void);

/* Adds n receive buffers, without a notification. */
void post_rx(unsigned int n);

/* A packet from the guest, with no data. */
struct packet packet(enum op op, uint32_t guest_port, uint32_t host_port);

/* Puts a packet and its data into the transmit queue, as one buffer; and has it served. */
void queue_packet(const struct packet *p, const void *data);
void send_packet(const struct packet *p, const void *data);

void send_op(enum op op, uint32_t guest_port, uint32_t host_port);
void send_shutdown(uint32_t guest_port, uint32_t host_port, uint32_t flags);
void send_data(uint32_t guest_port, uint32_t host_port, const void *data, uint32_t len);

/* The next packet for the guest; *data, if wanted, stays valid until the next call. receive gives
 * the buffer back to the device.
 */
bool receive_only(struct packet *p, const uint8_t **data);
bool receive(struct packet *p, const uint8_t **data);

/* The next packet must be this one, without data; or none must be there. */
void expect(enum op op, uint32_t guest_port, uint32_t host_port);
void expect_shutdown(uint32_t guest_port, uint32_t host_port, uint32_t flags);
void expect_nothing(void);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * irq: an interrupt line as a device sees it.
 *
 * An eventfd: the machine hands it to KVM (KVM_IRQFD), a test reads it. So a device raises an
 * interrupt from any thread with one system call and knows nothing of KVM. Lines are edge
 * triggered; there is nothing to lower.
 */
#ifndef UVM_VMM_IRQ_H
#define UVM_VMM_IRQ_H

#include <stdint.h>
#include <unistd.h>

struct irq {
	int fd; /* eventfd, owned by whoever made it */
};

static inline void irq_raise(const struct irq *irq)
{
	uint64_t one = 1;

	/* Fails only when the counter is full, and then an interrupt is pending anyway. */
	if (write(irq->fd, &one, sizeof(one)) < 0)
		return;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/vmgenid.h"

#include <errno.h>
#include <sys/random.h>

int vmgenid_renew(const struct vmgenid *v, struct err *e)
{
	uint8_t id[16];

	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		return err_sys(e, "no random numbers");
	if (mem_write(v->mem, v->at, id, sizeof(id)))
		return err_set(e, EFAULT, "no guest memory where the generation id belongs");
	return 0;
}

void vmgenid_notify(const struct vmgenid *v)
{
	irq_raise(&v->irq);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * image: the agent's initramfs, a cpio archive that the build puts into the program.
 */
#ifndef UVM_GUEST_IMAGE_H
#define UVM_GUEST_IMAGE_H

#include <stddef.h>
#include <stdint.h>

extern const uint8_t guest_image[], guest_image_end[];
extern const uint64_t guest_image_sum; /* of its bytes, to tell it from others */

static inline size_t guest_image_size(void)
{
	/* cppcheck-suppress comparePointers ; the two ends of one image */
	return (size_t)(guest_image_end - guest_image);
}

#endif

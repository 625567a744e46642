/* SPDX-License-Identifier: Apache-2.0
 *
 * image: the agent's initramfs, a cpio archive that the build puts into the program.
 */
#ifndef UVM_GUEST_IMAGE_H
#define UVM_GUEST_IMAGE_H

#include <stdint.h>

extern const uint8_t guest_image[], guest_image_end[];
extern const uint64_t guest_image_sum; /* of its bytes, to tell it from others */

#endif

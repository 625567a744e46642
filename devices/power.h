/* SPDX-License-Identifier: Apache-2.0
 *
 * power: the ports through which a guest ends: ACPI's sleep control and reset registers (ACPI
 * 6.4, 4.8.3.7 and 4.8.3.6), the panic port that Linux's pvpanic driver writes to
 * (Documentation: QEMU's pvpanic specification), and the reset command of an 8042 keyboard
 * controller, which kernels without ACPI use.
 */
#ifndef UVM_DEVICES_POWER_H
#define UVM_DEVICES_POWER_H

#include "vmm/bus.h"
#include "vmm/end.h"

/* Offsets from LAYOUT_POWER. */
#define POWER_SLEEP_CONTROL 0
#define POWER_SLEEP_STATUS  1
#define POWER_RESET	    2
#define POWER_PORTS	    3

#define POWER_RESET_VALUE    1
#define POWER_SLEEP_TYPE_OFF 5 /* SLP_TYPx of S5; any number that _S5 names */

/* Each takes a struct end as its device: power at LAYOUT_POWER, POWER_PORTS long; pvpanic at
 * one port; i8042 at ports 0x60 to 0x64.
 */
extern const struct bus_ops power_ops;
extern const struct bus_ops pvpanic_ops;
extern const struct bus_ops i8042_ops;
#define I8042_PORTS 5

#endif

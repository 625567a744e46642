/* SPDX-License-Identifier: Apache-2.0
 *
 * aml: writes the little ACPI machine language that uvm's DSDT needs (ACPI 6.4, chapter 20).
 *
 * A writer appends to a fixed buffer; when that is full it remembers so and writes no more, and
 * the caller checks once at the end. Packages (scopes, devices) nest by aml_open and aml_close.
 */
#ifndef UVM_VMM_AML_H
#define UVM_VMM_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aml {
	uint8_t *buf;
	size_t size, used;
	bool full;
};

/* A package that is open: where its length goes. */
struct aml_mark {
	size_t at;
};

struct aml_mark aml_open_scope(struct aml *a, const char *path); /* "\\_SB_" */
struct aml_mark aml_open_device(struct aml *a, const char name[4]);
struct aml_mark aml_open_method(struct aml *a, const char name[4], uint8_t arguments);
void aml_close(struct aml *a, struct aml_mark mark);

/* Name (name, value): an integer; a string; an EISA id of the form "PNP0501"; a package of up
 * to 63 integers.
 */
void aml_name_int(struct aml *a, const char name[4], uint64_t value);
void aml_name_string(struct aml *a, const char name[4], const char *value);
void aml_name_eisaid(struct aml *a, const char name[4], const char *id);
void aml_name_package(struct aml *a, const char name[4], const uint32_t *values, unsigned int n);

/* Notify (device, value), in a method. */
void aml_notify(struct aml *a, const char device[4], uint8_t value);

/* Name (_CRS, ResourceTemplate () {...}): what a device occupies. Zero size: none of that kind;
 * gsi -1: no interrupt (else edge triggered, active high, exclusive).
 */
struct aml_resources {
	uint16_t port, port_size;
	uint32_t mmio, mmio_size;
	int gsi;
};
void aml_crs(struct aml *a, const struct aml_resources *r);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/aml.h"

#include <string.h>

/* Opcodes: ACPI 6.4, 20.3; resource descriptors: 6.4.2 and 6.4.3. */
enum {
	OP_ZERO = 0x00,
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_EXT = 0x5b,
	OP_NOTIFY = 0x86,
	OP_EXT_DEVICE = 0x82,
	RES_IO = 0x47,
	RES_END = 0x79,
	RES_MEMORY32 = 0x86,
	RES_INTERRUPT = 0x89,
};

/* A package's length is always written in its four-byte form: 28 bits, the number of bytes that
 * follow the first in that byte's top two bits.
 */
#define LENGTH_BYTES 4

static void put(struct aml *a, const void *data, size_t n)
{
	if (a->full || n > a->size - a->used) {
		a->full = true;
		return;
	}
	memcpy(a->buf + a->used, data, n);
	a->used += n;
}

static void put8(struct aml *a, uint8_t v)
{
	put(a, &v, 1);
}

static void put16(struct aml *a, uint16_t v)
{
	put(a, &v, 2);
}

static void put32(struct aml *a, uint32_t v)
{
	put(a, &v, 4);
}

static struct aml_mark open_package(struct aml *a)
{
	struct aml_mark mark = {a->used};

	put32(a, 0);
	return mark;
}

void aml_close(struct aml *a, struct aml_mark mark)
{
	size_t n = a->used - mark.at;
	uint8_t *p = a->buf + mark.at;

	if (a->full)
		return;
	p[0] = (LENGTH_BYTES - 1) << 6 | (n & 0xf);
	p[1] = (uint8_t)(n >> 4);
	p[2] = (uint8_t)(n >> 12);
	p[3] = (uint8_t)(n >> 20);
}

struct aml_mark aml_open_scope(struct aml *a, const char *path)
{
	struct aml_mark mark;

	put8(a, OP_SCOPE);
	mark = open_package(a);
	put(a, path, strlen(path));
	return mark;
}

struct aml_mark aml_open_device(struct aml *a, const char name[4])
{
	struct aml_mark mark;

	put8(a, OP_EXT);
	put8(a, OP_EXT_DEVICE);
	mark = open_package(a);
	put(a, name, 4);
	return mark;
}

struct aml_mark aml_open_method(struct aml *a, const char name[4], uint8_t arguments)
{
	struct aml_mark mark;

	put8(a, OP_METHOD);
	mark = open_package(a);
	put(a, name, 4);
	put8(a, arguments); /* and not serialised */
	return mark;
}

static void put_int(struct aml *a, uint64_t v)
{
	if (v <= 1) {
		put8(a, (uint8_t)v); /* ZeroOp and OneOp are the values themselves */
	} else if (v <= UINT8_MAX) {
		put8(a, OP_BYTE);
		put8(a, (uint8_t)v);
	} else if (v <= UINT32_MAX) {
		put8(a, OP_DWORD);
		put32(a, (uint32_t)v);
	} else {
		put8(a, OP_QWORD);
		put(a, &v, 8);
	}
}

static void put_name(struct aml *a, const char name[4])
{
	put8(a, OP_NAME);
	put(a, name, 4);
}

void aml_name_int(struct aml *a, const char name[4], uint64_t value)
{
	put_name(a, name);
	put_int(a, value);
}

void aml_name_string(struct aml *a, const char name[4], const char *value)
{
	put_name(a, name);
	put8(a, OP_STRING);
	put(a, value, strlen(value) + 1);
}

static uint32_t hex(char c)
{
	return (uint32_t)(c <= '9' ? c - '0' : c - 'A' + 10);
}

void aml_name_eisaid(struct aml *a, const char name[4], const char *id)
{
	uint32_t v = (uint32_t)(id[0] - '@') << 26 | (uint32_t)(id[1] - '@') << 21 |
		     (uint32_t)(id[2] - '@') << 16 | hex(id[3]) << 12 | hex(id[4]) << 8 |
		     hex(id[5]) << 4 | hex(id[6]);

	put_name(a, name);
	put8(a, OP_DWORD);
	put32(a, __builtin_bswap32(v));
}

void aml_name_package(struct aml *a, const char name[4], const uint32_t *values, unsigned int n)
{
	struct aml_mark mark;

	put_name(a, name);
	put8(a, OP_PACKAGE);
	mark = open_package(a);
	put8(a, (uint8_t)n);
	for (unsigned int i = 0; i < n; i++)
		put_int(a, values[i]);
	aml_close(a, mark);
}

void aml_notify(struct aml *a, const char device[4], uint8_t value)
{
	put8(a, OP_NOTIFY);
	put(a, device, 4);
	put_int(a, value);
}

void aml_crs(struct aml *a, const struct aml_resources *r)
{
	struct aml_mark mark;
	size_t length_at, start;

	put_name(a, "_CRS");
	put8(a, OP_BUFFER);
	mark = open_package(a);
	put8(a, OP_BYTE);
	length_at = a->used;
	put8(a, 0);
	start = a->used;
	if (r->port_size) {
		put8(a, RES_IO);
		put8(a, 1); /* decodes 16 bits */
		put16(a, r->port);
		put16(a, r->port);
		put8(a, 1); /* alignment */
		put8(a, (uint8_t)r->port_size);
	}
	if (r->mmio_size) {
		put8(a, RES_MEMORY32);
		put16(a, 9);
		put8(a, 1); /* writable */
		put32(a, r->mmio);
		put32(a, r->mmio_size);
	}
	if (r->gsi >= 0) {
		put8(a, RES_INTERRUPT);
		put16(a, 6);
		put8(a, 1 | 1 << 1); /* consumer, edge; active high, exclusive */
		put8(a, 1);	     /* one line */
		put32(a, (uint32_t)r->gsi);
	}
	put8(a, RES_END);
	put8(a, 0); /* no checksum */
	if (!a->full)
		a->buf[length_at] = (uint8_t)(a->used - start);
	aml_close(a, mark);
}

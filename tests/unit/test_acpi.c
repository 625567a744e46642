/* SPDX-License-Identifier: Apache-2.0
 *
 * The ACPI tables, read as a kernel would: by signature, length, checksum and pointer, and the
 * DSDT's AML term by term.
 */
#include <errno.h>
#include <string.h>

#include "devices/power.h"
#include "tests/unit/util.h"
#include "vmm/acpi.h"
#include "vmm/aml.h"
#include "vmm/layout.h"

static struct mem mem;
static struct err e;

static void setup(void)
{
	ck_ok(mem_init(&mem, 4u << 20, &e));
}

static void teardown(void)
{
	mem_free(&mem);
}

static const uint8_t *at(uint64_t where, uint64_t len)
{
	ck_that(where >= LAYOUT_ACPI && where < LAYOUT_ACPI_END);
	ck_that(len <= LAYOUT_ACPI_END - where);
	return mem_span(&mem, gpa(where), len);
}

static uint64_t get(const uint8_t *p, unsigned int len)
{
	uint64_t v = 0;

	memcpy(&v, p, len);
	return v;
}

static uint8_t sum(const uint8_t *p, size_t len)
{
	uint8_t v = 0;

	while (len--)
		v = (uint8_t)(v + *p++);
	return v;
}

/* The table at a GPA, checked as a whole. */
static const uint8_t *table(uint64_t where, const char *signature, uint64_t *len)
{
	const uint8_t *p = at(where, 36);

	*len = get(p + 4, 4);
	ck_assert_uint_ge(*len, 36);
	p = at(where, *len);
	ck_assert_msg(!memcmp(p, signature, 4), "%.4s is due", signature);
	ck_assert_uint_eq(sum(p, *len), 0);
	ck_assert_uint_eq(where % 16, 0);
	return p;
}

/* RSDP, then the XSDT's entry i. */
static uint64_t xsdt_entry(unsigned int i)
{
	const uint8_t *p = at(LAYOUT_ACPI, 36);
	uint64_t len;

	ck_assert(!memcmp(p, "RSD PTR ", 8));
	ck_assert_uint_eq(sum(p, 20), 0);
	ck_assert_uint_eq(sum(p, 36), 0);
	ck_assert_uint_eq(p[15], 2);	      /* revision */
	ck_assert_uint_eq(get(p + 16, 4), 0); /* no RSDT */
	ck_assert_uint_eq(get(p + 20, 4), 36);
	p = table(get(p + 24, 8), "XSDT", &len);
	ck_assert_uint_eq(len, 36 + 2 * 8);
	return get(p + 36 + 8 * (size_t)i, 8);
}

static const uint8_t *fadt(void)
{
	uint64_t len;
	const uint8_t *p = table(xsdt_entry(0), "FACP", &len);

	ck_assert_uint_eq(len, 276);
	return p;
}

static const uint8_t *dsdt(uint64_t *len)
{
	return table(get(fadt() + 140, 8), "DSDT", len);
}

/* --- FADT and MADT --- */

/* A generic address: one byte wide, of the I/O space. */
static void expect_port(const uint8_t *p, uint64_t port)
{
	ck_assert_uint_eq(p[0], 1);
	ck_assert_uint_eq(p[1], 8);
	ck_assert_uint_eq(p[2], 0);
	ck_assert_uint_eq(p[3], 1);
	ck_assert_uint_eq(get(p + 4, 8), port);
}

START_TEST(fadt_fields)
{
	const uint8_t *p;

	ck_ok(acpi_write(&mem, 1, 1, &e));
	p = fadt();
	ck_assert_uint_eq(p[8], 6); /* revision 6.4 */
	ck_assert_uint_eq(p[131], 4);
	ck_assert_uint_eq(get(p + 36, 4), 0);			 /* no FACS */
	ck_assert_uint_eq(get(p + 40, 4), get(p + 140, 8));	 /* DSDT, twice */
	ck_assert_uint_eq(get(p + 109, 2) & 2, 0);		 /* no 8042 */
	ck_assert_uint_eq(get(p + 109, 2) & 4, 4);		 /* no VGA */
	ck_assert_uint_eq(get(p + 112, 4), 1u << 20 | 1u << 10); /* hardware reduced, reset */
	expect_port(p + 116, LAYOUT_POWER + POWER_RESET);
	ck_assert_uint_eq(p[128], POWER_RESET_VALUE);
	expect_port(p + 244, LAYOUT_POWER + POWER_SLEEP_CONTROL);
	expect_port(p + 256, LAYOUT_POWER + POWER_SLEEP_STATUS);
	ck_assert(all_bytes(p + 46, 109 - 46, 0)); /* no port of hardware that is not there */
}
END_TEST

START_TEST(madt_entries)
{
	static const unsigned int counts[] = {1, 2, 3, 31, 32};

	for (unsigned int i = 0; i < ARRAY_SIZE(counts); i++) {
		const uint8_t *p;
		uint64_t len;

		ck_ok(acpi_write(&mem, counts[i], 1, &e));
		p = table(xsdt_entry(1), "APIC", &len);
		ck_assert_uint_eq(get(p + 36, 4), 0xfee00000);
		ck_assert_uint_eq(get(p + 40, 4), 0); /* no PICs */
		ck_assert_uint_eq(len, 44 + 8 * counts[i] + 12);
		p += 44;
		for (unsigned int cpu = 0; cpu < counts[i]; cpu++, p += 8) {
			ck_assert_uint_eq(p[0], 0);
			ck_assert_uint_eq(p[1], 8);
			ck_assert_uint_eq(p[2], cpu);
			ck_assert_uint_eq(p[3], cpu);
			ck_assert_uint_eq(get(p + 4, 4), 1); /* enabled */
		}
		ck_assert_uint_eq(p[0], 1);
		ck_assert_uint_eq(p[1], 12);
		ck_assert_uint_eq(get(p + 4, 4), 0xfec00000);
		ck_assert_uint_eq(get(p + 8, 4), 0);
	}
}
END_TEST

/* --- AML (ACPI 6.4, 20) --- */

struct found {
	unsigned int devices, virtio, uart, pvpanic, sleep, genid, events, notifies;
	uint64_t uid; /* of the device that is being read */
	bool is_virtio, is_events;
};

struct reader {
	const uint8_t *p, *end;
	struct found *found;
};

static uint8_t take8(struct reader *r)
{
	ck_that(r->p < r->end);
	return *r->p++;
}

static const uint8_t *take(struct reader *r, size_t n)
{
	const uint8_t *p = r->p;

	ck_that((size_t)(r->end - r->p) >= n);
	r->p += n;
	return p;
}

/* PkgLength (20.2.4), as a reader of what it spans; that must lie inside r. */
static struct reader take_package(struct reader *r)
{
	const uint8_t *start = r->p;
	uint8_t lead = take8(r);
	uint64_t len = lead >> 6 ? lead & 0xf : lead & 0x3f;
	struct reader inner;

	for (unsigned int i = 0; i < lead >> 6; i++)
		len |= (uint64_t)take8(r) << (4 + 8 * i);
	ck_that(len >= (size_t)(r->p - start) && len <= (size_t)(r->end - start));
	inner = (struct reader){r->p, start + len, r->found};
	r->p = start + len;
	return inner;
}

static uint64_t take_int(struct reader *r)
{
	uint8_t op = take8(r);

	switch (op) {
	case 0x00:
	case 0x01: return op;
	case 0x0a: return take8(r);
	case 0x0b: return get(take(r, 2), 2);
	case 0x0c: return get(take(r, 4), 4);
	case 0x0e: return get(take(r, 8), 8);
	}
	ck_abort_msg("op 0x%x is no integer", op);
	return 0;
}

/* A resource template (6.4): of virtio devices the place is checked. */
static void read_resources(struct reader *r)
{
	struct reader b = take_package(r);
	const uint8_t *start;
	uint64_t size = take_int(&b);

	start = b.p;
	ck_assert_uint_eq(size, (uint64_t)(b.end - b.p));
	for (;;) {
		uint8_t tag = take8(&b);
		const uint8_t *d;
		size_t len;

		len = tag & 0x80 ? get(take(&b, 2), 2) : tag & 7u;
		d = take(&b, len);
		if (tag == 0x79)
			break;
		if (tag == 0x86) {
			ck_assert_uint_eq(len, 9);
			ck_assert_uint_eq(get(d + 1, 4), LAYOUT_VIRTIO + r->found->uid * 0x1000);
			ck_assert_uint_eq(get(d + 5, 4), 0x1000);
		} else if (tag == 0x89) {
			ck_assert_uint_eq(len, 6);
			ck_assert_uint_eq(d[0] & 0x1e, 0x02); /* edge, active high, exclusive */
			ck_assert_uint_eq(d[1], 1);
			ck_assert_uint_eq(get(d + 2, 4), r->found->is_virtio
								 ? LAYOUT_VIRTIO_GSI + r->found->uid
							 : r->found->is_events ? LAYOUT_EVENT_GSI
									       : LAYOUT_COM1_GSI);
		} else {
			ck_assert_uint_eq(tag, 0x47); /* I/O ports */
			ck_assert_uint_eq(get(d + 1, 2), get(d + 3, 2));
		}
	}
	ck_assert_ptr_eq(b.p, start + size);
}

static void read_name(struct reader *r)
{
	const uint8_t *name = take(r, 4);

	if (*r->p == 0x11) {
		r->p++;
		ck_assert(!memcmp(name, "_CRS", 4));
		read_resources(r);
	} else if (*r->p == 0x12) {
		struct reader b;
		uint8_t n;

		r->p++;
		b = take_package(r);
		n = take8(&b);
		if (!memcmp(name, "ADDR", 4)) { /* the generation id's, low and high half */
			ck_assert_uint_eq(take_int(&b), LAYOUT_VMGENID);
			r->found->genid++;
		} else {
			ck_assert(!memcmp(name, "_S5_", 4));
			ck_assert_uint_eq(take_int(&b), POWER_SLEEP_TYPE_OFF);
			r->found->sleep++;
		}
		while (--n)
			take_int(&b);
		ck_assert_ptr_eq(b.p, b.end);
	} else if (*r->p == 0x0d) {
		const char *text = (const char *)r->p + 1;

		take(r, strnlen(text, (size_t)(r->end - r->p) - 1) + 2);
		if (!memcmp(name, "_CID", 4))
			return;
		ck_assert(!memcmp(name, "_HID", 4));
		r->found->is_events = !strcmp(text, "ACPI0013");
		r->found->events += r->found->is_events;
		r->found->is_virtio = !strcmp(text, "LNRO0005");
		r->found->virtio += r->found->is_virtio;
		r->found->pvpanic += !strcmp(text, "QEMU0001");
	} else {
		uint64_t v = take_int(r);

		if (!memcmp(name, "_UID", 4))
			r->found->uid = v;
		r->found->uart += !memcmp(name, "_HID", 4) && v == 0x0105d041; /* PNP0501 */
	}
}

/* A method that does nothing but notify the generation id's device (20.2.5.3). */
static void read_method(struct reader *r)
{
	struct reader b = take_package(r);

	ck_assert(!memcmp(take(&b, 4), "_EVT", 4));
	ck_assert_uint_eq(take8(&b), 1);
	ck_assert_uint_eq(take8(&b), 0x86);
	ck_assert(!memcmp(take(&b, 4), "VGEN", 4));
	ck_assert_uint_eq(take_int(&b), 0x80);
	ck_assert_ptr_eq(b.p, b.end);
	ck_assert(r->found->is_events);
	r->found->notifies++;
}

static void read_terms(struct reader r)
{
	while (r.p < r.end) {
		uint8_t op = take8(&r);
		struct reader inner;

		if (op == 0x08) {
			read_name(&r);
		} else if (op == 0x14) {
			read_method(&r);
		} else if (op == 0x10) {
			inner = take_package(&r);
			ck_assert(!memcmp(take(&inner, 5), "\\_SB_", 5));
			read_terms(inner);
		} else {
			ck_assert_uint_eq(op, 0x5b);
			ck_assert_uint_eq(take8(&r), 0x82);
			inner = take_package(&r);
			take(&inner, 4);
			r.found->devices++;
			r.found->is_virtio = r.found->is_events = false;
			read_terms(inner);
		}
	}
	ck_assert_ptr_eq(r.p, r.end);
}

START_TEST(dsdt_describes_the_machine)
{
	for (unsigned int virtio = 0; virtio <= LAYOUT_VIRTIO_MAX; virtio++) {
		struct found found = {0};
		const uint8_t *p;
		uint64_t len;

		ck_ok(acpi_write(&mem, 1, virtio, &e));
		p = dsdt(&len);
		read_terms((struct reader){p + 36, p + len, &found});
		ck_assert_uint_eq(found.virtio, virtio);
		ck_assert_uint_eq(found.devices, virtio + 4);
		ck_assert_uint_eq(found.genid, 1);
		ck_assert_uint_eq(found.events, 1);
		ck_assert_uint_eq(found.notifies, 1);
		ck_assert_uint_eq(found.uart, 1);
		ck_assert_uint_eq(found.pvpanic, 1);
		ck_assert_uint_eq(found.sleep, 1);
	}
}
END_TEST

START_TEST(tables_stay_in_their_area)
{
	uint64_t len;

	ck_ok(acpi_write(&mem, 32, LAYOUT_VIRTIO_MAX, &e));
	dsdt(&len);
	ck_assert(all_bytes(mem.region[0].host, LAYOUT_ACPI, 0));
	ck_assert(all_bytes(mem.region[0].host + LAYOUT_ACPI_END, mem.size - LAYOUT_ACPI_END, 0));
	/* Too many of anything is refused, whichever table is the one that does not fit. */
	ck_refused(acpi_write(&mem, 20000, 1, &e), ENOSPC, "do not fit");
	ck_refused(acpi_write(&mem, 1, 100000, &e), ENOSPC, "do not fit");
	ck_refused(acpi_write(&mem, 16370, 0, &e), ENOSPC, "do not fit");
	ck_assert(all_bytes(mem.region[0].host + LAYOUT_ACPI_END, mem.size - LAYOUT_ACPI_END, 0));
}
END_TEST

/* Into buffers of every size: a full one is noticed and nothing is written behind it. */
START_TEST(aml_full_at_every_byte)
{
	uint8_t buf[128];
	size_t whole = 0;

	for (size_t size = 0; size < sizeof(buf); size++) {
		struct aml a = {.buf = buf, .size = size};
		struct aml_mark scope, dev;

		memset(buf, 0xee, sizeof(buf));
		scope = aml_open_scope(&a, "\\_SB_");
		dev = aml_open_device(&a, "DEV0");
		aml_name_int(&a, "_UID", 1ull << 40);
		aml_name_string(&a, "_STR", "text");
		aml_name_package(&a, "_S5_", (const uint32_t[]){5, 0, 1}, 3);
		aml_crs(&a,
			&(struct aml_resources){
				.port = 1, .port_size = 8, .mmio = 1, .mmio_size = 1, .gsi = 3});
		aml_close(&a, dev);
		aml_close(&a, scope);
		ck_that(a.used <= size);
		ck_that(all_bytes(buf + size, sizeof(buf) - size, 0xee));
		if (!a.full)
			whole = a.used;
		ck_that(a.full == (size < whole || !whole));
	}
	ck_assert_uint_gt(whole, 0);
}
END_TEST

START_TEST(aml_integers)
{
	static const struct {
		uint64_t value;
		size_t len; /* with the name's five bytes */
	} sizes[] = {{0, 6},	{1, 6},		  {2, 7},	   {255, 7},
		     {256, 10}, {UINT32_MAX, 10}, {1ull << 32, 14}};

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint8_t buf[16];
		struct aml a = {.buf = buf, .size = sizeof(buf)};
		struct reader r = {.p = buf + 5};

		aml_name_int(&a, "_UID", sizes[i].value);
		ck_assert_uint_eq(a.used, sizes[i].len);
		ck_assert(!memcmp(buf, "\x08_UID", 5));
		r.end = buf + a.used;
		ck_assert_uint_eq(take_int(&r), sizes[i].value);
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		fadt_fields,
		madt_entries,
		dsdt_describes_the_machine,
		tables_stay_in_their_area,
		aml_full_at_every_byte,
		aml_integers,
	};

	return run_tests("acpi", tests, ARRAY_SIZE(tests), setup, teardown);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The virtio transport, with a device of two queues that counts what it is told.
 */
#include <string.h>

#include "devices/virtio_slot.h"
#include "tests/unit/driver.h"
#include "tests/unit/util.h"

#define F_OWN	   (1ull << 3)
#define F_NOT_OURS (1ull << 7)

static struct fake {
	struct virtio_dev dev;
	uint8_t config[6];
	unsigned int served, reset;
	bool fail; /* at the next serve */
} fake;

static struct driver d;
static struct err e;

static void fake_serve(struct virtio_dev *dev)
{
	fake.served++;
	if (fake.fail)
		virtio_fail(dev, "this test wants it");
}

static void fake_reset(struct virtio_dev *dev)
{
	(void)dev;
	fake.reset++;
}

static const struct virtio_ops fake_ops = {
	.id = 42, .name = "fake", .queues = 2, .serve = fake_serve, .reset = fake_reset};

static void setup(void)
{
	driver_init(&d);
	fake = (struct fake){.dev = {.ops = &fake_ops,
				     .mem = &d.guest.mem,
				     .config = fake.config,
				     .config_len = sizeof(fake.config),
				     .offered = F_OWN},
			     .config = {1, 2, 3, 4, 5, 6}};
	ck_ok(virtio_init(&fake.dev, d.irq, &d.loop, &e));
	d.dev = &fake.dev;
}

static void teardown(void)
{
	driver_free(&d);
}

static uint64_t offered(void)
{
	uint64_t v;

	reg_write(&d, REG_DEVICE_FEATURES_SEL, 1);
	v = (uint64_t)reg_read(&d, REG_DEVICE_FEATURES) << 32;
	reg_write(&d, REG_DEVICE_FEATURES_SEL, 0);
	return v | reg_read(&d, REG_DEVICE_FEATURES);
}

static uint32_t status(void)
{
	return reg_read(&d, REG_STATUS);
}

static void set_status(uint32_t v)
{
	reg_write(&d, REG_STATUS, v);
}

/* --- what can be read before anything else --- */

START_TEST(identity)
{
	ck_assert_uint_eq(reg_read(&d, REG_MAGIC), 0x74726976);
	ck_assert_uint_eq(reg_read(&d, REG_VERSION), 2);
	ck_assert_uint_eq(reg_read(&d, REG_DEVICE_ID), 42);
	ck_assert_uint_eq(status(), 0);
	ck_assert_uint_eq(reg_read(&d, REG_INTERRUPT_STATUS), 0);
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG_GENERATION), 0);
}
END_TEST

START_TEST(features_offered)
{
	ck_assert_uint_eq(offered(),
			  F_OWN | VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX);
	for (uint32_t sel = 2; sel < 40; sel++) {
		reg_write(&d, REG_DEVICE_FEATURES_SEL, sel);
		ck_assert_uint_eq(reg_read(&d, REG_DEVICE_FEATURES), 0);
	}
	reg_write(&d, REG_DEVICE_FEATURES_SEL, UINT32_MAX);
	ck_assert_uint_eq(reg_read(&d, REG_DEVICE_FEATURES), 0);
}
END_TEST

/* 4.2.2: the length of a region that does not exist reads as all ones. */
START_TEST(no_shared_memory)
{
	for (uint64_t reg = REG_SHM_LEN; reg < REG_SHM_LEN + 16; reg += 4)
		ck_assert_uint_eq(reg_read(&d, reg), UINT32_MAX);
}
END_TEST

START_TEST(config_space)
{
	uint8_t data[8];

	for (unsigned int len = 1; len <= 8; len *= 2) {
		for (uint64_t at = 0; at < 16; at++) {
			memset(data, 0, sizeof(data));
			virtio_mmio_ops.read(d.dev, REG_CONFIG + at, data, len);
			for (unsigned int i = 0; i < len; i++)
				ck_that(data[i] == (at + i < 6 ? at + i + 1 : 0));
		}
	}
	memset(data, 0, sizeof(data));
	virtio_mmio_ops.read(d.dev, VIRTIO_MMIO_SIZE - 8, data, 8);
	ck_assert(all_bytes(data, 8, 0));
	/* Read-only. */
	memset(data, 0xee, sizeof(data));
	virtio_mmio_ops.write(d.dev, REG_CONFIG, data, 8);
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG), 0x04030201);
}
END_TEST

static void change_config(void)
{
	virtio_enter(&fake.dev);
	fake.config[0]++;
	virtio_config_changed(&fake.dev);
	virtio_leave(&fake.dev);
}

/* 4.2.2.1: another generation, and an interrupt. */
START_TEST(config_changes)
{
	driver_start(&d, 0, 1, 8);
	event_count(d.irq.fd);
	change_config();
	ck_assert_uint_eq(event_count(d.irq.fd), 1);
	ck_assert_uint_eq(reg_read(&d, REG_INTERRUPT_STATUS), 2);
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG_GENERATION), 1);
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG), 0x04030202);
	reg_write(&d, REG_INTERRUPT_ACK, 2);
	change_config();
	ck_assert_uint_eq(reg_read(&d, REG_INTERRUPT_STATUS), 2);
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG_GENERATION), 2);
	/* A reset is no reason to show an old generation again. */
	driver_reset(&d);
	ck_assert_uint_eq(reg_read(&d, REG_INTERRUPT_STATUS), 0);
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG_GENERATION), 2);
}
END_TEST

/* A driver that is not ready is not interrupted; it may have read the old configuration, so it is
 * told as soon as it is.
 */
START_TEST(config_changes_before_ready)
{
	driver_negotiate(&d, VIRTIO_F_VERSION_1);
	change_config();
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG_GENERATION), 1);
	ck_assert_uint_eq(reg_read(&d, REG_INTERRUPT_STATUS), 0);
	ck_assert_uint_eq(event_count(d.irq.fd), 0);
	reg_write(&d, REG_STATUS, ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK | ST_DRIVER_OK);
	ck_assert_uint_eq(reg_read(&d, REG_INTERRUPT_STATUS), 2);
	ck_assert_uint_eq(event_count(d.irq.fd), 1);
	/* Once; and one that starts after the change has nothing to be told. */
	driver_reset(&d);
	driver_start(&d, 0, 1, 8);
	ck_assert_uint_eq(reg_read(&d, REG_INTERRUPT_STATUS) & 2, 0);
	driver_reset(&d);
	change_config();
	driver_reset(&d);
	driver_start(&d, 0, 1, 8);
	ck_assert_uint_eq(reg_read(&d, REG_INTERRUPT_STATUS) & 2, 0);
}
END_TEST

START_TEST(no_config_space)
{
	fake.dev.config = NULL;
	fake.dev.config_len = 0;
	ck_assert_uint_eq(reg_read(&d, REG_CONFIG), 0);
}
END_TEST

/* 4.2.2.2: aligned 32 bit accesses only. Others read zero and change nothing. */
START_TEST(wrong_widths_and_alignment)
{
	static const unsigned int widths[] = {1, 2, 4, 8};

	for (unsigned int w = 0; w < ARRAY_SIZE(widths); w++) {
		for (uint64_t at = 0; at + widths[w] <= REG_CONFIG; at++) {
			uint8_t data[8] = {0};

			if (widths[w] == 4 && at % 4 == 0)
				continue;
			virtio_mmio_ops.read(d.dev, at, data, widths[w]);
			ck_that(all_bytes(data, 8, 0));
			memset(data, 1, sizeof(data));
			virtio_mmio_ops.write(d.dev, at, data, widths[w]);
		}
	}
	loop_settle(&d.loop);
	ck_assert_uint_eq(status(), 0);
	ck_assert_uint_eq(fake.dev.queue_sel, 0);
	ck_assert_uint_eq(fake.dev.features, 0);
	ck_assert_uint_eq(fake.served + fake.reset, 0);
}
END_TEST

/* --- the sequence of 3.1.1 --- */

START_TEST(good_sequence)
{
	driver_start(&d, F_OWN | VIRTIO_F_EVENT_IDX, 2, 8);
	ck_assert_uint_eq(status(), ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK | ST_DRIVER_OK);
	ck_assert_uint_eq(fake.served, 1); /* at DRIVER_OK: there may be buffers already */
	ck_assert(fake.dev.queue[0].event_idx && !fake.dev.queue[0].indirect);
	driver_kick(&d, 1);
	ck_assert_uint_eq(fake.served, 2);
}
END_TEST

START_TEST(steps_may_not_be_skipped)
{
	set_status(ST_DRIVER);
	ck_assert_uint_eq(status(), 0);
	set_status(ST_DRIVER_OK);
	ck_assert_uint_eq(status(), 0);
	set_status(ST_ACKNOWLEDGE | ST_FEATURES_OK);
	ck_assert_uint_eq(status(), ST_ACKNOWLEDGE);
	set_status(ST_ACKNOWLEDGE | ST_DRIVER | ST_DRIVER_OK);
	ck_assert_uint_eq(status(), ST_ACKNOWLEDGE | ST_DRIVER);
	loop_settle(&d.loop);
	ck_assert_uint_eq(fake.served, 0);
}
END_TEST

/* Only a reset takes bits away (2.1.2 and CVE-2026-5747). */
START_TEST(status_bits_stay)
{
	driver_start(&d, 0, 2, 8);
	set_status(ST_ACKNOWLEDGE);
	set_status(ST_DRIVER_OK);
	ck_assert_uint_eq(status(), ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK | ST_DRIVER_OK);
	set_status(ST_FAILED);
	ck_assert(status() & ST_FAILED);
	set_status(UINT32_MAX);
	ck_assert_uint_eq(status(),
			  ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK | ST_DRIVER_OK | ST_FAILED);
}
END_TEST

/* The driver may not claim that the device needs a reset. */
START_TEST(needs_reset_is_the_devices)
{
	set_status(ST_ACKNOWLEDGE | ST_NEEDS_RESET);
	ck_assert_uint_eq(status(), ST_ACKNOWLEDGE);
}
END_TEST

START_TEST(features_not_offered)
{
	set_status(ST_ACKNOWLEDGE | ST_DRIVER);
	set_status(ST_ACKNOWLEDGE | ST_DRIVER);
	reg_write(&d, REG_DRIVER_FEATURES_SEL, 1);
	reg_write(&d, REG_DRIVER_FEATURES, 1);
	reg_write(&d, REG_DRIVER_FEATURES_SEL, 0);
	reg_write(&d, REG_DRIVER_FEATURES, F_OWN | F_NOT_OURS);
	set_status(ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK);
	ck_assert(!(status() & ST_FEATURES_OK));
	/* It may try again with less. */
	reg_write(&d, REG_DRIVER_FEATURES, F_OWN);
	set_status(ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK);
	ck_assert(status() & ST_FEATURES_OK);
}
END_TEST

START_TEST(version_1_is_required)
{
	set_status(ST_ACKNOWLEDGE);
	set_status(ST_ACKNOWLEDGE | ST_DRIVER);
	set_status(ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK);
	ck_assert(!(status() & ST_FEATURES_OK));
}
END_TEST

START_TEST(features_are_fixed_after_features_ok)
{
	driver_negotiate(&d, VIRTIO_F_VERSION_1);
	reg_write(&d, REG_DRIVER_FEATURES_SEL, 0);
	reg_write(&d, REG_DRIVER_FEATURES, UINT32_MAX);
	reg_write(&d, REG_DRIVER_FEATURES_SEL, 1);
	reg_write(&d, REG_DRIVER_FEATURES, 0);
	ck_assert_uint_eq(fake.dev.features, VIRTIO_F_VERSION_1);
}
END_TEST

START_TEST(features_behind_64_bits)
{
	reg_write(&d, REG_DRIVER_FEATURES_SEL, 2);
	reg_write(&d, REG_DRIVER_FEATURES, UINT32_MAX);
	reg_write(&d, REG_DRIVER_FEATURES_SEL, UINT32_MAX);
	reg_write(&d, REG_DRIVER_FEATURES, UINT32_MAX);
	ck_assert_uint_eq(fake.dev.features, 0);
}
END_TEST

/* --- queues --- */

START_TEST(queues_that_exist)
{
	static const uint32_t none[] = {2, 3, 4, 5, 255, 65536, UINT32_MAX};

	driver_negotiate(&d, VIRTIO_F_VERSION_1);
	for (uint32_t q = 0; q < 2; q++) {
		reg_write(&d, REG_QUEUE_SEL, q);
		ck_assert_uint_eq(reg_read(&d, REG_QUEUE_NUM_MAX), VIRTQUEUE_MAX);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(none); i++) {
		reg_write(&d, REG_QUEUE_SEL, none[i]);
		ck_assert_uint_eq(reg_read(&d, REG_QUEUE_NUM_MAX), 0);
		ck_assert_uint_eq(reg_read(&d, REG_QUEUE_READY), 0);
		reg_write(&d, REG_QUEUE_NUM, 8);
		reg_write(&d, REG_QUEUE_DESC, 0x1000);
		reg_write(&d, REG_QUEUE_READY, 1);
		reg_write(&d, REG_QUEUE_READY, 0);
	}
	ck_assert_uint_eq(status(), ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK);
}
END_TEST

START_TEST(queues_wait_for_features)
{
	struct ring r;

	ring_init(&r, &d.guest, 8);
	driver_set_queue(&d, 0, &r);
	ck_assert_uint_eq(reg_read(&d, REG_QUEUE_READY), 0);
	ck_assert_uint_eq(fake.dev.queue[0].desc_at.v, 0);
	ck_assert_uint_eq(fake.dev.queue[0].size, 0);
}
END_TEST

START_TEST(queues_are_fixed_once_ready)
{
	struct ring r, other;

	driver_negotiate(&d, VIRTIO_F_VERSION_1);
	ring_init(&r, &d.guest, 8);
	ring_init(&other, &d.guest, 16);
	driver_set_queue(&d, 0, &r);
	driver_set_queue(&d, 0, &other);
	ck_assert_uint_eq(fake.dev.queue[0].size, 8);
	ck_assert_uint_eq(fake.dev.queue[0].desc_at.v, r.desc_at);
	/* Taken back, it can be set anew. */
	reg_write(&d, REG_QUEUE_READY, 0);
	ck_assert_uint_eq(reg_read(&d, REG_QUEUE_READY), 0);
	driver_set_queue(&d, 0, &other);
	ck_assert_uint_eq(fake.dev.queue[0].size, 16);
	ck_assert_uint_eq(reg_read(&d, REG_QUEUE_READY), 1);
}
END_TEST

START_TEST(queues_are_fixed_after_driver_ok)
{
	struct ring r;

	driver_start(&d, 0, 1, 8);
	ring_init(&r, &d.guest, 8);
	driver_set_queue(&d, 1, &r);
	ck_assert_uint_eq(reg_read(&d, REG_QUEUE_READY), 0);
	ck_assert_uint_eq(fake.dev.queue[1].size, 0);
}
END_TEST

START_TEST(queue_ready_takes_only_0_and_1)
{
	struct ring r;

	driver_negotiate(&d, VIRTIO_F_VERSION_1);
	ring_init(&r, &d.guest, 8);
	driver_set_queue(&d, 0, &r);
	reg_write(&d, REG_QUEUE_READY, 2);
	ck_assert_uint_eq(reg_read(&d, REG_QUEUE_READY), 1);
	reg_write(&d, REG_QUEUE_READY, 0);
	reg_write(&d, REG_QUEUE_READY, 3);
	ck_assert_uint_eq(reg_read(&d, REG_QUEUE_READY), 0);
}
END_TEST

/* Each size and address that virtqueue_enable refuses makes the device say so. */
START_TEST(impossible_queues)
{
	static const struct {
		uint32_t size;
		uint64_t desc, avail, used;
	} bad[] = {
		{0, 0x1000, 0x2000, 0x3000},
		{3, 0x1000, 0x2000, 0x3000},
		{512, 0x1000, 0x2000, 0x3000},
		{65536 + 8, 0x1000, 0x2000, 0x3000}, /* 8 if only 16 bits were looked at */
		{UINT32_MAX, 0x1000, 0x2000, 0x3000},
		{8, 0x1001, 0x2000, 0x3000},
		{8, 0x1000, 0x2001, 0x3000},
		{8, 0x1000, 0x2000, 0x3002},
		{8, GUEST_MEMORY, 0x2000, 0x3000},
		{8, 0x1000, GUEST_MEMORY, 0x3000},
		{8, 0x1000, 0x2000, GUEST_MEMORY},
		{8, 0x100001000, 0x2000, 0x3000}, /* the high half counts */
		{8, 0x1000, 0xffffffff00002000, 0x3000},
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		struct ring r = {.size = bad[i].size,
				 .desc_at = bad[i].desc,
				 .avail_at = bad[i].avail,
				 .used_at = bad[i].used};

		driver_negotiate(&d, VIRTIO_F_VERSION_1);
		driver_set_queue(&d, 1, &r);
		ck_assert_msg(reg_read(&d, REG_QUEUE_READY) == 0, "case %u", i);
		ck_assert_msg(status() & ST_NEEDS_RESET, "case %u", i);
		driver_reset(&d);
		ck_assert_uint_eq(status(), 0);
	}
}
END_TEST

/* --- notifications, interrupts --- */

START_TEST(nothing_is_served_before_driver_ok)
{
	driver_kick(&d, 0);
	driver_negotiate(&d, VIRTIO_F_VERSION_1);
	driver_kick(&d, 0);
	driver_kick(&d, UINT32_MAX);
	ck_assert_uint_eq(fake.served, 0);
}
END_TEST

START_TEST(interrupt_status_and_acknowledge)
{
	driver_start(&d, 0, 2, 8);
	virtio_enter(&fake.dev);
	virtio_interrupt(&fake.dev, &fake.dev.queue[0]); /* nothing was pushed */
	ck_assert_uint_eq(event_count(d.irq.fd), 0);
	virtqueue_push(&fake.dev.queue[0], 0, 0);
	virtio_interrupt(&fake.dev, &fake.dev.queue[0]);
	virtio_leave(&fake.dev);
	ck_assert_uint_eq(event_count(d.irq.fd), 1);
	ck_assert_uint_eq(reg_read(&d, REG_INTERRUPT_STATUS), 1);
	reg_write(&d, REG_INTERRUPT_ACK, 2); /* of something else */
	ck_assert_uint_eq(reg_read(&d, REG_INTERRUPT_STATUS), 1);
	reg_write(&d, REG_INTERRUPT_ACK, 1);
	ck_assert_uint_eq(reg_read(&d, REG_INTERRUPT_STATUS), 0);
	reg_write(&d, REG_INTERRUPT_STATUS, 3); /* read-only */
	ck_assert_uint_eq(reg_read(&d, REG_INTERRUPT_STATUS), 0);
}
END_TEST

START_TEST(failure_is_told_once_and_ends_service)
{
	driver_start(&d, 0, 2, 8);
	fake.fail = true;
	driver_kick(&d, 0);
	ck_assert(driver_sees_failure(&d));
	ck_assert_uint_eq(event_count(d.irq.fd), 1);
	ck_assert_uint_eq(fake.served, 2);
	driver_kick(&d, 0);
	driver_kick(&d, 1);
	ck_assert_uint_eq(fake.served, 2);
	ck_assert_uint_eq(event_count(d.irq.fd), 0);
	/* A reset makes it whole. */
	fake.fail = false;
	driver_reset(&d);
	ck_assert_uint_eq(reg_read(&d, REG_INTERRUPT_STATUS), 0);
	driver_start(&d, 0, 2, 8);
	ck_assert_uint_eq(fake.served, 3);
}
END_TEST

/* 2.1.2: the interrupt is for a driver that has said DRIVER_OK. */
START_TEST(failure_before_driver_ok_does_not_interrupt)
{
	struct ring r = {.size = 3};

	driver_negotiate(&d, VIRTIO_F_VERSION_1);
	driver_set_queue(&d, 0, &r);
	ck_assert(status() & ST_NEEDS_RESET);
	ck_assert_uint_eq(event_count(d.irq.fd), 0);
	set_status(ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK | ST_DRIVER_OK);
	driver_kick(&d, 0);
	ck_assert_uint_eq(fake.served, 0);
}
END_TEST

/* --- reset --- */

START_TEST(reset_forgets_everything)
{
	driver_start(&d, F_OWN, 2, 8);
	fake.fail = true;
	driver_kick(&d, 0);
	driver_reset(&d);
	/* At once, before the loop has run: */
	ck_assert_uint_eq(status(), 0);
	ck_assert_uint_eq(reg_read(&d, REG_INTERRUPT_STATUS), 0);
	ck_assert_uint_eq(fake.dev.features, 0);
	for (uint32_t q = 0; q < 2; q++) {
		reg_write(&d, REG_QUEUE_SEL, q);
		ck_assert_uint_eq(reg_read(&d, REG_QUEUE_READY), 0);
		ck_assert_uint_eq(fake.dev.queue[q].size, 0);
		ck_assert_uint_eq(fake.dev.queue[q].used_at.v, 0);
	}
	ck_assert_uint_eq(fake.reset, 0);
	loop_settle(&d.loop);
	ck_assert_uint_eq(fake.reset, 1);
	ck_assert_uint_eq(fake.dev.resets, 1);
	loop_settle(&d.loop);
	ck_assert_uint_eq(fake.reset, 1);
}
END_TEST

/* What the device holds of the old driver goes before it sees anything of the new one. */
START_TEST(reset_is_first_after_a_new_start)
{
	unsigned int served;

	driver_start(&d, 0, 2, 8);
	served = fake.served;
	driver_reset(&d);
	driver_negotiate(&d, VIRTIO_F_VERSION_1);
	set_status(ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK | ST_DRIVER_OK);
	ck_assert_uint_eq(fake.reset, 0);
	/* A back end that comes first, before the doorbell, runs it too. */
	ck_assert(virtio_enter(&fake.dev));
	ck_assert_uint_eq(fake.reset, 1);
	virtio_leave(&fake.dev);
	loop_settle(&d.loop);
	ck_assert_uint_eq(fake.reset, 1);
	ck_assert_uint_eq(fake.served, served + 1);
}
END_TEST

START_TEST(reset_at_every_step)
{
	for (unsigned int step = 0; step < 6; step++) {
		if (step >= 1)
			set_status(ST_ACKNOWLEDGE);
		if (step >= 2)
			set_status(ST_ACKNOWLEDGE | ST_DRIVER);
		if (step >= 3)
			driver_negotiate(&d, VIRTIO_F_VERSION_1);
		if (step >= 4) {
			ring_init(&d.ring[0], &d.guest, 8);
			driver_set_queue(&d, 0, &d.ring[0]);
		}
		if (step >= 5)
			set_status(ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK | ST_DRIVER_OK);
		driver_reset(&d);
		ck_assert_uint_eq(status(), 0);
		if (step % 2)
			loop_settle(&d.loop);
	}
	driver_start(&d, 0, 2, 8);
	ck_assert(status() & ST_DRIVER_OK);
}
END_TEST

START_TEST(enter_tells_whether_the_device_is_live)
{
	ck_assert(!virtio_enter(&fake.dev));
	virtio_leave(&fake.dev);
	driver_start(&d, 0, 2, 8);
	ck_assert(virtio_enter(&fake.dev));
	virtio_fail(&fake.dev, "this test wants it");
	virtio_leave(&fake.dev);
	ck_assert(!virtio_enter(&fake.dev));
	virtio_leave(&fake.dev);
}
END_TEST

/* Any value to any register, in any state: the device lives, and works after a reset. */
static uint32_t slot_reg(struct virtio_slot *s, uint64_t offset, unsigned int len)
{
	uint8_t data[8] = {0};

	virtio_slot_ops.read(s, offset, data, len);
	return (uint32_t)bus_value(data, len);
}

/* Nothing but that there is nothing, whatever is done there; then the device, and nothing again. */
START_TEST(slot_that_is_empty)
{
	struct virtio_slot s = {0};
	const uint8_t ones[8] = {255, 255, 255, 255, 255, 255, 255, 255};

	for (unsigned int round = 0; round < 2; round++) {
		for (uint64_t at = 0; at < VIRTIO_MMIO_SIZE; at += 4) {
			ck_assert_uint_eq(slot_reg(&s, at, 4), at == 0	 ? 0x74726976u
							       : at == 4 ? 2u
							       : at == 12 ? reg_read(&d, 12)
									 : 0u);
			virtio_slot_ops.write(&s, at, ones, 4);
		}
		ck_assert_uint_eq(slot_reg(&s, 0, 1) | slot_reg(&s, 2, 4) | slot_reg(&s, 0, 8), 0);
		s.dev = round ? NULL : &fake.dev;
		if (s.dev) {
			ck_assert_uint_eq(slot_reg(&s, REG_DEVICE_ID, 4), 42);
			virtio_slot_ops.write(&s, REG_STATUS, (const uint8_t[]){1, 0, 0, 0}, 4);
			ck_assert_uint_eq(status(), 1);
			s.dev = NULL;
		}
	}
}
END_TEST

/* Not while a driver has it. One that has only seen it has it not, as Linux says when a driver has gone. */
START_TEST(idle)
{
	ck_that(virtio_idle(&fake.dev));
	set_status(1);
	ck_that(virtio_idle(&fake.dev));
	set_status(3);
	ck_that(!virtio_idle(&fake.dev));
	set_status(0);
	driver_start(&d, 0, 1, 4);
	ck_that(!virtio_idle(&fake.dev));
	set_status(0);
	ck_that(virtio_idle(&fake.dev));
}
END_TEST

START_TEST(random_accesses)
{
	uint32_t seed = 7;

	for (unsigned int i = 0; i < 200000; i++) {
		uint32_t v = next_random(&seed), at = next_random(&seed);
		uint8_t data[8] = {0};
		unsigned int len = 1u << (v & 3);

		at = v & 4 ? at % 64 * 4 : at % VIRTIO_MMIO_SIZE;
		at = MIN(at, VIRTIO_MMIO_SIZE - len);
		if (v & 8) {
			virtio_mmio_ops.read(d.dev, at, data, len);
			continue;
		}
		bus_answer(data, 8, v & 0x10 ? 1u << (v >> 6 & 31) : v >> (v >> 6 & 15));
		virtio_mmio_ops.write(d.dev, at, data, len);
		if (v & 0x20)
			loop_turn(&d.loop);
	}
	driver_reset(&d);
	loop_settle(&d.loop);
	event_count(d.irq.fd);
	driver_start(&d, 0, 2, 8);
	ck_assert_uint_eq(status(), ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK | ST_DRIVER_OK);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		identity,
		features_offered,
		no_shared_memory,
		config_space,
		config_changes,
		config_changes_before_ready,
		no_config_space,
		wrong_widths_and_alignment,
		good_sequence,
		steps_may_not_be_skipped,
		status_bits_stay,
		needs_reset_is_the_devices,
		features_not_offered,
		version_1_is_required,
		features_are_fixed_after_features_ok,
		features_behind_64_bits,
		queues_that_exist,
		queues_wait_for_features,
		queues_are_fixed_once_ready,
		queues_are_fixed_after_driver_ok,
		queue_ready_takes_only_0_and_1,
		impossible_queues,
		nothing_is_served_before_driver_ok,
		interrupt_status_and_acknowledge,
		failure_is_told_once_and_ends_service,
		failure_before_driver_ok_does_not_interrupt,
		reset_forgets_everything,
		reset_is_first_after_a_new_start,
		reset_at_every_step,
		enter_tells_whether_the_device_is_live,
		random_accesses,
		slot_that_is_empty,
		idle,
	};

	return run_tests("virtio_mmio", tests, ARRAY_SIZE(tests), setup, teardown);
}

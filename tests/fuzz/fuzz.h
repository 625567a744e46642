/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz: what a fuzzer gives to the code that reads hostile bytes.
 *
 * A target is one function that takes any bytes, and must return, in bounded time, without a report
 * of the sanitizers. Two programs call it: the fuzzer, one for each target ("make fuzz", clang's
 * libFuzzer), and tests/unit/test_corpus.c, which replays tests/fuzz/corpus/NAME/ in every
 * "make test" (gcc). A target keeps nothing between two inputs: what one does can be repeated.
 */
#ifndef UVM_TESTS_FUZZ_H
#define UVM_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

typedef void fuzz_fn(const uint8_t *data, size_t len);

fuzz_fn fuzz_answer;  /* messages of a guest's agent, as the host takes them */
fuzz_fn fuzz_command; /* EXEC's payload, as the agent takes it */
fuzz_fn fuzz_control; /* requests on the control socket */
fuzz_fn fuzz_json;    /* JSON */
fuzz_fn fuzz_kernel;  /* a kernel's file */
fuzz_fn fuzz_net;     /* a network device between a guest and another end */
fuzz_fn fuzz_oci;     /* a container's config.json */
fuzz_fn fuzz_options; /* command lines */
fuzz_fn fuzz_pool;    /* a request for a VM of a pool */
fuzz_fn fuzz_request; /* what the agent is told of containers */
fuzz_fn fuzz_seccomp; /* the seccomp part of a container's configuration */
fuzz_fn fuzz_share;   /* requests to a shared directory */
fuzz_fn fuzz_serial;  /* accesses to the serial port */
fuzz_fn fuzz_state;   /* a snapshot's state file */
fuzz_fn fuzz_virtio;  /* accesses to virtio devices, and what is in their rings */

/* The bytes, taken piece by piece; zeros when there are no more. */
struct fuzz_input {
	const uint8_t *at, *end;
};

static inline uint64_t fuzz_take(struct fuzz_input *in, unsigned int bytes)
{
	uint64_t v = 0;

	for (unsigned int i = 0; i < bytes && in->at < in->end; i++)
		v |= (uint64_t)*in->at++ << (8 * i);
	return v;
}

#endif

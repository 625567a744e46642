/* SPDX-License-Identifier: Apache-2.0
 *
 * A fuzzer's entry: FUZZ_TARGET is the function of its target. What is tested reports errors on
 * standard error (the log), a line for each input and worth nothing here.
 */
#include <fcntl.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "vmm/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	FUZZ_TARGET(data, len);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Replays what fuzzers have found worth keeping (tests/fuzz/corpus): one test for each target.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/unit/util.h"

#define CORPUS "tests/fuzz/corpus"

static void replay(const char *name, fuzz_fn *target)
{
	char path[512];
	struct dirent *d;
	unsigned int n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/%s", CORPUS, name);
	dir = opendir(path);
	ck_assert_msg(dir != NULL, "%s cannot be read; tests run in the tree's top directory",
		      path);
	while ((d = readdir(dir))) {
		const char *text;
		uint8_t *copy;
		size_t len;

		if (*d->d_name == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s/%s", CORPUS, name, d->d_name);
		text = file_text(path, &len);
		copy = malloc(len ? len : 1); /* of its size, so that a step beyond is seen */
		memcpy(copy, text, len);
		target(copy, len);
		free(copy);
		n++;
	}
	closedir(dir);
	ck_assert_msg(n > 0, "%s/%s is empty", CORPUS, name);
}

#define REPLAY(name)                                                                               \
	START_TEST(name)                                                                           \
	{                                                                                          \
		replay(#name, fuzz_##name);                                                        \
	}                                                                                          \
	END_TEST

REPLAY(answer)
REPLAY(command)
REPLAY(control)
REPLAY(json)
REPLAY(kernel)
REPLAY(net)
REPLAY(oci)
REPLAY(options)
REPLAY(pool)
REPLAY(request)
REPLAY(seccomp)
REPLAY(serial)
REPLAY(share)
REPLAY(state)
REPLAY(virtio)

int main(void)
{
	const TTest *const tests[] = {answer,  command, control, json,	 kernel, net,	oci,
				      options, pool, request, seccomp, serial, share,	 state, virtio};

	return run_tests("corpus", tests, ARRAY_SIZE(tests), NULL, NULL);
}

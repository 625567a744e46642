/* SPDX-License-Identifier: Apache-2.0
 *
 * SHA-256 against NIST's vectors (the examples of FIPS 180-4 and SHA256ShortMsg.rsp), and cut in
 * every way.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/util.h"
#include "vmm/sha256.h"
#include "vmm/util.h"

static const char *sum(const void *data, size_t len)
{
	static char hex[SHA256_HEX + 1];
	struct sha256 s;

	sha256_begin(&s);
	sha256_add(&s, data, len);
	sha256_end(&s, hex);
	return hex;
}

START_TEST(published_vectors)
{
	static const char two[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
	static const char four[] = "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
				   "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu";
	char *million = malloc(1000000);

	ck_assert_str_eq(sum("", 0),
			 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	ck_assert_str_eq(sum("\xd3", 1),
			 "28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1");
	ck_assert_str_eq(sum("abc", 3),
			 "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	ck_assert_str_eq(sum(two, strlen(two)),
			 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	ck_assert_str_eq(sum(four, strlen(four)),
			 "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
	memset(million, 'a', 1000000);
	ck_assert_str_eq(sum(million, 1000000),
			 "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	free(million);
}
END_TEST

START_TEST(cut_anywhere)
{
	uint8_t data[300];
	char whole[SHA256_HEX + 1], parts[SHA256_HEX + 1];
	struct sha256 s;

	fill_pattern(data, sizeof(data), 1);
	for (size_t len = 0; len <= sizeof(data); len++) {
		strcpy(whole, sum(data, len));
		for (size_t cut = 0; cut <= len; cut += 1 + cut % 7) {
			sha256_begin(&s);
			sha256_add(&s, data, cut);
			sha256_add(&s, data + cut, len - cut);
			sha256_end(&s, parts);
			ck_that(!strcmp(whole, parts));
		}
	}
}
END_TEST

START_TEST(files)
{
	size_t len = (256u << 10) + 17;
	uint8_t *data = malloc(len);
	char hex[SHA256_HEX + 1];
	uint64_t size;
	int fd;

	fill_pattern(data, len, 1);
	fd = open(tmp_file("f", data, len), O_RDONLY);
	ck_assert_int_eq(lseek(fd, 5, SEEK_SET), 5);
	ck_assert_int_eq(sha256_file(fd, hex, &size), 0);
	ck_assert_str_eq(hex, sum(data, len));
	ck_assert_uint_eq(size, len);
	close(fd);
	ck_assert_int_eq(sha256_file(-1, hex, &size), -EBADF);
	free(data);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {published_vectors, cut_anywhere, files};

	return run_tests("sha256", tests, ARRAY_SIZE(tests), tmp_setup, tmp_teardown);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Options, messages and the small helpers.
 */
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/util.h"
#include "vmm/json.h"
#include "vmm/log.h"
#include "vmm/meter.h"
#include "vmm/opt.h"
#include "vmm/util.h"

/* --- options --- */

static struct config {
	bool flag, other;
	const char *text;
	uint32_t number;
	uint64_t size;
} cfg;

static const struct opt table[] = {
	{"flag", 'f', NULL, "a flag", opt_set_flag, offsetof(struct config, flag)},
	{"flagged", 0, NULL, "another, whose name begins alike", opt_set_flag,
	 offsetof(struct config, other)},
	{"text", 't', "TEXT", "a text", opt_set_str, offsetof(struct config, text)},
	{"number", 'n', "N", "a number", opt_set_u32, offsetof(struct config, number)},
	{"size", 0, "SIZE", "a size", opt_set_size, offsetof(struct config, size)},
	{0},
};

static struct err e;
static char *args[16];
static int argn;

static int parse_list(int stop, const char *const *list)
{
	cfg = (struct config){0};
	for (argn = 0; list[argn]; argn++)
		args[argn] = (char *)(uintptr_t)list[argn];
	return opt_parse(table, &cfg, argn, args, stop, &e);
}

#define LIST(...)	  ((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})
#define parse(...)	  parse_list(0, LIST(__VA_ARGS__))
#define refused(say, ...) ck_refused(parse(__VA_ARGS__), EINVAL, say)

START_TEST(every_form)
{
	ck_assert_int_eq(parse("--flag", "--text", "a b", "--number=7", "--size", "2G"), 6);
	ck_assert(cfg.flag && !cfg.other);
	ck_assert_str_eq(cfg.text, "a b");
	ck_assert_uint_eq(cfg.number, 7);
	ck_assert_uint_eq(cfg.size, 2ull << 30);
	ck_assert_int_eq(parse("-ft", "x", "-n3"), 3);
	ck_assert(cfg.flag);
	ck_assert_str_eq(cfg.text, "x");
	ck_assert_uint_eq(cfg.number, 3);
	ck_assert_int_eq(parse("-n", "4", "-fn5"), 3);
	ck_assert_uint_eq(cfg.number, 5); /* the last word counts */
	ck_assert_int_eq(parse("--flagged"), 1);
	ck_assert(cfg.other && !cfg.flag);
	ck_assert_int_eq(parse("--text=--flag"), 1);
	ck_assert_str_eq(cfg.text, "--flag");
	ck_assert_int_eq(parse("--text", "--flag"), 2); /* a value, whatever it looks like */
	ck_assert_str_eq(cfg.text, "--flag");
	ck_assert_int_eq(parse("--text=a=b"), 1);
	ck_assert_str_eq(cfg.text, "a=b");
	ck_assert_int_eq(parse(), 0);
}
END_TEST

START_TEST(operands_and_options_mix)
{
	ck_assert_int_eq(parse("one", "--flag", "two", "-n", "3", "three"), 3);
	ck_assert_int_eq(argn, 6);
	ck_assert_str_eq(args[3], "one");
	ck_assert_str_eq(args[4], "two");
	ck_assert_str_eq(args[5], "three");
	ck_assert(cfg.flag);
	ck_assert_uint_eq(cfg.number, 3);
	ck_assert_int_eq(parse("one", "--", "--flag", "two"), 1);
	ck_assert_str_eq(args[1], "one");
	ck_assert_str_eq(args[2], "--flag");
	ck_assert_str_eq(args[3], "two");
	ck_assert(!cfg.flag);
	ck_assert_int_eq(parse("-", "--flag"), 1); /* "-" is an operand */
	ck_assert_str_eq(args[1], "-");
	ck_assert_int_eq(parse("", "-f"), 1);
	ck_assert_str_eq(args[1], "");
	ck_assert_int_eq(parse("--"), 1);
}
END_TEST

START_TEST(stops_at_the_first_operand)
{
	ck_assert_int_eq(parse_list(1, LIST("-f", "id", "--flagged", "-x")), 1);
	ck_assert(cfg.flag && !cfg.other);
	ck_assert_int_eq(parse_list(1, LIST("-f", "--", "-f")), 2);
	ck_assert_int_eq(parse_list(1, LIST("-f", "--", "--", "x")), 2);
	ck_assert_str_eq(args[2], "--"); /* only the first is taken */
}
END_TEST

START_TEST(malformed_options)
{
	refused("unknown option '--nothing'", "--nothing");
	refused("unknown option '--nothing'", "--nothing=1");
	refused("unknown option '--fla'", "--fla"); /* no abbreviations */
	refused("unknown option '--'", "--=x");
	refused("unknown option '-x'", "-x");
	refused("unknown option '-x'", "-fx");
	refused("--flag takes no value", "--flag=1");
	refused("--flag takes no value", "--flag=");
	refused("--text needs TEXT", "--text");
	refused("-t needs TEXT", "-t");
	refused("-n needs N", "-fn");
	refused("--text: is empty", "--text=");
	refused("--text: is empty", "--text", "");
	refused("unknown option '--a?b'", "--a\nb");
}
END_TEST

START_TEST(numbers)
{
	static const char *const bad[] = {
		"", "-1", "+1", " 1", "1 ", "0x1", "1k", "4294967296", "99999999999999999999", "a"};

	ck_assert_int_eq(parse("-n", "4294967295"), 2);
	ck_assert_uint_eq(cfg.number, UINT32_MAX);
	ck_assert_int_eq(parse("-n", "0"), 2);
	ck_assert_int_eq(parse("-n", "007"), 2);
	ck_assert_uint_eq(cfg.number, 7);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		refused("is not a whole number", "-n", bad[i]);
}
END_TEST

START_TEST(sizes)
{
	static const struct {
		const char *text;
		uint64_t size;
	} good[] = {{"0", 0},
		    {"4096", 4096},
		    {"1K", 1024},
		    {"1k", 1024},
		    {"3M", 3ull << 20},
		    {"512m", 512ull << 20},
		    {"4g", 4ull << 30},
		    {"2T", 2ull << 40},
		    {"18446744073709551615", UINT64_MAX},
		    {"16777215T", 16777215ull << 40}};
	static const char *const bad[] = {"",
					  "K",
					  "-1M",
					  "1MB",
					  "1MiB",
					  "1 M",
					  "1.5G",
					  "1P",
					  "M1",
					  "0x10",
					  "1[",
					  "1`",
					  "18446744073709551616"};
	static const char *const large[] = {"16777216T", "18014398509481984K",
					    "18446744073709551615K"};

	for (unsigned int i = 0; i < ARRAY_SIZE(good); i++) {
		ck_assert_int_eq(parse("--size", good[i].text), 2);
		ck_assert_uint_eq(cfg.size, good[i].size);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		refused("is not a size", "--size", bad[i]);
	for (unsigned int i = 0; i < ARRAY_SIZE(large); i++)
		refused("is too large", "--size", large[i]);
}
END_TEST

START_TEST(durations)
{
	static const struct {
		const char *text;
		uint64_t seconds;
	} good[] = {{"0s", 0}, {"90s", 90}, {"90", 90}, {"30m", 1800}, {"24h", 86400}, {"7d", 604800},
		    {"2147483647d", UINT64_C(185542587100800)}};
	static const char *const bad[] = {"", "s", "-1s", "1.5h", "1w", "1ss", "1 s", "2147483648s",
					  "99999999999999999999s"};
	uint64_t v = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(good); i++) {
		ck_ok(opt_set_duration(&v, good[i].text, &e));
		ck_assert_uint_eq(v, good[i].seconds);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		ck_refused(opt_set_duration(&v, bad[i], &e), EINVAL, "is not a duration");
}
END_TEST

/* A meter shows nothing before its time, or where nobody looks. */
START_TEST(meters)
{
	struct meter m;
	char text[32];
	int p[2];

	ck_assert_str_eq(meter_number(0, text), "0");
	ck_assert_str_eq(meter_number(999, text), "999");
	ck_assert_str_eq(meter_number(1000, text), "1,000");
	ck_assert_str_eq(meter_number(UINT64_MAX, text), "18,446,744,073,709,551,615");
	meter_set(NULL, "nobody");
	ck_assert(!pipe(p));
	fflush(stderr);
	ck_assert_int_eq(dup2(p[1], STDERR_FILENO), STDERR_FILENO);
	meter_begin(&m);
	m.began -= 5000000000u;
	meter_set(&m, "at work");
	meter_end(&m);
	ck_assert_str_eq(text_now(p[0]), "");
}
END_TEST

/* On a terminal: one line, which ends with how long it took. */
START_TEST(meters_on_a_terminal)
{
	struct meter m;
	int master, slave;

	ck_assert(!openpty(&master, &slave, NULL, NULL, NULL));
	fflush(stderr);
	ck_assert_int_eq(dup2(slave, STDERR_FILENO), STDERR_FILENO);
	meter_begin(&m);
	meter_set(&m, "too early");
	ck_assert_str_eq(text_now(master), "");
	m.began -= 2000000000u;
	meter_set(&m, "%d files of a\nb", 7);
	ck_assert_str_eq(text_now(master), "\r\x1b[Kuvm: 7 files of a?b ");
	meter_set(&m, "at once"); /* not more often than the eye can see */
	ck_assert_str_eq(text_now(master), "");
	meter_end(&m);
	ck_assert_str_eq(text_now(master), "\r\x1b[Kuvm: at once, 2.0 s\r\n");
}
END_TEST

START_TEST(help)
{
	static const char expected[] =
		"  -f, --flag                     a flag\n"
		"  --flagged                      another, whose name begins alike\n"
		"  -t, --text TEXT                a text\n"
		"  -n, --number N                 a number\n"
		"  --size SIZE                    a size\n";
	char *text;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	opt_help(table, f);
	fclose(f);
	ck_assert_str_eq(text, expected);
	free(text);
}
END_TEST

/* --- messages --- */

START_TEST(messages)
{
	ck_assert_int_eq(err_set(&e, ENOENT, "no %s of %d", "thing", 3), -ENOENT);
	ck_assert_str_eq(e.text, "no thing of 3");
	errno = EACCES;
	ck_assert_int_eq(err_sys(&e, "cannot open %s", "x"), -EACCES);
	ck_assert_str_eq(e.text, "cannot open x: Permission denied");
}
END_TEST

START_TEST(messages_without_control_characters)
{
	for (int c = 1; c < 256; c++) {
		bool bad = c < 0x20 || c == 0x7f;

		err_set(&e, EINVAL, "a%cb", c);
		ck_that((unsigned char)e.text[1] == (bad ? '?' : c));
	}
	err_sys(&e, "a\x1b[2Jb\r\n");
	ck_assert(!strncmp(e.text, "a?[2Jb??: ", 10));
}
END_TEST

/* U+0080 to U+009F are control characters too, in two bytes; what only looks like one of them stays. */
START_TEST(text_without_control_characters)
{
	static const struct {
		const char *text, *plain;
	} cases[] = {
		{"", ""},
		{"a\033]0;x\007b\177", "a?]0;x?b?"},
		{"\xc2\x80 \xc2\x9b" "2J \xc2\x9f", "?? ??2J ??"},
		{"\xc2\xa0 \xc3\x9b \xe2\x80\x9b", "\xc2\xa0 \xc3\x9b \xe2\x80\x9b"},
		{"cut \xc2", "cut \xc2"},
		{"\xc2\xc2\x9b", "\xc2??"},
		{"\xc2\033", "\xc2?"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[32];

		snprintf(text, sizeof(text), "%s", cases[i].text);
		text_plain(text);
		ck_assert_str_eq(text, cases[i].plain);
	}
}
END_TEST

START_TEST(messages_that_are_too_long)
{
	char text[2 * sizeof(e.text)];

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = 0;
	ck_assert_int_eq(err_set(&e, EINVAL, "%s", text), -EINVAL);
	ck_assert_uint_eq(strlen(e.text), sizeof(e.text) - 1);
	errno = ENOENT;
	ck_assert_int_eq(err_sys(&e, "%s", text), -ENOENT);
	ck_assert_uint_eq(strlen(e.text), sizeof(e.text) - 1);
}
END_TEST

/* Standard error is a pipe in the tests of it. Returns what was written to it, or "". */
static const char *said(int from)
{
	static char text[4096];
	ssize_t n = read(from, text, sizeof(text) - 1);

	text[MAX(n, 0)] = 0;
	return text;
}

static int listen_to_stderr(void)
{
	int p[2];

	ck_assert(!pipe2(p, O_NONBLOCK));
	fflush(stderr);
	ck_assert_int_eq(dup2(p[1], STDERR_FILENO), STDERR_FILENO);
	return p[0];
}

/* One line in one write, whatever it quotes. */
START_TEST(log_lines)
{
	int from = listen_to_stderr();
	char longest[1024];
	const char *text;

	log_warn("guest says %s", "a\nb\x1b[1m");
	ck_assert_str_eq(said(from), "uvm: guest says a?b?[1m\n");
	memset(longest, 'y', sizeof(longest));
	longest[sizeof(longest) - 1] = 0;
	log_warn("%s", longest);
	text = said(from);
	ck_assert_uint_eq(strlen(text), strlen("uvm: ") + sizeof(e.text));
	ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
}
END_TEST

START_TEST(log_levels)
{
	int from = listen_to_stderr();

	log_debug("%s", "off");
	ck_assert_str_eq(said(from), "");
	ck_ok(log_set_level("debug", &e));
	log_debug("%s", "on");
	ck_assert_str_eq(said(from), "uvm: debug: on\n");
	ck_ok(log_set_level("error", &e));
	log_warn("a");
	log_info("b");
	log_write(LOG_ERROR, "c");
	ck_assert_str_eq(said(from), "uvm: c\n");
	ck_ok(log_set_level(NULL, &e));
	ck_assert(!log_wants(LOG_WARN));
	ck_ok(log_set_level("warning", &e));
	ck_assert(log_wants(LOG_WARN) && !log_wants(LOG_INFO));
	ck_refused(log_set_level("loud", &e), EINVAL, "'loud' is none of");
	ck_refused(log_set_format("xml", &e), EINVAL, "'xml' is neither");
}
END_TEST

/* Whatever a message quotes, the line is an object. */
START_TEST(log_json)
{
	int from = listen_to_stderr();
	char longest[1024];
	struct json_doc doc;
	const char *text;

	ck_ok(log_set_format("json", &e));
	memset(longest, '"', sizeof(longest));
	memcpy(longest, "\xff\\", 2);
	longest[sizeof(longest) - 1] = 0;
	log_warn("%s", longest);
	text = said(from);
	ck_ok(json_parse(&doc, text, strlen(text), "line", &e));
	ck_ok(json_string(doc.root, "level", &text, &e));
	ck_assert_str_eq(text, "warning");
	ck_assert_ptr_null(json_get(doc.root, "id"));
	json_free(&doc);
	log_set_id("web");
	log_info("x");
	ck_assert_ptr_nonnull(strstr(said(from), ",\"id\":\"web\"}\n"));
}
END_TEST

/* A guest that makes its monitor talk does not fill the disk; what ends the VM is still said. */
START_TEST(log_is_bounded)
{
	int from = listen_to_stderr();

	log_set_limit(100);
	for (int i = 0; i < 50; i++)
		log_warn("0123456789");
	ck_assert_uint_lt(strlen(said(from)), 200);
	log_write(LOG_ERROR, "the end");
	ck_assert_str_eq(said(from), "uvm: the end\n");
}
END_TEST

/* --- helpers --- */

START_TEST(macros)
{
	ck_assert_uint_eq(ALIGN_UP(0u, 4096), 0);
	ck_assert_uint_eq(ALIGN_UP(1u, 4096), 4096);
	ck_assert_uint_eq(ALIGN_UP(4096u, 4096), 4096);
	ck_assert_uint_eq(ALIGN_UP(UINT64_C(0xffffffff), 4), UINT64_C(0x100000000));
	ck_assert_uint_eq(ARRAY_SIZE(((int[3]){0})), 3);
	ck_assert_int_eq(MIN(2, 3), 2);
	ck_assert_int_eq(MAX(2, 3), 3);
}
END_TEST

START_TEST(clock_goes_forward)
{
	uint64_t before = now_ns();

	ck_assert_uint_gt(before, 0);
	ck_assert_uint_ge(now_ns(), before);
}
END_TEST

START_TEST(reads_whole_or_not_at_all)
{
	int fd = open(tmp_file("file", "0123456789", 10), O_RDONLY);
	char text[16];

	ck_assert_int_eq(pread_all(fd, text, 10, 0), 0);
	ck_assert(!memcmp(text, "0123456789", 10));
	ck_assert_int_eq(pread_all(fd, text, 3, 7), 0);
	ck_assert(!memcmp(text, "789", 3));
	ck_assert_int_eq(pread_all(fd, text, 0, 100), 0);
	ck_assert_int_eq(pread_all(fd, text, 11, 0), -ENODATA);
	ck_assert_int_eq(pread_all(fd, text, 1, 10), -ENODATA);
	ck_assert_int_eq(pread_all(-1, text, 1, 0), -EBADF);
	close(fd);
}
END_TEST

START_TEST(writes_whole)
{
	int p[2];

	ck_assert_int_eq(write_all(-1, "x", 1), -EBADF);
	ck_assert_int_eq(write_all(-1, "x", 0), 0);
	ck_assert(!pipe(p));
	close(p[0]);
	ck_assert_int_eq(write_all(p[1], "x", 1), -EPIPE); /* and no signal */
	close(p[1]);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		every_form,
		operands_and_options_mix,
		stops_at_the_first_operand,
		malformed_options,
		numbers,
		sizes,
		durations,
		meters,
		meters_on_a_terminal,
		help,
		messages,
		messages_without_control_characters,
		text_without_control_characters,
		messages_that_are_too_long,
		log_lines, log_levels, log_json, log_is_bounded,
		macros,
		clock_goes_forward,
		reads_whole_or_not_at_all,
		writes_whole,
	};

	return run_tests("opt", tests, ARRAY_SIZE(tests), tmp_setup, tmp_teardown);
}

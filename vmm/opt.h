/* SPDX-License-Identifier: Apache-2.0
 *
 * opt: command line options from a table.
 *
 * One table per subcommand both parses its options and prints its help, so that the two cannot
 * disagree. Long options take "--name value" and "--name=value"; "--" ends the options; an
 * option's letter gives it a short form ("-t", "-n 3", "-n3"; short flags combine, "-it").
 */
#ifndef UVM_VMM_OPT_H
#define UVM_VMM_OPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "vmm/err.h"

struct opt {
	const char *name; /* long name without the dashes; NULL ends the table */
	char letter;	  /* short form, or 0 */
	const char *arg;  /* what stands for its value in the help; NULL: a flag */
	const char *help; /* one line; NULL: an older spelling, or another tool's, that no help shows */
	/* Checks value (NULL for a flag) and stores it at to, which is the configuration that
	 * was given to opt_parse plus offset. value outlives the call only as argv does.
	 * Returns 0 or -EINVAL; the message need not name the option, opt_parse adds that.
	 */
	int (*set)(void *to, const char *value, struct err *e);
	size_t offset;
};

/* Setters for the common kinds; the type of the member at offset is in brackets. */
int opt_set_flag(void *to, const char *value, struct err *e); /* [bool] */
int opt_set_str(void *to, const char *value, struct err *e);  /* [const char *] not empty */
int opt_set_id(void *to, const char *value, struct err *e);   /* [const char *] a VM's name */
int opt_set_u32(void *to, const char *value, struct err *e);  /* [uint32_t] decimal */
int opt_set_size(void *to, const char *value,
		 struct err *e); /* [uint64_t] bytes: 1048576, 512K, 256M, 4G */
int opt_set_duration(void *to, const char *value,
		     struct err *e); /* [uint64_t] seconds: 90 or 90s, 30m, 24h, 7d */

/* --- details of a value: words behind commas --- */

struct opt_word {
	const char *name; /* "ro", or with a value: "mtu=" */
	/* Gets what follows '=' (an empty text where nothing can). As set above. */
	int (*set)(void *to, char *value, struct err *e);
};

/* Takes the words of list (NULL: none), which are cut at their commas, into `to`. Returns 0 or
 * -EINVAL.
 */
int opt_words(const struct opt_word *word, size_t n, void *to, char *list, struct err *e);

/* Cuts the value of an option at its first comma. Returns what follows, or NULL. */
char *opt_cut(const char *value);

/* For a word's value: 'on' or 'off'. */
int opt_on_off(bool *on, const char *value, struct err *e);

/* Parses argv[0..argc) into cfg. With stop_at_operand the first operand ends the options (for
 * commands that carry a command line of the guest's); otherwise operands and options may mix,
 * and argv is permuted so that the operands come last. Returns the index of the first operand
 * (argc if there is none), or -EINVAL with the message set.
 */
int opt_parse(const struct opt *table, void *cfg, int argc, char **argv, int stop_at_operand,
	      struct err *e);

/* Prints one line for each option of the table. */
void opt_help(const struct opt *table, FILE *out);

#endif

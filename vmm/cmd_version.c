/* SPDX-License-Identifier: Apache-2.0
 *
 * uvm version: what this program was made of, for reports and for who compares two of them. Engines parse
 * "uvm --version", which main.c prints.
 */
#include <linux/version.h>
#include <stdio.h>

#include "build/facts.inc"
#include "guest/image.h"
#include "guest/protocol.h"
#include "shim/config.h"
#include "snapshot/state.h"
#include "vmm/cmd.h"
#include "vmm/json.h"

#ifdef __clang__
#define COMPILER __VERSION__
#else
#define COMPILER "gcc " __VERSION__
#endif

#ifndef UVM_VERSION
#define UVM_VERSION "unknown"
#endif

struct version_config {
	bool json;
};

static const struct opt version_options[] = {
	{"json", 0, NULL, "print a JSON object", opt_set_flag, offsetof(struct version_config, json)},
	{0},
};

static const char *libc(void)
{
#ifdef __GLIBC__
	return "glibc";
#else
	return "musl"; /* which has no macro that says so */
#endif
}

static void print_text(const char *headers)
{
	printf("uvm       %s\ncommit    %s\ndate      %s\ncompiler  %s\nlibc      %s\nheaders   Linux %s\n"
	       "agent     protocol %u, %zu bytes\nsnapshot  format %u\noci       %s\n",
	       UVM_VERSION, UVM_COMMIT, *UVM_DATE ? UVM_DATE : "unknown", COMPILER, libc(), headers,
	       AGENT_VERSION, guest_image_size(), STATE_FORMAT, OCI_VERSION);
}

static void print_json(const char *headers)
{
	struct json_writer w = {.out = stdout};

	json_put_open(&w, NULL, '{');
	json_put_string(&w, "version", UVM_VERSION);
	json_put_string(&w, "commit", UVM_COMMIT);
	json_put_string(&w, "date", *UVM_DATE ? UVM_DATE : NULL);
	json_put_string(&w, "compiler", COMPILER);
	json_put_string(&w, "libc", libc());
	json_put_string(&w, "kernel_headers", headers);
	json_put_uint(&w, "agent_protocol", AGENT_VERSION);
	json_put_uint(&w, "agent_size", guest_image_size());
	json_put_uint(&w, "snapshot_format", STATE_FORMAT);
	json_put_string(&w, "oci_version", OCI_VERSION);
	json_put_close(&w);
	putchar('\n');
}

static int run(void *cfg, int argc, char **argv, struct err *e)
{
	const struct version_config *c = cfg;
	char headers[32];

	(void)argv;
	if (argc)
		return cmd_usage(&cmd_version, e);
	snprintf(headers, sizeof(headers), "%u.%u.%u", LINUX_VERSION_CODE >> 16, LINUX_VERSION_CODE >> 8 & 0xff,
		 LINUX_VERSION_CODE & 0xff);
	if (c->json)
		print_json(headers);
	else
		print_text(headers);
	return EXIT_OK;
}

const struct cmd cmd_version = {
	.name = "version",
	.args = "",
	.summary = "Tell what this program was made of",
	.options = version_options,
	.notes = "The commit is \"unknown\" where it was not built in a git repository, and ends in -dirty where files\n"
		 "had changed. The date is the commit's, or what SOURCE_DATE_EPOCH said.\n",
	.examples = "uvm version\n"
		    "uvm version --json\n",
	.run = run,
	.cfg_size = sizeof(struct version_config),
};

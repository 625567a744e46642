/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/man.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "build/facts.inc"
#include "shim/cli.h"
#include "vmm/commands.h"

#ifndef UVM_VERSION
#define UVM_VERSION "unknown"
#endif

/* Text as it is: neither a macro at the start of a line nor an escape inside it. */
static void put_part(const char *s, size_t len)
{
	bool start = true;

	for (; len; s++, len--) {
		if (start && (*s == '.' || *s == '\''))
			fputs("\\&", stdout);
		if (*s == '\\')
			fputs("\\e", stdout);
		else if (*s == '-')
			fputs("\\-", stdout);
		else
			putchar(*s);
		start = *s == '\n';
	}
}

static void put(const char *s)
{
	put_part(s, strlen(s));
}

/* Lines as they are in the help. */
static void put_lines(const char *s, size_t len)
{
	printf(".nf\n");
	put_part(s, len);
	printf(".fi\n");
}

static void put_upper(const char *s)
{
	for (; *s; s++)
		putchar(toupper((unsigned char)*s));
}

static void option(const struct opt *o)
{
	if (!o->help)
		return;
	printf(".TP\n\\fB");
	if (o->letter)
		printf("\\-%c\\fR, \\fB", o->letter);
	printf("\\-\\-");
	put(o->name);
	printf("\\fR");
	if (o->arg) {
		printf(" \\fI");
		put(o->arg);
		printf("\\fR");
	}
	putchar('\n');
	put(o->help);
	printf(".\n");
}

static void options(const struct cmd *c)
{
	for (const struct opt *o = c->options; o && o->name; o++)
		option(o);
}

/* "uvm clone [OPTIONS] DIR [--] [CMD [ARG...]]" */
static void synopsis(const struct cmd *c)
{
	printf(".B uvm %s\n", c->name);
	if (c->options)
		printf("[\\fIOPTIONS\\fR]\n");
	if (*c->args) {
		put(c->args);
		putchar('\n');
	}
}

static void title(const char *page)
{
	printf(".TH ");
	put_upper(page);
	printf(" 1 \"%s\" \"uvm %s\" \"User Commands\"\n", UVM_DATE, UVM_VERSION);
}

/* --- a command --- */

#define EXIT_NOTE "Exit status: "

/* The commands that its notes name. */
static void see_also(const struct cmd *c)
{
	printf(".SH SEE ALSO\n");
	for (size_t i = 0; i < commands_count; i++) {
		char named[32], help[40];

		snprintf(named, sizeof(named), "'uvm %s", commands[i]->name);
		snprintf(help, sizeof(help), "'uvm help %s'", commands[i]->name);
		if (commands[i] != c && c->notes && (strstr(c->notes, named) || strstr(c->notes, help)))
			printf(".BR uvm\\-%s (1),\n", commands[i]->name);
	}
	printf(".BR uvm (1)\n");
}

/* What it says of its exit status has a section of its own. */
static void description(const struct cmd *c, const char *exit)
{
	printf(".SH DESCRIPTION\n");
	put(c->summary);
	printf(".\n");
	if (!c->notes || exit == c->notes)
		return;
	printf(".PP\n");
	put_lines(c->notes, exit ? (size_t)(exit - c->notes) : strlen(c->notes));
}

static void exit_status(const struct cmd *c, const char *exit)
{
	printf(".SH EXIT STATUS\n");
	if (exit)
		put_lines(exit + strlen(EXIT_NOTE), strlen(exit + strlen(EXIT_NOTE)));
	else if (c->notes && strstr(c->notes, "exit status"))
		printf("As described above; 2 if the command line is wrong.\n");
	else
		printf("0 for success; 1 if it failed, as the message on standard error says; 2 if the command\n"
		       "line is wrong.\n");
}

static void command(const struct cmd *c)
{
	const char *exit = c->notes ? strstr(c->notes, EXIT_NOTE) : NULL;
	char page[32];

	snprintf(page, sizeof(page), "uvm-%s", c->name);
	title(page);
	printf(".SH NAME\nuvm\\-%s \\- %c", c->name, tolower((unsigned char)*c->summary));
	put(c->summary + 1);
	printf("\n.SH SYNOPSIS\n");
	synopsis(c);
	description(c, exit);
	if (c->options)
		printf(".SH OPTIONS\n");
	options(c);
	exit_status(c, exit);
	if (strstr(c->args, "ID"))
		printf(".SH FILES\n.TP\n.I /run/uvm/ID/\nThe run directory of a running VM; see\n.BR uvm (1).\n");
	if (c->examples) {
		printf(".SH EXAMPLES\n");
		put_lines(c->examples, strlen(c->examples));
	}
	see_also(c);
}

/* --- the OCI runtime's --- */

static void oci(void)
{
	title("uvm-oci");
	printf(".SH NAME\nuvm\\-oci \\- uvm as the OCI runtime of podman, containerd and docker\n"
	       ".SH SYNOPSIS\n.B uvm\n[\\fIGLOBAL OPTIONS\\fR]\n\\fICOMMAND\\fR\n[\\fIOPTIONS\\fR] [\\fIID\\fR]\n"
	       ".SH DESCRIPTION\nThe commands by which a container engine makes and ends containers, as runc and\n"
	       "crun have them. People use\n.BR uvm\\-run (1).\n"
	       "Where a command has the name of one in\n.BR uvm (1),\n"
	       "a global option in front of it or an option that only one of them has tells which is meant.\n"
	       ".SH GLOBAL OPTIONS\n");
	for (const struct opt *o = shim_options; o->name; o++)
		option(o);
	printf(".SH COMMANDS\n");
	for (size_t i = 0; i < shim_commands_count; i++) {
		const struct cmd *c = shim_commands[i];
		const char *after = strstr(c->summary, ": ");

		printf(".SS uvm %s\n", c->name);
		synopsis(c);
		printf(".PP\n");
		put(after ? after + 2 : c->summary);
		printf(".\n");
		options(c);
		printf(".PP\nExample:\n.PP\n");
		put_lines(c->examples, strlen(c->examples));
	}
	printf(".SH EXIT STATUS\n0 for success; 1 if it failed; 255 if\n.B uvm exec\nfailed before its command\n"
	       "ran, else that's.\n"
	       ".SH FILES\n.TP\n.I /etc/uvm/config\nSettings of its VMs; see\n.BR uvm\\-config (5).\n"
	       ".SH SEE ALSO\n.BR uvm (1),\n.BR uvm\\-config (5)\n");
}

/* --- the overview --- */

static const char before[] =
	".SH NAME\n"
	"uvm \\- boots Linux in virtual machines, freezes and clones them, and runs commands there\n"
	".SH SYNOPSIS\n"
	".B uvm\n"
	"\\fICOMMAND\\fR [\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]\n"
	".br\n"
	".B uvm help\n"
	"[\\fICOMMAND\\fR]\n"
	".SH DESCRIPTION\n"
	"Each VM is one process; there is no daemon. Commands reach a running VM by its id, through\n"
	"the sockets in its run directory. Options may stand before and after the arguments and be\n"
	"written \\fB\\-\\-name value\\fR or \\fB\\-\\-name=value\\fR.\n"
	".SH COMMANDS\n";

static const char after[] =
	".SH OPTIONS\n"
	".TP\n.B \\-\\-version\nThe version, and that of the OCI specification; \\fBuvm version\\fR tells more.\n"
	".TP\n.BR \\-h \", \" \\-\\-help\nWhat commands there are; behind a command its help.\n"
	".TP\n.BR \\-\\-log\\-level \" error|warn|info|debug\"\n"
	"In front of a command: which messages are written to standard error, or, of a VM in the background,\n"
	"to \\fIlog\\fR in its run directory. The default is info; debug has the steps of a start.\n"
	".TP\n.BR \\-\\-log\\-format \" text|json\"\n"
	"In front of a command: json writes each as an object with level, msg, time and the VM's id.\n"
	".SH EXIT STATUS\n"
	".TP\n0\nSuccess.\n"
	".TP\n1\nThe message on standard error says what went wrong.\n"
	".TP\n2\nThe command line is wrong.\n"
	".TP\n3\n\\fBuvm boot\\fR, \\fBuvm clone\\fR: the guest's kernel panicked.\n"
	".PP\n"
	"\\fBuvm run\\fR exits with 125 for what goes wrong in uvm itself, and 124 after its \\-\\-timeout.\n"
	"\\fBuvm run\\fR, \\fBuvm exec\\fR, and \\fBuvm clone\\fR with a command, exit as that does: with its status, "
	"128 + n if signal n\nended it, 126 if it cannot be executed, 127 if it does not exist.\n"
	".SH ENVIRONMENT\n"
	".TP\n.B UVM_RUN\nThe directory of all run directories.\n"
	".TP\n.B XDG_RUNTIME_DIR\nWithout UVM_RUN: they are in \\fIuvm\\fR below this.\n"
	".TP\n.B UVM_CACHE\nThe directory of images that were made of root file systems.\n"
	".TP\n.BR XDG_CACHE_HOME \", \" HOME\nWithout UVM_CACHE: it is \\fIuvm\\fR below the first, or "
	"\\fI.cache/uvm\\fR below the second.\n"
	".TP\n.BR UVM_LOG_LEVEL \", \" UVM_LOG_FORMAT\nAs the options of these names.\n"
	".TP\n.B UVM_KERNEL\nThe kernel of \\fBuvm run\\fR's guests, where \\-\\-kernel names none.\n"
	".SH FILES\n"
	".TP\n.I /run/uvm/ID/\n"
	"A running VM's run directory, without either variable: \\fIcontrol.sock\\fR, "
	"\\fIvsock.sock\\fR, \\fIpid\\fR,\nand of a VM in the background \\fIconsole.log\\fR and "
	"\\fIlog\\fR.\n"
	".TP\n.I /var/cache/uvm/\nImages, without any of the variables for them.\n"
	".TP\n.I /etc/uvm/config\nSettings of the OCI runtime's VMs; see\n.BR uvm\\-config (5).\n"
	".TP\n.I /dev/kvm\nThe host's virtualisation.\n"
	".SH EXAMPLES\n"
	".nf\n"
	"uvm check\n"
	"uvm run rootfs.ext4 uname \\-a\n"
	"uvm boot \\-\\-kernel vmlinux \\-\\-rootfs root.ext4 \\-\\-name web \\-\\-detach\n"
	"uvm snapshot web \\-\\-output web.snap\n"
	"uvm clone web.snap \\-\\- hostname\n"
	".fi\n"
	".SH SEE ALSO\n"
	".BR uvm\\-oci (1),\n.BR uvm\\-config (5),\n.BR uvm\\-snapshot (5)\n";

static void overview(void)
{
	title("uvm");
	fputs(before, stdout);
	for (size_t i = 0; i < commands_count; i++) {
		printf(".TP\n.BR uvm\\-%s (1)\n", commands[i]->name);
		put(commands[i]->summary);
		printf(".\n");
	}
	printf(".TP\n.BR uvm\\-oci (1)\nThe commands of the OCI runtime.\n");
	fputs(after, stdout);
}

/* --- all of them --- */

int man_print(const char *page)
{
	const char *name = !strncmp(page, "uvm-", 4) ? page + 4 : page;

	if (!*page || !strcmp(page, "uvm")) {
		overview();
		return 0;
	}
	if (!strcmp(name, "oci")) {
		oci();
		return 0;
	}
	for (size_t i = 0; i < commands_count; i++)
		if (!strcmp(commands[i]->name, name)) {
			command(commands[i]);
			return 0;
		}
	return -ENOENT;
}

void man_list(void)
{
	printf("uvm\nuvm-oci\n");
	for (size_t i = 0; i < commands_count; i++)
		printf("uvm-%s\n", commands[i]->name);
}

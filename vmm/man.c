/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/man.h"

#include <stdbool.h>
#include <stdio.h>

#ifndef UVM_VERSION
#define UVM_VERSION "unknown"
#endif

/* Text as it is: neither a macro at the start of a line nor an escape inside it. */
static void put(const char *s)
{
	bool start = true;

	for (; *s; s++) {
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

static void option(const struct opt *o)
{
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

static void command(const struct cmd *c)
{
	printf(".SS uvm ");
	put(c->name);
	if (c->options)
		printf(" [OPTIONS]");
	if (*c->args) {
		putchar(' ');
		put(c->args);
	}
	putchar('\n');
	put(c->summary);
	printf(".\n");
	for (const struct opt *o = c->options; o && o->name; o++)
		option(o);
	if (c->notes) {
		printf(".PP\n.nf\n"); /* lines as they are in the help */
		put(c->notes);
		printf(".fi\n");
	}
}

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
	".TP\n.B UVM_KERNEL\nThe kernel of \\fBuvm run\\fR's guests, where \\-\\-kernel names none.\n"
	".SH FILES\n"
	".TP\n.I /run/uvm/ID/\n"
	"A running VM's run directory, without either variable: \\fIcontrol.sock\\fR, "
	"\\fIvsock.sock\\fR, \\fIpid\\fR,\nand of a VM in the background \\fIconsole.log\\fR and "
	"\\fIlog\\fR.\n"
	".TP\n.I /var/cache/uvm/\nImages, without any of the variables for them.\n"
	".TP\n.I /dev/kvm\nThe host's virtualisation.\n";

void man_print(const struct cmd *const *commands, size_t n)
{
	printf(".TH UVM 1 \"\" \"uvm %s\" \"User Commands\"\n%s", UVM_VERSION, before);
	for (size_t i = 0; i < n; i++)
		command(commands[i]);
	fputs(after, stdout);
}

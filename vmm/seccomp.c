/* SPDX-License-Identifier: Apache-2.0
 *
 * A filter sees struct seccomp_data (seccomp(2)): the number, the architecture, the arguments.
 * Rules are sorted by number, and numbers that are treated alike without conditions become one
 * segment. Over the segments goes a bisection: "number >= middle?". A small filter compares the
 * number with that of each call that has conditions, and looks up the others in words of 32 bits.
 * Its bit is made first of all, which is where the kernel's search for calls that always pass
 * (seccomp_is_const_allow) gives up: it takes longer, for 800 numbers, than a short program gains
 * from it.
 *
 * A program is written from its end to its beginning. Jumps of BPF lead forward only, so what one
 * leads to stands already, and one return of each kind serves all who need it. The kernel compiles
 * a filter when it is installed, which costs a start about 100 ns an instruction: that is why they
 * are few.
 */
#include "vmm/seccomp.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <linux/audit.h>
#include <linux/seccomp.h>

#include "vmm/util.h"

#define X32_BIT 0x40000000u

/* --- the program --- */

/* How far a conditional jump leads is 8 bits; two more instructions may come in between (jump). */
#define NEAR (UINT8_MAX - 2)

/* A place in a program is counted from its end. */
struct program {
	struct sock_filter *at; /* SECCOMP_FILTER_MAX, the last one first */
	unsigned int n;		/* counted on beyond that */
};

static unsigned int emit(struct program *p, uint16_t code, uint8_t jt, uint8_t jf, uint32_t k)
{
	if (p->n < SECCOMP_FILTER_MAX)
		p->at[p->n] = (struct sock_filter){code, jt, jf, k};
	return p->n++;
}

static unsigned int load(struct program *p, size_t offset)
{
	return emit(p, BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)offset);
}

/* A return that a jump from here reaches. */
static unsigned int ret(struct program *p, uint32_t action)
{
	for (unsigned int i = p->n < SECCOMP_FILTER_MAX ? p->n : 0, left = NEAR; i && left; left--)
		if (p->at[--i].code == (BPF_RET | BPF_K) && p->at[i].k == action)
			return i;
	return emit(p, BPF_RET | BPF_K, 0, 0, action);
}

/* A place that a jump from here reaches, and from which it goes on to `to`. */
static unsigned int reached(struct program *p, unsigned int to)
{
	if (p->n - to <= NEAR || to >= SECCOMP_FILTER_MAX)
		return to;
	return p->at[to].code == (BPF_RET | BPF_K) ? emit(p, BPF_RET | BPF_K, 0, 0, p->at[to].k)
						   : emit(p, BPF_JMP | BPF_JA, 0, 0, p->n - to - 1);
}

static unsigned int jump(struct program *p, uint16_t test, uint32_t k, unsigned int yes,
			 unsigned int no)
{
	yes = reached(p, yes);
	no = reached(p, no);
	return emit(p, (uint16_t)(BPF_JMP | test), (uint8_t)(p->n - yes - 1),
		    (uint8_t)(p->n - no - 1), k);
}

/* --- conditions --- */

static size_t low_half(const struct seccomp_condition *c)
{
	return offsetof(struct seccomp_data, args) + c->arg * sizeof(uint64_t);
}

/* One of an argument's lower half alone. */
static bool is_low(const struct seccomp_condition *c)
{
	return c->op == SECCOMP_MASKED_EQ && !((c->mask | c->value) >> 32);
}

static unsigned int load_low(struct program *p, const struct seccomp_condition *c)
{
	if (c->op == SECCOMP_MASKED_EQ && (uint32_t)c->mask != UINT32_MAX)
		emit(p, BPF_ALU | BPF_AND | BPF_K, 0, 0, (uint32_t)c->mask);
	return load(p, low_half(c));
}

/* 64 bits in two halves: the upper decides unless it is equal. Returns where it begins. */
static unsigned int condition(struct program *p, const struct seccomp_condition *c,
			      unsigned int yes, unsigned int no)
{
	uint32_t l = (uint32_t)c->value, h = (uint32_t)(c->value >> 32);
	unsigned int low;

	switch ((enum seccomp_op)c->op) {
	case SECCOMP_EQ:
	case SECCOMP_MASKED_EQ:
		jump(p, BPF_JEQ, l, yes, no);
		low = load_low(p, c);
		if (is_low(c))
			return low;
		jump(p, BPF_JEQ, h, low, no);
		if (c->op == SECCOMP_MASKED_EQ)
			emit(p, BPF_ALU | BPF_AND | BPF_K, 0, 0, (uint32_t)(c->mask >> 32));
		break;
	case SECCOMP_NE:
		jump(p, BPF_JEQ, l, no, yes);
		low = load_low(p, c);
		jump(p, BPF_JEQ, h, low, yes);
		break;
	case SECCOMP_GT:
	case SECCOMP_GE:
		jump(p, c->op == SECCOMP_GT ? BPF_JGT : BPF_JGE, l, yes, no);
		low = load_low(p, c);
		low = jump(p, BPF_JEQ, h, low, no);
		jump(p, BPF_JGT, h, yes, low);
		break;
	case SECCOMP_LT: /* not greater or equal */
	case SECCOMP_LE:
		jump(p, c->op == SECCOMP_LE ? BPF_JGT : BPF_JGE, l, no, yes);
		low = load_low(p, c);
		low = jump(p, BPF_JEQ, h, low, yes);
		jump(p, BPF_JGT, h, no, low);
		break;
	}
	return load(p, low_half(c) + sizeof(uint32_t));
}

/* --- rules of one call --- */

/* Where the rules that have been written begin: at `at`, once what `load` compares has been loaded;
 * which rules in a row that compare the same share.
 */
struct begin {
	const struct seccomp_condition *load; /* or NULL */
	unsigned int at;
};

static unsigned int begin(struct program *p, struct begin *b)
{
	if (b->load)
		*b = (struct begin){NULL, load_low(p, b->load)};
	return b->at;
}

static void rule(struct program *p, const struct seccomp_rule *r, struct begin *b)
{
	const struct seccomp_condition *c = r->condition;
	unsigned int yes, no;

	if (r->conditions == 1 && is_low(c)) {
		if (!b->load || b->load->arg != c->arg || b->load->mask != c->mask)
			begin(p, b);
		yes = ret(p, r->action);
		*b = (struct begin){c, jump(p, BPF_JEQ, (uint32_t)c->value, yes, b->at)};
		return;
	}
	no = begin(p, b);
	yes = ret(p, r->action);
	for (unsigned int i = r->conditions; i--;)
		yes = condition(p, &c[i], yes, no);
	*b = (struct begin){NULL, yes};
}

/* --- segments --- */

/* Numbers from here to where the next segment begins. rule: the first of those with conditions for
 * this one number, which end with another number's; NULL: the action alone.
 */
struct segment {
	uint32_t from;
	uint32_t action;
	const struct seccomp_rule *rule;
	unsigned int at; /* in a small filter: where its calls go */
};

struct compiler {
	const struct seccomp_list *list;
	struct seccomp_rule *rule; /* sorted by number, in the list's order within one */
	struct segment *segment;
	size_t segments;
	struct program program;
};

static unsigned int leaf(struct compiler *c, const struct segment *s)
{
	const struct seccomp_rule *end = c->rule + c->list->rules, *r = s->rule;
	struct program *p = &c->program;
	struct begin b = {NULL, ret(p, s->action)};

	while (r && r < end && r->nr == s->from)
		r++;
	while (r != s->rule)
		rule(p, --r, &b);
	return begin(p, &b);
}

/* Numbers before and behind the second of three segments, which is one number, are treated alike.
 */
static bool is_single(const struct segment *s)
{
	return s[2].from - s[1].from == 1 && !s[0].rule && !s[2].rule && s[0].action == s[2].action;
}

static unsigned int tree(struct compiler *c, size_t first, size_t n)
{
	const struct segment *s = &c->segment[first];
	size_t half = n / 2 | 1; /* odd, so that many threes come of it */
	unsigned int yes, no;

	if (n == 1)
		return leaf(c, s);
	if (n == 3 && is_single(s)) {
		yes = leaf(c, &s[1]);
		return jump(&c->program, BPF_JEQ, s[1].from, yes, leaf(c, &s[0]));
	}
	yes = tree(c, first + half, n - half);
	no = tree(c, first, half);
	return jump(&c->program, BPF_JGE, c->segment[first + half].from, yes, no);
}

/* --- a small filter --- */

#define SECCOMP_TABLE 480u /* numbers; x86-64's end at 450 in Linux 6.1 */
#define WORD_SHIFT    5
#define WORD_BITS     (1u << WORD_SHIFT)
#define WORDS	      (SECCOMP_TABLE / WORD_BITS)
#define FEW	      2 /* what is in a word costs three instructions; a call compared by itself one */

/* Calls that are allowed whatever their arguments are, which make up a table of bits; not those
 * that have a word almost to themselves.
 */
static void make_table(const struct compiler *c, uint32_t word[WORDS])
{
	memset(word, 0, WORDS * sizeof(*word));
	for (size_t i = 0; i + 1 < c->segments; i++) {
		const struct segment *s = &c->segment[i];

		for (uint32_t nr = s->from; nr < MIN(s[1].from, SECCOMP_TABLE); nr++)
			if (!s->rule && s->action == SECCOMP_RET_ALLOW)
				word[nr / WORD_BITS] |= 1u << nr % WORD_BITS;
	}
	for (unsigned int i = 0; i < WORDS; i++)
		if (__builtin_popcount(word[i]) <= FEW)
			word[i] = 0;
}

/* X is the number's bit in its word. */
static unsigned int table(struct program *p, const uint32_t word[WORDS], uint32_t no_action)
{
	unsigned int at[WORDS], next, none = ret(p, no_action);

	for (unsigned int i = WORDS; i--;) {
		if (!word[i])
			continue;
		next = ret(p, SECCOMP_RET_ALLOW);
		jump(p, BPF_JSET | BPF_X, 0, next, ret(p, no_action));
		at[i] = emit(p, BPF_LD | BPF_IMM, 0, 0, word[i]);
	}
	next = none;
	for (unsigned int i = WORDS; i--;)
		if (word[i])
			next = jump(p, BPF_JEQ, i, at[i], next);
	if (next == none) /* no word, nothing to look up */
		return none;
	return emit(p, BPF_ALU | BPF_RSH | BPF_K, 0, 0, WORD_SHIFT);
}

/* Calls that the table has no bit for and that are not treated as most are, one after the other. */
static unsigned int small(struct compiler *c)
{
	struct program *p = &c->program;
	uint32_t word[WORDS];
	unsigned int next;

	make_table(c, word);
	for (size_t i = c->segments; i--;)
		c->segment[i].at = leaf(c, &c->segment[i]);
	next = table(p, word, c->list->no_action);
	for (size_t i = c->segments - 1; i--;) { /* the last one is that of newer calls */
		const struct segment *s = &c->segment[i];

		for (uint32_t nr = s[1].from; nr-- > s->from;) {
			bool in_table =
				nr < SECCOMP_TABLE && word[nr / WORD_BITS] >> nr % WORD_BITS & 1;

			if (s->rule || (s->action != c->list->no_action && !in_table))
				next = jump(p, BPF_JEQ, nr, s->at, next);
		}
	}
	return next;
}

/* X becomes 1 << number % 32. */
static void make_bit(struct program *p)
{
	emit(p, BPF_MISC | BPF_TAX, 0, 0, 0);
	emit(p, BPF_ALU | BPF_LSH | BPF_X, 0, 0, 0);
	emit(p, BPF_LD | BPF_IMM, 0, 0, 1);
	emit(p, BPF_MISC | BPF_TAX, 0, 0, 0);
	emit(p, BPF_ALU | BPF_AND | BPF_K, 0, 0, WORD_BITS - 1);
	load(p, offsetof(struct seccomp_data, nr));
}

static void write_program(struct compiler *c)
{
	struct program *p = &c->program;
	unsigned int at = c->list->small ? small(c) : tree(c, 0, c->segments), last;

	at = jump(p, BPF_JGE, X32_BIT, ret(p, SECCOMP_RET_ERRNO | ENOSYS), at);
	load(p, offsetof(struct seccomp_data, nr));
	last = p->n - 1;
	jump(p, BPF_JEQ, AUDIT_ARCH_X86_64, last, ret(p, SECCOMP_RET_KILL_PROCESS));
	load(p, offsetof(struct seccomp_data, arch));
	if (c->list->small)
		make_bit(p);
	for (unsigned int i = 0, k = p->n; i < k && p->n <= SECCOMP_FILTER_MAX; i++) {
		struct sock_filter moved = p->at[i];

		p->at[i] = p->at[--k];
		p->at[k] = moved;
	}
}

static void add_segment(struct compiler *c, uint32_t from, uint32_t action,
			const struct seccomp_rule *rule)
{
	struct segment *last = c->segments ? &c->segment[c->segments - 1] : NULL;

	if (last && last->from == from)
		c->segments--; /* an empty one */
	else if (last && !rule && !last->rule && last->action == action)
		return;
	c->segment[c->segments++] = (struct segment){from, action, rule, 0};
}

static void make_segments(struct compiler *c)
{
	const struct seccomp_list *l = c->list;
	uint32_t next = 0;

	add_segment(c, 0, l->no_action, NULL);
	for (size_t i = 0; i < l->rules; i++) {
		const struct seccomp_rule *r = &c->rule[i];

		if (i && r->nr == r[-1].nr)
			continue;
		if (r->conditions)
			add_segment(c, r->nr, l->no_action, r);
		else
			add_segment(c, r->nr, r->action, NULL);
		next = r->nr + 1;
		/* Calls between two listed ones; behind the last it is a newer one's turn. */
		add_segment(c, next, l->no_action, NULL);
	}
	if (l->rules)
		add_segment(c, next, l->newer, NULL);
}

static int compare(const void *a, const void *b)
{
	const struct seccomp_rule *x = a, *y = b;

	return x->nr < y->nr ? -1 : x->nr > y->nr;
}

/* By insertion of what merge keeps in order: qsort may not keep equals as they were. */
static void sort(struct seccomp_rule *rule, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		struct seccomp_rule moved = rule[i];
		size_t at = i;

		while (at && compare(&rule[at - 1], &moved) > 0) {
			rule[at] = rule[at - 1];
			at--;
		}
		rule[at] = moved;
	}
}

static int check(const struct seccomp_list *l, struct err *e)
{
	if (l->rules > SECCOMP_RULES_MAX)
		return err_set(e, E2BIG, "a seccomp filter of more than %u rules",
			       SECCOMP_RULES_MAX);
	for (size_t i = 0; i < l->rules; i++) {
		const struct seccomp_rule *r = &l->rule[i];

		if (r->nr >= X32_BIT || r->conditions > SECCOMP_ARGS)
			return err_set(e, EINVAL, "a seccomp rule of no system call");
		for (unsigned int k = 0; k < r->conditions; k++)
			if (r->condition[k].arg >= SECCOMP_ARGS ||
			    r->condition[k].op > SECCOMP_MASKED_EQ)
				return err_set(e, EINVAL, "a seccomp rule of no argument");
	}
	return 0;
}

int seccomp_compile(const struct seccomp_list *list, struct sock_filter *filter, struct err *e)
{
	struct compiler c = {.list = list, .program.at = filter};
	struct program *p = &c.program;
	int r = check(list, e);

	if (r)
		return r;
	c.rule = malloc((list->rules + 1) * sizeof(*c.rule));
	c.segment = malloc((2 * list->rules + 2) * sizeof(*c.segment));
	if (!c.rule || !c.segment) {
		r = err_set(e, ENOMEM, "out of memory");
	} else {
		if (list->rules)
			memcpy(c.rule, list->rule, list->rules * sizeof(*c.rule));
		sort(c.rule, list->rules);
		make_segments(&c);
		write_program(&c);
		r = p->n <= SECCOMP_FILTER_MAX
			    ? (int)p->n
			    : err_set(e, E2BIG,
				      "a seccomp filter of %u instructions; Linux takes %u", p->n,
				      SECCOMP_FILTER_MAX);
	}
	free(c.rule);
	free(c.segment);
	return r;
}

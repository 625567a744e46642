/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/kernel.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/layout.h"

#define MAX_PHDRS     64 /* vmlinux has 4 or 5 */
#define MAX_NOTES     (64u << 10)
#define PVH_NOTE_TYPE 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
#define BOOT_FLAG     0xaa55
#define HEADER_OFFSET 0x1f1	 /* struct setup_header in a bzImage (boot.rst) */
#define HEADER_MAGIC  0x53726448 /* "HdrS" */
#define ENTRY_64      0x200	 /* from the start of the protected-mode part */

struct source {
	const char *path;
	int fd;
	uint64_t size;
	const struct mem *mem;
	struct err *e;
};

static int refuse(const struct source *s, const char *why)
{
	return err_set(s->e, EINVAL, "kernel %s: %s", s->path, why);
}

/* Reads [offset, offset+len) of the file, which must have it. */
static int read_at(const struct source *s, void *to, uint64_t len, uint64_t offset)
{
	int r;

	if (offset > s->size || len > s->size - offset)
		return refuse(s, "the file is truncated");
	r = pread_all(s->fd, to, len, (off_t)offset);
	if (r == -ENODATA)
		return refuse(s, "the file is truncated");
	return r ? err_set(s->e, -r, "kernel %s: %s", s->path, strerror(-r)) : 0;
}

static int too_big(const struct source *s, uint64_t at, uint64_t len)
{
	return err_set(s->e, EINVAL,
		       "kernel %s: does not fit: it needs [0x%" PRIx64 ", +0x%" PRIx64
		       ") and the guest has %" PRIu64 " MiB of memory",
		       s->path, at, len, s->mem->size >> 20);
}

static int load_segment(const struct source *s, const Elf64_Phdr *p, struct kernel *k)
{
	uint8_t *to;

	if (p->p_filesz > p->p_memsz)
		return refuse(s, "a segment has more bytes in the file than in memory");
	if (p->p_paddr < LAYOUT_KERNEL_MIN)
		return refuse(s, "a segment lies below 1 MiB");
	to = mem_span(s->mem, gpa(p->p_paddr), p->p_memsz);
	if (!to)
		return too_big(s, p->p_paddr, p->p_memsz);
	mem_expect(s->mem, gpa(p->p_paddr), p->p_memsz);
	/* The rest up to p_memsz is zero already: the memory is new. */
	k->end = MAX(k->end, p->p_paddr + p->p_memsz);
	return read_at(s, to, p->p_filesz, p->p_offset);
}

/* Looks for the PVH entry among the notes of one segment. Returns 0 whether or not it is there. */
static int find_pvh(const struct source *s, const Elf64_Phdr *p, struct kernel *k)
{
	uint64_t at = p->p_offset, left = p->p_filesz;

	if (left > MAX_NOTES)
		return 0; /* not what a kernel's notes look like */
	while (left >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr n;
		uint64_t name, desc;
		int r = read_at(s, &n, sizeof(n), at);

		if (r)
			return r;
		name = ALIGN_UP((uint64_t)n.n_namesz, 4);
		desc = ALIGN_UP((uint64_t)n.n_descsz, 4);
		if (name + desc > left - sizeof(n))
			return refuse(s, "a note runs over the end of its segment");
		if (n.n_type == PVH_NOTE_TYPE && n.n_namesz == 4 &&
		    (n.n_descsz == 4 || n.n_descsz == 8)) {
			char xen[4];

			r = read_at(s, xen, sizeof(xen), at + sizeof(n));
			if (!r && !memcmp(xen, "Xen", 4)) {
				k->entry = 0;
				k->protocol = BOOT_PVH;
				return read_at(s, &k->entry, n.n_descsz, at + sizeof(n) + name);
			}
			if (r)
				return r;
		}
		at += sizeof(n) + name + desc;
		left -= sizeof(n) + name + desc;
	}
	return 0;
}

static bool loaded(const Elf64_Phdr *p, unsigned int count, uint64_t at)
{
	for (unsigned int i = 0; i < count; i++)
		if (p[i].p_type == PT_LOAD && at - p[i].p_paddr < p[i].p_memsz)
			return true;
	return false;
}

static int load_elf(const struct source *s, struct kernel *k)
{
	Elf64_Phdr phdr[MAX_PHDRS];
	Elf64_Ehdr h;
	int r = read_at(s, &h, sizeof(h), 0);

	if (r)
		return r;
	if (h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_ident[EI_DATA] != ELFDATA2LSB ||
	    h.e_machine != EM_X86_64)
		return refuse(s, "an ELF file, but not for 64-bit x86");
	if (h.e_type != ET_EXEC)
		return refuse(s, "an ELF file, but not an executable at fixed addresses");
	if (h.e_phentsize != sizeof(phdr[0]) || h.e_phnum == 0 || h.e_phnum > MAX_PHDRS)
		return refuse(s, "an ELF file with a program header table that makes no sense");
	r = read_at(s, phdr, h.e_phnum * sizeof(phdr[0]), h.e_phoff);
	k->protocol = BOOT_LINUX64;
	k->entry = h.e_entry;
	k->initrd_max = UINT32_MAX;
	for (unsigned int i = 0; !r && i < h.e_phnum; i++) {
		if (phdr[i].p_type == PT_LOAD && phdr[i].p_memsz)
			r = load_segment(s, &phdr[i], k);
		else if (phdr[i].p_type == PT_NOTE && k->protocol != BOOT_PVH)
			r = find_pvh(s, &phdr[i], k);
	}
	if (r)
		return r;
	if (!loaded(phdr, h.e_phnum, k->entry))
		return refuse(s, "its entry point lies outside what it loads");
	/* What an ELF kernel of the 64-bit protocol finds in boot_params, where a bzImage has its
	 * own header.
	 */
	k->header.boot_flag = BOOT_FLAG;
	k->header.header = HEADER_MAGIC;
	k->header.version = 0x020f;
	return 0;
}

static int load_bzimage(const struct source *s, struct kernel *k)
{
	struct setup_header *h = &k->header;
	uint64_t setup, at;
	uint8_t *to;
	int r = read_at(s, h, sizeof(*h), HEADER_OFFSET);

	if (r)
		return r;
	if (h->version < 0x020c || !(h->xloadflags & XLF_KERNEL_64))
		return refuse(s, "a bzImage without a 64-bit entry (Linux before 3.8, or 32-bit)");
	/* The header ends where the jump in front of its magic goes to; newer fields than ours are
	 * not copied, and bytes behind its end are code, not fields.
	 */
	at = (h->jump >> 8) + 0x202;
	if (at < HEADER_OFFSET + sizeof(*h))
		memset((uint8_t *)h + (at - HEADER_OFFSET), 0, HEADER_OFFSET + sizeof(*h) - at);
	setup = ((h->setup_sects ? h->setup_sects : 4u) + 1) * 512u;
	if (setup >= s->size)
		return refuse(s, "the file is truncated");
	if (s->size - setup < (uint64_t)h->syssize * 16)
		return refuse(s, "the file is truncated");
	at = h->pref_address;
	if (at < LAYOUT_KERNEL_MIN)
		return refuse(s, "a bzImage that wants to lie below 1 MiB");
	to = mem_span(s->mem, gpa(at), MAX(s->size - setup, (uint64_t)h->init_size));
	if (!to)
		return too_big(s, at, MAX(s->size - setup, (uint64_t)h->init_size));
	/* Where it unpacks itself to. */
	mem_expect(s->mem, gpa(at), MAX(s->size - setup, (uint64_t)h->init_size));
	k->protocol = BOOT_LINUX64;
	k->entry = at + ENTRY_64;
	k->end = at + MAX(s->size - setup, (uint64_t)h->init_size);
	k->initrd_max =
		h->xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G ? UINT32_MAX : h->initrd_addr_max;
	return read_at(s, to, s->size - setup, setup);
}

static int load(const struct source *s, struct kernel *k)
{
	uint8_t head[0x206] = {0};
	uint32_t magic;
	uint16_t flag;
	int r;

	if (s->size < SELFMAG)
		return refuse(s, s->size ? "not a kernel: shorter than any" : "the file is empty");
	r = read_at(s, head, MIN(s->size, sizeof(head)), 0);
	if (r)
		return r;
	memcpy(&flag, head + 0x1fe, sizeof(flag));
	memcpy(&magic, head + 0x202, sizeof(magic));
	if (!memcmp(head, ELFMAG, SELFMAG))
		return load_elf(s, k);
	if (flag == BOOT_FLAG && magic == HEADER_MAGIC)
		return load_bzimage(s, k);
	return refuse(s, "not a kernel: neither an ELF file nor a bzImage");
}

int kernel_load(struct kernel *k, const char *path, const struct mem *m, struct err *e)
{
	struct source s = {.path = path, .mem = m, .e = e};
	struct stat st;
	int r;

	memset(k, 0, sizeof(*k));
	s.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (s.fd < 0)
		return err_sys(e, "cannot open kernel %s", path);
	if (fstat(s.fd, &st))
		r = err_sys(e, "kernel %s", path);
	else if (!S_ISREG(st.st_mode))
		r = refuse(&s, "not a regular file");
	else {
		s.size = (uint64_t)st.st_size;
		r = load(&s, k);
	}
	close(s.fd);
	return r;
}

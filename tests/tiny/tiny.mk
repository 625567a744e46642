# Tiny guests and their host tool, for tests/tiny/run. Included by the Makefile: uses B, Q, say, WARN.
#
# Kernel mode may run through an instruction emulator: no vector registers, no relocation, nothing
# that a compiler puts in for an operating system's sake.

TINY     = $B/tests/tiny
TINY_SRC = $(patsubst %,tests/tiny/%,start.S guest.c virtio.c basic.c boot.c blk.c vsock.c balloon.c net.c ring.c snapshot.c vectors.c interrupts.c)
TINY_OBJ = $(patsubst tests/tiny/%,$(TINY)/%.o,$(TINY_SRC))
TINY_CC  = gcc -std=gnu11 -O2 -ffreestanding -fno-pic -fno-stack-protector -fcf-protection=none \
           -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns -mgeneral-regs-only \
           -mno-red-zone $(WARN) -MMD -MP
TINY_LD  = gcc -static -nostdlib -no-pie -Wl,-T,tests/tiny/link.ld,--build-id=none,-z,noexecstack,--no-warn-rwx-segments

.PHONY: tiny
tiny: $(TINY)/guest.elf $(TINY)/pvh.elf $(TINY)/bzimage $(TINY)/tool $(TINY)/forbidden

$(TINY)/%.o: tests/tiny/%
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(TINY_CC) -c -o $@ $<

$(TINY)/guest.elf: $(TINY_OBJ) tests/tiny/link.ld
	$(call say,LD,$@)
	$(Q)$(TINY_LD) -o $@ $(TINY_OBJ)

$(TINY)/pvh.elf: $(TINY_OBJ) $(TINY)/pvh.S.o tests/tiny/link.ld
	$(call say,LD,$@)
	$(Q)$(TINY_LD) -o $@ $(TINY_OBJ) $(TINY)/pvh.S.o

$(TINY)/bzimage: $(TINY)/guest.elf tests/tiny/bzimage.S
	$(call say,LD,$@)
	$(Q)objcopy -O binary $< $(TINY)/guest.bin
	$(Q)gcc -DGUEST='"$(TINY)/guest.bin"' -c -o $(TINY)/bzimage.o tests/tiny/bzimage.S
	$(Q)objcopy -O binary -j .text $(TINY)/bzimage.o $@

$(TINY)/tool: tests/tiny/tool.c snapshot/sum.c vmm/util.c
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D) && gcc -std=gnu11 -D_GNU_SOURCE= -I. -O1 -g $(WARN) -o $@ $^

# uvm as it is, and one function that does what it must not.
$(TINY)/forbidden: tests/tiny/forbidden.c $(VMM_OBJ) $B/musl-pie.specs
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D) && gcc -specs $B/musl-pie.specs -std=gnu11 -D_GNU_SOURCE= -I. $(WARN) $(KHDRS) -O1 -fPIE \
	    $(LDHARDEN) -Wl,--wrap=vsock_unix_listen,--wrap=confine,--wrap=confine_settle -o $@ $(filter-out %.specs,$^)

-include $(TINY_OBJ:.o=.d)

# uvm: see README.md. "make" builds everything; "make help" lists the rest. V=1 shows commands.
#
# The monitor and the agent are static musl programs: small, quick to start, the same on every
# distribution. Tests build the same sources a second time with glibc and the sanitizers.

SHELL    = /bin/sh
B        = build
PREFIX  ?= /usr/local
VERSION  = 0.1.0
MUSL     = /usr/lib/x86_64-linux-musl
Q        = $(if $(V),,@)
say      = @$(if $(V),:,printf '  %-7s %s\n' $(1) $(2))

WARN     = -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
           -Wvla -Wformat=2 -Wwrite-strings -Wimplicit-fallthrough -Wundef
# The kernel's headers stand beside glibc's; behind musl's own they only add linux/ and asm/.
KHDRS    = -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu
COMMON   = -std=gnu11 -D_GNU_SOURCE= -DUVM_VERSION='"$(VERSION)"' -I. $(WARN) -MMD -MP
HARDEN   = -fPIE -fstack-protector-strong -fstack-clash-protection -fcf-protection -D_FORTIFY_SOURCE=2 \
           -ftrivial-auto-var-init=zero
# Tables for C++'s exceptions would be 84 KiB of the binary; gdb reads .debug_frame.
HARDEN  += -fno-asynchronous-unwind-tables
CFLAGS  ?= -O2 -g
LDHARDEN = -Wl,-z,relro,-z,now,-z,noexecstack

# As many at once as there are CPUs, unless the command line says otherwise; set by the first make only.
ifndef UVM_MAKE
export UVM_MAKE = 1
MAKEFLAGS += -j$(shell nproc)
endif

BOTH_SRC = guest/netlink.c
VMM_SRC  = $(wildcard vmm/*.c devices/*.c shim/*.c snapshot/*.c) $(BOTH_SRC)
# What a VM's process does not run, or only while it boots, is linked last: what it does run is then on
# fewer pages, which it faults in on its way to the first instruction.
SELDOM   = $(filter shim/% $(filter-out %/cmd_boot.c %/cmd_clone.c,$(wildcard vmm/cmd_*.c)) $(patsubst %,vmm/%.c,cache client completion decompress exec exec_encode \
           help image json_write man meter oci_image pack pool pool_serve probe record run sha256 tar tar_number template \
           tool tree unpack unpack_path vm_stats),$(VMM_SRC))
# Only what is made while uvm is built reads the table of its filters ($B/filters).
VMM_OBJ  = $(patsubst %.c,$B/%.o,$(filter-out $(SELDOM) vmm/confine_calls.c,$(VMM_SRC)) $(SELDOM)) $B/guest/image.o
AGENT_SRC = $(wildcard guest/agent/*.c) $(BOTH_SRC)

.PHONY: all help demo test test-shim soak bench bench-quick bench-boot bench-clone bench-grow bench-run bench-io bench-shim clean deb install
all: $B/uvm $B/man/made $B/vmlinux $B/rootfs.ext4

help:
	@echo 'make            build uvm, the guest kernel and a root file system under $B/'
	@echo 'make demo       install what is missing, build, and show the main job'
	@echo 'make test       install what is missing, build, and run every test this machine can'
	@echo 'make test-shim  podman and containerd with uvm as their runtime, compared with crun'
	@echo 'make fuzz       SECONDS=n: fuzz everything that reads hostile bytes'
	@echo 'make coverage   which lines of the sources unit tests, corpora and tiny guests run, by file'
	@echo 'make soak       SECONDS=n: VMs that come and go at random, and what is left of them'
	@echo 'make bench      all of the following, in less than an hour, and docs/performance.md of them'
	@echo 'make bench-quick  the same with few runs, in less than five minutes'
	@echo 'make bench-grow what clones cost by their memory, their number, and the number of VMs that run'
	@echo 'make bench-boot compare boot costs, in the lab'
	@echo 'make bench-run  what a container in a VM of its own costs, in the lab'
	@echo 'make bench-shim what a container costs under podman with uvm and with crun, in the lab'
	@echo 'make bench-clone  what clones, forks and snapshots cost, here and in the lab'
	@echo 'make bench-io   what an operation of a disk, socket, network or share costs, in the lab'
	@echo 'make install    uvm, its manual pages and completion, and the guest kernel into $$(DESTDIR)$$(PREFIX)'
	@echo 'make deb        a Debian package of the same under build/'
	@echo 'make clean      remove $B/ (the kernel stays in the cache)'

# --- the monitor ---

# Debian's musl-gcc links no static PIE; the same compiler with a changed spec file does.
$B/musl-pie.specs: $(MUSL)/musl-gcc.specs Makefile | $B
	$(Q)sed -e 's,Scrt1.o,rcrt1.o,' -e 's,^-dynamic-linker [^ ]* ,,' \
	    -e 's,%{static:-static},-static -pie --no-dynamic-linker -z text,' $< >$@

$B/uvm: $(VMM_OBJ) $B/musl-pie.specs
	$(call say,LD,$@)
	$(Q)gcc -specs $B/musl-pie.specs $(CFLAGS) $(LDHARDEN) -o $@.debug $(VMM_OBJ)
	$(Q)strip -o $@ $@.debug

# Names and numbers of x86-64's system calls, as the kernel's headers have them.
$B/syscalls.inc: Makefile | $B
	$(Q)echo '#include <asm/unistd_64.h>' | gcc -E -dM -xc $(KHDRS) - | \
	    sed -n 's/^#define __NR_\([a-z0-9_]*\) \([0-9]*\)$$/{"\1", \2},/p' | sort >$@

# vmm/seccomp_oci.c includes it, in every build that there is.
$(addsuffix /vmm/seccomp_oci.o,$B $B/san $B/tsan): $B/syscalls.inc

# The seccomp filters of a VM's process, from the table of its calls.
$B/filters: tools/filters.c vmm/confine_calls.c vmm/seccomp.c vmm/util.c vmm/err.c vmm/confine.h vmm/seccomp.h
	$(Q)gcc $(COMMON) -O1 -MF $@.d -o $@ $(filter %.c,$^)

$B/filters.inc: $B/filters
	$(Q)$B/filters >$@.new && mv $@.new $@

$(addsuffix /vmm/confine.o,$B $B/san $B/tsan): $B/filters.inc

# What "uvm version" and the manual pages say of the build: the same wherever one commit is built. Only
# what includes it is compiled again when it changes.
COMMIT = $(shell git describe --always --abbrev=12 --exclude '*' --dirty 2>/dev/null || echo unknown)
DATE   = $(shell if [ "$$SOURCE_DATE_EPOCH" ]; then date -u -d "@$$SOURCE_DATE_EPOCH" +%F; \
	      else git log -1 --format=%cs 2>/dev/null; fi)
.PHONY: FORCE
$B/facts.inc: FORCE | $B
	$(Q)printf '#define UVM_COMMIT "%s"\n#define UVM_DATE "%s"\n' '$(COMMIT)' '$(DATE)' >$@.new && \
	    if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(foreach f,man cmd_version,$(addsuffix /vmm/$f.o,$B $B/san $B/tsan)): $B/facts.inc

# From the tables that parse the command line.
$B/man/made: $B/uvm
	$(Q)mkdir -p $(@D) && for page in $$($B/uvm help --man --list); do \
	    $B/uvm help --man $$page >$(@D)/$$page.1 || exit 1; done && touch $@

# Written beside, so that none is half there.
$B/uvm.bash $B/uvm.zsh $B/uvm.fish: $B/uvm
	$(Q)$B/uvm completion $(subst .,,$(suffix $@)) >$@.new && mv $@.new $@

$B/vmm/%.o: vmm/%.c $B/musl-pie.specs
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && gcc -specs $B/musl-pie.specs $(COMMON) $(KHDRS) $(HARDEN) $(CFLAGS) -c -o $@ $<

$B/devices/%.o: devices/%.c $B/musl-pie.specs
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && gcc -specs $B/musl-pie.specs $(COMMON) $(KHDRS) $(HARDEN) $(CFLAGS) -c -o $@ $<

$B/shim/%.o: shim/%.c $B/musl-pie.specs
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && gcc -specs $B/musl-pie.specs $(COMMON) $(KHDRS) $(HARDEN) $(CFLAGS) -c -o $@ $<

$B/snapshot/%.o: snapshot/%.c $B/musl-pie.specs
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && gcc -specs $B/musl-pie.specs $(COMMON) $(KHDRS) $(HARDEN) $(CFLAGS) -c -o $@ $<

$B/guest/%.o: guest/%.c $B/musl-pie.specs
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && gcc -specs $B/musl-pie.specs $(COMMON) $(KHDRS) $(HARDEN) $(CFLAGS) -c -o $@ $<

$B/guest/image.o: guest/image.S $B/agent.cpio
	$(Q)mkdir -p $(@D) && gcc -DGUEST_IMAGE='"$B/agent.cpio"' \
	    -DGUEST_IMAGE_SUM=0x$$(sha256sum <$B/agent.cpio | cut -c 1-16) -c -o $@ $<

# --- the guest ---

# Small: it is in the memory of every guest. So at fixed addresses, and the linker may not fill the file
# up to where data that becomes read-only (there is next to none) would end a page.
$B/agent: $(AGENT_SRC) $(wildcard guest/agent/*.h guest/*.h) Makefile | $B
	$(call say,CC,$@)
	$(Q)musl-gcc -std=gnu11 -D_GNU_SOURCE= -I. $(WARN) $(KHDRS) -Os -static -ffunction-sections -fdata-sections \
	    -fno-asynchronous-unwind-tables -fno-unwind-tables -fno-ident -fno-pie -no-pie \
	    -Wl,--gc-sections,--build-id=none,-z,noexecstack,-z,noseparate-code \
	    -Wl,-z,norelro,-z,common-page-size=64 -s -o $@ $(AGENT_SRC)

# The guest's first process is /init of its initramfs. Fixed times and owner: the same archive
# from the same agent.
$B/agent.cpio: $B/agent
	$(Q)rm -rf $B/initramfs && mkdir -p $B/initramfs && cp $B/agent $B/initramfs/init && \
	    touch -d @0 $B/initramfs/init && cd $B/initramfs && \
	    echo init | cpio --quiet --reproducible -R 0:0 -o -H newc >../agent.cpio

# The script looks at its cache and builds only what changed.
$B/vmlinux: guest/kernel/build guest/kernel/config $(wildcard guest/kernel/patches/*) | $B
	$(call say,KERNEL,$@)
	$(Q)guest/kernel/build $@

$B/rootfs.ext4: tools/mkrootfs | $B
	$(call say,ROOTFS,$@)
	$(Q)tools/mkrootfs -o $@ busybox

$B:
	$(Q)mkdir -p $@

# --- tests and the rest ---

include tests/tests.mk
include tests/static.mk
include tests/coverage.mk
include tests/tiny/tiny.mk
include tests/bench/bench.mk
include tests/fuzz/fuzz.mk

setup-%:
	@tools/setup $*

# A second make, because what the set-up installs decides what can be built.
demo: setup-demo
	@$(MAKE) --no-print-directory all
	@tools/demo

test: setup-test
	@tests/run all

soak: setup-test
	@$(MAKE) --no-print-directory $B/uvm tiny
	@tests/soak $(if $(SECONDS),--seconds $(SECONDS))

test-shim: setup-test
	@tests/run shim

bench bench-quick: setup-bench
	@$(MAKE) --no-print-directory all bench-programs
	@tests/bench/all $(if $(filter bench,$@),full,quick)

bench-boot bench-clone bench-grow bench-run bench-io bench-shim: bench-%: setup-bench
	@$(MAKE) --no-print-directory all bench-programs
	@tests/bench/$*

install: $B/uvm $B/man/made $B/uvm.bash $B/uvm.zsh $B/uvm.fish $B/vmlinux
	install -D -m 755 $B/uvm $(DESTDIR)$(PREFIX)/bin/uvm
	install -D -m 644 $B/vmlinux $(DESTDIR)$(PREFIX)/lib/uvm/vmlinux
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man1 $B/man/*.1
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man5 docs/man/*.5
	install -D -m 644 $B/uvm.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/uvm
	install -D -m 644 $B/uvm.zsh $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_uvm
	install -D -m 644 $B/uvm.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/uvm.fish

deb: $B/uvm $B/man/made $B/uvm.bash $B/uvm.zsh $B/uvm.fish $B/vmlinux
	@tools/deb $(VERSION) $B/uvm_$(VERSION)_amd64.deb

clean:
	rm -rf $B

-include $(VMM_OBJ:.o=.d)

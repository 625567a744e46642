# The tests' part of the Makefile, which includes this file. "make unit" builds every unit test.
#
# Unit tests run the monitor's and the agent's own sources, built a second time with glibc and the
# sanitizers under $B/san; test_threads, what several threads share, with ThreadSanitizer under
# $B/tsan. $B/san/uvm is the whole monitor with the sanitizers, for the tiny guests.

SAN        = -fsanitize=address,undefined -fno-sanitize-recover=all
# ThreadSanitizer does not model fences; nothing here is ordered by a fence alone.
TSAN       = -fsanitize=thread -Wno-tsan
CHECK_LIBS = $(shell pkg-config --cflags --libs check)

# An archive each, so that a test links only what it uses: machine.o wants the guest's image.
UVM_LIB_SRC   = $(filter-out vmm/main.c,$(VMM_SRC))
AGENT_LIB_SRC = $(filter-out guest/agent/main.c $(BOTH_SRC),$(AGENT_SRC))
TEST_LIB_SRC  = $(filter-out tests/unit/test_% tests/fuzz/main.c,$(wildcard tests/unit/*.c tests/fuzz/*.c))
LIBS          = libtests.a libagent.a libuvm.a

UNIT_THREADS  = $(wildcard tests/unit/test_threads.c)
UNIT_SRC      = $(filter-out $(UNIT_THREADS),$(wildcard tests/unit/test_*.c))
UNIT_BIN      = $(UNIT_SRC:%.c=$B/%) $(UNIT_THREADS:%.c=$B/%)

.PHONY: unit
unit: $(UNIT_BIN)

# $(1): directory, $(2): flags. With a rule for the objects and one for each archive.
define sanitized
$B/$(1)/%.o: %.c tests/tests.mk
	$(call say,CC,$$@)
	$$(Q)mkdir -p $$(@D) && gcc $$(COMMON) -g -O1 -fno-omit-frame-pointer $(2) -c -o $$@ $$<

$B/$(1)/libuvm.a: $(UVM_LIB_SRC:%.c=$B/$(1)/%.o)
$B/$(1)/libagent.a: $(AGENT_LIB_SRC:%.c=$B/$(1)/%.o)
$B/$(1)/libtests.a: $(TEST_LIB_SRC:%.c=$B/$(1)/%.o)
$(LIBS:%=$B/$(1)/%):
	$$(Q)rm -f $$@ && ar rcs $$@ $$^
endef
$(eval $(call sanitized,san,$(SAN)))
$(eval $(call sanitized,tsan,$(TSAN)))

# The monitor with glibc's static libc and the filters that every build has, without the sanitizers' calls:
# make build/glibc/uvm; UVM=build/glibc/uvm tests/tiny/run
GLIBC_OBJ = $(VMM_SRC:%.c=$B/glibc/%.o)
$(GLIBC_OBJ): $B/glibc/%.o: %.c tests/tests.mk
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D) && gcc $(COMMON) $(HARDEN) -Wno-unused-result -O1 -c -o $@ $<
$B/glibc/vmm/confine.o: $B/filters.inc
$B/glibc/vmm/seccomp_oci.o: $B/syscalls.inc
-include $(GLIBC_OBJ:.o=.d)

$B/glibc/uvm: $(GLIBC_OBJ) $B/guest/image.o
	$(call say,LD,$@)
	$(Q)gcc -static-pie $(LDHARDEN) -o $@ $^

# It parses command lines, by the tables of all commands, which are the whole monitor.
$B/tests/unit/test_corpus: $B/guest/image.o
$(UNIT_SRC:%.c=$B/%): $B/%: $B/san/%.o $(LIBS:%=$B/san/%)
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D) && gcc $(SAN) -o $@ $^ $(CHECK_LIBS) -lutil

$B/tests/unit/test_help $B/tests/unit/test_oci: $B/guest/image.o # commands, and so all that they reach
$B/tests/unit/test_template: $B/guest/image.o

$(UNIT_THREADS:%.c=$B/%): $B/%: $B/tsan/%.o $(LIBS:%=$B/tsan/%)
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D) && gcc $(TSAN) -o $@ $^ $(CHECK_LIBS) -lutil

$B/san/uvm: $B/san/vmm/main.o $B/san/libuvm.a $B/guest/image.o
	$(call say,LD,$@)
	$(Q)gcc $(SAN) -o $@ $^ -lutil

# What the Linux suite runs: probe and load inside guests, and order, a client of the agent's.
.PHONY: linux
linux: $(patsubst %.c,$B/%,$(wildcard tests/linux/*.c)) $B/tests/tiny/forbidden

$B/tests/linux/%: tests/linux/%.c guest/protocol.h
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D) && musl-gcc -std=gnu11 -D_GNU_SOURCE= -I. $(WARN) $(KHDRS) -O1 -static -s -o $@ $<

# Objects are kept, so that a change rebuilds little.
.SECONDARY:

-include $(foreach d,san tsan,$(patsubst %.c,$B/$d/%.d,$(VMM_SRC) $(AGENT_SRC) $(wildcard tests/unit/*.c tests/fuzz/*.c)))

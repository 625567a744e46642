# Fuzzers: tests/fuzz/run runs them. The monitor's and the agent's own sources, built a third time,
# by clang with libFuzzer's coverage and the sanitizers.

FUZZERS   = answer command control json kernel net oci options pool request seccomp serial share state \
            virtio
FUZZ_SRC  = $(TEST_LIB_SRC) $(UVM_LIB_SRC) $(AGENT_LIB_SRC)
FUZZ_FLAGS = -std=gnu11 -D_GNU_SOURCE= -DUVM_VERSION='"$(VERSION)"' -I. -g -O1 -fno-omit-frame-pointer \
            -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all \
            -Wno-gnu-variable-sized-type-not-at-end

.PHONY: fuzz fuzzers
SECONDS ?= 60
fuzz: setup-fuzz
	@$(MAKE) --no-print-directory fuzzers
	@tests/fuzz/run $(SECONDS)

fuzzers: $(FUZZERS:%=$B/fuzz/%)

$B/fuzz/%.o: %.c tests/fuzz/fuzz.mk $B/syscalls.inc $B/filters.inc $B/facts.inc
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D) && clang $(FUZZ_FLAGS) -MMD -MP -c -o $@ $<

$B/fuzz/lib.a: $(FUZZ_SRC:%.c=$B/fuzz/%.o)
	$(Q)rm -f $@ && ar rcs $@ $^

# The commands are the whole monitor.
$B/fuzz/options: $B/guest/image.o
$(FUZZERS:%=$B/fuzz/%): $B/fuzz/%: tests/fuzz/main.c $B/fuzz/lib.a
	$(call say,LD,$@)
	$(Q)clang $(FUZZ_FLAGS) -fsanitize=fuzzer -DFUZZ_TARGET=fuzz_$* -o $@ $^ $(CHECK_LIBS) -lutil

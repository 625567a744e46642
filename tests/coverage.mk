# Coverage, a part of the Makefile, which includes this file: "make coverage" prints which part of each source file's
# lines the unit tests have run, worst first, and keeps it in $B/coverage/report. TESTS="serial blk" takes only the unit
# tests of these names.
#
# The sources are built once more, with glibc and gcc's counters, under $B/cov. Tiny guests do not count: a VM's process
# is confined, and is killed for opening the files of its counters at its end.

COV      = $B/cov
COVFLAGS = --coverage -fprofile-update=atomic -O0 -g
COV_UNIT = $(if $(TESTS),$(TESTS:%=$(COV)/tests/unit/test_%),$(UNIT_SRC:%.c=$(COV)/%))
COV_LIBS = $(COV)/libtests.a $(COV)/libagent.a $(COV)/libuvm.a

.PHONY: coverage coverage-programs
coverage-programs: $(COV_UNIT)

$(COV)/%.o: %.c tests/coverage.mk $B/syscalls.inc $B/filters.inc $B/facts.inc
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D) && gcc $(COMMON) $(COVFLAGS) -c -o $@ $<

$(COV)/libuvm.a: $(UVM_LIB_SRC:%.c=$(COV)/%.o)
$(COV)/libagent.a: $(AGENT_LIB_SRC:%.c=$(COV)/%.o)
$(COV)/libtests.a: $(TEST_LIB_SRC:%.c=$(COV)/%.o)
$(COV_LIBS):
	$(Q)rm -f $@ && ar rcs $@ $^

$(UNIT_SRC:%.c=$(COV)/%): $(COV)/%: $(COV)/%.o $(COV_LIBS) $B/guest/image.o
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D) && gcc --coverage -o $@ $< $(COV_LIBS) $B/guest/image.o $(CHECK_LIBS) -lutil

coverage: coverage-programs
	@tests/coverage $(COV) $(COV_UNIT)

# Coverage, a part of the Makefile, which includes this file: "make coverage" prints which lines of each source file
# tests have run, and keeps what it knows in $B/coverage (tests/coverage). TESTS="serial blk" takes only the unit
# tests of these names.
#
# The sources are built once more, with glibc and clang's counters, under $B/cov. The counters are in a file that every
# process maps as it begins (%c) and that all processes of one program share (%m): so a process that is confined, a
# fork of it, and one that is killed count, and none of them has to write or to open anything at its end. The file's
# name is compiled in, because not every process has an environment.

COV      = $B/cov
COV_RAW  = $(CURDIR)/$(COV)/raw
COVFLAGS = -fprofile-instr-generate=$(COV_RAW)/%m%c.profraw -fprofile-update=atomic -fcoverage-mapping \
           -mllvm -runtime-counter-relocation -O1 -g -w
COV_UNIT = $(if $(TESTS),$(TESTS:%=$(COV)/tests/unit/test_%),$(UNIT_SRC:%.c=$(COV)/%))
COV_LIBS = $(COV)/libtests.a $(COV)/libagent.a $(COV)/libuvm.a
COV_ALL  = $(COV)/uvm $(COV)/agent

.PHONY: coverage coverage-programs
coverage-programs: $(COV_UNIT) $(COV_ALL) $(if $(TESTS),,tiny)

# What is made by the build has to be there; who includes it is in the .d files.
$(COV)/%.o: %.c tests/coverage.mk | $B/syscalls.inc $B/filters.inc $B/facts.inc
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D) && clang $(COMMON) $(COVFLAGS) -c -o $@ $<

$(COV)/libuvm.a: $(UVM_LIB_SRC:%.c=$(COV)/%.o)
$(COV)/libagent.a: $(AGENT_LIB_SRC:%.c=$(COV)/%.o)
$(COV)/libtests.a: $(TEST_LIB_SRC:%.c=$(COV)/%.o)
$(COV_LIBS):
	$(Q)rm -f $@ && ar rcs $@ $^

# Not from the archives: what no test runs has to be in the report, too. The agent is never run, only looked into.
$(COV)/uvm: $(VMM_SRC:%.c=$(COV)/%.o) $B/guest/image.o
$(COV)/agent: $(AGENT_SRC:%.c=$(COV)/%.o)
$(COV_ALL):
	$(call say,LD,$@)
	$(Q)clang $(COVFLAGS) -o $@ $^ -lutil

$(UNIT_SRC:%.c=$(COV)/%): $(COV)/%: $(COV)/%.o $(COV_LIBS) $B/guest/image.o
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D) && clang $(COVFLAGS) -o $@ $< $(COV_LIBS) $B/guest/image.o $(CHECK_LIBS) -lutil

# A second make, as for fuzz.
coverage: setup-coverage
	@$(MAKE) --no-print-directory coverage-programs
	@tests/coverage $(COV) $(COV_UNIT)

-include $(foreach f,$(VMM_SRC) $(AGENT_SRC) $(UNIT_SRC) $(TEST_LIB_SRC),$(COV)/$(f:.c=.d))

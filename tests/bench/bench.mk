# Programs of the benchmarks. Included by the Makefile: uses B, Q, say, WARN and the monitor's flags.

BENCH = $B/bench

.PHONY: bench-programs
bench-programs: $(BENCH)/timer $(BENCH)/io_guest $(BENCH)/floor $(TINY)/guest.elf

$(BENCH)/timer $(BENCH)/io_guest: $(BENCH)/%: tests/bench/%.c
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D) && musl-gcc -std=gnu11 -D_GNU_SOURCE= $(WARN) $(KHDRS) -O2 -static -s -o $@ $<

# Of the monitor's own objects it takes what reads a snapshot.
$(BENCH)/libuvm.a: $(VMM_OBJ)
	$(Q)mkdir -p $(@D) && rm -f $@ && ar rcs $@ $^

$(BENCH)/floor: tests/bench/floor.c $(BENCH)/libuvm.a
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D) && gcc -specs $B/musl-pie.specs $(COMMON) $(KHDRS) $(HARDEN) $(CFLAGS) $(LDHARDEN) \
	    -MF $@.d -o $@ $^

-include $(BENCH)/floor.d

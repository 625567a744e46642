# Static analysis, a part of the Makefile, which includes this file. "tests/run static" runs it; a file is
# looked at again when it or one of its headers has changed, or what is to be looked for.
#
# Each tool has one file at a time, with UVM_ANALYSIS defined: vmm/err.h tells the tools then what err.c
# does. A finding is an error. What is none is said where it stands, with its reason: cppcheck-suppress,
# NOLINTNEXTLINE(check), or "#pragma GCC diagnostic ignored".

S          = $B/static
STATIC_SRC = $(filter-out vmm/err.c,$(VMM_SRC)) $(filter-out $(BOTH_SRC),$(AGENT_SRC))
STATIC     = -std=gnu11 -D_GNU_SOURCE= -DUVM_ANALYSIS -DUVM_VERSION='"$(VERSION)"' -I.
# varFuncNullUB: NULL is a pointer with both C libraries.
CPPCHECK   = cppcheck -q --error-exitcode=1 --enable=warning,performance,portability --std=c11 -D_GNU_SOURCE= \
             -DUVM_ANALYSIS -I. --inline-suppr --suppress=missingInclude --suppress=varFuncNullUB \
             --template='{file}:{line}: {message} [{id}]'

STATIC_TOOLS = gcc-analyzer clang-tidy cppcheck
.PHONY: $(STATIC_TOOLS:%=static-%)
$(foreach t,$(STATIC_TOOLS),$(eval static-$t: $(STATIC_SRC:%.c=$S/%.$t)))

# $(1): tool, $(2): what it runs, which says on standard output or error what it found.
define static_rule
$S/%.$(1): %.c tests/static.mk .clang-tidy $B/syscalls.inc $B/filters.inc $B/facts.inc
	$$(Q)mkdir -p $$(@D) && gcc $(STATIC) -MM -MP -MT $$@ -MF $$@.d $$<
	$$(Q)$(2) && touch $$@
endef
$(eval $(call static_rule,gcc-analyzer,gcc $(STATIC) -fanalyzer -Wno-unused-value -Werror -c -o /dev/null $$<))
$(eval $(call static_rule,clang-tidy,clang-tidy --quiet $$< -- $(STATIC) 2>/dev/null))
$(eval $(call static_rule,cppcheck,$(CPPCHECK) $$<))

-include $(foreach t,$(STATIC_TOOLS),$(STATIC_SRC:%.c=$S/%.$t.d))

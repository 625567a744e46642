# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034 # sourced
#
# lib.sh: what the benchmarks here share: how things are measured, and the one form of their results.
#
# Sourced with $bench, the benchmark's name; $parts; and $top as the working directory. Sets $dir, a
# temporary directory that is removed at the end with the VMs of the run directory; $uvm, a copy in it;
# $timer; $out; and $where and $machine. Who sources it may set, for the rows that follow, also for one alone
# (of=qemu measure ...):
#
#	$of		who is measured (default uvm); rows of one name are beside each other in the table
#	$version	its version (default uvm's)
#	$warm		runs before that are not counted (default 3, or 1 with UVM_BENCH_TINY)
#
# and $as, a command line (an array) under which commands are measured, as another user's; that is not a part of
# what is measured.
#
# A result is a line "#json {...}" on standard output, which keep takes out and puts into
# build/bench/NAME.json. Its fields: suite, name, of, version, command, figure, unit, statistic (min, p50,
# p99; once; samples, where figure is a list of all), runs, where ("lab --icount", "lab", "native"), kernel
# (the host's), machine. What could not be measured has the field "why" and null for its figure. tests/bench/render
# makes the table and the plots from them.

as=()
out=${UVM_BENCH_OUT-$top/build/bench}
timer=$top/build/bench/timer

if [ -z "${UVM_LAB-}" ]; then
	export UVM_RUN
	UVM_RUN=$(TMPDIR=/dev/shm mktemp -d)
	where=native
elif [ "$parts" = linux_memory ]; then
	where='lab'
else
	where='lab --icount'
fi
machine="$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) CPU(s)"
dir=$(mktemp -d)
uvm=$dir/uvm
cleanup()
{
	for id in $("$uvm" ps 2>/dev/null | awk 'NR > 1 { print $1 }'); do
		"$uvm" kill "$id" || :
	done
	[ "${UVM_LAB-}" ] || rm -rf "$UVM_RUN"
	rm -rf "$dir"
}
trap cleanup EXIT
cp build/uvm "$dir/"
uvm_version=$("$uvm" --version | awk 'NR == 1 { print $NF }')

head_line()
{
	printf '\n%-58s %9s %9s %9s %6s\n' "$1" p50 p99 min runs
}

# quoted TEXT: as a string of JSON.
quoted()
{
	local text=${1//\\/\\\\}
	text=${text//\"/\\\"}
	printf '"%s"' "${text//[[:cntrl:]]/ }"
}

# figure NAME UNIT STATISTIC FIGURE RUNS [WHY]: one result.
figure()
{
	printf '#json {"suite":%s,"name":%s,"of":%s,"version":%s,"command":%s,"figure":%s,"unit":%s,"statistic":%s,"runs":%d,"where":%s,"kernel":%s,"machine":%s%s}\n' \
		"$(quoted "$bench")" "$(quoted "$1")" "$(quoted "${of:-uvm}")" "$(quoted "${version:-$uvm_version}")" \
		"$(quoted "${command_line:-tests/bench/$bench}")" "$4" "$(quoted "$2")" "$(quoted "$3")" "$5" \
		"$(quoted "$where")" "$(quoted "$(uname -r)")" "$(quoted "$machine")" "${6:+,\"why\":$(quoted "$6")}"
}

# failed NAME UNIT WHY: no figure, and why.
failed()
{
	p50=
	printf '%-58s %s\n' "$(title "$1" "$2")" "failed: $3"
	figure "$1" "$2" p50 null 0 "failed: $3"
}

# What a row is called on the terminal.
title()
{
	case ${of:-uvm} in
	uvm) echo "$1 ($2)" ;;
	*) echo "$of: $1 ($2)" ;;
	esac
}

# row NAME UNIT DIVISOR: from numbers on standard input. Sets p50 and min, in the numbers' own unit.
row()
{
	local sorted n p99 all
	mapfile -t sorted < <(sort -g)
	n=${#sorted[@]}
	[ "$n" -gt 0 ] || { failed "$1" "$2" 'no figures'; return; }
	p50=${sorted[$(((n - 1) / 2))]} p99=${sorted[$(((n * 99 + 99) / 100 - 1))]} min=${sorted[0]}
	read -r -a all < <(printf '%s\n' "$p50" "$p99" "$min" "${sorted[@]}" |
		awk -v d="$3" '{ printf "%.4f ", $1 / d } END { print "" }')
	printf '%-58s %9.3f %9.3f %9.3f %6d\n' "$(title "$1" "$2")" "${all[@]::3}" "$n"
	figure "$1" "$2" p50 "${all[0]}" "$n"
	figure "$1" "$2" p99 "${all[1]}" "$n"
	figure "$1" "$2" min "${all[2]}" "$n"
	n=${all[*]:3}
	figure "$1" "$2" samples "[${n// /,}]" "${#sorted[@]}"
}

# value NAME UNIT NUMBER: a row of one.
value()
{
	printf '%-58s %9s\n' "$(title "$1" "$2")" "$3"
	figure "$1" "$2" once "$3" 1
}

ratio()
{
	[ -z "$2" ] || [ -z "$3" ] || value "$1" ratio "$(awk -v a="$2" -v b="$3" 'BEGIN { printf "%.2f", a / b }')"
}

# measure NAME RUNS TIMER-OPTION... -- CMD...: a row of the whole command's milliseconds.
measure()
{
	local name=$1 n=$2 options=() command_line
	shift 2
	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	shift
	command_line=${*//"$dir/"/}
	: >"$dir/said"
	"${as[@]}" "$timer" -o "$dir/said" "${options[@]}" "${warm:-${UVM_BENCH_TINY:-3}}" "$@" >/dev/null 2>>"$dir/said" && : >"$dir/said" &&
		"${as[@]}" "$timer" -o "$dir/said" "${options[@]}" "$n" "$@" >"$dir/times" 2>>"$dir/said" || {
		failed "$name" ms "$(last_words)"
		return 0
	}
	row "$name" ms 1e6 <"$dir/times"
}

# A pool of DIR, and the command that waits until it is full again: $filled.
make_pool()
{
	"$uvm" pool create --size 2 "$1"
	filled="until $uvm pool ls | grep -q full; do sleep 0.05; done"
	sh -c "$filled"
}

# The last line of what a command said that failed.
last_words()
{
	grep -av -e '^timer: run' -e '^[[:space:]]*$' "$dir/said" | tail -n 1 | grep . || echo 'it says nothing'
}

# calls NAME AFTER CMD...: rows of the system calls of a command and its children until a vCPU first runs; with
# AFTER, which ends what the command left running, also until the command itself has ended.
calls()
{
	local name=$1 after=$2 log=$dir/strace command_line
	shift 2
	command_line="strace -f ${*//"$dir/"/}"
	if ! command -v strace >/dev/null; then
		failed "$name: system calls" calls 'strace is not installed'
		return
	fi
	timeout 20 strace -f -qq -e 'signal=none' -o "$log" "$@" </dev/null >"$dir/said" 2>&1 &
	if [ "$after" ]; then
		until grep -qs "^$(awk '{ print $1; exit }' "$log" 2>/dev/null) .*exit_group(" "$log"; do sleep 0.1; done
		cp "$log" "$log.ready"
		$after
	fi
	wait $! || :
	[ "$after" ] || mv "$log" "$log.ready"
	awk '!/resumed>/ { calls++; kvm += /ioctl\([0-9]+, KVM_/ }
		/KVM_RUN/ && !seen++ { print calls - 1, kvm - 1 }
		END { print calls, kvm }' "$log.ready" >"$dir/counts"
	local first=() all=()
	{ read -r -a first && read -r -a all; } <"$dir/counts" || { failed "$name: system calls" calls "$(last_words)"; return 0; }
	value "$name: system calls before a vCPU runs" calls "${first[0]}"
	value "$name: ... KVM's ioctls of these" calls "${first[1]}"
	[ -z "$after" ] || value "$name: system calls to its end" calls "${all[0]}"
}

# in_memory DIR PROGRAM...: copies of programs with their libraries.
in_memory()
{
	local to=$1
	shift
	mkdir -p "$to"
	cp "$@" $(ldd "$@" 2>/dev/null | awk '$3 ~ /^\// { print $3 }' | sort -u) "$to/"
}

# peer NAME: makes ready what its driver, tests/bench/peers/NAME, starts: the program, with its libraries, in
# memory. Sets $of, $version and $LD_LIBRARY_PATH until peer_end. Status 1 if it is not installed, which the
# results say. A driver sets $program and defines
#
#	peer_version	prints it
#	peer_boot	sets the array command: one vCPU, $mib, $kernel, $cmdline, the first serial port at its
#			standard output; $rootfs as /dev/vda, or, as our kernel has no PCI, the same files as $initrd
#	peer_save	(may be missing) boots a guest of $cmdline and saves it to files beginning with $saved
#	peer_restore	sets command: that guest goes on, and is heard at its standard output
peer()
{
	unset -f peer_copy peer_save peer_restore
	# shellcheck disable=SC1090 # by name
	. "$top/tests/bench/peers/$1"
	of=$1
	if ! command -v "$program" >/dev/null; then
		echo "$1: skipped, $program is not on PATH"
		return 1
	fi
	in_memory "$dir/$1" "$(command -v "$program")"
	version=$(peer_version 2>/dev/null | head -n 1)
	! declare -F peer_copy >/dev/null || peer_copy
	export LD_LIBRARY_PATH=$dir/$1
	program=$dir/$1/$program
}

peer_end()
{
	unset of version LD_LIBRARY_PATH
}

# Runs a benchmark's function or command, shows what it prints, and keeps that and its JSON.
keep()
{
	local status=0
	mkdir -p "$out"
	set -o pipefail
	"$@" | tee "$out/$bench.txt" | sed -u '/^#json/d' || status=$?
	sed -n 's/^#json //p' "$out/$bench.txt" >"$out/$bench.json"
	sed -i '/^#json /d' "$out/$bench.txt"
	echo "also in ${out#"$top/"}/$bench.txt and $bench.json"
	return $status
}

# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034 # sourced
#
# lib.sh: what tests/bench/clone, io and run share: rows of figures, and how they are measured.
#
# Sourced with $bench, the benchmark's name; $parts; and $top as the working directory. Sets $dir, a
# temporary directory that is removed at the end with the VMs of the run directory; $uvm, a copy in it;
# $timer; $out; and $where, for the JSON.

out=$top/build/bench
timer=$out/timer

if [ -z "${UVM_LAB-}" ]; then
	export UVM_RUN
	UVM_RUN=$(TMPDIR=/dev/shm mktemp -d)
	where="native, $(uname -r)"
elif [ "$parts" = linux_memory ]; then
	where="lab, $(uname -r)"
else
	where="lab --icount, $(uname -r)"
fi
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

head_line()
{
	printf '\n%-58s %9s %9s %9s %6s\n' "$1" p50 p99 min runs
}

# row NAME UNIT DIVISOR: from numbers on standard input. Sets p50, in the numbers' own unit.
row()
{
	local sorted n p99 min
	mapfile -t sorted < <(sort -g)
	n=${#sorted[@]}
	[ "$n" -gt 0 ] || { echo "$1: no figures"; return; }
	p50=${sorted[$(((n - 1) / 2))]} p99=${sorted[$(((n * 99 + 99) / 100 - 1))]} min=${sorted[0]}
	awk -v n="$1" -v u="$2" -v d="$3" -v a="$p50" -v b="$p99" -v c="$min" -v r="$n" \
		'BEGIN { printf "%-58s %9.3f %9.3f %9.3f %6d\n", n " (" u ")", a / d, b / d, c / d, r }'
	awk -v n="$1" -v u="$2" -v d="$3" -v a="$p50" -v b="$p99" -v c="$min" -v r="$n" -v w="$where" -v bench="$bench" \
		'BEGIN { printf "#json {\"bench\":\"%s\",\"name\":\"%s\",\"unit\":\"%s\",\"p50\":%.4f,\"p99\":%.4f,\"min\":%.4f,\"runs\":%d,\"where\":\"%s\"}\n", bench, n, u, a / d, b / d, c / d, r, w }'
}

# value NAME UNIT NUMBER: a row of one.
value()
{
	printf '%-58s %9s\n' "$1 ($2)" "$3"
	echo "#json {\"bench\":\"$bench\",\"name\":\"$1\",\"unit\":\"$2\",\"value\":$3,\"where\":\"$where\"}"
}

ratio()
{
	value "$1" ratio "$(awk -v a="$2" -v b="$3" 'BEGIN { printf "%.2f", a / b }')"
}

# measure NAME RUNS TIMER-OPTION... -- CMD...: a row of the whole command's milliseconds.
measure()
{
	local name=$1 n=$2 options=()
	shift 2
	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	shift
	"$timer" "${options[@]}" 3 "$@" >/dev/null
	: >"$dir/said"
	"$timer" -o "$dir/said" "${options[@]}" "$n" "$@" >"$dir/times" || { tail -n 3 "$dir/said"; return; }
	row "$name" ms 1e6 <"$dir/times"
}

# A pool of DIR, and the command that waits until it is full again: $filled.
make_pool()
{
	"$uvm" pool create --size 2 "$1"
	filled="until $uvm pool ls | grep -q full; do sleep 0.05; done"
	sh -c "$filled"
}

# in_memory DIR PROGRAM...: copies of programs with their libraries.
in_memory()
{
	local to=$1
	shift
	mkdir -p "$to"
	cp "$@" $(ldd "$@" | awk '$3 ~ /^\// { print $3 }' | sort -u) "$to/"
}

# QEMU with its libraries and firmware, and virtiofsd if it is there, in $dir/qemu.
qemu_in_memory()
{
	local qemu firmware
	qemu=$(command -v qemu-system-x86_64) || return
	in_memory "$dir/qemu" "$qemu"
	[ ! -x /usr/lib/qemu/virtiofsd ] || in_memory "$dir/qemu" /usr/lib/qemu/virtiofsd
	for firmware in bios-microvm.bin linuxboot_dma.bin pvh.bin kvmvapic.bin; do
		cp -L "/usr/share/qemu/$firmware" "/usr/share/seabios/$firmware" "$dir/qemu/" 2>/dev/null || :
	done
}

# Runs a benchmark's function or command, shows what it prints, and keeps that and its JSON.
keep()
{
	mkdir -p "$out"
	"$@" | tee "$out/$bench.txt" | grep --line-buffered -v '^#json'
	sed -n 's/^#json //p' "$out/$bench.txt" >"$out/$bench.json"
	sed -i '/^#json /d' "$out/$bench.txt"
	echo "also in build/bench/$bench.txt and build/bench/$bench.json"
}

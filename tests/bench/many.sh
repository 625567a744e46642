# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # sourced, after lib.sh
#
# many.sh: many clones of $dir/snap at once, for tests/bench/clone and grow.

# start_many N: their names are in $dir/ids.
start_many()
{
	"$uvm" clone "$dir/snap" -d -n "$1" >"$dir/ids"
}

# Those of $dir/ids go.
end_many()
{
	local id
	while read -r id; do
		"$uvm" kill "$id"
	done <"$dir/ids"
}

# The process ids of those of $dir/ids.
processes()
{
	sed "s|.*|$UVM_RUN/&/pid|" "$dir/ids" | xargs cat
}

# pss_row NAME: of each of $dir/ids.
pss_row()
{
	local pid
	for pid in $(processes); do
		awk '/^Pss:/ { print $2 }' "/proc/$pid/smaps_rollup"
	done | row "$1" MiB 1024
}

# memory_of N GUEST AFTER: what each of N clones takes once the command AFTER has been run.
memory_of()
{
	start_many "$1"
	$3
	pss_row "$2: memory of each of $1 at once (PSS)"
	end_many
}

# idle_row NAME SECONDS: the CPU time that each of $dir/ids takes in them, all its threads', in milliseconds.
idle_row()
{
	local before after
	before=$(cpu_time)
	sleep "$2"
	after=$(cpu_time)
	value "$1: CPU time of each in $2 s" ms \
		"$(awk -v a="$before" -v b="$after" -v n="$(wc -l <"$dir/ids")" 'BEGIN { printf "%.3f", (b - a) / 1e6 / n }')"
}

# Nanoseconds.
cpu_time()
{
	local pid
	for pid in $(processes); do
		cat "/proc/$pid/task/"*/schedstat
	done | awk '{ n += $1 } END { printf "%.0f", n }'
}

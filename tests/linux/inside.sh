# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # a part of tests/linux/run, whose variables these are
#
# inside.sh: what uvm shows of a container in a VM of "uvm run", and takes from it: files, changes,
# processes, figures, limits, events. One container serves many checks.

case ${2-} in
test_inside_*) export UVM_KERNEL=$kernel UVM_CACHE=$own_cache ;;
esac

in_c()
{
	timeout 60 "$uvm" exec c -- "$@"
}

cp_()
{
	timeout 60 "$uvm" cp "$@" 2>"$dir/err"
}

# refuses TEXT COMMAND...
refuses()
{
	local text=$1
	shift
	"$@" >/dev/null 2>"$dir/err" && { reason="'$*' was not refused"; return 1; }
	want "'$*' was refused with: $(cat "$dir/err")" grep -qF -- "$text" "$dir/err"
}

test_inside_copies()
{
	local t=$dir/tree long i
	background_run c -- sleep 1000 || return
	tree "$t" || return
	truncate -s 40M "$t/holes"
	for i in 1 5 9; do printf 'data %s' $i | dd of="$t/holes" bs=1M seek=$i conv=notrunc 2>/dev/null; done
	long=$(printf 'n%.0s' $(seq 120))
	mkdir -p "$t/$long/$long" && echo x >"$t/$long/$long/$long" && ln -s "/$long/$long" "$t/$long/link"
	ln "$t/$long/$long/$long" "$t/$long/hard"
	mkfifo "$t/fifo" && mknod "$t/null" c 1 3
	printf 'x' >"$t/$(printf 'new\nline')"
	touch -h -d @1600000000 "$t" "$t/holes" "$t/fifo" "$t/null" "$t/new"* "$t/$long" "$t/$long"/*
	# There, as a new directory, and back.
	cp_ -a "$t" c:/new || { reason="cp to it: $(cat "$dir/err")"; return 1; }
	same "a file" "4711 0 0 1600000000" "$(in_c stat -c '%a %u %g %Y' /new/nothing)" || return
	same "an owner" "12 34" "$(in_c stat -c '%u %g' /new/deep/er)" || return
	same "a hard link" "2" "$(in_c stat -c %h /new/docs/testing.md)" || return
	same "a device" "1 3" "$(in_c stat -c '%t %T' /new/null)" || return
	want "holes are filled: $(in_c stat -c '%b %s' /new/holes)" [ "$(in_c stat -c %b /new/holes)" -lt 2000 ] || return
	same "their data" "$(md5sum <"$t/holes")" "$(in_c sh -c 'md5sum </new/holes')" || return
	cp_ -a c:/new "$dir/back" || { reason="cp from it: $(cat "$dir/err")"; return 1; }
	want "no word about the device: $(cat "$dir/err")" grep -q "1 devices are left out" "$dir/err" || return
	rm "$t/null"
	same "what came back" "$(describe "$t" | grep -v '^\. ')" "$(describe "$dir/back" | grep -v '^\. ')" || return
	want "contents differ" diff -r --no-dereference --exclude=fifo "$t" "$dir/back" || return
	want "holes are filled" [ "$(stat -c %b "$dir/back/holes")" -lt 2000 ] || return
	# Into a directory that is there; what is in one; a file under another name.
	mkdir "$dir/into" && cp_ c:/new/docs "$dir/into" && cp_ c:/new/docs/. "$dir/into" || { reason="cp: $(cat "$dir/err")"; return 1; }
	want "cp into a directory" cmp "$t/docs/testing.md" "$dir/into/docs/testing.md" || return
	want "cp of what is in one" cmp "$t/docs/testing.md" "$dir/into/testing.md" || return
	cp_ c:/new/nothing "$dir/into/other" || return
	same "a file without -a" "711 $(id -u)" "$(stat -c '%a %u' "$dir/into/other")" || return
	cp_ "$t/docs/." c:/root && cp_ "$t/nothing" c:/root/other && cp_ "$t/docs" c:/root || return
	same "in the container" "4711 0" "$(in_c stat -c '%a %u' /root/other)" || return
	ends 0 in_c cmp /root/testing.md /root/docs/testing.md || return
	# Tar streams.
	same "members" "docs docs/agent-protocol.md" "$(cp_ c:/new/docs - | tar t | sort | head -n 2 | xargs)" || return
	tar -C "$t" -c --format=pax deep "$long" docs | cp_ -a - c:/root || { reason="tar in: $(cat "$dir/err")"; return 1; }
	same "from a tar" "x 12" "$(in_c cat "/root/$long/$long/$long") $(in_c stat -c %u /root/deep)" || return
	# Links in the container lead nowhere else; the file is the container's.
	in_c sh -c 'ln -s /etc /root/l && ln -s ../../../../../../etc/passwd /root/p && ln -s / /root/deep/root'
	echo mine >"$dir/group" && cp_ "$dir/group" c:/root/l && same "through a link" mine "$(in_c cat /etc/group)" || return
	cp_ c:/root/p "$dir/into" && same "a link" "../../../../../../etc/passwd" "$(readlink "$dir/into/p")" || return
	cp_ -L c:/root/p "$dir/into/passwd" && same "what it leads to" "$(in_c cat /etc/passwd)" "$(cat "$dir/into/passwd")" || return
	# What cannot be.
	refuses "No such file" "$uvm" cp c:/none "$dir" || return
	refuses "No such file" "$uvm" cp "$t/nothing" c:/no/where || return
	refuses "Is a directory" "$uvm" cp c:/new "$dir/into/other" || return
	refuses "Not a directory" "$uvm" cp "$t" c:/etc/passwd || return
	mkdir "$dir/into/random" && in_c mkdir -p /root/d/nothing || return
	refuses "would replace a directory" "$uvm" cp c:/new/random "$dir/into" || return
	refuses "cannot replace '" "$uvm" cp "$t/nothing" c:/root/d || return
	refuses "neither" "$uvm" cp "$dir" "$dir/x" || return
	refuses "Not a directory" "$uvm" cp - c:/etc/passwd </dev/null || return
	refuses "cut off" "$uvm" cp - c:/root </dev/null || return
	in_c sh -c 'head -c 200000 /dev/zero >/dev/shm/x' && cp_ c:/dev/shm/x "$dir/into" || return
	same "from a mount" 200000 "$(stat -c %s "$dir/into/x")" || return
	# The differences, of those and of what is there.
	in_c sh -c 'rm -r /root/*; rm /etc/passwd; rm -rf /new; mkdir -p /new/a; echo >/new/b; echo >"/new/c
d"; chmod 700 /root; rm -r /etc/init.d 2>/dev/null; mkdir -p /etc/init.d'
	"$uvm" diff c >"$dir/diff" || return
	want "diff: $(cat "$dir/diff")" grep -qxF 'D /etc/passwd' "$dir/diff" || return
	want "diff: $(cat "$dir/diff")" grep -qxF 'C /etc/group' "$dir/diff" || return
	same "what is new" 'A /new A /new/a A /new/b A /new/c\012d' "$(grep ' /new' "$dir/diff" | xargs -d '\n' echo)" || return
	want "JSON" grep -qF '"kind":"A","path":"/new/b"' <("$uvm" diff --json c | tr -d ' ') || return
	"$uvm" kill c && "$uvm" rm c
	refuses "c" "$uvm" diff c
}

test_inside_figures()
{
	local v
	timeout 100 "$uvm" events >"$dir/events" &
	local watcher=$!
	background_run c -- sh -c 'sleep 1000 & sleep 2000 & trap "" TERM; while :; do sleep 0.2; done' || return
	# The shell's own line has these words, too, but does not end with them.
	later 10 top_has c "S .*sleep 1000$" && later 10 top_has c "S .*sleep 2000$" || { reason="top: $("$uvm" top c)"; return 1; }
	want "top: $("$uvm" top c)" grep -qE "^0 +1 +0 [SRD] +1 .*sh -c sleep 1000" <("$uvm" top c) || return
	want "top: $("$uvm" top c)" grep -qE "^0 +[0-9]+ +1 S .*sleep 1000$" <("$uvm" top c) || return
	want "top --vm" grep -q "kthreadd" <("$uvm" top --vm c) || return
	want "top --json" grep -q '"pid":1,"parent":0' <("$uvm" top --json c | tr -d ' \n') || return
	refuses "not a number" "$uvm" update --cpus much c || return
	refuses "usage" "$uvm" update c || return
	refuses "no VM" "$uvm" update --memory 32M none || return
	ends 0 "$uvm" update --memory 64M --cpus 0.5 --pids-limit 30 --cpu-weight 50 c >"$dir/out" || return
	same "what it prints" c "$(cat "$dir/out")" || return
	same "limits" "67108864 50000 100000 30 50" "$("$uvm" exec c -- sh -c 'cd /sys/fs/cgroup && cat memory.max cpu.max pids.max cpu.weight' | xargs)" || return
	ends 0 "$uvm" update --pids-limit -1 --memory -1 c >/dev/null || return
	same "without limits" "max max" "$("$uvm" exec c -- sh -c 'cd /sys/fs/cgroup && cat memory.max pids.max' | xargs)" || return
	refuses "cannot set of the cgroup 'cpuset.cpus'" "$uvm" update --cpuset-cpus 7-9 c || return
	same "update --json" '[{"id":"c","limits":{"memory.max":"67108864","pids.max":"99"}}]' "$("$uvm" update --json --memory 64M --pids-limit 99 c)" || return
	ends 0 "$uvm" update --memory 64M c >/dev/null || return
	v=$("$uvm" stats --json c | tr -d ' \n')
	want "stats: $v" grep -qE '"container":\{"cpu_us":[1-9].*"memory_bytes":[1-9][0-9]*,.*"memory_limit_bytes":67108864' <<<"$v" || return
	want "stats: $v" grep -qE '"guest":\{"cpu_us":[1-9].*"memory_limit_bytes":[1-9].*"processes":[1-9]' <<<"$v" || return
	want "stats: $("$uvm" stats)" grep -qE "^c .* [0-9.]+M +[3-6]$" <("$uvm" stats) || return
	v=$("$uvm" metrics c)
	want "metrics: $v" grep -q '^uvm_container_processes{id="c"} ' <<<"$v" || return
	want "metrics: $v" grep -q '^uvm_guest_cpu_seconds_total{id="c"} [0-9.]*$' <<<"$v" || return
	same "metrics that are there twice" "" "$(grep '^# TYPE' <<<"$v" | sort | uniq -d)" || return
	# A guest that cannot answer is not waited for.
	ends 0 "$uvm" pause c || return
	want "stats of one that is paused" grep -q '"guest":null,"container":null' <("$uvm" stats --json c | tr -d ' \n') || return
	ends 0 "$uvm" resume c || return
	ends 0 "$uvm" fork c --id f >/dev/null || return
	# Too much memory, and the end.
	ends 137 "$uvm" exec c -- sh -c 'tail /dev/zero' || return
	want "stats" grep -qE '"container":\{.*"oom_kills":1' <("$uvm" stats --json c | tr -d ' \n') || return
	"$uvm" kill f
	"$uvm" kill -s KILL c && same "status" 137 "$("$uvm" wait c)" || return
	later 10 grep -q " c exit " "$dir/events"
	kill $watcher
	same "events" "start ready running pause resume fork oom exit" "$(awk '$2 == "c" { print $3 }' "$dir/events" | xargs)" || { cat "$dir/events" >&2; return 1; }
	want "events: $(cat "$dir/events")" grep -qF ' c fork fork="f"' "$dir/events" || return
	want "events: $(cat "$dir/events")" grep -q ' c oom kills=1$' "$dir/events" || return
	want "events: $(cat "$dir/events")" grep -q ' c exit status=137 ' "$dir/events" || return
	want "events: $(cat "$dir/events")" grep -q ' f exit ' "$dir/events" || return
	same "of the past" "8" "$("$uvm" events --no-stream c | wc -l)" || return
	same "nothing since" "" "$("$uvm" events --no-stream --since 1s none)" || return
	# In the foreground: a line about it.
	ends 137 uvm_run --memory 128M "$rootfs" sh -c 'exec tail /dev/zero' 2>"$dir/err" || return
	want "no line about memory: $(cat "$dir/err")" grep -q "memory limit has killed" "$dir/err"
}

top_has() { "$uvm" top "$1" | grep -q "$2"; }

# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # a part of tests/linux/run, whose variables these are
#
# clone.sh: what must hold for a Linux guest over snapshot, clone and fork. "a" is the source in each
# of these tests. What runs inside is tests/linux/probe.c.

# vm ID COMMAND...: in that guest, and not for ever.
vm()
{
	local id=$1
	shift
	timeout 120 "$uvm" exec "$id" -- "$@"
}

# A source with the probe in it. source OPTION...
source_vm()
{
	want "build/tests/linux/probe is not built" [ -x "$probe" ] || return
	boot a --memory 128M "$@" || return
	reason="the probe does not get into the guest"
	vm a sh -c 'cat >/tmp/probe && chmod 755 /tmp/probe' <"$probe"
}

# background ID WORD...: the probe with these words, without a client.
background()
{
	local id=$1
	shift
	reason="probe $1 does not start"
	vm "$id" sh -c '/tmp/probe "$@" </dev/null >/dev/null 2>&1 &' sh "$@"
}

# on ID FILE N: waits until the probe has come further than N; sets round. Fails if it has noticed
# something.
on()
{
	round=$(vm "$1" /tmp/probe await "$2" "$3") || {
		reason="$1: ${2##*/}: $round"
		return 1
	}
}

snapshot()
{
	reason="snapshot of $1 failed"
	"$uvm" snapshot "$@"
}

# clone_as ID [DIR]
clone_as()
{
	reason="clone $1 failed"
	"$uvm" clone "${2-$dir/snap}" --id "$1" --detach >"$dir/id" && same "printed id" "$1" "$(cat "$dir/id")"
}

# fork_as ID FROM
fork_as()
{
	reason="fork $1 of $2 failed"
	"$uvm" fork "$2" --id "$1" >"$dir/id" && same "printed id" "$1" "$(cat "$dir/id")"
}

# What distinguishes a guest, a line each.
identity()
{
	vm "$1" cat /proc/sys/kernel/hostname /etc/machine-id /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid
}

# different ID...: no two of these guests have anything of that in common, and each has its name.
different()
{
	local id n=0
	: >"$dir/identities"
	for id; do
		identity "$id" >"$dir/identity" 2>"$dir/why" || {
			reason="$id does not answer: status $?, $(xargs <"$dir/why")"
			return 1
		}
		same "lines of $id" 4 "$(wc -l <"$dir/identity")" || return
		same "host name of $id" "$id" "$(head -n 1 "$dir/identity")" || return
		cat "$dir/identity" >>"$dir/identities"
		n=$((n + 1))
	done
	same "different names and numbers of $n guests" $((4 * n)) "$(sort -u "$dir/identities" | wc -l)"
}

# Processes of uvm, whoever started them, without VMs' keepers, which go with them.
processes()
{
	local p n=0
	for p in /proc/[0-9]*; do
		[ "$p/exe" -ef "$uvm" ] && ! grep -qsx uvm-keeper "$p/comm" && n=$((n + 1))
	done
	echo $n
}

# only ID...: these VMs run, and nothing is left of others.
only()
{
	local ids="$*"
	same "VMs" "$ids" "$("$uvm" ps -q | xargs)" || return
	same "run directories" "$ids" "$(ls "$UVM_RUN" | xargs)" || return
	same "processes of uvm" $# "$(processes)"
}

# Nothing that a guest's kernel only says in need.
calm()
{
	local said
	said=$(vm "$1" dmesg | grep -iE 'lockup|stall|BUG|WARNING|Call Trace|hung task|clocksource.*(unstable|skew)|I/O error')
	want "$1's kernel: $(head -n 1 <<<"$said")" [ -z "$said" ]
}

# --- who a clone is ---

test_clone_has_its_own_identity()
{
	source_vm --rootfs "$(root),cow" || return
	snapshot a --out "$dir/snap" || return
	clone_as b || return
	clone_as c || return
	different a b c || return
	fork_as d a || return
	fork_as e b || return
	different a b c d e
}

# before and after are a guest's three clocks, in ms.
test_clone_has_the_hosts_time_and_its_own_uptime()
{
	local id before after start host end slept
	source_vm --rootfs "$(root),cow" || return
	start=$(date +%s%3N)
	read -r -a before <<<"$(vm a /tmp/probe clock)"
	snapshot a --out "$dir/snap" || return
	slept=$(date +%s%3N)
	sleep 3
	slept=$(($(date +%s%3N) - slept))
	clone_as b || return
	fork_as c a || return
	fork_as d b || return
	for id in a b c d; do
		host=$(date +%s%3N)
		read -r -a after <<<"$(vm $id /tmp/probe clock)"
		end=$(date +%s%3N)
		want "$id: wall clock ${after[2]}, the host's is $host to $end" \
			[ "${after[2]}" -ge $((host - 1000)) -a "${after[2]}" -le $((end + 1000)) ] || return
		want "$id: monotonic clock went back: ${before[0]}, then ${after[0]}" [ "${after[0]}" -ge "${before[0]}" ] || return
		same "$id: time spent suspended, ms" $((before[1] - before[0])) $((after[1] - after[0])) || return
		# b and d come from the snapshot, and did not live while this slept.
		[ $id = a ] || [ $id = c ] || end=$((end - slept))
		want "$id: monotonic clock jumped: ${before[0]}, then ${after[0]}, in $((end - start)) ms" \
			[ "${after[0]}" -le $((before[0] + end - start + 500)) ] || return
	done
	# Nor does the source's stand still.
	read -r -a after <<<"$(vm a /tmp/probe clock)"
	want "a: monotonic clock stood still" [ "${after[0]}" -ge $((before[0] + slept)) ]
}

# The names and random numbers that a process saw that did nothing else. All clones of a snapshot were
# stopped at the same place, so all see the old name for equally many turns: none has had a turn of
# its own with it.
test_clone_runs_nothing_before_its_identity()
{
	local id
	source_vm --rootfs "$(root),cow" || return
	background a who /tmp/who || return
	vm a sh -c 'until [ -s /tmp/who ]; do usleep 1000; done' || return
	"$uvm" fork a -n 2 >"$dir/forks" || { reason=fork; return 1; }
	snapshot a --out "$dir/snap" --stop || return
	for id in b c; do clone_as $id || return; done
	set -- $(cat "$dir/forks")
	same "forks" 2 $# || return
	for id in b c "$@"; do
		# It ends by itself once it has seen the new name.
		vm "$id" sh -c "while pidof probe >/dev/null; do usleep 20000; done; cat /tmp/who" >"$dir/who.$id" ||
			{ reason="$id does not go on"; return 1; }
		same "$id: names" "a $id" "$(cut -d ' ' -f 1 "$dir/who.$id" | uniq | xargs)" || return
	done
	same "turns with the old name, in two clones" "$(grep -c '^a ' "$dir/who.b")" "$(grep -c '^a ' "$dir/who.c")" || return
	same "turns with the old name, in two forks" "$(grep -c '^a ' "$dir/who.$1")" "$(grep -c '^a ' "$dir/who.$2")" || return
	for id in b c "$@"; do
		grep "^$id " "$dir/who.$id" | cut -d ' ' -f 2
	done >"$dir/drawn"
	same "random numbers drawn" 200 "$(wc -l <"$dir/drawn")" || return
	same "random numbers that two of them drew" "" "$(sort "$dir/drawn" | uniq -d)"
}

test_clone_runs_a_command()
{
	source_vm --rootfs "$(root),cow" || return
	snapshot a --out "$dir/snap" || return
	ends 7 "$uvm" clone "$dir/snap" --id b -- sh -c 'hostname; echo err >&2; cat; exit 7' <<<"in" >"$dir/out" 2>"$dir/err" || return
	same "output" "b in" "$(xargs <"$dir/out")" || return
	same "standard error" err "$(cat "$dir/err")" || return
	only a || return
	ends 143 "$uvm" clone "$dir/snap" -- sh -c 'kill -TERM $$' || return
	ends 127 "$uvm" clone "$dir/snap" no-such-command 2>/dev/null || return
	same "a terminal" $'yes\r' "$("$uvm" clone "$dir/snap" -t -- sh -c '[ -t 0 ] && echo yes' </dev/null)" || return
	only a || return
	ends 1 "$uvm" clone "$dir/snap" --id a --detach 2>"$dir/err" || return
	want "message: $(cat "$dir/err")" grep -q "'a' is running already" "$dir/err" || return
	only a || return
	ends 0 vm a true
}

# What a clone is told at its start: a placeholder is mounted, and a variable there, before the first
# command. The same words at boot, some of which the clone changes.
# A change of user makes the kernel forget what was to come at the parent's end.
test_clone_goes_with_its_command()
{
	local sandbox client pid _
	boot a --rootfs "$rootfs,ro" || return
	snapshot a --output "$dir/snap" --stop || return
	chmod 755 "$dir" "$dir/snap"
	for sandbox in on user=65534; do
		"$uvm" clone "$dir/snap" --name c --sandbox $sandbox -- sleep 1000 &
		client=$!
		ready c || return
		want "$sandbox: the VM's user" [ "$(stat -c %u "/proc/$(cat "$UVM_RUN/c/pid")")" = \
			"$([ $sandbox = on ] && echo 0 || echo 65534)" ] || return
		kill -KILL $client
		wait $client 2>/dev/null
		for _ in $(seq 100); do
			[ -z "$("$uvm" ps -q)" ] && break
			sleep 0.1
		done
		same "$sandbox: VMs left" "" "$("$uvm" ps -q)" || return
	done
}

test_clone_command_line()
{
	mkdir "$dir/data" && echo late >"$dir/data/file"
	mke2fs -q -t ext4 -d "$dir/data" "$dir/data.ext4" 8M >/dev/null 2>&1 || { reason=mke2fs; return 1; }
	source_vm --rootfs "$(root),cow" --disk placeholder --cmdline \
		"uvm.env=BOOT=1 uvm.env=BOTH=1 uvm.mount=none:/mnt:tmpfs uvm.mount=none:/nothing:nofs uvm.what" || return
	same "at boot" "1 1  tmpfs" "$(vm a sh -c 'echo "$BOOT $BOTH $LATE $(awk "\$2 == \"/mnt\" { print \$3 }" /proc/mounts)"')" || return
	same "a mount that fails" 1 "$(vm a dmesg | grep -c "uvm-agent: cannot mount at '/nothing'")" || return
	snapshot a --out "$dir/snap" || return
	same "in a clone" "1 2 3 late ext4 mine" "$("$uvm" clone "$dir/snap" --disk "$dir/data.ext4,cow" \
		--cmdline "uvm.env=BOTH=2 uvm.env=LATE=3 uvm.mount=/dev/vdb:/late:ext4" -- \
		env OWN=mine sh -c 'echo "$BOOT $BOTH $LATE $(cat /late/file) $(awk "\$2 == \"/late\" { print \$3 }" /proc/mounts) $OWN"')" || return
	reason="clone b failed"
	"$uvm" clone "$dir/snap" --id b --detach --disk "$dir/data.ext4,cow" \
		--cmdline "uvm.mount=/dev/vdb:/late:ext4:ro uvm.env=LATE=b" >"$dir/id" || return
	same "b" "b late ro" "$(vm b sh -c 'echo "$LATE $(cat /late/file) $(awk "\$2 == \"/late\" { print \$4 }" /proc/mounts | cut -d , -f 1)"')" || return
	different a b || return
	# A clone of a clone keeps what it was told, and takes more.
	snapshot b --out "$dir/snap2" --stop || return
	same "in its clone" "b late c" "$("$uvm" clone "$dir/snap2" --cmdline uvm.env=MORE=c -- sh -c 'echo "$LATE $(cat /late/file) $MORE"')" || return
	# What the agent does not take is no clone.
	no_clone 1 "no such word after boot: 'root=/dev/vdb'" --cmdline "uvm.env=A=1 root=/dev/vdb" || return
	no_clone 1 "is not NAME=VALUE" --cmdline uvm.env=A || return
	no_clone 1 "cannot mount at '/late'" --cmdline uvm.mount=/dev/vdb:/late:ext4 || return
	no_clone 2 "more than" --cmdline "$(printf 'uvm.env=A=%8300s' x | tr ' ' x)"
}

# no_clone STATUS MESSAGE OPTION...
no_clone()
{
	local status=$1 message=$2
	shift 2
	ends "$status" "$uvm" clone "$dir/snap" "$@" -- echo it runs >"$dir/out" 2>"$dir/err" || return
	want "message: $(cat "$dir/err")" grep -q "$message" "$dir/err" || return
	same "output" "" "$(cat "$dir/out")" || return
	only a
}

# --- what goes on ---

test_running_on_1_cpu() { running_on 1; }
test_running_on_2_cpus() { running_on 2; }

# Timers, signals, floating point and, on each CPU, a loop.
running_on()
{
	local cpu what="timer fpu"
	source_vm --rootfs "$(root),cow" --cpus "$1" || return
	background a timer /tmp/timer || return
	background a fpu /tmp/fpu || return
	for ((cpu = 0; cpu < $1; cpu++)); do
		background a busy /tmp/busy$cpu $cpu || return
		what="$what busy$cpu"
	done
	lives_on "$1"
}

test_avx_goes_on()
{
	local what=avx
	source_vm --rootfs "$(root),cow" || return
	if ! vm a grep -qw avx2 /proc/cpuinfo; then
		reason="skip: the guest's CPU has no AVX2 (the lab hides it, whose emulation of XSAVE is wrong)"
		return 1
	fi
	background a avx /tmp/avx || return
	lives_on 1
}

# lives_on CPUS: what runs in a goes on in it, a clone, and a fork of each.
lives_on()
{
	goes_on a "$1" || return
	snapshot a --out "$dir/snap" || return
	fork_as c a || return
	goes_on a "$1" || return
	goes_on c "$1" || return
	"$uvm" kill c
	"$uvm" kill a
	clone_as b || return
	goes_on b "$1" || return
	fork_as d b || return
	goes_on b "$1" || return
	"$uvm" kill b
	goes_on d "$1"
}

# goes_on ID CPUS: everything in $what has come further than at the last call, and then further again.
goes_on()
{
	vm "$1" sh -c 'for i in $0; do
			r=$(/tmp/probe await /tmp/$i $(cat /tmp/seen.$i 2>/dev/null || echo 0)) &&
			r=$(/tmp/probe await /tmp/$i $r) || { echo "$i: $r"; exit 1; }
			echo $r >/tmp/seen.$i
		done' "$what" >"$dir/said" || { reason="$1: $(cat "$dir/said")"; return 1; }
	same "CPUs of $1" "$2" "$(vm "$1" nproc)" || return
	calm "$1"
}

test_exec_stream_over_snapshot_and_fork()
{
	local client id
	source_vm --rootfs "$(root),cow" || return
	seq 1 300000 >"$dir/in"
	mkfifo "$dir/go"
	# The command reads to its end, then writes, then says how that went.
	{
		head -c 1000000 "$dir/in"
		read -r _ <"$dir/go"
		tail -c +1000001 "$dir/in"
	} | "$uvm" exec a -- sh -c 'trap "echo a signal >/tmp/end" PIPE; tee /tmp/got; echo "after the end" && echo "end $?" >/tmp/end; sync' >"$dir/out" &
	client=$!
	# The first part is through, there and back.
	vm a sh -c 'until [ "$(stat -c %s /tmp/got 2>/dev/null)" = 1000000 ]; do usleep 20000; done' || return
	snapshot a --out "$dir/snap" || return
	fork_as c a || return
	clone_as b || return
	# Detached: the input ends there, and nobody reads the output.
	for id in b c; do
		same "$id: how the command ended" "end 0" "$(vm $id sh -c 'until [ -s /tmp/end ]; do usleep 20000; done; cat /tmp/end')" || return
		same "$id: what the command read" "$(head -c 1000000 "$dir/in" | md5sum)" "$(vm $id sh -c 'md5sum </tmp/got')" || return
		ends 0 vm $id true || return
	done
	echo >"$dir/go"
	ends 0 wait $client || return
	want "the stream came back changed" cmp <(cat "$dir/in"; echo "after the end") "$dir/out" || return
	same "what the source's command read" "$(md5sum <"$dir/in")" "$(vm a sh -c 'md5sum </tmp/got')"
}

# Megabytes each way, while snapshots are taken and forks made.
test_exec_at_full_speed_over_snapshot_and_fork()
{
	local client times=0 id
	source_vm --rootfs "$(root),cow" || return
	seq 1 1000000 >"$dir/in"
	"$uvm" exec a -- cat <"$dir/in" >"$dir/out" &
	client=$!
	until [ -s "$dir/out" ]; do kill -0 $client || { reason="cat ended"; return 1; }; done
	# The agent's own connection may be in use just then, which is told and nothing else.
	while [ $times = 0 ] || { [ $times -lt 3 ] && kill -0 $client 2>/dev/null; }; do
		snapshot a --out "$dir/snap" || return
		fork_as f$times a || return
		times=$((times + 1))
	done
	kill -0 $client 2>/dev/null || printf ' the stream ended before %s snapshots\n' $times
	ends 0 wait $client || return
	want "the stream came back changed" cmp "$dir/in" "$dir/out" || return
	clone_as b || return
	for id in a b f0; do ends 0 vm $id true || return; done
}

test_terminal_over_snapshot_and_fork()
{
	local client id
	source_vm --rootfs "$(root),cow" || return
	mkfifo "$dir/keys"
	"$uvm" exec -t a -- sh -c 'stty -echo; echo $$ >/tmp/shell; echo ready; while read -r word; do echo "<$word>"; done; echo over >/tmp/over; echo end' <"$dir/keys" >"$dir/screen" &
	client=$!
	exec 9>"$dir/keys"
	screen_shows ready || return # and does not echo
	echo one >&9
	screen_shows "<one>" || return
	# Only this shell may hold the line open, not a VM for the rest of its life.
	snapshot a --out "$dir/snap" 9>&- || return
	fork_as c a 9>&- || return
	clone_as b 9>&- || return
	echo two >&9
	screen_shows "<two>" || return
	for id in b c; do
		vm $id sh -c 'until [ -s /tmp/over ]; do usleep 20000; done' ||
			{ reason="$id: the terminal has not ended"; return 1; }
		ends 1 vm $id sh -c 'kill -0 $(cat /tmp/shell) 2>/dev/null' || return
	done
	ends 0 vm a sh -c 'kill -0 $(cat /tmp/shell)' || return
	exec 9>&-
	ends 0 wait $client || return
	same "the screen" "ready <one> <two> end" "$(tr -d '\r' <"$dir/screen" | xargs)"
}

screen_shows()
{
	local i
	for i in $(seq 200); do
		grep -q "$1" "$dir/screen" && return
		sleep 0.05
	done
	reason="the screen lacks '$1': $(cat "$dir/screen")"
	return 1
}

# --- disks ---

test_disk_writer_on_a_layer() { disk_writer ,cow; }
test_disk_writer_on_an_image() { disk_writer ""; }

disk_writer()
{
	local image before
	image=$(root)
	before=$(md5sum <"$image")
	source_vm --rootfs "$image$1" || return
	vm a mkdir -p /root/w || return
	background a write /root/w /tmp/write || return
	on a /tmp/write 3 || return
	snapshot a --out "$dir/snap" || return
	fork_as c a || return
	writes_on a || return
	disk_whole a || return
	ends 0 "$uvm" stop a || return
	if [ "$1" ]; then
		same "sum of the image" "$before" "$(md5sum <"$image")" || return
	else
		want "the image is damaged" e2fsck -fn "$image" >/dev/null 2>&1 || return
	fi
	writes_on c || return
	disk_whole c && file_system_whole c || return
	"$uvm" kill c
	clone_as b || return
	writes_on b || return
	fork_as d b || return
	writes_on d || return
	disk_whole b && file_system_whole b || return
	disk_whole d || return
	"$uvm" kill b
	"$uvm" kill d
	# And once more, now that the others have written all over theirs.
	ends 0 "$uvm" snapshot verify "$dir/snap" >/dev/null || return
	clone_as e && writes_on e && disk_whole e
}

writes_on()
{
	on "$1" /tmp/write 0 && on "$1" /tmp/write "$round" && calm "$1"
}

# Stops the writer, and looks at the disk as it is and not at what the guest remembers of it.
disk_whole()
{
	local last seen
	vm "$1" sh -c 'kill $(pidof probe); while pidof probe >/dev/null; do usleep 20000; done; sync; mount -o remount,ro / && echo 3 >/proc/sys/vm/drop_caches' ||
		{ reason="$1: cannot be made read-only"; return 1; }
	last=$(vm "$1" sh -c 'echo $(($(cut -c 4- /tmp/write)))')
	seen=$(vm "$1" /tmp/probe check /root/w) || { reason="$1: $seen"; return 1; }
	# The writer may have been stopped before it could say how far it was.
	want "$1: the disk has $seen rounds, $last were written" [ "$seen" = "$last" -o "$seen" = $((last + 1)) ]
}

file_system_whole()
{
	vm "$1" cat /dev/vda >"$dir/vda" || { reason="$1: cannot read the disk"; return 1; }
	want "$1: the file system is damaged: $(e2fsck -fn "$dir/vda" 2>&1 | tail -n 3)" e2fsck -fn "$dir/vda" >/dev/null 2>&1
}

# --- layers ---

test_snapshot_of_a_clone_is_a_layer()
{
	local base layer
	source_vm --rootfs "$(root),cow" || return
	vm a sh -c 'seq 100000 >/tmp/first; seq 100000 >/root/first' || return
	snapshot a --out "$dir/snap" --stop || return
	only || return
	clone_as b || return
	vm b sh -c 'seq 100000 >/tmp/second; seq 100000 >/root/second; sync' || return
	snapshot b --out "$dir/snap2" --stop || return
	same "parent" "$(realpath "$dir/snap")" "$("$uvm" snapshot info "$dir/snap2" | awk '$1 == "parent" { print $2 }')" || return
	base=$(du -k "$dir/snap/memory" | cut -f 1) layer=$(du -k "$dir/snap2/memory" | cut -f 1)
	printf ' memory of the snapshot: %s KiB, of the layer: %s KiB\n' "$base" "$layer"
	want "the layer has $layer KiB, its base $base" [ "$layer" -lt $((base * 2 / 3)) ] || return
	ends 0 "$uvm" snapshot verify "$dir/snap2" >/dev/null || return
	ends 1 "$uvm" snapshot rm "$dir/snap" 2>"$dir/err" || return
	want "refusal does not name who needs it: $(cat "$dir/err")" grep -q snap2 "$dir/err" || return
	# It may not be replaced, either.
	boot z --rootfs "$rootfs,ro" --memory 64M || return
	ends 1 "$uvm" snapshot z --out "$dir/snap" 2>"$dir/err" || return
	"$uvm" kill z
	clone_as c "$dir/snap2" || return
	same "what is in the clone of the layer" "$(seq 100000 | md5sum; seq 100000 | md5sum; seq 100000 | md5sum; seq 100000 | md5sum)" \
		"$(vm c sh -c 'echo 3 >/proc/sys/vm/drop_caches; for i in /tmp/first /tmp/second /root/first /root/second; do md5sum <$i; done')" || return
	# Forks of forks of clones, each with a change of its own.
	fork_as d c && vm d sh -c 'echo d >/root/d; echo d >/tmp/d' || return
	fork_as e d && vm e sh -c 'echo e >/root/e; echo e >/tmp/e' || return
	fork_as f e || return
	different c d e f || return
	same "f's files" "d e first second" "$(vm f sh -c 'cd /root && echo d e first second && cat d e | cmp - /tmp/d 2>/dev/null; ls' | tail -n 4 | xargs)" || return
	same "c's files" "first second" "$(vm c ls /root | xargs)" || return
	# And a third layer, of one of them: all of its ancestry is in it or named by it.
	snapshot f --out "$dir/snap3" --stop || return
	for id in c d e; do "$uvm" kill $id; done
	clone_as g "$dir/snap3" || return
	same "g's files" "d e d e" "$(vm g cat /tmp/d /tmp/e /root/d /root/e | xargs)" || return
	same "what is in the clone of the third layer" "$(seq 100000 | md5sum; seq 100000 | md5sum)" \
		"$(vm g sh -c 'for i in /tmp/first /tmp/second; do md5sum <$i; done')" || return
	"$uvm" kill g
	ends 0 "$uvm" snapshot rm "$dir/snap3" || return
	ends 0 "$uvm" snapshot rm "$dir/snap2" || return
	ends 0 "$uvm" snapshot rm "$dir/snap" || return
	same "snapshots left" "" "$(ls -d "$dir"/snap* "$dir"/.uvm* 2>/dev/null)"
}

test_64_clones_at_once()
{
	local id ids i pids=
	# The smallest that boots: the lab has not much more than this takes.
	boot a --memory 64M --rootfs "$rootfs,ro" || return
	snapshot a --out "$dir/snap" --stop || return
	reason="clone -n 64 failed"
	"$uvm" clone "$dir/snap" -n 64 --detach >"$dir/ids" || return
	ids=$(cat "$dir/ids")
	same "ids" 64 "$(sort -u "$dir/ids" | wc -l)" || return
	# shellcheck disable=SC2086 # words
	different $ids || return
	for id in $ids; do
		awk '/^Pss:/ { print $2 }' "/proc/$(cat "$UVM_RUN/$id/pid")/smaps_rollup"
	done | sort -n | awk '{ pss[NR] = $1 } END { printf " PSS of 64 clones after a command: median %s KiB, most %s KiB\n", pss[int((NR + 1) / 2)], pss[NR] }'
	for id in $ids; do "$uvm" kill "$id" || { reason="kill of $id"; return 1; }; done
	only
}

# --- when it is not as it should be ---

test_snapshot_stop_and_replace()
{
	source_vm --rootfs "$(root),cow" || return
	vm a sh -c 'echo 1 >/tmp/n; echo 1 >/root/n' || return
	snapshot a --out "$dir/snap" || return
	vm a sh -c 'echo 2 >/tmp/n; echo 2 >/root/n' || return
	# A clone of the old one goes on while it is replaced.
	clone_as b || return
	snapshot a --out "$dir/snap" --stop || return
	only b || return
	clone_as a || return
	same "the first" "1 1" "$(vm b sh -c 'echo 3 >/proc/sys/vm/drop_caches; cat /tmp/n /root/n' | xargs)" || return
	same "the second" "2 2" "$(vm a sh -c 'cat /tmp/n /root/n' | xargs)" || return
	# The parent of b's layer is not there any more: then it is no layer.
	snapshot b --out "$dir/snap2" --stop || return
	same "parent" "" "$("$uvm" snapshot info "$dir/snap2" | grep parent)" || return
	clone_as c "$dir/snap2" || return
	same "the first, once more" "1 1" "$(vm c sh -c 'cat /tmp/n /root/n' | xargs)" || return
	same "what is left" "snap snap2" "$(cd "$dir" && ls -Ad *snap* | xargs)"
}

test_snapshot_before_the_agent_is_ready()
{
	local times=0
	"$uvm" boot --kernel "$kernel" --rootfs "$rootfs,ro" --id a --console off 2>/dev/null &
	disown
	for _ in $(seq 100); do [ -S "$UVM_RUN/a/control.sock" ] && break; sleep 0.05; done
	until "$uvm" snapshot a --out "$dir/snap" 2>"$dir/err"; do
		want "message: $(cat "$dir/err")" grep -qE "not ready yet|not at rest|no VM with id" "$dir/err" || return
		same "what a refused snapshot leaves" "" "$(ls -Ad "$dir"/*snap* "$dir"/.uvm* 2>/dev/null)" || return
		times=$((times + 1))
		want "the agent is never ready" [ $times -lt 5000 ] || return
	done
	want "it was ready before it was asked" [ $times -gt 0 ] || return
	ends 0 "$uvm" exec a true || return
	clone_as b || return
	ends 0 vm b true
}

test_freeze_with_50_busy_processes()
{
	source_vm --rootfs "$(root),cow" --cpus 2 || return
	# The agent comes first, but not what it runs.
	same "nice of agent and command" "-20 0" "$(vm a sh -c 'cut -d " " -f 19 /proc/1/stat /proc/self/stat' | xargs)" || return
	# Half of them make others all the time.
	vm a sh -c 'for i in $(seq 25); do (while :; do :; done) & (while :; do (:); done) & done >/dev/null 2>&1 </dev/null' || return
	want "not busy" [ "$(vm a sh -c 'set -- /proc/[0-9]*; echo $#')" -gt 50 ] || return
	snapshot a --out "$dir/snap" || return
	fork_as c a || return
	different a c || return
	calm c || return
	"$uvm" kill a
	"$uvm" kill c
	clone_as b || return
	want "they do not go on" [ "$(vm b sh -c 'set -- /proc/[0-9]*; echo $#')" -gt 50 ] || return
	calm b
}

# refused SNAPSHOT MESSAGE [STATUS]: neither a clone nor a fork of a is handed out, nor anything run.
# Side by side, since each may have to wait for an answer that does not come.
refused()
{
	local how i=0 pids=()
	for how in detached command fork; do
		case $how in
		detached) "$uvm" clone "$1" --detach ;;
		command) "$uvm" clone "$1" -- echo it runs ;;
		fork) "$uvm" fork a ;;
		esac >"$dir/out.$how" 2>"$dir/err.$how" &
		pids+=($!)
	done
	for how in detached command fork; do
		[ $how = fork ] && set -- "$1" "$2" 1
		ends "${3-1}" wait "${pids[i]}" || return
		i=$((i + 1))
		want "$how: message: $(cat "$dir/err.$how")" grep -qE "$2" "$dir/err.$how" || return
		same "$how: output" "" "$(cat "$dir/out.$how")" || return
	done
	only a
}

# A guest whose agent does all but that.
test_clone_whose_agent_refuses_is_killed() { agent_that error "has not taken its new identity"; }
test_clone_whose_agent_is_silent_is_killed() { agent_that silent "does not answer"; }
test_clone_whose_agent_goes_is_killed() { agent_that close "closed its connection"; }
test_clone_whose_agent_dies_is_killed() { agent_that die "panicked" 3; }

agent_that()
{
	local initrd=$dir/initrd
	mkdir -p "$initrd/dev"
	cp "$probe" "$initrd/init"
	mknod "$initrd/dev/console" c 5 1 2>/dev/null
	(cd "$initrd" && find . | cpio --quiet -o -H newc -R 0:0) >"$dir/initrd.cpio"
	"$uvm" boot --kernel "$kernel" --initrd "$dir/initrd.cpio" --memory 64M --cmdline "fake=$1" --id a --detach >/dev/null || { reason=boot; return 1; }
	ready a || return
	snapshot a --out "$dir/snap" || return
	refused "$dir/snap" "$2" "${3-1}"
}

# --- Debian's kernel and initrd, no agent in it ---

test_debian_goes_on_over_snapshot_and_clone()
{
	local d id n
	debian_kernel || return
	mkfifo "$dir/in"
	root >/dev/null
	# The shell of the root's own init, on the serial console: it counts, on the console and on disk.
	"$uvm" boot --kernel "$d/vmlinuz" --initrd "$d/initrd.img" --rootfs "$dir/root.ext4,cow" --memory 512M --id a <"$dir/in" >"$dir/console" 2>"$dir/err" &
	disown
	exec 9>"$dir/in"
	echo 'i=0; while :; do i=$((i + 1)); echo $i >/root/i; echo "tick $i $(cut -d " " -f 1 /proc/uptime)"; usleep 200000; done' >&9
	for n in $(seq 1200); do
		grep -q "^tick 3 " "$dir/console" && break
		sleep 0.1
	done
	want "no ticks: $(tail -n 5 "$dir/console")" grep -q "^tick 3 " "$dir/console" || return
	snapshot a --out "$dir/snap" || return
	clone_as b || return
	fork_as c a || return
	n=$(grep -c ^tick "$dir/console")
	for id in b c; do ticks "$UVM_RUN/$id/console.log" 2 || return; done
	ticks "$dir/console" $((n + 3))
	exec 9>&-
}

# ticks FILE N: waits for that many, without a gap between two of them.
ticks()
{
	local i
	for i in $(seq 600); do
		[ "$(grep -c '^tick [0-9]* ' "$1")" -ge "$2" ] && break
		sleep 0.1
	done
	want "no more ticks in $1: $(tail -n 3 "$1")" [ "$(grep -c '^tick [0-9]* ' "$1")" -ge "$2" ] || return
	want "ticks are missing in $1" awk '$1 == "tick" && NF == 2 + ($3 != "") { if (last && $2 != last + 1) exit 1; last = $2 }' "$1"
}

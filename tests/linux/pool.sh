# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # a part of tests/linux/run, whose variables these are
#
# pool.sh: clones and containers in VMs of a pool. That one was taken is seen by the pool's count.

case ${2-} in
test_pool_*) export UVM_KERNEL=$kernel UVM_CACHE=$own_cache ;;
esac

# hits N: the pools have given out so many. (Not misses: what is refused is not asked for.)
hits() { same "VMs of the pool that were taken" "$1" "$("$uvm" pool ls | awk 'NR > 1 { n += $3 } END { print n }')"; }

pool_is_full() { "$uvm" pool ls | awk 'NR > 1 && $6 != "full" { bad = 1 } END { exit bad || NR < 2 }'; }
full() { later 20 pool_is_full || { reason="the pool is not filled: $("$uvm" pool ls; cat "$UVM_RUN"/.pool-*/log)"; return 1; }; }

# A snapshot $dir/s of a VM with its root, and a pool of it.
pool_of_snapshot()
{
	boot a --memory 128M "$@" || return
	want "snapshot" "$uvm" snapshot a --out "$dir/s" --stop >/dev/null || return
	want "pool create" "$uvm" pool create --size 2 "$dir/s" && full
}

# Two clones: identity, random numbers, name; and the time, after they have waited for it.
test_pool_clone()
{
	local i id=() seen
	pool_of_snapshot --rootfs "$rootfs,cow" || return
	sleep 4
	for i in 1 2; do
		"$uvm" clone "$dir/s" --detach --id c$i >/dev/null || return
		id[i]=$("$uvm" exec c$i -- sh -c 'hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id; head -c 16 /dev/urandom | md5sum; cat /proc/sys/kernel/random/uuid')
		same "host name" c$i "$(head -n 1 <<<"${id[i]}")" || return
	done
	hits 2 || return
	seen=$(sort <<<"${id[1]}"$'\n'"${id[2]}" | uniq -d)
	same "what two clones have in common" "" "$seen" || return
	i=$(($("$uvm" exec c2 -- date +%s) - $(date +%s)))
	want "its clock is wrong by $i s" [ "$i" -ge -2 -a "$i" -le 2 ] || return
	# Its own time has stood still with it; the snapshot is of a VM that had been up for a moment.
	i=$("$uvm" exec c2 -- cut -d. -f1 /proc/uptime)
	want "it has been up for $i s" [ "$i" -lt "$(("${UVM_LAB:-0}" ? 60 : 4))" ] || return
	want "kill" "$uvm" kill c1 && want "kill" "$uvm" kill c2 || return
	want "pool rm" "$uvm" pool rm "$dir/s" && want "left: $(ls -A "$UVM_RUN")" later 5 nothing_at_all
}
nothing_at_all() { [ -z "$(ls -A "$UVM_RUN")" ]; }

# A command: status, streams, words; what kills the client ends the VM.
test_pool_clone_command()
{
	local client
	pool_of_snapshot --rootfs "$rootfs,cow" || return
	ends 7 "$uvm" clone "$dir/s" -- sh -c 'exit 7' || return
	same "output" "from-here" "$(echo from-here | "$uvm" clone "$dir/s" -- cat)" || return
	same "a variable" "1 2" "$("$uvm" clone "$dir/s" --cmdline 'uvm.env=A=1 uvm.env=B=2' -- sh -c 'echo $A $B')" || return
	full && hits 3 || return
	# A word that is none is an error, as without a pool.
	ends 1 "$uvm" clone "$dir/s" --cmdline 'no-such-word' -- true 2>"$dir/err" || return
	want "message: $(cat "$dir/err")" grep -q "no such word" "$dir/err" || return
	full || return
	"$uvm" clone "$dir/s" --id k -- sleep 1000 &
	client=$!
	want "it does not run" later 10 "$uvm" exec k -- pidof sleep || return
	kill -KILL $client
	wait $client 2>/dev/null
	want "it runs without its client" later 10 gone_from_ps k || return
	"$uvm" clone "$dir/s" --id t -- sleep 1000 &
	client=$!
	want "it does not run" later 10 "$uvm" exec t -- pidof sleep || return
	kill -TERM $client
	ends 143 wait $client || return
	want "it runs on" later 10 gone_from_ps t
}
gone_from_ps() { ! "$uvm" ps -q | grep -qx "$1"; }

# Disks for the placeholders, one of them written to.
test_pool_clone_disks()
{
	truncate -s 1M "$dir/disk"
	pool_of_snapshot --rootfs "$rootfs,cow" --disk placeholder --disk placeholder,ro || return
	echo content >"$dir/other" && truncate -s 4096 "$dir/other"
	want "a command with disks" "$uvm" clone "$dir/s" --disk "$dir/disk" --disk "$dir/other" -- \
		sh -c 'echo written >/dev/vdb && sync && head -c 7 /dev/vdc && ! echo no 2>/dev/null >/dev/vdc' >"$dir/out" || return
	same "the second disk" content "$(cat "$dir/out")" || return
	same "the first disk" written "$(head -c 7 "$dir/disk")" || return
	hits 1 || return
	want_error "a disk that is not there was taken" "$uvm" clone "$dir/s" --disk "$dir/no-such" -- true
	hits 1
}
want_error() { ! "${@:2}" 2>/dev/null || { reason=$1; return 1; }; }

test_pool_run()
{
	local client
	ends 0 uvm_run "$rootfs" true || return # the template
	want "pool create" "$uvm" pool create --size 2 "$("$uvm" template build)" >/dev/null || return
	full || return
	ends 3 uvm_run "$rootfs" sh -c 'exit 3' || return
	same "name" web "$(uvm_run --name web "$rootfs" hostname)" || return
	full && same "input" through "$(echo through | uvm_run -i --scratch 16M "$rootfs" sh -c 'cat >/f; cat /f')" || return
	full && ends 127 uvm_run "$rootfs" no-such-program 2>/dev/null || return
	full && ends 124 uvm_run --timeout 1s "$rootfs" sleep 100 2>/dev/null || return
	full && hits 5 || return
	# Others are made: another size, in the background, a disk that is kept.
	same "CPUs" 2 "$(uvm_run --cpus 2 "$rootfs" nproc 2>/dev/null)" || return
	background_run b -- true && want "wait" "$uvm" wait b >/dev/null && "$uvm" rm b >/dev/null || return
	ends 0 uvm_run --scratch "$dir/kept:16M" "$rootfs" true || return
	hits 5 || return
	# It is a container like any other, for those who look; and goes with its client.
	"$uvm" run --name r "$rootfs" sh -c 'trap "exit 9" TERM; while :; do sleep 0.1; done' &
	client=$!
	want "exec" later 10 "$uvm" exec r -- true || return
	want "ps" grep -q "rootfs.ext4: sh -c trap" <("$uvm" ps) || return
	want "state" grep -q '"status": *"running"\|running' <("$uvm" inspect r) || return
	kill -TERM $client
	ends 9 wait $client || return
	want "it runs on" later 10 gone_from_ps r || return
	"$uvm" run --name k "$rootfs" sleep 1000 &
	client=$!
	want "exec" later 10 "$uvm" exec k -- true || return
	kill -KILL $client
	wait $client 2>/dev/null
	want "it runs without its client" later 10 gone_from_ps k || return
	# The VM's end is the session's.
	"$uvm" run --name v "$rootfs" sleep 1000 2>/dev/null &
	client=$!
	want "exec" later 10 "$uvm" exec v -- true || return
	want "kill" "$uvm" kill v >/dev/null 2>&1
	want "the client stays" later 10 client_has_ended $client || return
	want "pool rm" "$uvm" pool rm "$("$uvm" template build)" && want "left: $(ls -A "$UVM_RUN")" later 5 nothing_at_all
}
client_has_ended() { ! kill -0 "$1" 2>/dev/null; }

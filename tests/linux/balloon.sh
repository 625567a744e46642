# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # a part of tests/linux/run, whose variables these are
#
# balloon.sh: memory that a Linux guest has freed, or is told to give back, goes to the host, and is not
# in a snapshot.

# KiB of memory that only this VM's monitor has.
own_memory()
{
	awk '/^RssAnon:/ { print $2 }' "/proc/$(cat "$UVM_RUN/$1/pid")/status"
}

# fill ID MIB: so much memory in use, of bytes that nobody could leave out.
fill()
{
	reason="$1 cannot be filled"
	vm "$1" dd if=/dev/urandom of=/dev/shm/x bs=1M count="$2" 2>/dev/null
}

# falls ID KIB: waits until the VM has no more than that. The guest's kernel collects for two seconds.
falls()
{
	local seen
	for _ in $(seq 600); do
		seen=$(own_memory "$1")
		[ "$seen" -gt "$2" ] || return 0
		sleep 0.1
	done
	reason="$1 has $seen KiB still, more than $2"
	return 1
}

# Freed memory in a guest of MEMORY, of which MIB are used for a while.
freed() # MEMORY MIB
{
	local empty full small large id
	boot a --rootfs "$(root),cow" --memory "$1" || return
	empty=$(own_memory a)
	fill a "$2" || return
	full=$(own_memory a)
	want "$2 MiB in the guest: $empty KiB before, $full after" [ "$full" -ge $((empty + $2 * 1000)) ] || return
	snapshot a --out "$dir/full" || return
	vm a rm /dev/shm/x
	# What lies in blocks that are used for something else, too, stays.
	falls a $((full - $2 * 1024 + 10240)) || return
	printf ' %s, %s MiB used and freed: monitor at %s KiB, %s, %s\n' "$1" "$2" "$empty" "$full" "$(own_memory a)"
	snapshot a --out "$dir/snap" || return
	large=$(du -sk "$dir/full" | cut -f 1) small=$(du -sk "$dir/snap" | cut -f 1)
	printf ' snapshots: %s KiB, %s after\n' "$large" "$small"
	want "snapshot of $small KiB, where it was $large" [ "$small" -le $((large - $2 * 1000 + 10240)) ] || return
	# In a clone what is freed is the snapshot's again; a guest that was full when it was frozen, too.
	clone_as b || return
	clone_as c "$dir/full" || return
	vm c rm /dev/shm/x
	fork_as d c || return
	for id in b d; do
		empty=$(own_memory $id)
		fill $id 32 || return
		same "sum of a file in $id" "$(seq 100000 | md5sum)" "$(vm $id sh -c 'seq 100000 >/dev/shm/y; md5sum </dev/shm/y')" || return
		vm $id rm /dev/shm/x
		falls $id $((empty + 16384)) || return
		same "bytes that are not zero in fresh memory of $id" 0 \
			"$(vm $id sh -c 'dd if=/dev/zero of=/dev/shm/x bs=1M count=32 2>/dev/null; tr -d "\0" </dev/shm/x | wc -c')" || return
		same "sum of a file in $id, later" "$(seq 100000 | md5sum)" "$(vm $id md5sum </dev/null /dev/shm/y | sed 's,/dev/shm/y,-,')" || return
		calm $id || return
	done
}

test_freed_memory_goes_back() { freed 256M 100; }
test_freed_memory_of_a_small_guest_goes_back() { freed 128M 40; }

# A kernel that relies on free pages being zero must not have any replaced.
test_guest_that_clears_freed_memory_reports_none()
{
	boot a --rootfs "$(root),cow" --cmdline init_on_free=1 || return
	same "features: reporting" 0 "$(vm a sh -c 'cut -c 6 /sys/bus/virtio/drivers/virtio_balloon/virtio*/features')" || return
	boot b --rootfs "$(root),cow" || return
	same "features: reporting, usually" 1 "$(vm b sh -c 'cut -c 6 /sys/bus/virtio/drivers/virtio_balloon/virtio*/features')"
}

# How many bytes the balloon of ID has.
balloon_size()
{
	"$uvm" stats --json "$1" | sed -n 's/.*"balloon":{[^}]*"size_bytes":\([0-9]*\).*/\1/p'
}

# balloon ID SIZE BYTES: orders a balloon and waits until the guest has filled or emptied it to that.
balloon()
{
	local seen
	reason="update --balloon $2 $1"
	"$uvm" update --balloon "$2" "$1" >/dev/null || return
	for _ in $(seq 300); do
		seen=$(balloon_size "$1")
		[ "$seen" != "$3" ] || return 0
		sleep 0.1
	done
	reason="the balloon of $1 has $seen bytes, and not $3"
	return 1
}

# What the guest has in its caches is given back, too; and comes again, when the host lets it, or when a
# process would be killed.
test_balloon()
{
	local full small id stats
	truncate -s 100M "$dir/zeros"
	boot a --rootfs "$(root),cow" --disk "$dir/zeros,ro" || return
	reason="reading a disk"
	vm a dd if=/dev/vdb of=/dev/null bs=1M 2>/dev/null || return
	full=$(own_memory a)
	want "100 MiB read: $full KiB" [ "$full" -ge 100000 ] || return
	balloon a 190M 199229440 || return
	small=$(own_memory a)
	printf ' 256M, 100 MiB of a disk read, balloon of 190 MiB: monitor at %s KiB, then %s\n' "$full" "$small"
	want "monitor at $small KiB, where it was $full" [ "$small" -le 75000 ] || return
	stats=$("$uvm" stats --json a)
	want "figures: $stats" grep -qE '"total_bytes":[1-9][0-9]{7,8},"free_bytes":[1-9][0-9]*,"available_bytes":[1-9].*"minor_faults":[1-9]' <<<"$stats" || return
	snapshot a --out "$dir/snap" || return
	clone_as b || return
	fork_as c a || return
	for id in b c; do
		balloon $id 190M 199229440 || return
		balloon $id 0 0 || return
		fill $id 100 || return
	done
	reason="a file in memory that the balloon has"
	vm a dd if=/dev/zero of=/dev/shm/x bs=1M count=90 2>/dev/null || return
	want "a balloon of $(balloon_size a) bytes still" [ "$(balloon_size a)" -lt 199229440 ] || return
	calm a
}

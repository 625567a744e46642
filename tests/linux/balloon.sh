# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # a part of tests/linux/run, whose variables these are
#
# balloon.sh: memory that a Linux guest has freed goes back to the host, and is not in a snapshot.

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

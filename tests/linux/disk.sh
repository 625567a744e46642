# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # a part of tests/linux/run, whose variables these are
#
# disk.sh: what Linux makes of what disks offer beside reading and writing, and of a source of random
# numbers; in one VM.

# MiB of the host's that a file takes.
space() { echo $(($(stat -c %b "$1") / 2048)); }

test_disk_features()
{
	local before after
	truncate -s 64M "$dir/data" && mke2fs -q -F -t ext4 "$dir/data" || return
	dd if=/dev/urandom of="$dir/raw" bs=1M count=8 2>/dev/null
	boot a --rootfs "$rootfs,cow" --disk "$dir/data,serial=DATA/1" --disk "$dir/raw,queues=1" --cpus 2 --rng || return
	same "serial" "DATA/1 uvm-disk-2" "$(in_vm sh -c 'for d in vdb vdc; do cat /sys/block/$d/serial; echo; done' | xargs)" || return
	same "queues" "2 1" "$(in_vm sh -c 'ls /sys/block/vdb/mq | wc -l; ls /sys/block/vdc/mq | wc -l' | xargs)" || return
	# What a file system gives back.
	in_vm sh -c 'mkdir -p /tmp/d && mount -t ext4 /dev/vdb /tmp/d && dd if=/dev/urandom of=/tmp/d/x bs=1M count=24 2>/dev/null && sync' || return
	before=$(space "$dir/data")
	want "the image takes $before MiB" [ "$before" -ge 24 ] || return
	ends 0 in_vm sh -c 'rm /tmp/d/x && sync && fstrim /tmp/d' || return
	after=$(space "$dir/data")
	want "the image takes $after MiB after fstrim, $before before" [ "$after" -le $((before - 23)) ] || return
	ends 0 in_vm sh -c 'seq 100000 >/tmp/d/y && umount /tmp/d' || return
	want "the file system is damaged" e2fsck -fn "$dir/data" >/dev/null 2>&1 || return
	# A disk as a whole.
	ends 0 in_vm blkdiscard /dev/vdc || return
	same "MiB of a disk that was discarded" 0 "$(space "$dir/raw")" || return
	same "bytes in it" 0 "$(in_vm sh -c 'tr -d "\\0" </dev/vdc | wc -c')" || return
	# The root's layer, over an image that stays.
	ends 0 in_vm fstrim / || return
	want "stats" grep -qE '"disk_discarded_bytes":[1-9]' <<<"$("$uvm" stats a --json)" || return
	same "source of random numbers" virtio_rng.0 "$(in_vm cat /sys/class/misc/hw_random/rng_current)" || return
	same "bytes from it" 100 "$(in_vm sh -c 'dd if=/dev/hwrng bs=10 count=10 iflag=fullblock 2>/dev/null | wc -c')" || return
	calm a
}

# A device of the host's: a loop device, whose file tells what was asked of it, with large blocks.
test_disk_that_is_a_device()
{
	local data='' below='' status
	dd if=/dev/urandom of="$dir/raw" bs=1M count=16 2>/dev/null
	dd if=/dev/urandom of="$dir/below" bs=1M count=2 2>/dev/null
	data=$(losetup -f --show --sector-size 4096 "$dir/raw" 2>/dev/null) &&
		below=$(losetup -f --show "$dir/below" 2>/dev/null) || reason="skip: no loop devices here"
	[ "$below" ] && use_devices "$data" "$below"
	status=$?
	[ ! "$data" ] || losetup -d "$data" # when nobody has it open
	[ ! "$below" ] || losetup -d "$below"
	return $status
}

use_devices() # WRITABLE BELOW-A-LAYER
{
	boot a --rootfs "$rootfs,cow" --disk "$1,direct=on" --disk "$2,cow" || return
	same "sectors" "32768 4096" "$(in_vm sh -c 'cat /sys/block/vd[bc]/size' | xargs)" || return
	same "sum" "$(md5sum <"$dir/raw")" "$(in_vm sh -c 'md5sum </dev/vdb')" || return
	ends 0 in_vm blkdiscard -o 4194304 -l 8388608 /dev/vdb || return
	same "MiB of a device of which 8 were discarded" 8 "$(space "$dir/raw")" || return
	ends 0 in_vm blkdiscard -o 512 -l 1024 /dev/vdb || return # less than one of its blocks
	ends 0 in_vm sh -c 'seq 100000 | dd of=/dev/vdb bs=4k seek=1024 conv=notrunc,fsync 2>/dev/null' || return
	same "what was written" "$(seq 100000 | md5sum)" "$(dd if="$dir/raw" bs=4k skip=1024 2>/dev/null | head -c 588895 | md5sum)" || return
	# Nobody else writes to it.
	want "a file system is made on it" grep -q 'in use' <(mke2fs -q "$1" 2>&1) || return
	want "another VM gets it" grep -q 'cannot open disk' <("$uvm" boot --kernel "$kernel" --rootfs "$rootfs,ro" --disk "$1" --id b --detach 2>&1) || return
	snapshot a --out "$dir/snap" || return
	clone_as b || return
	same "sums in a clone" "$(cat "$dir/raw" "$dir/below" | md5sum)" "$(vm b sh -c 'cat /dev/vdb /dev/vdc | md5sum')" || return
	# What is written to a device leaves no trace on it, so it is read again by each clone.
	printf x | dd of="$2" conv=notrunc,fsync 2>/dev/null
	want "a clone of what has changed" grep -q 'snap' <("$uvm" clone "$dir/snap" --id c --detach 2>&1) || return
	same "VMs" "a b" "$("$uvm" ps -q | sort | xargs)" || return
	calm a
}

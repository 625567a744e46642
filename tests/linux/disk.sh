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

# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # a part of tests/linux/run, whose variables these are
#
# attach.sh: disks and networks that come to a running Linux guest, and go.

# fails_with TEXT COMMAND...: it fails, and says so.
fails_with()
{
	local text=$1
	shift
	"$@" >"$dir/said" 2>&1 && { reason="'$*' did not fail"; return 1; }
	want "'$*' says: $(cat "$dir/said")" grep -q "$text" "$dir/said"
}

attach() { "$uvm" attach "$@"; }
detach() { "$uvm" detach "$@"; }

# The disks, or networks, that a guest has: all but its first.
disks_of() { vm "$1" sh -c 'ls /sys/block' | grep '^vd' | xargs; }

# An image with a file system, which has a label: image NAME
image()
{
	truncate -s 16M "$dir/$1" && mke2fs -q -F -t ext4 -L "$1" "$dir/$1"
}

# What the monitor of a VM has in use, but memory.
monitor_has() { ls "/proc/$(cat "$UVM_RUN/$1/pid")/fd" | wc -l; ls "/proc/$(cat "$UVM_RUN/$1/pid")/task" | wc -l; }

test_attach_disk()
{
	local i had
	image one && image two || return
	boot a --rootfs "$rootfs,ro" --slots 3 --cpus 2 || return
	same "disk" vdb "$(attach disk a "$dir/one")" || return
	same "disks" "vda vdb" "$(disks_of a)" || return
	ends 0 in_vm sh -c 'mkdir -p /tmp/d && mount -t ext4 /dev/vdb /tmp/d && seq 100000 >/tmp/d/x' || return
	same "answer" '{"device":"vdc","slot":4,"serial":"TWO/2"}' "$(attach disk a "$dir/two,ro,serial=TWO/2" --json)" || return
	same "serial, read-only" "TWO/2 1" "$(in_vm sh -c 'cat /sys/block/vdc/serial; echo; cat /sys/block/vdc/ro' | xargs)" || return
	fails_with 'in use by another VM' attach disk a "$dir/one" || return
	same "disk" vdd "$(attach disk a "$dir/two,ro")" || return
	fails_with 'each of its 3 slots' attach disk a "$dir/two,ro" || return
	same "detached" vdd "$(detach disk a vdd)" || return
	# Nothing of a disk that is mounted is lost.
	fails_with 'in use: Resource busy' detach disk a vdb || return
	same "file" "$(seq 100000 | md5sum)" "$(in_vm sh -c 'md5sum </tmp/d/x')" || return
	ends 0 in_vm umount /tmp/d || return
	same "detached" vdb "$(detach disk a vdb)" || return
	same "disks" "vda vdc" "$(disks_of a)" || return
	want "the file system is damaged" e2fsck -fn "$dir/one" >/dev/null 2>&1 || return
	same "file" "$(seq 100000 | md5sum)" "$(debugfs -R 'cat x' "$dir/one" 2>/dev/null | md5sum)" || return
	fails_with "no disk 'vdb' was attached\|no such device" detach disk a vdb || return
	fails_with "no disk 'vda' was attached\|no such device" detach disk a vda || return
	same "disks" "vda vdc" "$(disks_of a)" || return
	# Again and again; by its serial number and its slot, too.
	same "answer" '{"device":"vdc","slot":4}' "$(detach disk a TWO/2 --json)" || return
	attach disk a "$dir/one" >/dev/null && detach disk a slot3 >/dev/null || { reason="slot3"; return 1; }
	had=$(monitor_has a)
	for i in 1 2 3 4 5; do
		same "disk" vdb "$(attach disk a "$dir/one,cow")" || return
		ends 0 in_vm sh -c 'mount -t ext4 /dev/vdb /tmp/d && echo lost >/tmp/d/lost && umount /tmp/d' || return
		same "detached" vdb "$(detach disk a vdb)" || return
	done
	same "descriptors, threads" "$had" "$(monitor_has a)" || return
	want "a layer was written to the image" [ ! "$(debugfs -R 'cat lost' "$dir/one" 2>/dev/null)" ] || return
	# What is written without a file system reaches the image by the time it is detached.
	same "disk" vdb "$(attach disk a "$dir/two")" || return
	ends 0 in_vm sh -c 'echo raw | dd of=/dev/vdb conv=notrunc 2>/dev/null' || return
	same "detached" vdb "$(detach disk a vdb)" || return
	same "written" raw "$(head -c 3 "$dir/two")" || return
	calm a
}

test_attach_refusals()
{
	image one || return
	boot a --rootfs "$rootfs,ro" --slots 1 || return
	boot b --rootfs "$rootfs,ro" || return
	fails_with 'no slots for further devices (--slots)' attach disk b "$dir/one" || return
	fails_with 'cannot open disk' attach disk a "$dir/none" || return
	fails_with 'neither a regular file' attach disk a "/dev/null" || return
	fails_with 'excluded\|exclude each other' attach disk a "$dir/one,ro,cow" || return
	fails_with 'leads nowhere' attach net a none || return
	fails_with "is not a container's" attach disk a "$dir/one" --mount /x || return
	fails_with 'usage: uvm attach' attach disk a || return
	fails_with 'no disk' detach disk a vdb || return
	ends 0 "$uvm" pause a || return
	fails_with 'is paused' attach disk a "$dir/one" || return
	ends 0 "$uvm" resume a || return
	# A driver that has it: a hostile guest's that does not let go.
	same "disk" vdb "$(attach disk a "$dir/one")" || return
	fails_with 'a driver in the guest has the device' python3 "$top/tests/tiny/control.py" a "detach 3" || return
	same "disks" "vda vdb" "$(disks_of a)" || return
	same "bytes" 16777216 "$(in_vm sh -c 'wc -c </dev/vdb')" || return
	same "status" 'attached.3", "disk uvm-slot-3' "$(python3 "$top/tests/tiny/control.py" a status | grep -o "attached.*slot-3")" || return
	calm a
}

# Whoever goes on from there has what was attached, each a disk of its own.
test_attach_before_snapshot_and_fork()
{
	local id
	image one || return
	boot a --rootfs "$rootfs,ro" --slots 3 || return
	same "disk" vdb "$(attach disk a "$dir/one,cow,serial=S1")" || return
	ends 0 vm a sh -c 'mkdir -p /tmp/d && mount -t ext4 /dev/vdb /tmp/d && echo before >/tmp/d/x && sync' || return
	snapshot a --out "$dir/snap" || return
	fork_as c a || return
	clone_as b || return
	for id in a b c; do
		ends 0 vm "$id" sh -c "echo $id >>/tmp/d/x && sync" || return
	done
	for id in a b c; do
		same "file of $id" "before $id" "$(vm $id cat /tmp/d/x | xargs)" || return
		fails_with 'Resource busy' detach disk $id vdb || return
		ends 0 vm $id umount /tmp/d || return
		same "detached from $id" vdb "$(detach disk $id vdb)" || return
		same "disks of $id" vda "$(disks_of $id)" || return
		# The slots that are empty in the snapshot are so in the copies.
		same "disk" vdb "$(attach disk $id "$dir/one,ro")" || return
		same "label" one "$(vm $id sh -c 'dd if=/dev/vdb bs=1 skip=1144 count=16 2>/dev/null' | tr -d '\0')" || return
	done
	# A snapshot of a clone, with one disk gone and another there.
	snapshot b --out "$dir/snap2" --stop || return
	clone_as d "$dir/snap2" || return
	same "disks of d" "vda vdb" "$(disks_of d)" || return
	same "detached from d" vdb "$(detach disk d uvm-slot-3)" || return
	calm a
}

test_net_attach()
{
	local i
	tap vm0 1 && tap vm1 2 || return
	truncate -s 1M "$dir/disk"
	boot a --rootfs "$rootfs,ro" --net "tap=vm0,$(addresses 1)" --slots 2 || return
	pings a 1 || return
	for i in 1 2 3; do
		same "network" eth1 "$(attach net a "tap=vm1,mac=02:00:00:00:00:0$i,$(addresses 2 | sed 's/gw=[^,]*,//')")" || return
		same "address" "02:00:00:00:00:0$i" "$(in_vm cat /sys/class/net/eth1/address)" || return
		same "disk" vdb "$(attach disk a "$dir/disk")" || return
		pings a 2 || return
		pings a 1 || return
		want "ps" grep -q '"mac":"02:00:00:00:00:0'$i'"' <<<"$("$uvm" ps --json)" || return
		same "detached" eth1 "$(detach net a eth1)" || return
		same "networks" "eth0 lo" "$(in_vm ls /sys/class/net | xargs)" || return
		same "detached" vdb "$(detach disk a vdb)" || return
	done
	# A tap that somebody else has, and one that is free again.
	fails_with 'busy' attach net a tap=vm0 || return
	same "network" eth1 "$(attach net a tap=vm1)" || return
	same "answer" '{"device":"eth1","slot":4}' "$(detach net a "$("$uvm" ps --json | sed 's/.*"mac":"\([^"]*\)".*/\1/')" --json)" || return
	pings a 1 || return
	calm a
}

# passt is the client's child, and stays; what reads the client's output does not wait for its end.
test_net_attach_passt()
{
	tap ext 7 || return
	command -v passt >/dev/null || { reason="skip: passt is not installed"; return 1; }
	ip route add default via 10.7.0.2 || { reason="no route"; return 1; }
	boot a --rootfs "$rootfs,ro" --slots 1 || return
	same "network" eth0 "$(timeout 60 "$uvm" attach net a passt,ip=10.9.0.2/24 2>&1)" || return
	same "address" 10.9.0.2/24 "$(in_vm ip -4 -o addr show dev eth0 | awk '{ print $4 }')" || return
	want "no passt runs" pgrep -f "[p]asst .*--address 10.9.0.2" >/dev/null || return
	same "detached" eth0 "$(detach net a eth0)" || return
	want "passt outlives its device" until_true 10 sh -c '! pgrep -f "[p]asst .*--address 10.9.0.2"' || return
	calm a
}

test_run_attach_to_a_container()
{
	image one || return
	background_run job -- sh -c 'until [ -e /data/go ]; do sleep 0.1; done; echo done >/data/done; sleep 1000' || return
	same "disk" '"mount":"/data"}' "$(attach disk job "$dir/one" --mount /data --json | grep -o '"mount.*')" || return
	ends 0 "$uvm" exec job touch /data/go || return
	want "the container has not seen it" later 10 "$uvm" exec job cat /data/done || return
	fails_with 'Resource busy' detach disk job vdc || return
	detach disk job vdc --unmount /data >/dev/null || { reason="detach"; return 1; }
	fails_with 'No such file' "$uvm" exec job cat /data/done || return
	same "in the image" "done" "$(debugfs -R 'cat done' "$dir/one" 2>/dev/null)" || return
	# For reading; and one that cannot be mounted is not left there.
	attach disk job "$dir/one,ro" --mount /data:ro >/dev/null || { reason="attach"; return 1; }
	fails_with 'Read-only' "$uvm" exec job touch /data/x || return
	dd if=/dev/zero of="$dir/zeros" bs=1M count=2 2>/dev/null
	fails_with 'neither\|file system' attach disk job "$dir/zeros" --mount /more || return
	image two && dd if=/dev/zero of="$dir/two" bs=4096 seek=1 count=400 conv=notrunc 2>/dev/null
	fails_with '' attach disk job "$dir/two" --mount /more || return
	same "attached" 1 "$(python3 "$top/tests/tiny/control.py" job status | grep -o attached | wc -l)" || return
	ends 0 "$uvm" rm -f job || return
	nothing_left
}

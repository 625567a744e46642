# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # a part of tests/linux/run, whose variables these are
#
# load.sh: real work for disks, shares, sockets and networks, whose result is known to the byte. What
# runs inside is tests/linux/load.c, probe.c, and the host's own git.

load=$top/build/tests/linux/load

# A guest with both programs in it. loaded OPTION...
loaded()
{
	source_vm "$@" || return
	reason="load does not get into the guest"
	vm a sh -c 'cat >/tmp/load && chmod 755 /tmp/load' <"$load"
}

# An empty ext4 image at $dir/data, of so many MiB, on a disk of the guest's.
data_disk()
{
	truncate -s "$1M" "$dir/data"
	want mke2fs mke2fs -q -F -t ext4 "$dir/data"
}

# As root: a disk of blocks, a file system on a disk, one on a layer, and a share.
test_load_disks_and_files()
{
	truncate -s 32M "$dir/raw" "$dir/layer"
	data_disk 32 || return
	mkdir "$dir/share"
	loaded --rootfs "$rootfs,ro" --disk "$dir/raw" --disk "$dir/data" --disk "$dir/layer,cow" \
		--share "$dir/share:tag" || return
	in_guest 'mkdir /tmp/d /tmp/s && mount /dev/vdc /tmp/d' || return
	mount_share a tag /tmp/s || return
	same "a disk" ok "$(vm a /tmp/load disk /dev/vdb 1 300)" || return
	same "a disk with a layer" ok "$(vm a /tmp/load disk /dev/vdd 2 300)" || return
	same "a file on ext4" ok "$(vm a /tmp/load fsx /tmp/d 3 2000)" || return
	same "a file of a share" ok "$(vm a /tmp/load fsx /tmp/s 4 2000)" || return
	# The host has what the guest has seen.
	same "the share's file" "$(vm a md5sum /tmp/s/fsx | cut -c 1-32)" "$(md5sum <"$dir/share/fsx" | cut -c 1-32)" || return
	same "the image with a layer" "$(head -c 32M /dev/zero | md5sum)" "$(md5sum <"$dir/layer")" || return
	in_guest 'umount /tmp/d' || return
	want "the file system is damaged" e2fsck -fn "$dir/data" >/dev/null 2>&1 || return
	calm a
}

# The monitor is killed while the guest writes: what was synced is there.
test_load_killed_while_it_writes()
{
	local pid last
	data_disk 32 || return
	loaded --rootfs "$rootfs,ro" --disk "$dir/data" || return
	in_guest 'mkdir /tmp/d && mount /dev/vdb /tmp/d && mkdir /tmp/d/w' || return
	background a write /tmp/d/w /tmp/written || return
	on a /tmp/written 20 || return
	pid=$(cat "$UVM_RUN/a/pid")
	kill -KILL "$pid"
	until_true 10 no_such_vm a || return
	# The journal is replayed, and then nothing is wrong.
	e2fsck -fp "$dir/data" >"$dir/log" 2>&1
	want "after the journal: $(tail -n 3 "$dir/log")" e2fsck -fn "$dir/data" >/dev/null 2>&1 || return
	loaded --rootfs "$rootfs,ro" --disk "$dir/data" || return
	in_guest 'mkdir /tmp/d && mount /dev/vdb /tmp/d' || return
	reason="what was written"
	last=$(vm a /tmp/probe check /tmp/d/w) || { reason="what was written: $last"; return 1; }
	want "$round were written, and $last are there" [ "$last" -ge "$round" ] || return
	calm a
}

no_such_vm() { [ -z "$("$uvm" ps -q)" ]; }

# 64 MiB each way over the socket device, at once.
test_load_socket()
{
	local bytes=67108864 pid
	loaded --rootfs "$rootfs,ro" || return
	"$load" send 5 $bytes | vm a /tmp/load recv 5 $bytes >"$dir/to" &
	pid=$!
	same "from the guest" ok "$(vm a /tmp/load send 6 $bytes | "$load" recv 6 $bytes)" || return
	wait $pid
	same "to the guest" ok "$(cat "$dir/to")" || return
	calm a
}

# 8 MiB each way over a tap device, at once.
test_net_load()
{
	local bytes=8388608 listener guest
	tap t0 1 || return
	loaded --rootfs "$rootfs,ro" --net "tap=t0,$(addresses 1)" || return
	sh -c "$hold $in_host" | "$load" recv 7 $bytes >"$dir/from" &
	listener=$!
	vm a sh -c "$hold timeout 100 nc -l -p 5002 <&3 | /tmp/load recv 8 $bytes" >"$dir/to" &
	guest=$!
	want "nobody listens" until_true 10 listens 5001 || return
	want "nobody listens in a" until_true 20 guest_listens a 5002 || return
	vm a sh -c "/tmp/load send 7 $bytes | timeout 100 nc 10.1.0.1 5001" &
	"$load" send 8 $bytes | timeout 100 busybox nc 10.1.0.2 5002
	wait $listener $guest
	same "from the guest" ok "$(cat "$dir/from")" || return
	same "to the guest" ok "$(cat "$dir/to")" || return
	same "frames dropped" "0 0" "$(stat_of a rx_dropped) $(stat_of a tx_dropped)" || return
	calm a
}

# The host's programs, run from a share of its /usr, clone a repository from one share to
# another, and unpack as many files.
test_load_share_git_and_tar()
{
	local files=500 i
	command -v git >/dev/null || { reason="skip: git is not installed"; return 1; }
	mkdir -p "$dir/share/repo" && cp -r "$top/devices" "$top/docs" "$dir/share/repo" || return
	for ((i = 0; i < files; i++)); do
		[ $((i % 50)) != 0 ] || mkdir -p "$dir/share/repo/d$((i / 50))"
		echo "file $i" >"$dir/share/repo/d$((i / 50))/f$i"
	done
	export HOME=$dir GIT_CONFIG_NOSYSTEM=1
	want "git on the host" git_repo "$dir/share/repo" || return
	shared "" --share /usr:usr:ro --memory 256M || return
	in_guest 'mkdir -p /tmp/h && cd /tmp/h && mkdir usr mnt proc dev tmp && ln -s usr/bin usr/lib usr/lib64 . &&
		mount -t virtiofs usr usr && mount --bind /mnt mnt && mount --bind /proc proc && mount --bind /dev dev' || return
	in_guest "chroot /tmp/h env HOME=/tmp GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*' \
		git clone -q --no-local /mnt/repo /mnt/clone" || return
	want "git finds fault" git -C "$dir/share/clone" fsck --full >/dev/null 2>&1 || return
	same "what git sees as changed" "" "$(git -C "$dir/share/clone" status --porcelain)" || return
	want "the clone's files differ" diff -r --exclude=.git "$dir/share/repo" "$dir/share/clone" || return
	in_guest "chroot /tmp/h sh -c 'mkdir /mnt/out && tar -C /mnt/repo -cf - . | tar -C /mnt/out -xf -'" || return
	want "the unpacked files differ" diff -r "$dir/share/repo" "$dir/share/out" || return
	calm a
}

git_repo()
{
	git -C "$1" init -q && git -C "$1" add -A &&
		git -C "$1" -c user.name=test -c user.email=test@localhost commit -q -m all
}

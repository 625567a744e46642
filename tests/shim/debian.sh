# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # a part of tests/shim/run, whose variables these are
#
# debian.sh: a Debian (tools/debian-image) at work: python3 (load.py), dpkg and apt. With its root shared, and with
# an image of it as the root.

# Of a tree of its own, which podman neither copies nor sums up: that takes minutes in the lab.
debian_works()
{
	rm -rf "$store/root" && mkdir "$store/root" && tar -C "$store/root" -xf "$UVM_TEST_IMAGE" &&
		timeout -k 5 300 $engine --runtime $runtime run --rm --network none "$@" -v "$top/tests/shim:/load:ro" --rootfs "$store/root" sh -c '
		mkdir /work && python3 /load/load.py /work
		dpkg -l | md5sum; apt-get check 2>&1; apt list --installed 2>/dev/null | wc -l; apt-cache search --names-only "^python3.11$"
		apt-get install -y --reinstall /root/hostname.deb >/work/log 2>&1 || cat /work/log; grep -c "^Setting up hostname" /work/log
		dpkg -s hostname | grep -E "^(Status|Version)"; dpkg --verify coreutils dpkg hostname python3.11-minimal | grep -v /usr/share/
		dpkg --remove --force-remove-essential hostname >/work/log 2>&1; echo $?; command -v hostname || echo gone'
	status=$?
	rm -rf "$store/root"
	return $status
}

use_debian()
{
	local status
	[ -s "${UVM_TEST_IMAGE-}" ] || { line skip "there is no image of Debian (tools/debian-image)"; return; }
	outcome shared debian_works
	cp "$store/outcome" "$store/shared"
	# To crun the annotation says nothing.
	if [ $runtime = uvm ]; then outcome erofs debian_works --annotation org.uvm.rootfs=erofs; else outcome erofs cat "$store/shared"; fi
}

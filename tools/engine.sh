# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh disable=SC2034 # sourced
#
# engine.sh: a podman that has everything of its own in one directory, with crun and uvm as its
# runtimes, for the demonstration, tests/shim and tests/bench/shim. Sourced with $top.
#
#	engine_missing		says what it lacks on this host, or nothing
#	engine_make DIR UVM	makes it, with an image "busybox", which is the tree DIR/tree. Sets
#				$engine, the command; $runtime_uvm, UVM with its settings; and
#				CONTAINERS_CONF. UVM_KERNEL, if set, is the kernel that guests get.
#	engine_end DIR		removes its containers and mounts, and the VMs; DIR is the caller's to remove

engine_missing()
{
	for tool in podman conmon crun debugfs; do
		command -v $tool >/dev/null || printf '%s is not installed; ' $tool
	done
}

# No environment of podman's reaches a runtime, so uvm has its settings from a script. conmon makes
# its sockets in TMPDIR, which in the lab cannot be /tmp.
engine_make()
{
	mkdir -p "$1/bin" "$1/cache" "$1/run" "$1/tmp" "$1/tree" /dev/shm
	runtime_uvm=$1/bin/uvm
	cat >"$runtime_uvm" <<-END
		#!/bin/sh
		UVM_CACHE=$1/cache UVM_KERNEL=${UVM_KERNEL:-$top/build/vmlinux} UVM_RUN=$1/run exec $2 "\$@"
	END
	chmod +x "$runtime_uvm"
	cat >"$1/containers.conf" <<-END
		[network]
		network_backend = "netavark"
		network_config_dir = "$1/networks"
		[engine]
		runtime_supports_json = ["crun", "uvm"]
		cgroup_manager = "cgroupfs"
		events_logger = "file"
		tmp_dir = "$1/tmp"
		conmon_env_vars = ["PATH=$PATH", "TMPDIR=${TMPDIR:-/tmp}"]
		[engine.runtimes]
		uvm = ["$runtime_uvm"]
	END
	export CONTAINERS_CONF="$1/containers.conf"
	engine="podman --root $1/storage --runroot $1/state"
	debugfs -R "rdump / $1/tree" "$top/build/rootfs.ext4" >/dev/null 2>&1
	tar -C "$1/tree" -cf "$1/image.tar" . && $engine import --quiet "$1/image.tar" busybox >/dev/null
}

engine_end()
{
	[ -z "${engine-}" ] || $engine rm -fa -t 0 >/dev/null 2>&1 || :
	for vm in $("$1/bin/uvm" ps -q 2>/dev/null); do "$1/bin/uvm" kill "$vm" || :; done
	umount "$1/storage/overlay" 2>/dev/null || : # it need not be mounted
}

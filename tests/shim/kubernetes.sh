# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # a part of tests/shim/run, whose variables these are
#
# kubernetes.sh: a pod as a kubelet has it made: by containerd's CRI service, with uvm as the handler of a runtime
# class, and with runc, which is the service's own (cri.py is the kubelet). The network is a CNI plugin's of
# this file: a veth pair.

# The plugin, for what the service calls "loopback", too. CNI: the order is in the environment, the answer JSON.
cni_plugin()
{
	cat <<-'END'
		#!/bin/sh
		pod="nsenter --net=$CNI_NETNS"
		case $CNI_COMMAND.${0##*/} in
		ADD.loopback) $pod ip link set lo up ;;
		ADD.*)
			ip link add uvmpod type veth peer name "$CNI_IFNAME" netns "$CNI_NETNS"
			ip addr add 10.99.0.1/24 dev uvmpod
			ip link set uvmpod up
			$pod ip addr add 10.99.0.2/24 dev "$CNI_IFNAME"
			$pod ip link set "$CNI_IFNAME" up
			$pod ip route add default via 10.99.0.1
			;;
		DEL.loopback) ;;
		DEL.*) ip link del uvmpod 2>/dev/null ;;
		VERSION.*) echo '{"cniVersion": "0.4.0", "supportedVersions": ["0.4.0"]}' ;;
		esac >&2
		[ "$CNI_COMMAND" = ADD ] || exit 0
		case ${0##*/} in
		loopback) echo '{"cniVersion": "0.4.0", "interfaces": [{"name": "lo"}], "ips": [{"version": "4", "address": "127.0.0.1/8", "interface": 0}]}' ;;
		*) echo '{"cniVersion": "0.4.0", "interfaces": [{"name": "'"$CNI_IFNAME"'", "sandbox": "'"$CNI_NETNS"'"}],
			"ips": [{"version": "4", "address": "10.99.0.2/24", "gateway": "10.99.0.1", "interface": 0}]}' ;;
		esac
	END
}

kubernetes_start()
{
	mkdir -p "$store/cni/bin" "$store/cni/conf" "$store/volume"
	cni_plugin >"$store/cni/bin/pair"
	chmod +x "$store/cni/bin/pair"
	ln -s pair "$store/cni/bin/loopback"
	echo '{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "pair"}]}' >"$store/cni/conf/pods.conflist"
	echo told >"$store/volume/told"
	cat >"$store/cri.toml" <<-CONF
		version = 2
		root = "$store/cri.root"
		state = "$store/cri.run"
		disabled_plugins = ["io.containerd.internal.v1.restart"]
		[grpc]
		address = "$store/containerd.sock"
		[plugins."io.containerd.grpc.v1.cri"]
		sandbox_image = "localhost/pause:latest"
		[plugins."io.containerd.grpc.v1.cri".cni]
		bin_dir = "$store/cni/bin"
		conf_dir = "$store/cni/conf"
		[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
		runtime_type = "io.containerd.runc.v2"
		[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.uvm]
		runtime_type = "io.containerd.runc.v2"
		pod_annotations = ["org.uvm.*"]
		[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.uvm.options]
		BinaryName = "$runtime_uvm"
	CONF
	# The service takes no image without a command. The sandbox's container runs this one.
	podman_ import --quiet --change 'ENTRYPOINT ["sleep", "100000"]' --change 'ENV PATH=/bin' "$work/image.tar" pause >/dev/null
	podman_ save --quiet --format oci-archive -o "$store/image.oci" pause
	daemon_ "$store/cri.log" containerd --config "$store/cri.toml"
	until_ 'ctr_ version >/dev/null 2>&1' && ctr_ -n k8s.io images import "$store/image.oci" >/dev/null && return
	tail -n 5 "$store/cri.log" >&2
	daemon_end
	return 1
}

use_kubernetes()
{
	local handler=''
	command -v containerd >/dev/null && command -v runc >/dev/null || { line skip "containerd is not installed"; return; }
	/usr/bin/python3 -c 'import grpc' 2>/dev/null || { line skip "python3-grpcio is not installed"; return; }
	[ $runtime != uvm ] || handler=uvm
	kubernetes_start || { line containerd "does not start"; return; }
	timeout -k 5 400 "$top/tests/shim/cri.py" "$store/containerd.sock" "$handler" "$store" || {
		line cri "did not come to its end with $runtime"
		tail -n 20 "$store/cri.log" >&2
	}
	line left-cgroups "$(find /sys/fs/cgroup -path '*kubepods/*' -type d | wc -l)"
	line left-mounts "$(grep -c "$store/cri.run" /proc/mounts)"
	line left-links "$(ip -o link show type veth | wc -l)"
	daemon_end
}

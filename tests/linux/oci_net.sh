# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # a part of tests/linux/run, whose variables these are
#
# oci_net.sh: networks of OCI containers (oci.sh), made as their callers make them: a namespace with one end
# of a veth pair, whose other end is in a bridge here. Here is a network namespace of the test's own.

# bridge_here: at which the host is 10.9.0.1 and fd09::1.
bridge_here()
{
	[ "${UVM_TEST_NETNS-}" ] || { reason="skip: no network namespace can be made here"; return 1; }
	reason="no bridge can be made"
	ip link set lo up && ip link add br0 type bridge && ip addr add 10.9.0.1/24 dev br0 &&
		ip addr add fd09::1/64 dev br0 nodad && ip link set br0 up
}

# namespace ID: whose process keeps it, and whose id is in $dir/ID.ns.
namespace()
{
	unshare --net sleep 1000 &
	echo $! >"$dir/$1.ns"
	until_true 5 different_namespaces $! || { reason="no network namespace"; return 1; }
	in_namespace "$1" ip link set lo up
}

different_namespaces() { [ "$(readlink /proc/$1/ns/net)" != "$(readlink /proc/self/ns/net)" ]; }
in_namespace() { local id=$1; shift; nsenter -t "$(cat "$dir/$id.ns")" -n "$@"; }

# plug ID NAME NUMBER MTU: an interface there that leads to the bridge.
plug()
{
	reason="interface $2 of $1 cannot be made"
	ip link add "$1.$2" mtu "$4" type veth peer name "$2" mtu "$4" netns "$(cat "$dir/$1.ns")" &&
		ip link set "$1.$2" master br0 up && in_namespace "$1" ip addr add "10.9.0.$3/24" dev "$2" &&
		in_namespace "$1" ip addr add "fd09::$3/64" dev "$2" nodad && in_namespace "$1" ip link set "$2" up
}

# net_bundle ID: a bundle in that namespace.
net_bundle()
{
	bundle "$1" '["sleep", "1000"]' &&
		sed -i "s,{\"type\": \"network\"},{\"type\": \"network\"\, \"path\": \"/proc/$(cat "$dir/$1.ns")/ns/net\"}," "$dir/$1/config.json"
}

started()
{
	create "$1" || return
	eval "waiter_$1=$waiter"
	ends 0 oci start "$1"
}

# What both sides say about an interface's addresses, and about routes. An address with a peer is one with 32 bits
# in the guest, and the route to the peer.
addresses_of() { "$@" busybox ip addr show dev eth0 | awk '$1 ~ /^(inet|link)/ { sub("/32$", "", $2); print $1, $2 }'; }
routes_of() { "$@" sh -c 'busybox ip route; busybox ip -6 route | grep -v -e fe80 -e ff00' | sed 's/ *$//'; }

taps_of() { in_namespace "$1" ip -o link | grep -c uvm_tap; }
queues_of() { in_namespace "$1" tc qdisc | grep -c ingress; }

# What both sides say, pings each way, and a stream.
test_oci_net_bridge()
{
	bridge_here && namespace one && plug one eth0 2 1400 && plug one eth1 4 1500 && namespace two && plug two eth0 3 1500 || return
	in_namespace one sh -c 'ip addr add 10.9.0.22/24 dev eth0 && ip addr add 10.8.0.1 peer 10.8.0.2 dev eth0 &&
		ip route add default via 10.9.0.1 metric 100 && ip route add 10.7.0.0/16 dev eth0 src 10.9.0.22 &&
		ip route add 10.6.0.0/16 via 10.8.0.2 && ip -6 route add default via fd09::1 dev eth0 metric 7' || { reason="no addresses"; return 1; }
	net_bundle one && net_bundle two && started one && started two || return
	same "interfaces" "eth0 eth1 lo" "$("$uvm" exec one -- ls /sys/class/net | xargs)" || return
	same "addresses" "$(addresses_of in_namespace one)" "$(addresses_of "$uvm" exec one --)" || return
	same "routes" "$(routes_of in_namespace one)" "$(routes_of "$uvm" exec one --)" || return
	same "MTU" "1400 1500" "$("$uvm" exec one -- cat /sys/class/net/eth0/mtu /sys/class/net/eth1/mtu | xargs)" || return
	want "lo" "$uvm" exec one -- ping -c 1 -W 5 127.0.0.1 >/dev/null || return
	want "no answer to the host" busybox ping -c 1 -W 5 10.9.0.2 >/dev/null || return
	want "no answer to the host by IPv6" until_true 10 busybox ping6 -c 1 -W 5 fd09::2 || return
	want "no answer from the host" "$uvm" exec one -- ping -c 1 -W 5 10.9.0.1 >/dev/null || return
	want "no answer from the other by IPv6" "$uvm" exec two -- ping6 -c 1 -W 5 fd09::2 >/dev/null || return
	head -c 1000000 /dev/urandom >"$dir/file"
	vm two sh -c 'cat >/tmp/file' <"$dir/file"
	to_host two 10.9.0.1 /tmp/file && to_guest two 10.9.0.3 "$dir/file" || return
	# The namespace's own stack has the address, too, and must not hear: nobody listens on the port there.
	"$uvm" exec one -- sh -c "$hold timeout 20 nc -l -p 7001 <&3" >"$dir/got" &
	want "nobody listens" until_true 10 guest_listens one 7001 || return
	"$uvm" exec two -- sh -c 'echo through | nc 10.9.0.2 7001'
	want "nothing came from the other" until_true 10 grep -q through "$dir/got" || return
	# Whatever ends it, nothing is left.
	same "taps and queues" "2 4" "$(taps_of one) $(queues_of one)" || return
	ends 1 oci create --bundle "$dir/one" three 2>/dev/null </dev/null || return
	want "$(tail -n 1 "$dir/log")" grep -q "another container's already" <<<"$(tail -n 1 "$dir/log")" || return
	kill -KILL "$(cat "$dir/one.pid")"
	ends 137 wait "$waiter_one" || return
	same "taps and queues of one that was killed" "0 2" "$(taps_of one) $(queues_of one)" || return
	ends 0 oci delete --force one && ends 0 oci delete --force two || return
	same "taps and queues" "0 0 0 0" "$(taps_of one) $(queues_of one) $(taps_of two) $(queues_of two)" || return
	same "run directories" "" "$(ls "$UVM_RUN")"
}

# A namespace of ours, into which a hook brings an interface; and one that is brought later.
test_oci_net_hook()
{
	bridge_here || return
	cat >"$dir/hook" <<-'EOF'
	#!/bin/sh
	pid=$(sed 's/.*"pid":\([0-9]*\).*/\1/')
	ip link add host type veth peer name net0 netns $pid && ip link set host master br0 up &&
	nsenter -t $pid -n sh -c 'ip addr add 10.9.0.5/24 dev net0 && ip link set net0 up'
	EOF
	chmod +x "$dir/hook"
	bundle hooked '["sleep", "1000"]' '' '' ", \"hooks\": {\"prestart\": [{\"path\": \"$dir/hook\", \"env\": [\"PATH=$PATH\"]}]}" || return
	started hooked || return
	same "interfaces" "lo net0" "$("$uvm" exec hooked -- ls /sys/class/net | xargs)" || return
	want "no answer" busybox ping -c 1 -W 5 10.9.0.5 >/dev/null || return
	ends 0 oci delete --force hooked || return
	bundle late '["sleep", "1000"]' && create late || return
	ip link add host type veth peer name net0 netns "$(cat "$dir/late.pid")" || return
	nsenter -t "$(cat "$dir/late.pid")" -n ip link set net0 up
	ends 1 oci start late 2>/dev/null || return
	want "$(tail -n 1 "$dir/log")" grep -q "net0 was added after create" <<<"$(tail -n 1 "$dir/log")" || return
	ends 0 oci delete --force late || return
	# The host's own.
	bundle bad '["true"]' && sed -i 's,{"type": "network"},{"type": "network"\, "path": "/proc/self/ns/net"},' "$dir/bad/config.json" &&
		oci_refused "is the host's" || return
	sed -i 's,{"type": "network"[^}]*}\, ,,' "$dir/bad/config.json" && oci_refused "none of the type 'network'"
}

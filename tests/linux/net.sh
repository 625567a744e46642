# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # a part of tests/linux/run, whose variables these are
#
# net.sh: networks of Linux guests. Each of these tests has a network namespace of its own, so that
# nothing of it is left whatever happens: taps go with the last process in it.

# tap NAME NET: a tap device at which the host is 10.NET.0.1 and fd00:NET::1.
tap()
{
	[ "${UVM_TEST_NETNS-}" ] || { reason="skip: no network namespace can be made here"; return 1; }
	[ -c /dev/net/tun ] || { reason="skip: there is no /dev/net/tun"; return 1; }
	reason="tap $1 cannot be made"
	ip link set lo up && ip tuntap add "$1" mode tap && ip addr add "10.$2.0.1/24" dev "$1" &&
		ip addr add "fd00:$2::1/64" dev "$1" nodad && ip link set "$1" up
}

# addresses NET: of a guest there, for --net.
addresses()
{
	echo "ip=10.$1.0.2/24,gw=10.$1.0.1,ip=fd00:$1::2/64"
}

# until_true SECONDS COMMAND...: tries it again and again.
until_true()
{
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return
		sleep 0.1
	done
}

# Whether somebody listens on a TCP port: here, or in a guest.
listens() { grep -qi ":$(printf %04X "$1") 0*:0000 0A " /proc/net/tcp /proc/net/tcp6; }
guest_listens() { vm "$1" cat /proc/net/tcp /proc/net/tcp6 | grep -qi ":$(printf %04X "$2") 0*:0000 0A "; }

pings() # ID NET: both ways, and IPv6
{
	want "$1 does not answer a ping" busybox ping -c 1 -W 5 "10.$2.0.2" >/dev/null || return
	want "$1's ping is not answered" vm "$1" ping -c 1 -W 5 "10.$2.0.1" >/dev/null || return
	want "$1 does not answer by IPv6" until_true 10 busybox ping6 -c 1 -W 2 "fd00:$2::2"
}

# A file's sum, sent by TCP from the guest, and to it. A listener in the guest is an exec of ours. Its
# standard input is a fifo that does not end: busybox's nc passes such an end on, and the sender takes
# it for the other side's.
hold='f=$(mktemp -u) && mkfifo $f && exec 3<>$f && rm $f &&'
in_host='timeout 100 busybox nc -l -p 5001 <&3'
in_guest='timeout 100 nc -l -p 5002 <&3 | md5sum'

to_host() # ID ADDRESS FILE
{
	local sum listener
	sum=$(vm "$1" md5sum "$3" | cut -c 1-32)
	sh -c "$hold $in_host" >"$dir/received" &
	listener=$!
	want "nobody listens" until_true 10 listens 5001 || return
	want "$1 cannot send" vm "$1" sh -c "timeout 100 nc $2 5001 <$3" || return
	want "nothing came from $1" wait $listener || return
	same "sum of what came from $1" "$sum" "$(md5sum <"$dir/received" | cut -c 1-32)"
}

to_guest() # ID ADDRESS FILE
{
	local listener
	vm "$1" sh -c "$hold $in_guest" >"$dir/sum" &
	listener=$!
	want "nobody listens in $1" until_true 20 guest_listens "$1" 5002 || return
	want "cannot send to $1" timeout 100 busybox nc "$2" 5002 <"$3" || return
	want "nothing came to $1" wait $listener || return
	same "sum of what came to $1" "$(md5sum <"$3")" "$(cat "$dir/sum")"
}

# stat_of ID rx|tx_frames|dropped: of its first network.
stat_of()
{
	local key=${2/rx_/received_}
	"$uvm" metrics "$1" | sed -n "s/^uvm_net_${key/tx_/sent_}_total{.*net=\"0\"} //p"
}

streams() # ID NET BYTES
{
	head -c "$3" /dev/urandom >"$dir/file"
	reason="no file in $1"
	vm "$1" sh -c 'cat >/tmp/file' <"$dir/file" || return
	to_host "$1" "10.$2.0.1" /tmp/file || return
	to_guest "$1" "10.$2.0.2" "$dir/file"
}

# --- tap devices ---

test_net_tap()
{
	local sent received
	tap t0 1 || return
	boot a --rootfs "$(root),cow" --net "tap=t0,$(addresses 1),dns=10.1.0.1" || return
	pings a 1 || return
	same "route" "10.1.0.1" "$(vm a ip route | awk '$1 == "default" { print $3 }')" || return
	same "name server" "nameserver 10.1.0.1" "$(vm a cat /etc/resolv.conf)" || return
	# Segmentation is left to the host, both ways: less frames than the 2,072 packets of 3 MB.
	head -c 3000000 /dev/urandom >"$dir/file"
	reason="no file in a"
	vm a sh -c 'cat >/tmp/file' <"$dir/file" || return
	sent=$(stat_of a tx_frames)
	to_host a 10.1.0.1 /tmp/file || return
	sent=$(($(stat_of a tx_frames) - sent)) received=$(stat_of a rx_frames)
	to_guest a 10.1.0.2 "$dir/file" || return
	received=$(($(stat_of a rx_frames) - received))
	printf ' 3 MB each way: %s frames to the guest, %s from it\n' $received $sent
	want "frames: $received to the guest" [ $received -lt 1500 ] || return
	# From the guest it depends on how fast its program writes; so what was agreed on counts.
	same "features: checksums, TSO" 111111 "$(vm a sh -c 'cat /sys/bus/virtio/drivers/virtio_net/*/features' | cut -c 1,2,8,9,12,13)" || return
	same "frames dropped" "0 0" "$(stat_of a rx_dropped) $(stat_of a tx_dropped)" || return
	calm a
}

test_net_tap_without_offloads()
{
	tap t0 1 || return
	ip link set t0 mtu 1300
	boot a --rootfs "$rootfs,ro" --cpus 2 --net "tap=t0,offload=off,mtu=1300,$(addresses 1),dns=fd00:1::1" || return
	pings a 1 || return
	same "MTU" 1300 "$(vm a cat /sys/class/net/eth0/mtu)" || return
	same "name server" "" "$(vm a cat /etc/resolv.conf 2>/dev/null | grep -v '^nameserver fd00:1::1$')" || return
	streams a 1 2000000 || return
	want "frames: $(stat_of a rx_frames) to the guest" [ "$(stat_of a rx_frames)" -gt 1600 ] || return
	same "frames dropped" "0 0" "$(stat_of a rx_dropped) $(stat_of a tx_dropped)" || return
	calm a
}

test_net_jumbo_frames()
{
	tap t0 1 || return
	ip link set t0 mtu 9000
	boot a --rootfs "$rootfs,ro" --net "tap=t0,mtu=9000,offload=off,$(addresses 1)" || return
	pings a 1 || return
	want "no ping of 8,900 bytes" busybox ping -c 1 -W 5 -s 8900 10.1.0.2 >/dev/null || return
	streams a 1 1000000
}

# A descriptor that the caller has attached, as a container engine hands it over.
test_net_descriptor()
{
	tap t0 1 || return
	cat >"$dir/open.py" <<-'PY'
		import fcntl, os, struct, sys
		fd = os.open("/dev/net/tun", os.O_RDWR)
		fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", sys.argv[1].encode(), int(sys.argv[2], 0)))
		os.dup2(fd, 42, inheritable=True)
		os.execv(sys.argv[3], sys.argv[3:])
	PY
	ends 1 python3 "$dir/open.py" t0 0x1002 "$uvm" boot --kernel "$kernel" --net fd=42 2>"$dir/err" || return
	want "message: $(cat "$dir/err")" grep -q "descriptor 42: 't0' is not attached with" "$dir/err" || return
	reason="boot failed"
	python3 "$dir/open.py" t0 0x5002 "$uvm" boot --kernel "$kernel" --rootfs "$rootfs,ro" --id a --detach \
		--net "fd=42,$(addresses 1)" >"$dir/id" || return
	pings a 1
}

test_net_tap_is_in_use()
{
	tap t0 1 || return
	boot a --rootfs "$rootfs,ro" --net "tap=t0,$(addresses 1)" || return
	ends 1 "$uvm" boot --kernel "$kernel" --net tap=t0 2>"$dir/err" || return
	want "message: $(cat "$dir/err")" grep -q "^uvm: cannot attach to the tap device 't0': .*busy" "$dir/err" || return
	pings a 1 || return
	# The device goes away under a guest, whose link is down then.
	ip link del t0
	want "the link is up" until_true 10 has_carrier a 0 || return
	ends 0 "$uvm" stop a
}

# The guest is paused, and then saved, in the middle of a stream.
test_net_stream_goes_on()
{
	local sum listener sender
	tap t0 1 || return
	boot a --rootfs "$(root),cow" --net "tap=t0,$(addresses 1),bps=2M" || return
	vm a sh -c 'dd if=/dev/urandom of=/tmp/file bs=1M count=6 2>/dev/null' || return
	sum=$(vm a md5sum /tmp/file | cut -c 1-32)
	sh -c "$hold $in_host" >"$dir/received" &
	listener=$!
	want "nobody listens" until_true 10 listens 5001 || return
	vm a sh -c "timeout 100 nc 10.1.0.1 5001 </tmp/file" &
	sender=$!
	until_true 20 [ -s "$dir/received" ]
	want pause "$uvm" pause a || return
	sleep 0.5
	want resume "$uvm" resume a || return
	snapshot a --out "$dir/snap" || return
	fork_as b a || return
	want "the stream ended before" kill -0 $sender || return
	want "the sender failed" wait $sender || return
	want "the listener failed" wait $listener || return
	same "sum" "$sum" "$(md5sum <"$dir/received" | cut -c 1-32)" || return
	calm a
}

# Bytes take their time, both ways.
test_net_limit()
{
	local start
	tap t0 1 || return
	boot a --rootfs "$rootfs,ro" --net "tap=t0,$(addresses 1),bps=500K" || return
	head -c 2000000 /dev/urandom >"$dir/file"
	start=$SECONDS
	to_guest a 10.1.0.2 "$dir/file" || return
	want "2 MB at 500 KiB/s took $((SECONDS - start)) s to the guest" [ $((SECONDS - start)) -ge 3 ] || return
	vm a sh -c 'dd if=/dev/zero of=/tmp/file bs=1M count=2 2>/dev/null'
	start=$SECONDS
	to_host a 10.1.0.1 /tmp/file || return
	want "2 MB at 500 KiB/s took $((SECONDS - start)) s from the guest" [ $((SECONDS - start)) -ge 3 ]
}

# Debian's own kernel, whose driver is a module, and without an agent.
test_net_debian()
{
	local d
	tap t0 1 || return
	d=$("$top/tools/debian-kernel" cloud-amd64 2>"$dir/err") || { reason="skip: $(tail -n 1 "$dir/err")"; return 1; }
	printf 'ip addr add 10.1.0.2/24 dev eth0; ip link set eth0 up; sleep 1; ping -c 2 10.1.0.1\npoweroff -f\n' |
		ends 0 "$uvm" boot --kernel "$d/vmlinuz" --initrd "$d/initrd.img" --rootfs "$(root)" --memory 512M \
			--net tap=t0 >"$dir/console" 2>"$dir/err" || { tail -n 20 "$dir/console" >&2; return 1; }
	want "no answer to a ping" grep -q "bytes from 10.1.0.1" "$dir/console"
}

# --- clones ---

carrier()
{
	vm "$1" cat /sys/class/net/eth0/carrier
}

has_carrier() # ID 0|1
{
	[ "$(carrier "$1")" = "$2" ]
}

mac_of()
{
	"$uvm" ps --json | sed -n "/\"id\":\"$1\"/s/.*\"mac\":\"\([0-9a-f:]*\)\".*/\1/p"
}

# A template whose link is down, and clones that each lead somewhere, with an address of their own.
test_net_clones_are_connected()
{
	local id net=1 template
	tap t0 1 && tap t1 2 || return
	boot a --rootfs "$(root),cow" --net "none,offload=on,$(addresses 1)" || return
	want "the template's link is up" has_carrier a 0 || return
	template=$(mac_of a)
	snapshot a --out "$dir/snap" --stop || return
	for id in b c; do
		reason="clone $id failed"
		"$uvm" clone "$dir/snap" --id $id --detach --net "tap=t$((net - 1))" >"$dir/id" || return
		want "$id's link is down" until_true 10 has_carrier $id 1 || return
		want "$id has the template's address" [ "$(mac_of $id)" != "$template" ] || return
		want "addresses of $id cannot be set" vm $id sh -c "ip link set eth0 address $(mac_of $id) &&
			ip addr flush dev eth0 scope global && ip addr add 10.$net.0.2/24 dev eth0 && ip addr add fd00:$net::2/64 dev eth0" || return
		pings $id $net || return
		same "address that the host sees" "$(mac_of $id)" \
			"$(ip neigh show "10.$net.0.2" | grep -oE '([0-9a-f]{2}:){5}[0-9a-f]{2}')" || return
		net=$((net + 1))
	done
	streams b 1 1000000 || return
	# A fork leads nowhere; its parent goes on.
	fork_as d b || return
	want "the fork's link is up" until_true 10 has_carrier d 0 || return
	pings b 1 || return
	pings c 2 || return
	calm d && calm b
}

# A template with a network, frozen in use: its clone's link is down until it has one.
test_net_clone_of_a_connected_guest()
{
	tap t0 1 || return
	boot a --rootfs "$(root),cow" --net "tap=t0,$(addresses 1)" || return
	pings a 1 || return
	snapshot a --out "$dir/snap" --stop || return
	clone_as b || return
	want "the clone's link is up" until_true 10 has_carrier b 0 || return
	reason="clone c failed"
	"$uvm" clone "$dir/snap" --id c --detach --net tap=t0 >"$dir/id" || return
	want "c's link is down" until_true 10 has_carrier c 1 || return
	pings c 1 || return
	# A snapshot of a clone, and on.
	snapshot c --out "$dir/snap2" --stop || return
	reason="clone d failed"
	"$uvm" clone "$dir/snap2" --id d --detach --net tap=t0,mac=02:00:00:00:00:42 >"$dir/id" || return
	same "address" 02:00:00:00:00:42 "$(mac_of d)" || return
	pings d 1
}

# --- passt ---

# A container's, in a clone of a template: addresses and name server are there when it begins.
test_net_run()
{
	tap vm1 1 || return
	export UVM_KERNEL=$kernel UVM_CACHE=$dir/cache
	local out
	out=$(timeout 60 "$uvm" run --network "tap=vm1,$(addresses 1),dns=10.1.0.1,mac=02:00:00:00:00:77,mtu=1300" "$rootfs" \
		sh -c 'cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu /etc/resolv.conf; ping -c 1 -W 5 10.1.0.1 >/dev/null && echo reached; ip route' 2>"$dir/err")
	for line in 02:00:00:00:00:77 1300 "nameserver 10.1.0.1" reached "default via 10.1.0.1 .*"; do
		want "no line '$line' in $out: $(cat "$dir/err")" grep -qx "$line" <<<"$out" || return
	done
	same "without a network" "lo" "$(timeout 60 "$uvm" run --network none "$rootfs" ls /sys/class/net | xargs)" || return
	same "templates that are current" 2 "$("$uvm" template ls | grep -c ' current ')" || return
	ends 125 "$uvm" run --network placeholder "$rootfs" true 2>/dev/null || return
	ends 125 "$uvm" run --network tap=none-there "$rootfs" true 2>/dev/null
}

test_net_passt()
{
	local passt
	tap ext 7 || return
	command -v passt >/dev/null || { reason="skip: passt is not installed"; return 1; }
	ip route add default via 10.7.0.2 || { reason="no route"; return 1; }
	boot a --rootfs "$(root),cow" --net passt,tcp=5002 || { tail -n 3 "$dir"/err* >&2; return 1; }
	same "address" "10.0.2.15/24" "$(vm a ip addr show dev eth0 | awk '$1 == "inet" { print $2 }')" || return
	same "MTU" 65520 "$(vm a cat /sys/class/net/eth0/mtu)" || return
	passt=$(pgrep -P "$(cat "$UVM_RUN/a/pid")" passt)
	want "no passt runs" [ "$passt" ] || return
	head -c 2000000 /dev/urandom >"$dir/file"
	vm a sh -c 'cat >/tmp/file' <"$dir/file" || return
	to_host a 10.7.0.1 /tmp/file || return
	to_guest_of_passt || return
	# It ends with the VM, and its end is the link's.
	kill "$passt"
	want "the link is up without passt" until_true 10 has_carrier a 0 || return
	boot b --rootfs "$rootfs,ro" --net passt || return
	passt=$(pgrep -P "$(cat "$UVM_RUN/b/pid")" passt)
	kill -KILL "$(cat "$UVM_RUN/b/pid")"
	want "passt outlives its VM" until_true 10 sh -c "! kill -0 $passt"
}

# passt listens before anybody does in the guest.
to_guest_of_passt()
{
	local listener
	vm a sh -c "$hold $in_guest" >"$dir/sum" &
	listener=$!
	want "nobody listens in a" until_true 20 guest_listens a 5002 || return
	want "cannot send to a" timeout 100 busybox nc 127.0.0.1 5002 <"$dir/file" || return
	want "nothing came to a" wait $listener || return
	same "sum of what came to a" "$(md5sum <"$dir/file")" "$(cat "$dir/sum")"
}

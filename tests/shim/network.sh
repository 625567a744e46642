# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # a part of tests/shim/run, whose variables these are
#
# network.sh: podman's networks, made by netavark, with names by aardvark-dns, and published ports. All is in
# the network namespace of tests/shim/run.

# elsewhere_make: another host, 192.0.2.2, whose network namespace a process keeps. This one is 192.0.2.1.
elsewhere_make()
{
	unshare --net sleep 1000 &
	elsewhere=$!
	until_ '[ "$(readlink /proc/$elsewhere/ns/net)" != "$(readlink /proc/self/ns/net)" ]' &&
		ip link add out type veth peer name in netns $elsewhere && ip addr add 192.0.2.1/24 dev out && ip link set out up &&
		elsewhere_ ip addr add 192.0.2.2/24 dev in && elsewhere_ ip link set in up && elsewhere_ ip link set lo up
}

elsewhere_()
{
	nsenter -t $elsewhere -n "$@"
}

elsewhere_end()
{
	kill $elsewhere
	wait $elsewhere 2>/dev/null
	ip link del out 2>/dev/null # it goes with the namespace, sooner or later
}

# get ADDRESS PORT [BEFORE]: what is served there, tried for ten seconds, by BEFORE's host.
get()
{
	${3-} timeout 10 bash -c '
		until exec 3<>"/dev/tcp/$1/$2"; do sleep 0.5; done
		printf "GET /cgi-bin/page HTTP/1.0\r\n\r\n" >&3; sed "1,/^.$/d" <&3' get "$1" "$2" 2>/dev/null
}

# What netavark has left: rules, bridges, processes.
network_left()
{
	iptables-save | grep -c 10.77
	ip -o link show type bridge | wc -l
	cat "$work/state/networks/aardvark-dns/aardvark.pid" 2>/dev/null
}

# A page that says who has asked, and is long if there is a question.
page_make()
{
	mkdir -p "$store/cgi-bin"
	cat >"$store/cgi-bin/page" <<-'PAGE'
		#!/bin/sh
		echo
		echo "for $REMOTE_ADDR"
		[ -z "$QUERY_STRING" ] || seq 300000
	PAGE
	chmod +x "$store/cgi-bin/page"
}

use_network()
{
	local page=10.77.0.5/cgi-bin/page server tool
	for tool in /usr/lib/podman/netavark /usr/lib/podman/aardvark-dns iptables; do
		[ -x "$(command -v $tool)" ] || { line skip "$tool is not installed"; return; }
	done
	[ "${UVM_TEST_NETNS-}" ] && iptables-save >/dev/null 2>&1 && elsewhere_make ||
		{ line skip "no network namespace can be made here, or no bridges or rules in it"; return; }
	page_make
	elsewhere_ busybox httpd -f -p 80 -h "$store" &
	server=$!
	outcome create podman_ network create --ipv6 --subnet 10.77.0.0/24 --subnet fd77::/64 net
	outcome create-other podman_ network create --internal --subnet 10.78.0.0/24 other
	outcome run podman_ run -d --name server --network net --ip 10.77.0.5 --ip6 fd77::5 --mac-address 02:00:00:00:00:77 \
		-p 7777:80 -p 127.0.0.1:7778:80/tcp -v "$store/cgi-bin:/cgi-bin" busybox httpd -f -p 80 -h /
	line ports "$(podman_ port server | sort)"
	outcome inside podman_ exec server sh -c 'ip -o addr show dev eth0 scope global | awk "{ print \$2, \$3, \$4 }"; ip route; ip -6 route | grep -c default
		cat /sys/class/net/eth0/mtu /sys/class/net/eth0/address; grep -v "^#" /etc/resolv.conf; ls /sys/class/net'
	outcome published get 127.0.0.1 7777
	outcome published-lo get 127.0.0.1 7778
	outcome published-here get 192.0.2.1 7777
	outcome published-elsewhere get 192.0.2.1 7777 elsewhere_
	outcome bridge get 10.77.0.5 80
	outcome bridge-6 get fd77::5 80
	outcome peer podman_ run --rm --network net:ip=10.77.0.6,interface_name=eth0 --network other:ip=10.78.0.6,interface_name=eth1 busybox sh -c "
		for i in eth0 eth1; do ip -o -4 addr show dev \$i | awk '{ print \$2, \$4 }'; done; ip -4 route; wget -q -O - http://$page
		wget -q -O - http://$page?long | md5sum; wget -q -O - http://192.0.2.1:7777/cgi-bin/page; wget -q -O - http://192.0.2.2/cgi-bin/page
		nslookup -type=a server.dns.podman 10.77.0.1 | tail -n +4; nslookup -type=aaaa server.dns.podman fd77::1 | tail -n +4; nslookup -type=a none.dns.podman 10.77.0.1 | tail -n +4"
	outcome stop podman_ stop -t 0 server
	outcome stopped bash -c 'exec 3<>/dev/tcp/127.0.0.1/7777' 2>/dev/null
	outcome start podman_ start server
	outcome started get 192.0.2.1 7777 elsewhere_
	outcome rm podman_ rm -f -t 0 server
	outcome network-rm podman_ network rm net other
	outcome left network_left
	kill $server
	elsewhere_end
}

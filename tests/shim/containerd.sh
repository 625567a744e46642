# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # a part of tests/shim/run, whose variables these are
#
# containerd.sh: the same for containerd, by its own client, and for Docker. Each use starts a daemon of
# its own, with everything of its in $store, and ends it. What uvm is compared with is runc, which both
# are made for (with crun, Docker 20.10 can update nothing and has 125 for a missing program).

# ctr_ COMMAND...
ctr_()
{
	timeout -k 5 90 ctr --address "$store/containerd.sock" "$@"
}

# daemon_ LOG COMMAND...: in the background; its process is $daemon.
daemon_()
{
	local log=$1
	shift
	"$@" </dev/null >"$log" 2>&1 &
	daemon=$!
}

daemon_end()
{
	kill "$daemon"
	wait "$daemon" 2>/dev/null
}

containerd_start()
{
	cat >"$store/containerd.toml" <<-CONF
		version = 2
		root = "$store/containerd.root"
		state = "$store/containerd.run"
		disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.restart"]
		[grpc]
		address = "$store/containerd.sock"
	CONF
	daemon_ "$store/containerd.log" containerd --config "$store/containerd.toml"
	until_ 'ctr_ version >/dev/null 2>&1' && return
	tail -n 5 "$store/containerd.log" >&2
	daemon_end
	return 1
}

use_containerd()
{
	local binary run
	command -v containerd >/dev/null && command -v runc >/dev/null || { line skip "containerd is not installed"; return; }
	containerd_start || { line containerd "does not start with $runtime"; return; }
	[ $runtime = uvm ] && binary=$runtime_uvm || binary=$(command -v runc)
	run="run --rootfs --runc-binary $binary --env PATH=/bin:/usr/bin"
	line stdin "$(seq 200000 | ctr_ $run --rm "$work/tree" one md5sum)"
	ctr_ $run --rm --env A=b --cwd /tmp --read-only "$work/tree" two sh -c 'echo $A; pwd; touch /x 2>/dev/null || echo read-only; echo err >&2; exit 3' \
		</dev/null >"$store/out" 2>"$store/err"
	line status $?
	line stdout "$(cat "$store/out")"
	line stderr "$(cat "$store/err")"
	outcome not-found ctr_ $run --rm "$work/tree" three no-such-program 2>"$store/err"
	line not-found-said "$(grep -o 'executable file.*not found in $PATH' "$store/err" | sed 's/`[^`]*` //')"
	line terminal "$(script -qec "stty rows 33 cols 77; ctr --address $store/containerd.sock $run --rm -t $work/tree four sh -c 'tty; stty size; exit 6'" \
		/dev/null </dev/null | grep -oE '/dev/pts/[0-9]+|33 77' | sort; echo "status ${PIPESTATUS[0]}")"
	outcome run ctr_ $run -d "$work/tree" c sh -c 'trap "exit 5" TERM; while :; do sleep 0.1; done'
	line listed "$(ctr_ task ls | awk '{ print $1, $3 }')"
	outcome exec ctr_ task exec --exec-id e1 c sh -c 'hostname; exit 4'
	line exec-stdin "$(seq 1000 | ctr_ task exec --exec-id e2 c md5sum)"
	line metrics "$(ctr_ task metrics c | awk 'NR > 1 && $1 ~ /^(memory|pids|cpu)/ { print $1 }' | sort)"
	line ps "$(ctr_ task ps c | wc -l)"
	outcome pause ctr_ task pause c
	line paused "$(ctr_ task ls | awk '{ print $1, $3 }')"
	outcome resume ctr_ task resume c
	outcome kill ctr_ task kill -s SIGTERM c
	outcome ended until_ 'ctr_ task ls | grep -q "^c .*STOPPED"'
	outcome delete ctr_ task rm c
	outcome rm ctr_ container rm c
	daemon_end
}

docker_()
{
	timeout -k 5 90 docker --host "unix://$store/docker.sock" "$@"
}

docker_start()
{
	echo '{}' >"$store/daemon.json"
	daemon_ "$store/dockerd.log" dockerd --host "unix://$store/docker.sock" --data-root "$store/docker.root" --exec-root "$store/docker.run" \
		--pidfile "$store/docker.pid" --config-file "$store/daemon.json" --bridge none --iptables=false --ip6tables=false \
		--add-runtime "uvm=$runtime_uvm"
	until_ 'docker_ version >/dev/null 2>&1' && docker_ import "$work/image.tar" busybox >/dev/null && return
	tail -n 5 "$store/dockerd.log" >&2
	daemon_end
	return 1
}

use_docker()
{
	[ -z "${UVM_TEST_DOCKER-}" ] || local PATH=$PATH:$UVM_TEST_DOCKER/usr/sbin:$UVM_TEST_DOCKER/usr/bin
	command -v dockerd >/dev/null && command -v docker >/dev/null || { line skip "there is no dockerd (tools/debian-docker)"; return; }
	docker_start || { line docker "does not start"; return; }
	local run="run --network none"
	[ $runtime != uvm ] || run="$run --runtime uvm"
	line stdin "$(seq 200000 | docker_ $run --rm -i busybox md5sum)"
	outcome status docker_ $run --rm -e A=b -w /tmp -u 1000 --read-only --memory 64m busybox sh -c 'echo $A; pwd; id -u; touch /x 2>&1; exit 3'
	outcome not-found docker_ $run --rm busybox no-such-program 2>/dev/null
	outcome run docker_ $run -d --name cc -v "$store:/vol:ro" busybox sh -c 'trap "exit 5" TERM; echo started; while :; do sleep 0.1; done'
	outcome exec docker_ exec cc sh -c 'hostname | wc -c; ls /vol/docker.pid; exit 4'
	outcome cp-in docker_ cp "$top/README.md" cc:/tmp/copied
	line cp-out "$(docker_ cp cc:/tmp/copied - | tar -xO | cmp - "$top/README.md" && echo same)"
	outcome_in_any_order diff docker_ diff cc
	outcome pause docker_ pause cc
	outcome paused docker_ inspect -f '{{.State.Status}}' cc
	outcome unpause docker_ unpause cc
	outcome update docker_ update --memory 32m --memory-swap 32m cc
	outcome stop docker_ stop -t 20 cc
	outcome wait docker_ wait cc
	outcome logs docker_ logs cc
	outcome start docker_ start cc
	outcome kill docker_ kill cc
	outcome killed docker_ wait cc
	outcome rm docker_ rm -f cc
	daemon_end
}

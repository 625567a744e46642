# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # a part of tests/shim/run, whose variables these are
#
# podman.sh: what podman is used for. Each use prints what came of it, by "line" and "outcome"; the words
# in front must not repeat in a use. What depends on the runtime by its nature (names of file systems,
# process numbers of the host) is not asked for. A command takes one to five seconds in the lab, so
# containers are shared, and one exec asks for many things.

podman_()
{
	timeout -k 5 90 $engine --runtime $runtime "$@"
}

# Options of a container that is gone at its end.
run="run --rm --network none"

# --- one container for each ---

use_streams()
{
	seq 200000 >"$store/in"
	line stdin "$(podman_ $run -i busybox md5sum <"$store/in")"
	podman_ $run busybox sh -c 'cat; echo out; seq 100000 | md5sum; echo err >&2; exit 3' <"$store/in" >"$store/out" 2>"$store/err"
	line status $?
	line stdout "$(cat "$store/out")"
	line stderr "$(cat "$store/err")"
}

# What podman says after the runtime's own words.
use_no_program()
{
	podman_ $run busybox no-such-program 2>"$store/err"
	line not-found "$?$(sed 's/.*: OCI/ OCI/' "$store/err")"
	podman_ $run busybox /etc/passwd 2>"$store/err"
	line not-executable "$?$(sed 's/.*: OCI/ OCI/' "$store/err")"
}

use_process()
{
	mkdir "$store/dir" && echo file >"$store/dir/file" && echo other >"$store/other"
	outcome run podman_ $run --env A='b c' --workdir /var/tmp --user 1000:1001 --group-add 77 --umask 027 --read-only \
		--tmpfs /scratch:size=1m --ulimit nofile=100:200 --cap-drop all --cap-add net_raw --hostname named \
		--add-host peer:10.1.2.3 --shm-size 8m --security-opt no-new-privileges --pids-limit 50 --memory 100m \
		--sysctl net.ipv4.ip_forward=1 --mount type=bind,source="$store/dir",target=/data \
		-v "$store/dir:/read-only:ro" -v "$store/other:/etc/one-file" -v volume:/volume -v "$store/dir:/none:noexec" \
		busybox sh -c '
			id -u; id -g; id -G; umask; pwd; env | sort; hostname; cat /etc/hostname
			ulimit -n; ulimit -Hn; grep -E "^(Cap|NoNew|Seccomp:)" /proc/self/status
			touch /x 2>&1; touch /scratch/x && ls /scratch; df -k /scratch /dev/shm | awk "NR > 1 { print \$2, \$6 }"
			cat /data/file /read-only/file /etc/one-file; touch /read-only/x 2>&1
			grep peer /etc/hosts; cat /proc/sys/net/ipv4/ip_forward
			cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max; echo $$; ls -a /volume
			grep -E " /(data|read-only|etc/one-file|volume) " /proc/mounts | awk "{ print \$2, substr(\$4, 1, 2) }" | sort
			ls -d /dev/* | grep -v core | xargs; ls -l /dev/null /dev/fd | cut -c 1-10; echo x >/proc/sys/kernel/core_pattern; ls /proc/acpi
			cp /bin/busybox /data/true; /data/true; /none/true 2>/dev/null || echo not executable; ls /sys/class/net; cat /proc/net/dev | wc -l; stat -c "%a %u %g" / /tmp /dev/shm /proc'
	outcome tmpcopyup podman_ $run --tmpfs /etc/init.d busybox ls /etc/init.d
	outcome volumes podman_ volume rm volume
}

use_init()
{
	[ -x /usr/libexec/podman/catatonit ] || { line skip "catatonit is not installed"; return; }
	outcome run podman_ $run --init busybox sh -c 'cat /proc/1/comm; (sleep 0.1 &) ; sleep 0.5; ps -o stat,comm | grep -c Z; exit 4'
}

use_terminal()
{
	# What is echoed comes early or late.
	echo hello | script -qec "stty rows 33 cols 77; $engine --runtime $runtime $run -it busybox \
		sh -c 'tty; stty size; read x; echo got \$x; exit 6'" /dev/null >"$store/out" 2>&1
	line status $?
	line terminal "$(grep -oE '/dev/pts/[0-9]+|33 77|got hello' "$store/out" | sort)"
}

use_restart_policy()
{
	outcome run podman_ run -d --name again --network none --restart on-failure:1 busybox sh -c 'echo once; exit 9'
	outcome wait until_ '[ "$(podman_ inspect -f "{{.State.Status}} {{.RestartCount}}" again)" = "exited 1" ]'
	outcome status podman_ inspect -f '{{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}' again
	outcome logs podman_ logs again
	outcome rm podman_ rm again
}

use_memory_limit()
{
	outcome run podman_ run --name small --network none --memory 40m --memory-swap 40m busybox sh -c 'echo begins; exec tail /dev/zero'
	outcome told podman_ inspect -f '{{.State.OOMKilled}}' small
	outcome rm podman_ rm small
}

# --- a container in the background ---

use_life()
{
	local c='{{.State.Status}} {{.State.Running}} {{.State.Paused}} {{.State.ExitCode}} {{.State.OOMKilled}}'
	mkdir "$store/vol"
	outcome run podman_ run -d --name c --network none -v "$store/vol:/vol" --env IMAGE=1 --stop-timeout 20 --health-interval disable \
		--health-cmd 'test -e /tmp/healthy' busybox sh -c '
			trap "echo term; exit 5" TERM; trap "echo usr1" USR1; echo started; while :; do sleep 0.1; done'
	outcome running podman_ inspect -f "$c" c
	line processes "$(podman_ top c pid | head -n 2 | xargs)"
	outcome exec podman_ exec c sh -c 'echo $IMAGE; pwd; echo >/vol/from-inside; exit 4'
	line volume "$(ls "$store/vol")"
	line exec-stdin "$(podman_ exec -i c md5sum <"$top/build/rootfs.ext4")"
	outcome exec-options podman_ exec -e B=2 -w /tmp -u 1000:1001 --privileged c sh -c 'echo $B $PWD; id -u; id -g; grep CapBnd /proc/self/status'
	outcome exec-detached podman_ exec -d c touch /tmp/detached
	outcome exec-not-found podman_ exec c no-such-program 2>/dev/null
	outcome exec-not-executable podman_ exec c /etc/passwd 2>/dev/null
	line exec-terminal "$(script -qec "stty rows 20 cols 50; $engine exec -it c \
		sh -c 'tty; stty size; exit 7'" /dev/null </dev/null | grep -oE '/dev/pts/[0-9]+|20 50' | sort; echo "status ${PIPESTATUS[0]}")"
	outcome unhealthy podman_ healthcheck run c
	outcome cp-in podman_ cp "$top/docs" c:/tmp/healthy
	outcome healthy podman_ healthcheck run c
	outcome cp-out podman_ cp c:/tmp/healthy "$store/copy"
	line copied "$(diff -r "$top/docs" "$store/copy" && echo same)"
	outcome_in_any_order diff podman_ diff c
	outcome stats podman_ stats --no-stream --format '{{.Name}} {{.NetIO}}' c
	outcome kill podman_ kill -s USR1 c
	outcome pause podman_ pause c
	outcome paused podman_ inspect -f "$c" c
	outcome exec-paused podman_ exec c true 2>/dev/null
	outcome unpause podman_ unpause c
	outcome commit podman_ commit -q --pause=false c copy | sed 's/[0-9a-f]\{64\}/ID/'
	podman_ attach --no-stdin --sig-proxy=false c >"$store/attached" 2>/dev/null &
	local attached=$!
	podman_ logs -f c >"$store/followed" &
	local followed=$!
	sleep 3
	outcome stop podman_ stop c
	wait $attached
	line attached "$? $(cat "$store/attached")"
	wait $followed
	line followed "$? $(cat "$store/followed")"
	outcome stopped podman_ inspect -f "$c" c
	outcome wait podman_ wait c
	outcome start podman_ start c
	outcome restart podman_ restart -t 20 c
	outcome logs podman_ logs c
	outcome again podman_ exec c ls /tmp/detached /tmp/healthy/testing.md
	outcome kill-9 podman_ kill c
	outcome killed until_ '[ "$(podman_ inspect -f "{{.State.Status}} {{.State.ExitCode}}" c)" = "exited 137" ]'
	outcome restarted podman_ start c
	outcome rm podman_ rm -f -t 0 c
	outcome copy podman_ $run copy ls /tmp/detached
	outcome left podman_ ps -aq
}

use_created()
{
	outcome create podman_ create --name made --network none -i busybox sh -c 'read x; echo $x; exit 2'
	outcome init podman_ init made
	outcome state podman_ inspect -f '{{.State.Status}} {{.State.Running}}' made
	line start "$(echo word | podman_ start -a -i made; echo "status ${PIPESTATUS[1]}")"
	outcome rm podman_ rm made
}

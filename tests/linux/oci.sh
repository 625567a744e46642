# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # a part of tests/linux/run, whose variables these are
#
# oci.sh: uvm as an OCI runtime, as its callers use it. tests/linux/caller.c is what conmon is to a
# runtime: the process of a container is left to it.

case ${2-} in
test_oci_*) export UVM_KERNEL=$kernel UVM_CACHE=$own_cache ;;
esac
caller=$top/build/tests/linux/caller

# The root file system of all bundles of a test.
oci_tree()
{
	[ -d "$dir/oci_tree" ] && return
	mkdir "$dir/oci_tree" && debugfs -R "rdump / $dir/oci_tree" "$rootfs" >/dev/null 2>&1
}

# bundle ID ARGS [PROCESS [MOUNTS [MORE]]]: ARGS is a JSON array, the others are members or elements with a
# comma before them.
bundle()
{
	oci_tree && mkdir -p "$dir/$1" || { reason="bundle $1"; return 1; }
	cat >"$dir/$1/config.json" <<-EOF
	{"ociVersion": "1.0.2",
	 "root": {"path": "$dir/oci_tree"}, "hostname": "$1",
	 "process": {"args": $2, "cwd": "/", "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "A=b c"],
	  "user": {"uid": 0, "gid": 0},
	  "capabilities": {"bounding": ["CAP_KILL", "CAP_SYS_CHROOT"], "effective": ["CAP_KILL"],
	   "permitted": ["CAP_KILL"]},
	  "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 512, "hard": 1024}]${3-}},
	 "mounts": [
	  {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
	  {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
	  {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
	   "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
	  {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "ro"]}${4-}],
	 "linux": {
	  "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
	  "cgroupsPath": "/uvm-test/$1",
	  "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]}${5-}}
	EOF
}

oci()
{
	timeout -s KILL 60 "$uvm" --log "$dir/log" --log-format=json "$@"
}

# create ID [SOCKET]: in the background, as a caller; its standard input is descriptor 8 if that is open.
create()
{
	local id=$1 socket=${2-} input=/dev/null
	shift
	[ -e "$dir/in.$id" ] && input=$dir/in.$id
	rm -f "$dir/$id.pid"
	"$caller" "$dir/$id.pid" ${socket:+"$socket"} -- "$uvm" --log "$dir/log" --log-format json create \
		--bundle "$dir/$id" --pid-file="$dir/$id.pid" ${socket:+--console-socket "$socket"} "$id" \
		<"$input" >"$dir/$id.out" 2>"$dir/$id.err" &
	waiter=$!
	reason="create of $id: $(cat "$dir/$id.err")"
	later 60 created_or_gone "$id" $waiter && [ -s "$dir/$id.pid" ] && return
	reason="create of $id: $(cat "$dir/$id.err" "$dir/log" 2>/dev/null | tail -n 3)"
	return 1
}

created_or_gone()
{
	[ -s "$dir/$1.pid" ] || ! kill -0 "$2" 2>/dev/null
}

status_of()
{
	oci state "$1" | sed -n 's/.*"status":"\([a-z]*\)".*/\1/p'
}

gone()
{
	same "state after delete" "" "$(status_of "$1" 2>/dev/null)" || return
	want "what is said of it" grep -q '"level":"error","msg":"container does not exist"' "$dir/log" || return
	ends 0 oci delete --force "$1" || return
	same "run directories" "" "$(ls "$UVM_RUN")" || return
	same "processes" "" "$(pgrep -f "create --bundle $dir/$1 " | xargs)"
}

test_oci_lifecycle()
{
	local id=one pid
	bundle one '["sh", "-c", "echo out; echo err >&2; cat >/got; cat /etc/conf /vol/file; hostname; ulimit -n; echo new >/vol/new; echo x >/etc/conf; grep Cap[EB] /proc/self/status; ls /empty; readlink /proc/self/ns/net; exit 7"]' '' \
		",{\"destination\": \"/etc/conf\", \"type\": \"bind\", \"source\": \"$dir/conf\", \"options\": [\"rbind\", \"ro\"]},
		{\"destination\": \"/vol\", \"source\": \"$dir/vol\", \"options\": [\"rbind\", \"rw\"]},
		{\"destination\": \"/empty/deep\", \"type\": \"tmpfs\", \"source\": \"tmpfs\"}" || return
	echo configured >"$dir/conf"
	mkdir "$dir/vol" && echo volume >"$dir/vol/file"
	mkfifo "$dir/in.one"
	{ seq 100000; } >"$dir/in.one" &
	create one || return
	pid=$(cat "$dir/one.pid")
	same "status" created "$(status_of one)" || return
	same "pid" "$pid" "$(oci state one | sed 's/.*"pid":\([0-9]*\).*/\1/')" || return
	same "output before start" "" "$(cat "$dir/one.out")" || return
	want "the process sees the host's" [ "$(readlink "/proc/$pid/ns/pid")" != "$(readlink /proc/self/ns/pid)" ] || return
	same "its files" configured "$(nsenter -t "$pid" -m cat /etc/conf)" || return
	same "its processes" "1" "$(nsenter -t "$pid" -m -p sh -c 'ls /proc | grep "^[0-9]" | head -n 1')" || return
	ends 1 oci create --bundle "$dir/one" one 2>/dev/null || return
	want "an id twice" grep -q 'already exists' "$dir/log" || return
	ends 0 oci start one || return
	ends 7 wait $waiter || return
	same "output" $'out\nconfigured\nvolume\none\n512\nCapEff:\t0000000000040020\nCapBnd:\t0000000000040020\ndeep' \
		"$(grep -v ^net: "$dir/one.out")" || return
	want "error: $(cat "$dir/one.err")" grep -qx err "$dir/one.err" || return
	same "a file of the guest's" "$(seq 100000 | md5sum)" "$(md5sum <"$dir/oci_tree/got")" || return
	same "in a volume" new "$(cat "$dir/vol/new")" || return
	same "a read-only file" configured "$(cat "$dir/conf")" || return
	same "status" stopped "$(status_of one)" || return
	ends 1 oci kill one KILL 2>/dev/null || return
	want "a kill too late" grep -q 'container not running' "$dir/log" || return
	ends 0 oci delete one || return
	gone one
}

# exec_json ARGS [MORE]
exec_json()
{
	printf '{"args": %s, "cwd": "/tmp", "env": ["PATH=/bin:/usr/bin"]%s}' "$1" "${2-}" >"$dir/process.json"
}

# Whether the exec's process is in the container's list. With a word: whether it is not.
sleeps()
{
	local status=0
	"$uvm" exec run -- sh -c 'ps | grep "[s]leep 12345"' || status=$?
	[ $status = "$((0${1:+ + 1}))" ]
}

test_oci_running()
{
	local pid proxy
	bundle run '["sh", "-c", "trap \"echo term; exit 9\" TERM; echo ready; while :; do sleep 0.1; done"]' || return
	create run && ends 0 oci start run || return
	pid=$(cat "$dir/run.pid")
	later 20 grep -q ready "$dir/run.out" || { reason="it does not run"; return 1; }
	same "status" running "$(status_of run)" || return
	ends 1 oci start run 2>/dev/null || return
	# An exec is a process of its own, whose status it has.
	exec_json '["sh", "-c", "cat; echo $PWD; exit 5"]'
	echo input | "$caller" "$dir/e.pid" -- "$uvm" exec --pid-file "$dir/e.pid" --process "$dir/process.json" --detach run >"$dir/e.out" 2>"$dir/e.err"
	same "status of an exec" 5 $? || { cat "$dir/e.err" >&2; return 1; }
	same "its output" "input /tmp" "$(xargs <"$dir/e.out")" || return
	# And its death is the process's.
	exec_json '["sleep", "12345"]'
	rm "$dir/e.pid"
	"$caller" "$dir/e.pid" -- "$uvm" exec -d --pid-file="$dir/e.pid" -p "$dir/process.json" run &
	later 20 test -s "$dir/e.pid" || { reason="no exec"; return 1; }
	proxy=$!
	later 20 sleeps || { reason="the exec does not run"; return 1; }
	kill -KILL "$(cat "$dir/e.pid")"
	ends 137 wait $proxy || return
	later 5 sleeps not || { reason="the exec's process lives on"; return 1; }
	exec_json '["no-such-program"]'
	ends 255 oci exec --process "$dir/process.json" --detach run 2>/dev/null || return
	want "$(tail -n 1 "$dir/log")" grep -q 'exec: \\"no-such-program\\": executable file not found in $PATH' "$dir/log" || return
	exec_json '["/etc/passwd"]'
	ends 255 oci exec --process "$dir/process.json" --detach run 2>/dev/null || return
	want "$(tail -n 1 "$dir/log")" grep -q 'exec: \\"/etc/passwd\\": permission denied' "$dir/log" || return
	# Pause, figures, limits.
	ends 0 oci pause run || return
	same "status" paused "$(status_of run)" || return
	ends 0 oci resume run || return
	same "status" running "$(status_of run)" || return
	want "ps: $(oci ps --format json run)" grep -qE "[[,]$pid[],]" <<<"$(oci ps --format json run)" || return
	echo '{"memory": {"limit": 33554432}, "pids": {"limit": 77}}' | ends 0 oci update --resources - run || return
	want "figures: $(oci events --stats run)" grep -q '"limit":33554432.*"limit":77' <<<"$(oci events --stats run)" || return
	ends 1 oci update --resources <(echo '{"rdma": {"x": {}}}') run 2>/dev/null || return
	ends 1 oci delete run 2>/dev/null || return
	want "$(tail -n 1 "$dir/log")" grep -q 'is not stopped: running' "$dir/log" || return
	# Its own commands see it as well.
	same "uvm ps" "run $pid" "$("$uvm" ps | awk 'NR > 1 { print $1, $2 }')" || return
	ends 0 "$uvm" kill run 15 || return
	ends 9 wait $waiter || return
	same "output" "ready term" "$(xargs <"$dir/run.out")" || return
	ends 0 oci delete run || return
	gone run
}

test_oci_terminal()
{
	bundle tty '["sh", "-c", "tty; stty size; read x; stty size; echo got $x"]' ', "terminal": true, "consoleSize": {"height": 20, "width": 50}' || return
	mkfifo "$dir/in.tty" "$dir/in.e"
	exec 8<>"$dir/in.tty" # held, so that nobody waits for the other
	ends 1 oci create --bundle "$dir/tty" tty 2>/dev/null || return
	want "$(tail -n 1 "$dir/log")" grep -q 'without setting console socket' "$dir/log" || return
	create tty "$dir/sock" || return
	ends 0 oci start tty || return
	later 20 grep -q '20 50' "$dir/tty.out" || { reason="a terminal: $(cat "$dir/tty.out" "$dir/tty.err")"; return 1; }
	# One of an exec's.
	exec_json '["sh", "-c", "[ -t 0 ] && [ -t 1 ] && echo yes; exit 3"]' ', "terminal": true'
	"$caller" "$dir/e.pid" "$dir/sock2" -- "$uvm" exec -d --pid-file "$dir/e.pid" --process "$dir/process.json" --console-socket "$dir/sock2" tty </dev/null >"$dir/e.out" 2>"$dir/e.err"
	same "status of an exec" 3 $? || { cat "$dir/e.err" >&2; return 1; }
	want "its terminal: $(cat "$dir/e.out")" grep -q yes "$dir/e.out" || return
	kill -USR1 $waiter
	sleep 1
	echo line >"$dir/in.tty"
	ends 0 wait $waiter || return
	want "a changed size: $(cat "$dir/tty.out")" grep -q '33 77' "$dir/tty.out" || return
	want "input: $(cat "$dir/tty.out")" grep -q 'got line' "$dir/tty.out" || return
	exec 8<&-
	ends 0 oci delete tty || return
	gone tty
}

# oci_refused STATUS-TEXT: the create of "bad" fails with this message, and nothing is left.
oci_refused()
{
	ends 1 oci create --bundle "$dir/bad" bad 2>/dev/null </dev/null || return
	want "'$1' is not in: $(tail -n 1 "$dir/log")" grep -qF "$1" <<<"$(tail -n 1 "$dir/log")" || return
	same "what is left" "" "$(ls "$UVM_RUN")"
}

test_oci_failures()
{
	bundle bad '["no-such"]' && oci_refused 'exec: \"no-such\": executable file not found in $PATH' || return
	bundle bad '["/no/such"]' && oci_refused 'exec: \"/no/such\": no such file or directory' || return
	bundle bad '["/etc/passwd"]' && oci_refused 'exec: \"/etc/passwd\": permission denied' || return
	bundle bad '["true"]' '' ',{"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]}' &&
		oci_refused 'cannot mount /no/such on /x: No such file' || return
	bundle bad '["true"]' '' '' ', "hooks": {"poststop": [{"path": "/bin/true"}]}' && oci_refused hooks.poststop || return
	echo '{"ociVersion": "1.0.2"' >"$dir/bad/config.json" && oci_refused config.json || return
	rm "$dir/bad/config.json" && oci_refused config.json || return
	# A link in the image leads to nothing outside.
	mkdir -p "$dir/outside" "$dir/oci_tree$dir/outside" && ln -s "$dir/outside" "$dir/oci_tree/link" && echo x >"$dir/source"
	bundle dead '["sleep", "1000"]' '' ",{\"destination\": \"/link/file\", \"source\": \"$dir/source\", \"options\": [\"bind\"]}" || return
	create dead || return
	same "files outside" "" "$(ls "$dir/outside")" || return
	want "the file inside" [ -e "$dir/oci_tree$dir/outside/file" ] || return
	ends 0 oci start dead || return
	kill -KILL "$(cat "$dir/dead.pid")"
	ends 137 wait $waiter || return
	same "status" stopped "$(status_of dead)" || return
	ends 0 oci delete --force dead || return
	gone dead || return
	# One that has not begun.
	bundle early '["sleep", "1000"]' && create early || return
	ends 0 oci delete --force early || return
	ends 137 wait $waiter || return
	gone early || return
	bundle early '["sleep", "1000"]' && create early || return
	ends 0 oci kill early KILL || return
	ends 137 wait $waiter || return
	same "status" stopped "$(status_of early)" || return
	ends 0 oci delete early || return
	bundle read '["sh", "-c", "touch /x || exit 4"]' && sed -i "s,\"$dir/oci_tree\",&\, \"readonly\": true," "$dir/read/config.json" || return
	create read && ends 0 oci start read || return
	ends 4 wait $waiter || return
	want "a file in a read-only root" [ ! -e "$dir/oci_tree/x" ] || return
	ends 0 oci delete read
}

# Podman's environment does not reach the runtime.
podman_()
{
	timeout -s KILL 90 podman --runtime "$dir/runtime" --root "$dir/root" --runroot "$dir/runroot" --tmpdir "$dir/tmp" \
		--storage-driver vfs --cgroup-manager cgroupfs --events-backend file "$@"
}

test_oci_podman()
{
	command -v podman conmon >/dev/null || { reason="skip: podman and conmon are not installed"; return 1; }
	oci_tree && mkdir "$dir/vol" && echo volume >"$dir/vol/file"
	printf '#!/bin/sh\nUVM_CACHE=%s UVM_KERNEL=%s UVM_RUN=%s exec %s "$@"\n' "$UVM_CACHE" "$UVM_KERNEL" "$UVM_RUN" "$uvm" >"$dir/runtime"
	chmod +x "$dir/runtime"
	mkdir -p /dev/shm && { mountpoint -q /dev/shm || mount -t tmpfs shm /dev/shm; } # the lab has none
	ends 3 podman_ run --rm --network none --rootfs "$dir/oci_tree" sh -c 'uname -r; exit 3' >"$dir/out" || return
	want "the kernel is the host's: $(cat "$dir/out")" grep -q uvm "$dir/out" || return
	ends 127 podman_ run --rm --network none --rootfs "$dir/oci_tree" no-such-program 2>/dev/null || return
	podman_ run -d --name c --network none -v "$dir/vol:/vol" --rootfs "$dir/oci_tree" \
		sh -c 'trap "exit 5" TERM; cat /vol/file; while :; do sleep 0.1; done' >/dev/null || { reason="run -d"; return 1; }
	same "exec" "in" "$(podman_ exec c echo in)" || return
	ends 4 podman_ exec c sh -c 'exit 4' || return
	same "logs" volume "$(podman_ logs c)" || return
	same "processes that top sees" 2 "$(podman_ top c pid | wc -l)" || return
	podman_ cp "$dir/vol/file" c:/tmp/copy || { reason="cp"; return 1; }
	same "a copied file" volume "$(podman_ exec c cat /tmp/copy)" || return
	ends 0 podman_ stop -t 20 c >/dev/null || return
	same "status" 5 "$(podman_ wait c)" || return
	ends 0 podman_ rm c >/dev/null || return
	same "run directories" "" "$(ls "$UVM_RUN")"
}

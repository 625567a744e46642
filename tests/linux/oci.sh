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
	want "what is said of it" grep -q '"level":"error","msg":"container does not exist: there is no ' "$dir/log" || return
	ends 0 oci delete --force "$1" || return
	same "run directories" "" "$(ls "$UVM_RUN")" || return
	same "processes" "" "$(pgrep -f "create --bundle $dir/$1 " | xargs)"
}

# Capabilities of any thread of the process, but those for files.
rights()
{
	local status caps
	for status in /proc/"$1"/task/*/status; do
		caps=$(sed -n 's/^CapPrm:\t//p' "$status")
		[ $((0x$caps & ~0x880001df)) = 0 ] || echo "$caps"
	done
}

test_oci_lifecycle()
{
	local id=one pid
	bundle one '["sh", "-c", "echo out; echo err >&2; cat >/got; cat /etc/conf /vol/file /dev/conf; hostname; ulimit -n; cat /twice/file; echo x >/twice/x || echo new >/vol/new; echo x >/etc/conf; grep Cap[EB] /proc/self/status; ls /empty; readlink /proc/self/ns/net; exit 7"]' '' \
		",{\"destination\": \"/etc/conf\", \"type\": \"bind\", \"source\": \"$dir/conf\", \"options\": [\"rbind\", \"ro\"]},
		{\"destination\": \"/vol\", \"source\": \"$dir/vol\", \"options\": [\"rbind\", \"rw\"]},
		{\"destination\": \"/twice\", \"type\": \"bind\", \"source\": \"$dir/vol\", \"options\": [\"rbind\", \"ro\"]},
		{\"destination\": \"/dev/conf\", \"type\": \"bind\", \"source\": \"$dir/conf\", \"options\": [\"bind\", \"ro\"]},
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
	same "rights" "" "$(rights "$pid")" || return
	same "its files" configured "$(nsenter -t "$pid" -m cat /etc/conf)" || return
	same "its processes" "1" "$(nsenter -t "$pid" -m -p sh -c 'ls /proc | grep "^[0-9]" | head -n 1')" || return
	ends 1 oci create --bundle "$dir/one" one 2>/dev/null || return
	in_log "container with given ID already exists: 'one'; 'uvm delete one' removes it" || return
	ends 0 oci start one || return
	ends 7 wait $waiter || return
	same "output" $'out\nconfigured\nvolume\nconfigured\none\n512\nvolume\nCapEff:\t0000000000040020\nCapBnd:\t0000000000040020\ndeep' \
		"$(grep -v ^net: "$dir/one.out")" || return
	want "error: $(cat "$dir/one.err")" grep -qx err "$dir/one.err" || return
	same "a file of the guest's" "$(seq 100000 | md5sum)" "$(md5sum <"$dir/oci_tree/got")" || return
	same "in a volume" new "$(cat "$dir/vol/new")" || return
	same "a read-only file" configured "$(cat "$dir/conf")" || return
	same "status" stopped "$(status_of one)" || return
	ends 1 oci kill one KILL 2>/dev/null || return
	in_log "container not running: 'one' is stopped" || return
	ends 1 oci start one 2>/dev/null || return
	in_log "cannot start a container that has stopped: 'uvm delete one', and create it anew" || return
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
	ends 1 oci start run 2>/dev/null || return
	in_log "cannot start an already running container: 'run' is running" || return
	ends 1 oci resume run 2>/dev/null || return
	in_log "container not paused: 'run' is running" || return
	ends 0 oci pause run || return
	same "status" paused "$(status_of run)" || return
	ends 1 oci pause run 2>/dev/null || return
	in_log "container not running: 'run' is paused" || return
	ends 255 oci exec --process "$dir/process.json" run 2>/dev/null || return
	in_log "cannot exec in a paused container: 'uvm resume run' first" || return
	ends 0 oci resume run || return
	same "status" running "$(status_of run)" || return
	want "ps: $(oci ps --format json run)" grep -qE "[[,]$pid[],]" <<<"$(oci ps --format json run)" || return
	echo '{"memory": {"limit": 33554432}, "pids": {"limit": 77}}' | ends 0 oci update --resources - run || return
	want "figures: $(oci events --stats run)" grep -q '"limit":33554432.*"limit":77' <<<"$(oci events --stats run)" || return
	ends 1 oci update --resources <(echo '{"rdma": {"x": {}}}') run 2>/dev/null || return
	ends 1 oci delete run 2>/dev/null || return
	in_log 'cannot delete container run that is not stopped: running; --force kills it first' || return
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
	bundle bad '["true"]' '' '' ', "hooks": {"poststop": [{"path": "true"}]}' && oci_refused 'hooks.poststop[0].path is not absolute' || return
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

# hook KIND COMMAND [MORE]: one of the host's, that notes what it is told and runs a command.
oci_hook()
{
	local note="{ printf '$1 %s ' \$PWD; cat; } >>$dir/hooks"
	printf '"%s": [{"path": "/bin/sh", "args": ["sh", "-c", "%s; %s"], "env": ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"]%s}]' "$1" "$note" "$2" "${3-}"
}

# hooked KIND: what it was told.
hooked()
{
	sed -n "s,^$1 ,,p" "$dir/hooks"
}

test_oci_hooks()
{
	local pid kind
	bundle hook '["sh", "-c", "cat /made /mnt/file /started; sleep 1"]' '' '' ", \"annotations\": {\"a\": \"b\"}, \"hooks\": {
		$(oci_hook prestart true), $(oci_hook createRuntime true),
		$(oci_hook createContainer "echo made >$dir/oci_tree/made; mkdir -p $dir/oci_tree/mnt; mount -t tmpfs x $dir/oci_tree/mnt; readlink /proc/self/ns/net >$dir/oci_tree/mnt/file"),
		\"startContainer\": [{\"path\": \"/bin/sh\", \"args\": [\"sh\", \"-c\", \"cat >/started; echo \$A\"], \"env\": [\"PATH=/bin\"], \"timeout\": 20}],
		$(oci_hook poststart 'echo late >&2; exit 3'), $(oci_hook poststop true)}" || return
	create hook || return
	pid=$(cat "$dir/hook.pid")
	for kind in prestart createRuntime createContainer; do
		same "state for $kind" "$dir/hook {\"ociVersion\":\"1.0.2\",\"id\":\"hook\",\"pid\":$pid,\"status\":\"creating\",\"bundle\":\"$dir/hook\",\"rootfs\":\"$dir/oci_tree\",\"annotations\":{\"a\":\"b\"},\"owner\":\"\"}" \
			"$(hooked "$kind")" || return
	done
	same "a mount on the host" "" "$(ls "$dir/oci_tree/mnt")" || return
	want "it has begun" [ ! -e "$dir/oci_tree/started" ] || return
	ends 0 oci start hook || return
	want "state for poststart: $(hooked poststart)" grep -q "\"pid\":$pid,\"status\":\"running\"" <(hooked poststart) || return
	want "a warning: $(tail -n 1 "$dir/log")" grep -q '"level":"warning","msg":"hooks.poststart: /bin/sh: exit status 3: late"' "$dir/log" || return
	ends 0 wait $waiter || return
	same "made by a hook" made "$(sed -n 1p "$dir/hook.out")" || return
	want "the hook's network: $(cat "$dir/hook.out")" [ "$(sed -n 2p "$dir/hook.out")" != "$(readlink /proc/self/ns/net)" ] || return
	want "state for startContainer: $(cat "$dir/hook.out")" grep -q '"id":"hook","pid":1,"status":"created",.*"a":"b"' "$dir/hook.out" || return
	same "poststop before delete" "" "$(hooked poststop)" || return
	ends 0 oci delete hook || return
	want "state for poststop: $(hooked poststop)" grep -q '"pid":0,"status":"stopped"' <(hooked poststop) || return
	gone hook || return
	# Each of these is the end of create, and poststop comes all the same.
	for kind in prestart createRuntime createContainer; do
		rm "$dir/hooks"
		bundle bad '["true"]' '' '' ", \"hooks\": {$(oci_hook $kind 'echo why >&2; exit 3'), $(oci_hook poststop true)}" || return
		oci_refused "hooks.$kind: /bin/sh: exit status 3: why" || return
		want "poststop after $kind" [ "$(hooked poststop)" ] || return
	done
	bundle bad '["true"]' '' '' ", \"hooks\": {$(oci_hook prestart 'sleep 54321' ', "timeout": 1')}" || return
	oci_refused 'hooks.prestart: /bin/sh has not ended after 1 s' || return
	same "processes of a hook" "" "$(pgrep -f 'sleep 54321')" || return
	bundle bad '["true"]' '' '' ', "hooks": {"createRuntime": [{"path": "/no/such"}]}' &&
		oci_refused 'hooks.createRuntime: /no/such: exit status 127: No such file' || return
	same "cgroups" "" "$(find /sys/fs/cgroup/uvm-test -mindepth 1 -type d)" || return
	# In the guest: it fails to start, and is gone.
	bundle late '["true"]' '' '' ', "hooks": {"startContainer": [{"path": "/bin/false"}]}' && create late || return
	ends 1 oci start late 2>/dev/null || return
	want "$(tail -n 1 "$dir/log")" grep -q "a hook has failed: '/bin/false'" "$dir/log" || return
	wait $waiter
	same "status" stopped "$(status_of late)" || return
	ends 0 oci delete late || return
	gone late
}

# in_log TEXT: the last line of the runtime's log has it, as an error.
in_log()
{
	want "'$1' is not in: $(tail -n 1 "$dir/log")" grep -qF "$1" <(tail -n 1 "$dir/log" | grep '"level":"error"')
}

# What is in the file is not what it should be: every field that is honoured is looked at from inside.
test_oci_fields()
{
	local inside
	oci_tree && mkdir -p "$dir/fields" || return
	cat >"$dir/oci_tree/check.sh" <<-'EOF'
	echo "user $(id -u) $(id -g) $(id -G)"
	echo "umask $(umask) cwd $PWD env $A"
	echo "names $(hostname) $(cat /proc/sys/kernel/domainname)"
	sed -nE 's/^(Cap...|NoNewPrivs|Seccomp):\t/\1 /p' /proc/self/status
	echo "oom $(cat /proc/self/oom_score_adj)"
	sed -nE 's/^Max (open files|core file size) +([0-9]+) +([0-9]+).*/limit \1 \2 \3/p' /proc/self/limits
	mkdir /tmp/made 2>/dev/null || echo "filter refuses mkdir"
	touch /tmp/touched && echo "filter lets touch"
	awk '$2 == "/tmp" { print "tmpfs", $4 }' /proc/mounts
	awk '$5 == "/" { print "root", $6, $7 }' /proc/self/mountinfo | sed 's/,[^ ]*//; s/:[0-9]*//'
	awk '$5 == "/proc/sys" { print "read-only", $6 }' /proc/self/mountinfo | sed 's/,.*//'
	echo "masked $(cat /proc/kcore | wc -c)"
	echo "device $(stat -c '%F %a %u %g %t:%T' /dev/more)"
	[ -p /dev/fifo ] && echo "fifo"
	(: <>/dev/fuse) 2>/dev/null && echo "a rule lets fuse"
	(: </dev/kmsg) 2>/dev/null || echo "no rule lets kmsg"
	echo "sysctl $(cat /proc/sys/net/ipv4/ip_forward) $(cat /proc/sys/kernel/msgmax)"
	for f in memory.max memory.low memory.high pids.max cpu.weight cpu.max; do echo "$f $(cat /sys/fs/cgroup/$f)"; done
	echo "cgroup $(cat /proc/self/cgroup)"
	echo "vm $(nproc) $(awk '/MemTotal/ { print ($2 > 250000 && $2 < 330000) }' /proc/meminfo)"
	echo "copied $(cat /copied/link) $(stat -c %a:%u:%g /copied/dir/file) $(stat -f -c %T /copied)"
	echo "pid $$"
	echo "links $(ip -o link | wc -l)"
	read -r wait
	EOF
	cat >"$dir/fields/config.json" <<-EOF
	{"ociVersion": "1.0.2", "root": {"path": "$dir/oci_tree", "readonly": true}, "hostname": "hut", "domainname": "dom",
	 "process": {"args": ["sh", "/check.sh"], "cwd": "/etc", "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "A=b c"],
	  "user": {"uid": 1000, "gid": 1001, "umask": 23, "additionalGids": [5, 7]}, "noNewPrivileges": true, "oomScoreAdj": 77,
	  "apparmorProfile": "some",
	  "capabilities": {"bounding": ["CAP_KILL", "CAP_NET_RAW"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"],
	   "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]},
	  "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 512, "hard": 1024}, {"type": "RLIMIT_CORE", "soft": 1, "hard": 2}]},
	 "mounts": [
	  {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
	  {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
	  {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"},
	  {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "ro"]},
	  {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
	  {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "noexec", "mode=1777", "size=1024k"]},
	  {"destination": "/copied", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}],
	 "linux": {"rootfsPropagation": "shared", "cgroupsPath": "/uvm-test/fields",
	  "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}, {"type": "time"}],
	  "devices": [{"path": "/dev/more", "type": "c", "major": 1, "minor": 3, "fileMode": 384, "uid": 3, "gid": 4},
	   {"path": "/dev/fifo", "type": "p"}, {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229},
	   {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}],
	  "resources": {"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}],
	   "memory": {"limit": 67108864, "reservation": 1048576}, "pids": {"limit": 99},
	   "cpu": {"shares": 512, "quota": 30000, "period": 50000}, "unified": {"memory.high": "60000000"}},
	  "sysctl": {"net.ipv4.ip_forward": "1", "kernel.msgmax": "12345"},
	  "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"],
	  "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}},
	 "annotations": {"org.uvm.memory": "320M", "org.uvm.cpus": "2"}}
	EOF
	mkdir -p "$dir/oci_tree/copied/dir" && echo words >"$dir/oci_tree/copied/dir/file" && ln -s dir/file "$dir/oci_tree/copied/link" &&
		chmod 604 "$dir/oci_tree/copied/dir/file" && chown 11:12 "$dir/oci_tree/copied/dir/file" || return
	mkfifo "$dir/in.fields"
	exec 8<>"$dir/in.fields"
	create fields || return
	want "a warning" grep -q '"level":"warning","msg":"config.json: process.apparmorProfile has no effect' "$dir/log" || return
	ends 0 oci start fields || return
	later 20 grep -q links "$dir/fields.out" || { reason="$(cat "$dir/fields.out" "$dir/fields.err")"; return 1; }
	inside="user 1000 1001 1001 5 7
	umask 0027 cwd /etc env b c
	names hut dom
	CapInh 0000000000000020
	CapPrm 0000000000000020
	CapEff 0000000000000020
	CapBnd 0000000000002020
	CapAmb 0000000000000020
	NoNewPrivs 1
	Seccomp 2
	oom 77
	limit core file size 1 2
	limit open files 512 1024
	filter refuses mkdir
	filter lets touch
	tmpfs rw,nosuid,noexec,relatime,size=1024k
	root ro shared
	read-only ro
	masked 0
	device character special file 600 3 4 1:3
	fifo
	a rule lets fuse
	no rule lets kmsg
	sysctl 1 12345
	memory.max 67108864
	memory.low 1048576
	memory.high 59998208
	pids.max 99
	cpu.weight 20
	cpu.max 30000 50000
	cgroup 0::/
	vm 2 1
	copied words 604:11:12 tmpfs
	pid 1
	links 1"
	same "inside" "$(sed 's/^\t*//' <<<"$inside")" "$(cat "$dir/fields.out")" || return
	# And on the host.
	same "the host's cgroup" "20 30000 50000 402653184" "$(cd /sys/fs/cgroup/uvm-test/fields && cat cpu.weight cpu.max memory.max | xargs)" || return
	want "ps: $(oci ps fields)" grep -q ' sh /check.sh$' <(oci ps fields) || return
	ends 1 oci update --resources - fields <<<'{"memory": {"limit": 1073741824}}' 2>/dev/null || return
	in_log 'memory.limit is more than this container' || return
	ends 0 oci update --resources - fields <<<'{"cpu": {"shares": 2048, "cpus": "0"}, "memory": {"limit": 134217728}}' || return
	same "updated on the host" "79 0" "$(cd /sys/fs/cgroup/uvm-test/fields && cat cpu.weight cpuset.cpus | xargs)" || return
	want "an updated limit" grep -q '"limit":134217728' <(oci events --stats fields) || return
	echo >&8
	ends 0 wait $waiter || return
	exec 8<&-
	ends 0 oci delete fields || return
	gone fields
}

# Ids of a user namespace, and a root that is an image.
test_oci_roots()
{
	oci_tree && mkdir "$dir/oci_tree/own" && chown 100000:200000 "$dir/oci_tree/own" || return
	bundle ids '["sh", "-c", "echo $(cat /proc/self/uid_map) $(cat /proc/self/gid_map); stat -c %u:%g /own /etc /dev/null; touch /own/file; touch /etc/file || echo no; id -u"]' || return
	sed -i 's/{"type": "pid"},/{"type": "user"}, &/; s/"linux": {/&"uidMappings": [{"containerID": 0, "hostID": 100000, "size": 1000}], "gidMappings": [{"containerID": 0, "hostID": 200000, "size": 1000}],/' "$dir/ids/config.json"
	create ids && ends 0 oci start ids || return
	ends 0 wait $waiter || { cat "$dir/ids.err" >&2; return 1; }
	same "inside" "0 100000 1000 0 200000 1000 0:0 65534:65534 0:0 no 0" "$(xargs <"$dir/ids.out")" || return
	same "its file on the host" 100000:200000 "$(stat -c %u:%g "$dir/oci_tree/own/file")" || return
	ends 0 oci delete ids || return
	gone ids || return

	command -v mkfs.erofs >/dev/null || { reason="skip: there is no mkfs.erofs"; return 1; }
	printf '# of this test\nrootfs = erofs\n' >"$dir/settings"
	export UVM_CONFIG=$dir/settings
	bundle image '["sh", "-c", "awk \"\\$2 == \\\"/\\\" { print \\$3 }\" /proc/mounts; touch /new; cat /own/is /etc/conf; touch /vol/new; touch /etc/conf || echo no"]' '' \
		",{\"destination\": \"/vol\", \"source\": \"$dir/vol\", \"options\": [\"rbind\"]}, {\"destination\": \"/etc/conf\", \"type\": \"bind\", \"source\": \"$dir/conf\", \"options\": [\"ro\"]}" || return
	mkdir -p "$dir/vol"
	echo conf >"$dir/conf"
	echo here >"$dir/oci_tree/own/is"
	create image && ends 0 oci start image || return
	ends 0 wait $waiter || { cat "$dir/image.err" >&2; return 1; }
	same "inside" "overlay here conf no" "$(xargs <"$dir/image.out")" || return
	want "a file in a volume" [ -e "$dir/vol/new" ] || return
	want "a file on the host" [ ! -e "$dir/oci_tree/new" ] || return
	ends 0 oci delete image || return
	echo 'rootfs = ext4' >"$dir/settings"
	bundle bad '["true"]' && oci_refused "$dir/settings:1: rootfs: 'ext4' is neither" || return
	unset UVM_CONFIG
	gone image
}

# left: what there is of containers.
left()
{
	same "run directories" "" "$(ls -A "$UVM_RUN")" || return
	same "cgroups" "" "$(find /sys/fs/cgroup/uvm-test -mindepth 1 -type d 2>/dev/null)" || return
	same "processes" "" "$(pgrep -f 'create --bundle' | xargs)"
}

# taken_over ORDER RESULT: of a container's monitor (tests/tiny/forbidden.c).
taken_over()
{
	local uvm=$top/build/tests/tiny/forbidden
	UVM_FORBIDDEN=$1 create t || return
	later 10 grep -q "^forbidden: " "$UVM_RUN/t/log"
	# The last, as the VM that a template is made of says it there, too.
	same "$1" "$2" "$(sed -n 's/^forbidden: //p' "$UVM_RUN/t/log" | tail -n 1)"
}

# and_gone: it can be removed, whatever it has done.
and_gone()
{
	ends 0 oci delete --force t || return
	ends 137 wait $waiter || return
	left
}

# What a taken-over monitor writes into its run directory makes root do nothing; nothing else is in its reach.
test_oci_taken_over()
{
	local pid victim order
	bundle t '["sleep", "1000"]' || return
	mkdir "$UVM_RUN/.beside" || return
	for order in "seek .beside" "seek-writable ../sys/kernel/core_pattern"; do
		taken_over "$order" "errno 2" && ends 0 oci delete --force t || return
		ends 137 wait $waiter || return
	done
	rmdir "$UVM_RUN/.beside"
	taken_over "seek journal" "done" && and_gone || return # its own
	taken_over "create /proc/sys/kernel/core_pattern" "errno 30" && and_gone || return
	# Somebody else's process in its files, hooks of its own, and a fifo.
	sleep 1000 &
	victim=$!
	create t && ends 0 oci start t || return
	pid=$(cat "$dir/t.pid")
	echo "$victim" >"$UVM_RUN/t/pid"
	printf '{"format":2,"bundle":"/","rootfs":"/","memory":1,"cpus":1,"hooks":{"poststop":[{"path":"%s","args":["touch","%s"]}]}}' \
		"$(command -v touch)" "$dir/owned" >"$UVM_RUN/t/oci.json"
	echo 0 >"$UVM_RUN/t/share"
	rm -f "$UVM_RUN/t/keep" "$UVM_RUN/t/paused" && mkfifo "$UVM_RUN/t/paused" || return
	same "pid of its state" "$pid" "$(oci state t | sed 's/.*"pid":\([0-9]*\).*/\1/')" || return
	# Those of its cgroup, which a kernel thread of KVM's may be in, too.
	want "pids: $(oci ps --format json t)" grep -q "\[$pid[],]" <(oci ps --format json t) || return
	ends 0 oci pause t && same "status" paused "$(status_of t)" && ends 0 oci resume t || return
	rm "$UVM_RUN/t/container" && mkfifo "$UVM_RUN/t/container" || return
	and_gone || return
	want "a neighbour that runs on" kill -0 "$victim" || return
	kill "$victim"
	want "no hook of its own" test ! -e "$dir/owned" || return
	# It says that it is dead, and lives.
	taken_over unlock "done" || return
	same "status" created "$(status_of t)" || return
	and_gone
}

# Whatever has happened to a container, delete --force removes what there is of it, and twice is well.
test_oci_wreckage()
{
	local pid kind
	# A state that cannot be read.
	for kind in '' '{"format":1,"bundle":"/b","rootfs":"/r"}' '{"format":2'; do
		bundle w '["sleep", "1000"]' && create w || return
		printf '%s' "$kind" >"$UVM_RUN/.own-w/oci.json"
		ends 1 oci state w 2>/dev/null || return
		in_log oci.json || return
		ends 1 oci delete w 2>/dev/null || return
		ends 0 oci delete --force w 2>/dev/null || return
		ends 137 wait $waiter || return
		ends 0 oci delete --force w || return
		left || return
	done
	# A VM that says nothing more.
	create w && ends 0 oci start w || return
	pid=$(cat "$dir/w.pid")
	kill -STOP "$pid"
	ends 0 oci delete --force w || return
	ends 137 wait $waiter || return
	left || return
	# Its process is killed while it is made, by a hook, and so is "create".
	kind='sed s/.*pid[^0-9]*// | sed s/[^0-9].*// | xargs kill -9'
	bundle bad '["true"]' '' '' ", \"hooks\": {\"prestart\": [{\"path\": \"/bin/sh\", \"args\": [\"sh\", \"-c\", \"$kind\"], \"env\": [\"PATH=/bin:/usr/bin\"]}]}" || return
	oci_refused "the container's process was killed by signal 9 (Killed) before it ran" || return
	left || return
	bundle bad '["true"]' '' '' ', "hooks": {"prestart": [{"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"]}]}' || return
	ends 137 oci create --bundle "$dir/bad" bad 2>/dev/null </dev/null || return
	later 10 stopped bad || { reason="status of what was left: $(status_of bad)"; return 1; }
	ends 0 oci delete --force bad || return
	left || return
	# No kernel, no cache, no room.
	bundle bad '["true"]' || return
	UVM_KERNEL=/no/such oci_refused 'kernel /no/such: No such file' || return
	UVM_CACHE=/proc/none oci_refused '/proc/none' || return
	mkdir "$dir/full" && mount -t tmpfs -o size=4k full "$dir/full" || { reason="a small file system"; return 1; }
	ends 1 oci --root "$dir/full/run" create --bundle "$dir/bad" bad 2>/dev/null </dev/null || return
	in_log 'No space left on device' || return
	same "what is left there" "" "$(ls "$dir/full/run")" || return
	umount "$dir/full"
	left
}

# bad_id ID
bad_id()
{
	ends 1 oci create --bundle "$dir/bad" "$1" 2>/dev/null </dev/null || return
	in_log 'is not valid' || return
	ends 1 oci state "$1" 2>/dev/null || return
	in_log 'container does not exist'
}

# None of this comes to a VM.
test_oci_nonsense()
{
	local deep id
	bundle bad '["true"]' && cp "$dir/bad/config.json" "$dir/good" || return
	deep=$(printf '[%.0s' $(seq 100))$(printf ']%.0s' $(seq 100))
	sed "s/{\"ociVersion\"/{\"x\": $deep, \"ociVersion\"/" "$dir/good" >"$dir/bad/config.json"
	oci_refused 'config.json: ' || return
	{ sed '$d' "$dir/good" && head -c 9000000 /dev/zero | tr '\0' ' ' && echo '}'; } >"$dir/bad/config.json"
	oci_refused 'config.json: larger than 8388608 bytes' || return
	head -c 300 "$dir/good" >"$dir/bad/config.json" && oci_refused 'config.json: ' || return
	sed 's/1\.0\.2/2.0.0/' "$dir/good" >"$dir/bad/config.json" && oci_refused ociVersion || return
	sed 's/"root": {[^}]*}/"root": {"path": "none"}/' "$dir/good" >"$dir/bad/config.json" && oci_refused 'root.path none: No such file' || return
	sed 's/"root": {[^}]*}/"root": {"path": "..\/oci_tree"}/' "$dir/good" >"$dir/bad/config.json" && oci_refused 'leads out of the bundle' || return
	ln -s "$dir/oci_tree" "$dir/bad/link"
	sed 's/"root": {[^}]*}/"root": {"path": "link"}/' "$dir/good" >"$dir/bad/config.json" && oci_refused 'leads out of the bundle' || return
	sed 's/{"type": "pid"},//' "$dir/good" >"$dir/bad/config.json" && oci_refused "linux.namespaces has none of the type 'pid'" || return
	sed 's/{"type": "ipc"}/{"type": "ipc", "path": "\/proc\/1\/ns\/ipc"}/' "$dir/good" >"$dir/bad/config.json" && oci_refused 'linux.namespaces[2]' || return
	sed 's/"linux": {/&"devices": [{"path": "\/dev\/sda", "type": "b", "major": 8, "minor": 0}],/' "$dir/good" >"$dir/bad/config.json" && oci_refused 'linux.devices[0] is /dev/sda' || return
	cp "$dir/good" "$dir/bad/config.json"
	for id in .. . a/b ../x "$(printf 'a%.0s' $(seq 65))" 'a b' $'a\nb'; do
		bad_id "$id" || return
	done
	ends 1 oci create --bundle "$dir/bad" --preserve-fds 2 bad 2>/dev/null </dev/null || return
	in_log 'descriptors 3 to 4 cannot be passed' || return
	ends 1 oci create --bundle "$dir/no such" bad 2>/dev/null </dev/null || return
	in_log 'No such file' || return
	left
}

# stopped ID
stopped()
{
	[ "$(status_of "$1")" = stopped ]
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

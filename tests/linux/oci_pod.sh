# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # a part of tests/linux/run, whose variables these are
#
# oci_pod.sh: pods of OCI containers (oci.sh): a sandbox, and containers in its VM. Bundles and the order of calls
# are as containerd's: its plugin for Kubernetes writes the annotations and the paths of namespaces, and its
# shim for runc calls create, start, exec, kill, delete for the sandbox first and then for each container.

# annotate ID KEY VALUE...: the bundle's annotations.
annotate()
{
	local file=$dir/$1/config.json text=
	shift
	while [ $# -gt 0 ]; do
		text="$text${text:+, }\"$1\": \"$2\""
		shift 2
	done
	sed -i "1s/{/{\"annotations\": {$text}, /" "$file"
}

# rooted ID: a tree of its own.
rooted()
{
	cp -a "$dir/oci_tree" "$dir/root.$1" && sed -i "s,\"$dir/oci_tree\",\"$dir/root.$1\"," "$dir/$1/config.json"
}

# in_path ID TYPE PATH: the bundle's namespace of this type is that one.
in_path()
{
	sed -i "s,{\"type\": \"$2\"},{\"type\": \"$2\"\, \"path\": \"$3\"}," "$dir/$1/config.json"
}

shm_mount=', {"destination": "/dev/shm", "type": "bind", "source": "/dev/shm", "options": ["rbind", "nosuid", "nodev", "noexec"]}'
idle='["sh", "-c", "trap \"exit 9\" TERM; echo ready; while :; do sleep 0.1; done"]'

# sandbox ID [KEY VALUE...]: makes and starts it.
sandbox()
{
	local id=$1
	shift
	bundle "$id" "$idle" '' "$shm_mount" || return
	annotate "$id" io.kubernetes.cri.container-type sandbox io.kubernetes.cri.sandbox-id "$id" "$@"
	begin "$id"
}

# begin ID: its caller is $waiter_ID.
begin()
{
	create "$1" || return
	eval "waiter_$1=$waiter"
	ends 0 oci start "$1"
}

# pod_member SANDBOX ID ARGS [PROCESS [MOUNTS [MORE]]]: a bundle of its pod's.
pod_member()
{
	local box=$1 id=$2 pid
	shift 2
	bundle "$id" "$1" "${2-}" "$shm_mount${3-}" "${4-}" && rooted "$id" || return
	annotate "$id" io.kubernetes.cri.container-type container io.kubernetes.cri.sandbox-id "$box"
	pid=$(cat "$dir/$box.pid")
	in_path "$id" network "/proc/$pid/ns/net"
	in_path "$id" ipc "/proc/$pid/ns/ipc"
	in_path "$id" uts "/proc/$pid/ns/uts"
}

# within ID COMMAND: by the shell.
within()
{
	exec_json "[\"sh\", \"-c\", \"$2\"]"
	oci exec --process "$dir/process.json" "$1" </dev/null
}

pid_of() { cat "$dir/$1.pid"; }
guests() { "$uvm" top --vm "$1" | grep -c "$2"; }
guest_lacks() { [ "$(guests "$1" "$2")" = 0 ]; }
is_stopped() { [ "$(status_of "$1")" = stopped ]; }

# deleted ID...: by force, and once more.
deleted()
{
	local id
	for id; do
		ends 0 oci delete --force "$id" && ends 0 oci delete --force "$id" || return
	done
}

no_pod_left()
{
	same "run directories" "" "$(ls "$UVM_RUN")" || return
	same "cgroups" "" "$(find /sys/fs/cgroup/uvm-test -mindepth 1 -type d 2>/dev/null)" || return
	same "processes" "" "$(pgrep -f "create --bundle $dir/" | xargs)" || return
	same "mounts" "" "$(grep -F " $dir/" /proc/mounts)"
}

# Life, as Kubernetes sees it: one network, one name, one IPC, a root for each.
test_oci_net_pod()
{
	local box id
	bridge_here && namespace box && plug box eth0 2 1500 || return
	bundle box "$idle" '' "$shm_mount" || return
	annotate box io.kubernetes.cri.container-type sandbox io.kubernetes.cri.sandbox-id box
	in_path box network "/proc/$(cat "$dir/box.ns")/ns/net"
	begin box || return
	box=$(pid_of box)
	mkdir "$dir/vol" && echo volume >"$dir/vol/file"
	pod_member box one "$idle" '' ", {\"destination\": \"/vol\", \"type\": \"bind\", \"source\": \"$dir/vol\", \"options\": [\"rbind\", \"ro\"]}" &&
		pod_member box two '["sh", "-c", "cat; hostname; exec sleep 777"]' || return
	mkfifo "$dir/in.two"
	seq 50000 >"$dir/in.two" &
	create one && waiter_one=$waiter && same "status" created "$(status_of one)" || return
	same "output before start" "" "$(cat "$dir/one.out")" || return
	ends 0 oci start one && begin two || return
	for id in box one two; do
		same "status of $id" running "$(status_of $id)" || return
		same "name of $id" box "$(within $id hostname)" || return
		same "interfaces of $id" "eth0 lo" "$(within $id 'ls /sys/class/net' | xargs)" || return
	done
	same "VMs" 1 "$(ls "$UVM_RUN"/*/vsock.sock | wc -l)" || return
	want "no answer to the host" busybox ping -c 1 -W 5 10.9.0.2 >/dev/null || return
	later 20 grep -qx box "$dir/two.out" || { reason="output of two: $(tail -n 2 "$dir/two.out" "$dir/two.err")"; return 1; }
	same "input" "$(seq 50000 | md5sum)" "$(head -n 50000 "$dir/two.out" | md5sum)" || return
	# Between the two.
	exec_json '["sh", "-c", "nc -l -p 4000 -e echo from-one"]'
	oci exec --process "$dir/process.json" --detach one </dev/null >/dev/null 2>&1 || { reason="no server"; return 1; }
	later 10 eval '[ "$(within two "nc 127.0.0.1 4000")" = from-one ]' || { reason="nothing through lo"; return 1; }
	within one 'echo shared >/dev/shm/file; ipcmk -Q >/dev/null 2>&1; echo mine >/mine'
	same "shared memory" "shared shared" "$(within two 'cat /dev/shm/file' | xargs) $(within box 'cat /dev/shm/file')" || return
	same "queues" "$(within one 'cat /proc/sysvipc/msg | wc -l')" "$(within two 'cat /proc/sysvipc/msg | wc -l')" || return
	same "a file of the root" mine "$(cat "$dir/root.one/mine")" || return
	want "another's root" [ ! -e "$dir/root.two/mine" ] && want "the sandbox's" [ ! -e "$dir/oci_tree/mine" ] || return
	same "a volume" volume "$(within one 'cat /vol/file; touch /vol/x 2>/dev/null')" || return
	want "another's volume" within two '[ ! -e /vol ]' || return
	same "processes of one" 0 "$(within one 'ps | grep -c [s]leep.777')" || return
	# Callers look into the process.
	same "its files" mine "$(nsenter -t "$(pid_of one)" -m cat /mine)" || return
	same "its network" "$(readlink /proc/$box/ns/net)" "$(readlink "/proc/$(pid_of one)/ns/net")" || return
	same "its processes" 1 "$(nsenter -t "$(pid_of one)" -m -p sh -c 'ls /proc | grep "^[0-9]" | head -n 1')" || return
	want "ps: $(oci ps --format json one)" grep -q "[[,]$(pid_of one)[],]" <<<"$(oci ps --format json one)" || return
	same "its confinement" "0000000000000000 2" "$(sed -nE 's/^(CapEff|Seccomp):\t//p' "/proc/$(pid_of one)/status" | xargs)" || return
	same "uvm ps" "box one two" "$("$uvm" ps | awk 'NR > 1 && $3 == "running" { print $1 }' | xargs)" || return
	same "its pid there" "$(pid_of one)" "$("$uvm" ps | awk '$1 == "one" { print $2 }')" || return
	want "ps for people" grep -q 'sleep 777' <<<"$(oci ps two)" || return
	# Each is another's not.
	echo '{"memory": {"limit": 33554432}, "pids": {"limit": 77}}' | ends 0 oci update --resources - one || return
	want "figures" grep -q '"limit":33554432.*"limit":77' <<<"$(oci events --stats one)" || return
	want "figures of two" grep -qv '"limit":33554432' <<<"$(oci events --stats two)" || return
	ends 0 oci pause one && same "status" paused "$(status_of one)" && same "of two" running "$(status_of two)" || return
	ends 0 oci resume one || return
	ends 1 oci delete one 2>/dev/null && in_log 'is not stopped: running' || return
	ends 0 oci kill one TERM && ends 9 wait $waiter_one && same "status" stopped "$(status_of one)" || return
	same "status of two" running "$(status_of two)" || return
	ends 0 oci delete one || return
	same "trees in the VM's process" 1 "$(grafts_of box)" || return
	# Its name is free again.
	create one && waiter_one=$waiter && ends 0 oci start one || return
	same "a file that stayed" mine "$(within one 'cat /mine')" || return
	# SIGKILL of the process on the host is the end of the one in the guest.
	same "in the guest" 1 "$(guests box 'sleep 777')" || return
	kill -KILL "$(pid_of two)"
	ends 137 wait $waiter_two || return
	later 10 guest_lacks box 'sleep 777' || { reason="the container lives on"; return 1; }
	same "status" stopped "$(status_of two)" && ends 0 oci delete two || return
	same "status of one" running "$(status_of one)" || return
	# The sandbox goes, and all with it.
	ends 0 oci kill box KILL && ends 137 wait $waiter_box && ends 137 wait $waiter_one || return
	same "status" "stopped stopped" "$(status_of one) $(status_of box)" || return
	deleted one box two || return
	same "queues at the interface" 0 "$(queues_of box)" || return
	no_pod_left
}

# Those that were mounted for containers, of the sandbox's process.
grafts_of() { grep -c " /proc/proc/[0-9a-f]\{16\} " "/proc/$(pid_of "$1")/mountinfo"; }

# The monitor and the containers' processes are killed at each step, and what is asked for then has an answer.
test_oci_pod_killed()
{
	sandbox box && pod_member box one "$idle" && pod_member box two "$idle" || return
	# Of one that waits for its start.
	create one && kill -KILL "$(pid_of one)" && ends 137 wait $waiter || return
	same "status" stopped "$(status_of one)" || return
	ends 1 oci start one 2>/dev/null && in_log 'has stopped' || return
	ends 0 oci delete --force one || return
	create one && ends 0 oci delete --force one && ends 137 wait $waiter || return
	# While create works on it.
	bundle slow "$idle" '' '' ", \"hooks\": {\"createRuntime\": [{\"path\": \"/bin/sleep\", \"args\": [\"sleep\", \"5\"]}]}" && rooted slow || return
	annotate slow io.kubernetes.cri.container-type container io.kubernetes.cri.sandbox-id box
	in_path slow network "/proc/$(pid_of box)/ns/net"
	oci create --bundle "$dir/slow" --pid-file "$dir/slow.pid" slow >/dev/null 2>&1 </dev/null &
	later 10 test -s "$UVM_RUN/slow/pid" || { reason="no process"; return 1; }
	kill -KILL "$(cat "$UVM_RUN/slow/pid")"
	ends 1 wait $! && in_log "the container's process was killed by signal 9 (Killed) before it ran" || return
	same "what is left of it" "" "$(ls -d "$UVM_RUN/slow" 2>/dev/null)" || return
	"$uvm" --log "$dir/log" --log-format json create --bundle "$dir/slow" --pid-file "$dir/slow.pid" slow >/dev/null 2>&1 </dev/null &
	later 10 test -s "$UVM_RUN/slow/pid" || { reason="no process"; return 1; }
	kill -KILL $!
	wait $!
	ends 0 oci delete --force slow || return
	# The monitor.
	create one && waiter_one=$waiter && begin two || return
	kill -KILL "$(pid_of box)"
	ends 137 wait $waiter_box && ends 137 wait $waiter_one && ends 137 wait $waiter_two || return
	same "status" "stopped stopped stopped" "$(status_of box) $(status_of one) $(status_of two)" || return
	ends 1 oci kill two TERM 2>/dev/null && in_log 'container not running' || return
	ends 1 oci create --bundle "$dir/slow" slow 2>/dev/null </dev/null && in_log "sandbox 'box' is not running" || return
	deleted box two one || return
	ends 1 oci create --bundle "$dir/slow" slow 2>/dev/null </dev/null && in_log "sandbox 'box': container does not exist" || return
	no_pod_left
}

# Namespaces that others have made, as CRI-O has them, and a shared PID namespace.
test_oci_pod_shared()
{
	local pid box
	unshare --ipc --uts sleep 1000 &
	pid=$!
	bundle box "$idle" '' "$shm_mount" || return
	annotate box io.kubernetes.cri-o.ContainerType sandbox io.kubernetes.cri-o.SandboxID box org.uvm.memory 384M
	later 10 eval '[ "$(readlink /proc/'$pid'/ns/ipc)" != "$(readlink /proc/self/ns/ipc)" ]' || { reason="no namespaces"; return 1; }
	in_path box ipc "/proc/$pid/ns/ipc"
	in_path box uts "/proc/$pid/ns/uts"
	begin box || return
	box=$(pid_of box)
	bundle one '["sh", "-c", "ps; nproc; awk \"/MemTotal/ { print (\\$2 > 300000) }\" /proc/meminfo; hostname; exit 3"]' '' '' && rooted one || return
	annotate one io.kubernetes.cri-o.ContainerType container io.kubernetes.cri-o.SandboxID box
	in_path one network "/proc/$box/ns/net"
	in_path one ipc "/proc/$pid/ns/ipc"
	in_path one uts "/proc/$pid/ns/uts"
	in_path one pid "/proc/$box/ns/pid"
	create one && ends 0 oci start one && ends 3 wait $waiter || return
	want "processes of the sandbox: $(cat "$dir/one.out")" grep -q 'while :' "$dir/one.out" || return
	same "the VM's size, and its name" "1 box" "$(tail -n 2 "$dir/one.out" | xargs)" || return
	# One that joins nothing is alone.
	bundle alone '["hostname"]' && annotate alone io.kubernetes.cri-o.ContainerType container io.kubernetes.cri-o.SandboxID box || return
	create alone && same "VMs" 2 "$(ls "$UVM_RUN"/*/vsock.sock | wc -l)" && ends 0 oci start alone && ends 0 wait $waiter || return
	same "its name" alone "$(cat "$dir/alone.out")" || return
	deleted alone one box && no_pod_left
	kill $pid
}

# A terminal, hooks, users, a read-only root, and a limit that kills: of one in another's VM as of one in its own.
test_oci_pod_fields()
{
	sandbox box || return
	pod_member box tty '["sh", "-c", "tty; stty size; cat /made /started; touch /x || echo read-only; read x; stty size; echo got $x; exit 3"]' \
		', "terminal": true, "consoleSize": {"height": 20, "width": 50}' '' ", \"hooks\": {
		$(oci_hook createContainer "echo made >$dir/root.tty/made"), $(oci_hook poststop true),
		\"startContainer\": [{\"path\": \"/bin/sh\", \"args\": [\"sh\", \"-c\", \"cat >/dev/started\"]}]}" || return
	ln -s dev/started "$dir/root.tty/started"
	sed -i "s,\"$dir/root.tty\",&\, \"readonly\": true," "$dir/tty/config.json"
	mkfifo "$dir/in.tty"
	exec 8<>"$dir/in.tty"
	create tty "$dir/sock" && ends 0 oci start tty || return
	later 20 grep -q 'read-only' "$dir/tty.out" || { reason="a terminal: $(cat "$dir/tty.out" "$dir/tty.err")"; return 1; }
	want "its size, and hooks: $(cat "$dir/tty.out")" grep -q '20 50.*made.*"id":"tty","pid":1,"status":"created"' <(tr -d '\n' <"$dir/tty.out") || return
	kill -USR1 $waiter
	sleep 1
	echo line >"$dir/in.tty"
	ends 3 wait $waiter || return
	want "a changed size: $(cat "$dir/tty.out")" grep -q '33 77.*got line' <(tr -d '\n' <"$dir/tty.out") || return
	exec 8<&-
	ends 0 oci delete tty && want "poststop" grep -q '"id":"tty"' <(hooked poststop) || return
	pod_member box small '["sh", "-c", "echo begins; id -u; exec tail /dev/zero"]' && sed -i 's/"linux": {/&"resources": {"memory": {"limit": 20000000}}, /; s/"uid": 0/"uid": 1000/' "$dir/small/config.json" || return
	create small && ends 0 oci start small && ends 137 wait $waiter || return
	same "output" "begins 1000" "$(xargs <"$dir/small.out")" || return
	want "a line: $(cat "$UVM_RUN/small/log")" grep -q 'memory limit has killed' "$UVM_RUN/small/log" || return
	same "the sandbox" running "$(status_of box)" || return
	# A program that has gone when it is to begin; the guest remembers a name for a second.
	pod_member box late '["/prog"]' && cp "$dir/root.late/bin/busybox" "$dir/root.late/prog" && create late || return
	rm "$dir/root.late/prog"
	sleep 2
	ends 1 oci start late 2>/dev/null && ends 127 wait $waiter && same "status" stopped "$(status_of late)" || return
	deleted late small box && no_pod_left
}

# pod_refused TEXT: the create of "bad" fails with this message, and nothing of it is left.
pod_refused()
{
	ends 1 oci create --bundle "$dir/bad" bad 2>/dev/null </dev/null && in_log "$1" || return
	same "what is left" "" "$(ls -d "$UVM_RUN/bad" 2>/dev/null)"
}

test_oci_pod_refused()
{
	sandbox box && bundle other "$idle" && begin other || return
	pod_member box bad '["no-such"]' && pod_refused 'exec: \"no-such\": executable file not found in $PATH' || return
	rm -rf "$dir/root.bad"; pod_member other bad '["true"]' && sed -i 's/sandbox-id": "other"/sandbox-id": "box"/' "$dir/bad/config.json" &&
		pod_refused "is not the namespace of the pod's sandbox 'box'" || return
	rm -rf "$dir/root.bad"; pod_member box bad '["true"]' && sed -i "s,/proc/[0-9]*/ns/ipc,/proc/1/ns/ipc," "$dir/bad/config.json" && pod_refused 'is not the namespace of' || return
	rm -rf "$dir/root.bad"; pod_member box bad '["true"]' && sed -i 's/"linux": {/&"resources": {"memory": {"limit": 400000000}}, /' "$dir/bad/config.json" &&
		pod_refused "more than the pod's VM can give" || return
	rm -rf "$dir/root.bad"; pod_member box bad '["true"]' && sed -i 's/sandbox-id": "box"/sandbox-id": "none"/' "$dir/bad/config.json" && pod_refused "sandbox 'none': container does not exist" || return
	rm -rf "$dir/root.bad"; pod_member box bad '["true"]' '' ', {"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]}' &&
		pod_refused 'cannot mount /no/such on /x: No such file' || return
	# A sandbox must be one, and its root no image.
	rm -rf "$dir/root.bad"; pod_member box one "$idle" && begin one && pod_member one bad '["true"]' && sed -i 's/sandbox-id": "box"/sandbox-id": "one"/' "$dir/bad/config.json" && pod_refused "sandbox 'one' is not running" || return
	want "the others" [ "$(status_of box) $(status_of one) $(status_of other)" = "running running running" ] || return
	same "trees in the VM's process" 1 "$(grafts_of box)" || return
	deleted one box other || return
	sandbox box org.uvm.rootfs erofs || return
	rm -rf "$dir/root.bad"; pod_member box bad '["true"]' && pod_refused "its root is an image" || return
	deleted box && no_pod_left
}

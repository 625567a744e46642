# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # a part of tests/linux/run, whose variables these are
#
# run.sh: containers in VMs of their own, as a user of "uvm run" sees them. Templates are made once, in
# a cache that all of these tests share; those that damage or count them have caches of their own.

case ${2-} in
test_run_* | test_template_*) export UVM_KERNEL=$kernel UVM_CACHE=$own_cache ;;
esac

# The options, image and command; without a terminal, and not for ever.
uvm_run()
{
	timeout -s KILL 40 "$uvm" run "$@"
}

# What is left when a container has gone: nothing.
nothing_left()
{
	same "containers" "" "$("$uvm" ps -aq)" || return
	same "run directories" "" "$(ls "$UVM_RUN")"
}

# A container in the background. background_run ID OPTION... -- CMD...
background_run()
{
	local id=$1 options=()
	shift
	while [ "$1" != -- ]; do options+=("$1"); shift; done
	shift
	reason="start of $id failed"
	uvm_run -d --name "$id" "${options[@]}" "$rootfs" "$@" >"$dir/id" && same "printed id" "$id" "$(cat "$dir/id")"
}

# later SECONDS COMMAND...: until it succeeds.
later()
{
	local i n=$(($1 * 20))
	shift
	for ((i = 0; i < n; i++)); do
		"$@" >/dev/null 2>&1 && return
		sleep 0.05
	done
	return 1
}

test_run_status_and_streams()
{
	ends 0 uvm_run "$rootfs" true || return
	ends 7 uvm_run "$rootfs" sh -c 'exit 7' || return
	ends 143 uvm_run "$rootfs" sh -c 'kill -TERM $$; exec sh -c "kill -TERM \$\$; sleep 9"' 2>/dev/null || :
	uvm_run "$rootfs" sh -c 'echo out; echo err >&2' >"$dir/out" 2>"$dir/err"
	same "standard output" out "$(cat "$dir/out")" || return
	same "standard error" err "$(cat "$dir/err")" || return
	same "input without -i" "" "$(echo x | uvm_run "$rootfs" cat)" || return
	same "input with -i" x "$(echo x | uvm_run -i "$rootfs" cat)" || return
	head -c 3000000 /dev/urandom >"$dir/in"
	uvm_run -i "$rootfs" cat <"$dir/in" >"$dir/out" || { reason=cat; return 1; }
	want "3 MB came back changed" cmp "$dir/in" "$dir/out" || return
	nothing_left
}

test_run_failures_have_their_status()
{
	ends 127 uvm_run "$rootfs" no-such-command 2>"$dir/err" || return
	want "message: $(cat "$dir/err")" grep -q "no-such-command.*No such file" "$dir/err" || return
	ends 126 uvm_run "$rootfs" /etc/passwd 2>"$dir/err" || return
	want "message: $(cat "$dir/err")" grep -q "Permission denied" "$dir/err" || return
	ends 125 uvm_run "$dir/none" true 2>/dev/null || return
	ends 125 uvm_run --no-such-option "$rootfs" true 2>/dev/null || return
	ends 125 uvm_run --memory 3 "$rootfs" true 2>/dev/null || return
	ends 126 uvm_run --user nobody-there "$rootfs" true 2>"$dir/err" || return
	want "message: $(cat "$dir/err")" grep -q "nobody-there" "$dir/err" || return
	ends 127 uvm_run -d "$rootfs" no-such-command 2>"$dir/err" || return
	want "message in the background: $(cat "$dir/err")" grep -q "no-such-command" "$dir/err" || return
	ends 125 uvm_run --kernel "$dir/none" "$rootfs" true 2>/dev/null || return
	nothing_left
}

test_run_rights()
{
	local show='grep -E "^(CapBnd|CapEff|NoNewPrivs|Seccomp):" /proc/self/status'
	show="$show; ulimit -n; ulimit -Hn; cat /proc/sys/net/ipv4/ip_forward; grep \" /cache \" /proc/mounts"
	cat >"$dir/profile" <<-'END'
		{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
		 {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
		 {"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_ADMIN"]}}]}
	END
	uvm_run --cap-drop ALL --cap-add cap_sys_admin --cap-add CHOWN --ulimit nofile=100:200 --ulimit core=0 \
		--sysctl net.ipv4.ip_forward=1 --tmpfs /cache:size=1m,mode=711,exec --security-opt no-new-privileges \
		--security-opt "seccomp=$dir/profile" "$rootfs" \
		sh -c "$show; mkdir /new; chmod 700 /etc && echo changed" >"$dir/out" 2>&1
	for line in 'CapBnd:.0000000000200001' 'CapEff:.0000000000200001' 'NoNewPrivs:.1' 'Seccomp:.2' 100 200 1 \
		'tmpfs /cache tmpfs rw,nosuid,nodev,relatime,size=1024k,mode=711.*' '.*Operation not supported' changed; do
		want "no line '$line' in $(cat "$dir/out")" grep -qx "$line" "$dir/out" || return
	done
	same "without options" "00000000a80425fb 0" "$(uvm_run "$rootfs" awk '/^CapBnd|^NoNew/ { print $2 }' /proc/self/status | xargs)" || return
	for options in "--cap-add NONE" "--ulimit files=1" "--sysctl x" "--tmpfs cache" "--security-opt apparmor=x" \
		"--security-opt seccomp=$dir/none" "--sysctl kernel.panic=1"; do
		# shellcheck disable=SC2086 # two words
		ends 125 uvm_run $options "$rootfs" true 2>/dev/null || return
	done
	nothing_left
}

test_run_devices()
{
	ends 0 uvm_run --device /dev/fuse "$rootfs" sh -c 'exec 3<>/dev/fuse' || return
	ends 0 uvm_run --device /dev/net/tun "$rootfs" sh -c 'exec 3<>/dev/net/tun' || return
	ends 1 uvm_run "$rootfs" sh -c 'mknod /f c 10 229; exec 3<>/f' 2>"$dir/err" || return
	want "message: $(cat "$dir/err")" grep -q "not permitted" "$dir/err" || return
	# A disk of the VM's under another name, to be read; nothing of it by its own.
	same "what can be opened" "read" "$(uvm_run --device /dev/vda:/dev/disk/root:r "$rootfs" sh -c '
		( exec </dev/disk/root ) && echo read; ( exec >>/dev/disk/root ) && echo written; ls /dev/vda' 2>/dev/null)" || return
	for options in /dev/sda /dev/net /dev/dri/card0:/dev/card:r; do
		ends 125 uvm_run --device $options "$rootfs" true 2>"$dir/err" || return
		want "message: $(cat "$dir/err")" grep -q "guest has no device '${options%%:*}'" "$dir/err" || return
	done
	for options in /etc/passwd /dev/../etc/passwd /dev/fuse:here /dev/fuse:/x:rx /dev/fuse:/x:; do
		ends 125 uvm_run --device "$options" "$rootfs" true 2>/dev/null || return
	done
	nothing_left
}

test_run_environment_and_identity()
{
	printf '# comment\nA=file\nB=file\nPASSED\n' >"$dir/env"
	same "variables" "1 file passed" "$(PASSED=passed uvm_run -e A=0 --env-file "$dir/env" -e A=1 "$rootfs" sh -c 'echo $A $B $PASSED')" || return
	same "directory" /etc "$(uvm_run -w /etc "$rootfs" pwd)" || return
	same "host name" "box" "$(uvm_run -h box "$rootfs" hostname)" || return
	same "host name by default" "name-1" "$(uvm_run --name name-1 "$rootfs" hostname)" || return
	same "user by number" "12 34" "$(uvm_run -u 12:34 "$rootfs" sh -c 'echo $(id -u) $(id -g)')" || return
	same "entry point" "a b" "$(uvm_run --entrypoint echo "$rootfs" a b)" || return
	same "first process" "1" "$(uvm_run "$rootfs" sh -c 'echo $$')" || return
	same "capabilities" "00000000a80425fb" "$(uvm_run "$rootfs" awk '/CapEff/ { print $2 }' /proc/self/status)" || return
	same "memory and CPUs" "2" "$(uvm_run --cpus 2 --memory 128M "$rootfs" nproc)"
}

# What most of a start's speed comes from: it goes on in the process that the template has prepared.
test_run_takes_what_is_prepared()
{
	local container='^main running pid [0-9]+ oom_kills 0'

	background_run plain -- sleep 1000 || return
	background_run more --tmpfs /t --cap-add NET_ADMIN -e A=1 -h box -- sleep 1000 || return
	background_run bound --device /dev/fuse -- sleep 1000 || return
	for options in plain more; do
		want "$options: $("$uvm" dump $options | grep ^main)" \
			grep -qE "$container prepared\$" <("$uvm" dump $options) || return
	done
	# And this one cannot, which shows that the word means something.
	want "bound: $("$uvm" dump bound | grep ^main)" grep -qE "$container\$" <("$uvm" dump bound) || return
	ends 0 "$uvm" rm -f plain more bound >/dev/null || return
	nothing_left
}

test_run_root_is_written_to_in_memory()
{
	local before
	before=$(md5sum <"$rootfs")
	same "a file" "x" "$(uvm_run "$rootfs" sh -c 'echo x >/etc/new && cat /etc/new')" || return
	ends 1 uvm_run "$rootfs" cat /etc/new 2>/dev/null || return
	ends 1 uvm_run --read-only "$rootfs" touch /etc/new 2>/dev/null || return
	ends 0 uvm_run --read-only "$rootfs" touch /dev/shm/new || return
	ends 1 uvm_run --scratch tmpfs:4M "$rootfs" dd if=/dev/zero of=/big bs=1M count=8 2>/dev/null || return
	ends 0 uvm_run --scratch tmpfs:4M "$rootfs" dd if=/dev/zero of=/big bs=1M count=2 2>/dev/null || return
	same "sum of the image" "$before" "$(md5sum <"$rootfs")"
}

test_run_scratch_on_a_disk()
{
	local before
	before=$(md5sum <"$rootfs")
	same "what a disk of 64 MiB takes" 20 "$(uvm_run --scratch 64M "$rootfs" sh -c 'dd if=/dev/zero of=/big bs=1M count=20 2>/dev/null; echo $(($(stat -c %s /big) >> 20))')" || return
	ends 1 uvm_run --scratch 64M "$rootfs" ls /big 2>/dev/null || return
	ends 0 uvm_run --scratch "$dir/kept:64M" "$rootfs" sh -c 'seq 100000 >/root/file; rm /etc/group' || return
	want "the file system is damaged: $(e2fsck -fn "$dir/kept" 2>&1 | tail -n 3)" e2fsck -fn "$dir/kept" >/dev/null 2>&1 || return
	same "the file in the next run" "$(seq 100000 | md5sum)" "$(uvm_run --scratch "$dir/kept" "$rootfs" sh -c 'md5sum </root/file')" || return
	ends 1 uvm_run --scratch "$dir/kept" "$rootfs" ls /etc/group 2>/dev/null || return
	(cd "$dir" && background_run s --scratch kept -- sh -c 'echo there >/root/new') || return
	same "where it is" "0 $dir/kept" "$("$uvm" wait s) $(member scratch s)" || return
	"$uvm" rm s
	same "on the host" there "$(debugfs -R 'cat /main/upper/root/new' "$dir/kept" 2>/dev/null)" || return
	same "sum of the image" "$before" "$(md5sum <"$rootfs")"
}

test_run_volumes()
{
	local before
	truncate -s 16M "$dir/v1" "$dir/v2"
	mke2fs -q -F -t ext4 "$dir/v1" && mke2fs -q -F -t ext4 "$dir/v2" || { reason=mke2fs; return 1; }
	ends 0 uvm_run --volume-disk "$dir/v1:/data" --volume-disk "$dir/v2:/more/data" "$rootfs" sh -c 'echo one >/data/x; echo two >/more/data/x' || return
	before=$(md5sum <"$dir/v1")
	want "the volume is damaged" e2fsck -fn "$dir/v1" >/dev/null 2>&1 || return
	same "what is in them" "one two" "$(uvm_run --volume-disk "$dir/v1:/data:ro" --volume-disk "$dir/v2:/d2:ro" "$rootfs" cat /data/x /d2/x | xargs)" || return
	ends 1 uvm_run --volume-disk "$dir/v1:/data:ro" "$rootfs" touch /data/y 2>/dev/null || return
	same "sum of a volume that is read-only" "$before" "$(md5sum <"$dir/v1")" || return
	ends 125 uvm_run --volume-disk "$dir/v1" "$rootfs" true 2>/dev/null
}

test_run_terminal()
{
	same "a terminal" $'yes\r' "$(uvm_run -t "$rootfs" sh -c '[ -t 0 ] && [ -t 1 ] && echo yes')" || return
	# Ctrl-C typed at it reaches the process, whose own handler decides.
	mkfifo "$dir/keys"
	uvm_run -it "$rootfs" sh -c 'trap "echo caught; exit 9" INT; echo ready; while :; do sleep 0.1; done' <"$dir/keys" >"$dir/screen" 2>"$dir/err" &
	local client=$!
	exec 9>"$dir/keys"
	later 20 grep -q ready "$dir/screen" || { reason="not ready: $(cat "$dir/screen" "$dir/err")"; return 1; }
	printf '\003' >&9
	ends 9 wait $client || return
	exec 9>&-
	want "the handler did not run: $(cat "$dir/screen")" grep -q caught "$dir/screen"
}

test_run_signals_go_to_the_process()
{
	local signo
	for signo in INT TERM USR1; do
		# The shell ignores the first for what it starts in the background.
		env --default-signal=INT "$uvm" run "$rootfs" sh -c "trap 'exit 40' $signo; echo ready; while :; do sleep 0.1; done" >"$dir/out" &
		local client=$!
		later 20 grep -q ready "$dir/out" || { reason="not ready"; return 1; }
		kill -$signo $client
		ends 40 wait $client || return
	done
	nothing_left
}

# Its size changes, and each signal reaches the process: typed, or sent to the client.
test_run_terminal_and_signals()
{
	cat >"$dir/type.py" <<-'END'
		import fcntl, os, pty, signal, struct, sys, termios
		pid, fd = pty.fork()
		if not pid:
		    os.execv(sys.argv[1], sys.argv[1:])
		seen = b""
		def until(text):
		    global seen
		    while text not in seen:
		        seen += os.read(fd, 4096)
		    seen = seen[seen.index(text) + len(text):]
		until(b"ready\r\n")
		fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 99, 0, 0))
		until(b"44 99")
		for signo, word in (signal.SIGUSR2, b"usr2"), (signal.SIGHUP, b"hup"), (signal.SIGUSR1, b"usr1"):
		    os.kill(pid, signo)
		    until(word)
		os.write(fd, b"\x03")
		until(b"int")
		os.kill(pid, signal.SIGQUIT)
		sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
	END
	ends 7 timeout 60 python3 "$dir/type.py" "$uvm" run -it "$rootfs" sh -c 'trap "stty size" WINCH
		trap "echo usr2" USR2; trap "echo hup" HUP; trap "echo usr1" USR1; trap "echo int" INT; trap "exit 7" QUIT
		echo ready; while :; do sleep 0.1; done' || return
	nothing_left
}

# An image of a kind for each: what is in it runs, and the second time nothing is made.
test_run_kinds_of_images()
{
	local busybox image name
	busybox=$(command -v busybox)
	mkdir -p "$dir/tree/bin" && cp "$busybox" "$dir/tree/bin/sh" && echo here >"$dir/tree/file"
	tar -C "$dir/tree" -cf "$dir/tree.tar" .
	python3 - "$dir" <<-'END'
		import hashlib, json, os, sys
		d = sys.argv[1]
		os.makedirs(d + "/layout/blobs/sha256")
		def blob(data, kind):
		    digest = hashlib.sha256(data).hexdigest()
		    open(d + "/layout/blobs/sha256/" + digest, "wb").write(data)
		    return {"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + digest, "size": len(data)}
		layer = open(d + "/tree.tar", "rb").read()
		config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh", "-c", "read x </file; echo $x"]},
		          "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}}
		manifest = {"schemaVersion": 2, "config": blob(json.dumps(config).encode(), "config.v1+json"),
		            "layers": [blob(layer, "layer.v1.tar")]}
		index = {"schemaVersion": 2, "manifests": [blob(json.dumps(manifest).encode(), "manifest.v1+json")]}
		open(d + "/layout/index.json", "w").write(json.dumps(index))
		open(d + "/layout/oci-layout", "w").write('{"imageLayoutVersion": "1.0.0"}')
	END
	tar -C "$dir/layout" -cf "$dir/layout.tar" .
	for name in tree tree.tar layout layout.tar; do
		image=$dir/$name
		same "$name" here "$(uvm_run "$image" /bin/sh -c 'read x </file; echo $x' 2>"$dir/err")" || { reason="$reason: $(cat "$dir/err")"; return 1; }
	done
	same "the layout's command" here "$(uvm_run "$dir/layout" 2>&1)" || return
	ends 127 uvm_run "$dir/tree" none 2>/dev/null || return
	nothing_left
}

# Its container goes on in each copy, with what it had in memory and on its file system.
test_run_is_copied()
{
	local id n
	background_run job -- sh -c 'n=0; while :; do n=$((n + 1)); echo $n >/count; sleep 0.05; done' || return
	later 20 "$uvm" exec job -- test -s /count || return
	ends 0 "$uvm" fork job --id fork >/dev/null || return
	ends 0 "$uvm" snapshot job --out "$dir/snap" || return
	ends 0 "$uvm" clone "$dir/snap" --id clone --detach >/dev/null || return
	for id in job fork clone; do
		n=$("$top/build/tests/linux/order" $id exec in=main -- cat /count) || { reason="no container in $id"; return 1; }
		later 20 sh -c "[ \$('$top/build/tests/linux/order' $id exec in=main -- cat /count) -gt $n ]" || { reason="it stands still in $id"; return 1; }
	done
	"$uvm" kill fork && "$uvm" kill clone && "$uvm" kill job && "$uvm" rm job
}

test_run_timeout()
{
	ends 124 uvm_run --timeout 1s "$rootfs" sleep 100 || return
	ends 3 uvm_run --timeout 60s "$rootfs" sh -c 'exit 3' || return
	nothing_left
}

# What is no text, lines without an end, and long ones.
test_run_logs_in_json()
{
	background_run c -- sh -c 'printf "a\\0b\\377\\n\\n\"\\t\\n"; head -c 70000 /dev/zero | tr "\\0" x; echo; printf end' || return
	"$uvm" wait c >/dev/null
	same "lines" "3 False|0 False|2 False|65536 True|4464 False|3 True|" "$("$uvm" logs --json c | python3 -c 'import json, sys
for l in sys.stdin:
	o = json.loads(l)
	print(len(o["text"]), o["partial"], end="|")' | sed 's/^4 /3 /')" || return
	ends 0 "$uvm" rm c
}

# What is kept of a container's output is 8 MiB, twice.
test_run_output_is_bounded()
{
	background_run c -- sh -c 'yes 0123456789abcdef | head -c 9000000' || return
	same "status" 0 "$("$uvm" wait c)" || return
	same "size of the file that was full" 1 "$(find "$UVM_RUN/c/output.1" -size +7M -size -9M | wc -l)" || return
	want "what comes then" [ "$(stat -c %s "$UVM_RUN/c/output")" -lt 2000000 ] || return
	ends 0 "$uvm" rm c
}

test_run_in_the_background()
{
	background_run c -- sh -c 'echo line 1; echo line 2 >&2; while [ ! -e /go ]; do sleep 0.1; done; echo line 3; exit 5' || return
	want "ps does not show it: $("$uvm" ps)" grep -q "^c .*running.*line 1" <<<"$("$uvm" ps)" || return
	later 10 logs_have c "line 2"
	same "logs" "line 1 line 2" "$("$uvm" logs c | sort | xargs)" || return
	same "tail" "1" "$("$uvm" logs --tail 1 c | wc -l)" || return
	same "lines of JSON" '{"time":null,"stream":null,"text":"line 1","partial":false}' "$("$uvm" logs --json c | grep 1)" || return
	same "their number" 2 "$("$uvm" logs --json c | wc -l)" || return
	same "state" running "$(member state c)" || return
	ends 1 "$uvm" rm c 2>/dev/null || return
	"$uvm" logs -f c >"$dir/followed" &
	local logs=$!
	"$uvm" wait c >"$dir/status" &
	local waiter=$!
	same "exec in it" "1 c" "$("$uvm" exec c -- sh -c 'echo $(cut -d " " -f 4 /proc/1/stat | wc -l) $(hostname); touch /go')" || return
	ends 0 wait $waiter || return
	same "what wait printed" 5 "$(cat "$dir/status")" || return
	ends 0 wait $logs || return
	same "what was followed" "line 1 line 2 line 3" "$(sort "$dir/followed" | xargs)" || return
	same "VMs" "" "$("$uvm" ps -q)" || return
	same "ids of all" c "$("$uvm" ps -aq)" || return
	want "ps -a does not show it: $("$uvm" ps -a)" grep -q "^c .*exited" <<<"$("$uvm" ps -a)" || return
	same "state and status" "exited 5" "$(member state c) $(member status c)" || return
	same "wait, once more" '5 [{"id":"c","status":5}]' "$("$uvm" wait c) $("$uvm" wait --json c | tr -d ' \n')" || return
	same "lines of JSON" "line 1 line 2 line 3" "$("$uvm" logs -f --json c | python3 -c 'import json, sys; print(*sorted(json.loads(l)["text"] for l in sys.stdin))')" || return
	same "logs of the past" "line 3" "$("$uvm" logs --tail 1 c)" || return
	ends 1 "$uvm" exec c true 2>/dev/null || return
	ends 125 uvm_run --name c "$rootfs" true 2>"$dir/err" || return
	want "message: $(cat "$dir/err")" grep -q "uvm rm" "$dir/err" || return
	ends 0 "$uvm" rm c || return
	ends 1 "$uvm" rm c 2>/dev/null || return
	nothing_left
}

# member NAME ID: of what inspect says.
member()
{
	"$uvm" inspect "$2" | tr -d ' \n' | sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p"
}

test_run_stop_kill_and_remove()
{
	background_run a -- sh -c 'trap "exit 6" TERM; while :; do sleep 0.1; done' || return
	background_run b -- sleep 1000 || return
	background_run c --rm -- sh -c 'trap "exit 8" USR1; while :; do sleep 0.1; done' || return
	background_run d --rm -- sleep 1000 || return
	sleep 0.5
	ends 0 "$uvm" stop a || return
	same "status of one that ends when asked" 6 "$("$uvm" wait a)" || return
	ends 0 "$uvm" stop --time 1 b || return
	same "status of one that does not" 137 "$("$uvm" wait b)" || return
	"$uvm" wait c >"$dir/status" &
	sleep 0.3
	ends 0 "$uvm" kill -s USR1 c || return
	ends 0 wait $! || return
	same "status of one that goes with its end" 8 "$(cat "$dir/status")" || return
	same "what is left" "a b d" "$("$uvm" ps -aq | xargs)" || return
	ends 0 "$uvm" kill d || return
	ends 0 "$uvm" rm a b || return
	background_run e -- sleep 1000 || return
	ends 0 "$uvm" rm -f e || return
	nothing_left
}

no_process() { [ "$(processes)" = 0 ]; }
no_vm() { [ -z "$("$uvm" ps -q)" ]; }
logs_have() { "$uvm" logs "$1" | grep -q "$2"; }

test_run_killed_leaves_nothing()
{
	"$uvm" run --name k "$rootfs" sh -c 'echo ready; sleep 1000' >"$dir/out" &
	local client=$!
	later 20 grep -q ready "$dir/out" || { reason="not ready"; return 1; }
	same "its process is the VM's" "$client" "$(cat "$UVM_RUN/k/pid")" || return
	kill -KILL $client
	wait $client 2>/dev/null
	nothing_left || return
	later 5 no_process || { reason="processes are left"; return 1; }
	# One in the background, whose record is kept.
	background_run b -- sleep 1000 || return
	kill -KILL "$(cat "$UVM_RUN/b/pid")"
	later 5 no_vm
	same "kept" b "$("$uvm" ps -aq)" || return
	ends 1 "$uvm" wait b 2>/dev/null || return
	ends 0 "$uvm" rm b || return
	nothing_left
}

test_run_containers_side_by_side()
{
	local i pids=()
	for i in 1 2 3 4; do
		uvm_run "$rootfs" sh -c "echo $i >/tmp/x; sleep 0.3; exit \$((\$(cat /tmp/x) + 20))" &
		pids+=($!)
	done
	for i in 1 2 3 4; do
		ends $((20 + i)) wait "${pids[i - 1]}" || return
	done
	nothing_left
}

# --- templates ---

test_template_two_first_starts_make_one()
{
	export UVM_CACHE=$dir/cache
	uvm_run "$rootfs" true 2>"$dir/err1" &
	local first=$!
	uvm_run "$rootfs" true 2>"$dir/err2" &
	ends 0 wait $first || { cat "$dir/err1" >&2; return 1; }
	ends 0 wait $! || return
	same "templates made" 1 "$(cat "$dir"/err? | grep -c "making one (once)")" || return
	same "templates" 1 "$("$uvm" template ls --json | grep -o '"key"' | wc -l)" || return
	uvm_run "$rootfs" true 2>"$dir/err" || return
	same "what the next start says" "" "$(cat "$dir/err")" || return
	nothing_left
}

test_template_damaged_is_made_anew()
{
	local t how
	export UVM_CACHE=$dir/cache
	uvm_run "$rootfs" true 2>/dev/null || { reason=run; return 1; }
	t=$(echo "$dir"/cache/templates/????????????????)
	for how in flip truncate; do
		case $how in
		flip) printf x | dd of="$t/memory" bs=1 seek=20971521 conv=notrunc 2>/dev/null ;;
		truncate) truncate -s 1000 "$t/state" ;;
		esac
		ends 0 uvm_run "$rootfs" true 2>"$dir/err" || { cat "$dir/err" >&2; return 1; }
		want "$how: not told: $(cat "$dir/err")" grep -q "made anew" "$dir/err" || return
	done
	rm "$t/manifest"
	ends 0 uvm_run "$rootfs" true 2>"$dir/err" || return
	ends 0 uvm_run "$rootfs" true || return
	same "templates" "${t##*/}" "$("$uvm" template ls | awk '$6 == "current" { print $1 }')" || return
	# Nobody else's key, and one that nothing leads to any more.
	ends 1 "$uvm" template rm 0123456789abcdef 2>/dev/null || return
	mv "$t" "${t%?}x" && mv "${t%?}x" "${t%????????????????}0123456789abcdef"
	same "pruned" 0123456789abcdef "$("$uvm" template prune)" || return
	same "templates left" "" "$("$uvm" template ls --json | grep key)"
}

test_template_of_a_changed_kernel_is_another()
{
	export UVM_CACHE=$dir/cache
	cp "$kernel" "$dir/vmlinux"
	local first second
	first=$("$uvm" template build --kernel "$dir/vmlinux" 2>/dev/null) || { reason=build; return 1; }
	same "the same once more" "$first" "$("$uvm" template build --kernel "$dir/vmlinux" 2>"$dir/err")" || return
	same "what that says" "" "$(cat "$dir/err")" || return
	printf x >>"$dir/vmlinux"
	want "it is outdated: $("$uvm" template ls)" grep -q "^$first .*outdated" <<<"$("$uvm" template ls)" || return
	second=$("$uvm" template build --kernel "$dir/vmlinux" 2>/dev/null) || { reason=build; return 1; }
	want "both have one key" [ "$first" != "$second" ] || return
	same "pruned" "$first" "$("$uvm" template prune)" || return
	ends 0 "$uvm" template rm "$second" || return
	same "templates left" "[]" "$("$uvm" template ls --json | tr -d ' \n')"
}

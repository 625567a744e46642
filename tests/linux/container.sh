# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # a part of tests/linux/run, whose variables these are
#
# container.sh: what the agent promises of containers in a Linux guest. The VM is "a", its second disk
# an image for them. tests/linux/order.c speaks to the agent.

order=$top/build/tests/linux/order

# A VM, with an image that nobody may write to. container_vm OPTION...
container_vm()
{
	want "build/tests/linux/order is not built" [ -x "$order" ] || return
	boot a --memory 256M --rootfs "$rootfs,ro" --disk "${image:-$rootfs},ro" "$@"
}

order()
{
	timeout 60 "$order" a "$@"
}

# make NAME WORD...: a container of the usual kind; its output is ours.
make()
{
	local name=$1
	shift
	order create "$name" std root=/dev/vdb,ext4,tmpfs "$@" </dev/null
}

# run WORD...: the same, which is gone afterwards. Its status is the command's.
run()
{
	local status=0
	make x "$@" || status=$?
	order delete x 2>/dev/null
	return $status
}

# keep NAME WORD...: one that runs until it is killed
keep()
{
	local name=$1
	shift
	reason="container $name does not begin"
	make "$name" leave quiet "$@" -- sleep 100000
}

# drop NAME: kills it and forgets it
drop()
{
	order kill "$1" 9 && ends 137 order wait "$1" && ends 0 order delete "$1"
}

# denied TEXT COMMAND...: the agent says so.
denied()
{
	local text=$1 said
	shift
	said=$("$@" 2>&1 >/dev/null) && { reason="'$*' was not refused"; return 1; }
	want "'$*' was refused with: $said" grep -qF "$text" <<<"$said"
}

test_container_status_and_streams()
{
	container_vm || return
	ends 0 run -- true || return
	ends 7 run -- sh -c 'exit 7' || return
	ends 127 run -- no-such-command 2>"$dir/err" || return
	want "message: $(cat "$dir/err")" grep -q "cannot run 'no-such-command'" "$dir/err" || return
	ends 126 run -- /etc/passwd 2>/dev/null || return
	ends 126 run -- /etc 2>/dev/null || return
	ends 127 run cwd=/nowhere -- true 2>/dev/null || return
	# Nothing is left of those.
	same "containers" "" "$(order list)" || return
	run -- sh -c 'echo out; echo err >&2' >"$dir/out" 2>"$dir/err"
	same "standard output" out "$(cat "$dir/out")" || return
	same "standard error" err "$(cat "$dir/err")" || return
	same "standard input" 300000 "$(head -c 300000 /dev/zero | order create i std root=/dev/vdb,ext4,tmpfs -- wc -c)" || return
	order delete i
	same "environment" "x y" "$(run env=A='x y' -- sh -c 'echo "$A"')" || return
	same "directory" /etc "$(run cwd=/etc -- pwd)" || return
	same "arguments" "a b|*|" "$(run -- printf '%s|' 'a b' '*')" || return
	# Of signals: the first process of a PID namespace does not die of those that it does not expect.
	keep k || return
	order kill k 15
	same "list" "k running alive" "$(order list)" || return
	order kill k 9
	ends 137 order wait k || return
	same "list" "k stopped -" "$(order list)" || return
	denied "already" make k -- true || return
	ends 0 order delete k || return
	denied "no such container" order delete k
}

test_container_create_and_start()
{
	container_vm || return
	ends 0 make k later leave -- sh -c 'echo x >/started; sleep 1000' || return
	same "list" "k created alive" "$(order list)" || return
	denied "not ended" order delete k || return
	ends 1 order exec in=k -- test -e /started || return
	ends 0 order start k || return
	same "list" "k running alive" "$(order list)" || return
	denied "has been started" order start k || return
	for _ in $(seq 50); do order exec in=k -- test -e /started && break; done
	ends 0 order exec in=k -- test -e /started || return
	drop k || return
	# Killed before it began.
	ends 0 make k later leave -- true || return
	order kill k 9
	ends 137 order wait k || return
	ends 0 order delete k || return
	# What is no program can be found out only at the start.
	ends 0 make k later leave -- /etc/bad 2>/dev/null && { reason="a missing program was created"; return 1; }
	in_vm sh -c 'echo text >/tmp/bad; chmod 755 /tmp/bad'
	ends 0 make k later leave mount=b:/tmp/bad:/bin/bad -- /bin/bad || return
	denied "cannot run '/bin/bad': Exec format" order start k || return
	same "list" "k stopped -" "$(order list)" || return
	ends 126 order wait k || return
	ends 0 order delete k || return
	# The other end of a client that goes: all of it ends before CREATED.
	same "containers" "" "$(order list)"
}

test_container_namespaces()
{
	container_vm || return
	same "its process" 1 "$(run -- sh -c 'echo $$')" || return
	same "processes that it sees" "1 " "$(run -- sh -c 'cd /proc; for p in [0-9]*; do [ $p = 1 ] && echo $p; [ $p -gt 9 ] && echo $p; done' | tr '\n' ' ')" || return
	same "host name" hut "$(run hostname=hut -- hostname)" || return
	same "the guest's" a "$(in_vm hostname)" || return
	denied "no namespace" run ns=pid hostname=hut -- true || return
	same "cgroup" 0::/ "$(run -- cat /proc/self/cgroup)" || return
	same "cgroup without a namespace" 0::/uvm/x "$(run ns=pid -- cat /proc/self/cgroup)" || return
	same "its own there" 1 "$(run ns=pid -- cat /sys/fs/cgroup/cgroup.procs)" || return
	same "interfaces" "lo " "$(run ns=net,pid -- ls /sys/class/net | tr '\n' ' ')" || return
	same "loopback" 0x9 "$(run ns=net -- cat /sys/class/net/lo/flags)" || return
	# Without a PID namespace what it leaves behind dies with it.
	in_vm sh -c 'echo $$ >/dev/null'
	run ns=mount -- sh -c 'sleep 12345 & echo $!' >"$dir/pid"
	ends 1 in_vm sh -c "kill -0 $(cat "$dir/pid") 2>/dev/null" || return
	# It sees the agent, and can neither end nor trace it. SIGUSR2, SIGTERM: what poweroff and reboot send.
	run ns=mount -- sh -c 'for s in KILL STOP USR2 TERM USR1 INT SEGV; do kill -$s 1; done; sleep 1; kill -USR2 1'
	ends 1 run ns=mount -- cat /proc/1/environ 2>/dev/null || return
	same "capabilities" "000001fffff7ffff" "$(run ns=mount -- awk '/^CapBnd/ { print $2 }' /proc/self/status)" || return
	same "the guest after that" a "$(in_vm hostname)" || return
	same "agent" "S" "$(in_vm awk '/^State/ { print $2 }' /proc/1/status)"
}

test_container_user_namespace()
{
	container_vm || return
	local ns=ns=mount,pid,ipc,uts,cgroup,net,user map=map=0,100000,65536 guests
	# Files are whose they are in the image; what it does to them stays in its map.
	same "ids" "0 0 0 1000" "$(run $ns $map -- sh -c 'id -u; stat -c %u /bin; >/new; stat -c %u /new; chown 1000 /new; stat -c %u /new' | xargs)" || return
	same "map" "0 100000 65536" "$(run $ns $map -- cat /proc/self/uid_map | xargs)" || return
	same "of a user" "1000 1000" "$(run $ns $map uid=1000 -- sh -c 'id -u; echo >/dev/null; >/dev/shm/x; stat -c %u /dev/shm/x >/dev/stdout' | xargs)" || return
	# Root of its own namespaces, and of nothing else.
	same "host name" other "$(run $ns $map hostname=hut -- sh -c 'hostname other; hostname')" || return
	same "network" "0x9 9000" "$(run $ns $map -- sh -c 'cat /sys/class/net/lo/flags; ip link set lo mtu 9000; cat /sys/class/net/lo/mtu' | xargs)" || return
	ends 0 run $ns $map -- sh -c 'mount -t tmpfs t /mnt && >/mnt/x && >/dev/x' || return
	ends 1 run $ns $map -- mknod /x c 1 3 2>/dev/null || return
	ends 1 run $ns $map -- sh -c 'umount /proc/kcore' 2>/dev/null || return
	ends 1 run $ns $map mount=b:/run:/mnt -- sh -c '>/mnt/x' 2>/dev/null || return
	keep k $ns $map || return
	guests=$(in_vm sh -c 'for p in /proc/[0-9]*; do grep -q "^sleep.100000" $p/cmdline 2>/dev/null && stat -c %u $p; done')
	want "in the guest it is root: $guests" grep -q 100000 <<<"$guests" || return
	same "another process" "0 100000" "$(order exec in=k -- sh -c 'id -u; awk "{ print \$2 }" /proc/self/uid_map' | xargs)" || return
	same "a terminal" $'/dev/pts/0\r' "$(order exec in=k tty -- tty </dev/null)" || return
	ends 0 order mount k mount=:tmpfs:/mnt:tmpfs: || return
	drop k || return
	denied "belong together" run ns=user -- true || return
	denied "belong together" run $map -- true || return
	denied "no map for its root" run $ns map=1,100000,10 -- true || return
	denied "cannot map ids" run $ns map=0,100000,10 map=5,100000,10 -- true || return
	same "what is left" "" "$(order list)"
}

test_container_hooks()
{
	container_vm || return
	local write='cat >/tmp/state && echo $HOOK $(hostname) >>/tmp/state' state
	ends 5 run hostname=hut "hook=create,0,/bin/sh,-c,$write" -- sh -c 'exit 5' || return
	state=$(in_vm cat /tmp/state)
	want "state: $state" grep -qxE '\{"ociVersion":"1.0.2","id":"x","status":"creating","pid":[1-9][0-9]+,"bundle":"/run/uvm"}' <<<"$state" || return
	want "surroundings: $state" grep -qx "1 hut" <<<"$state" || return
	# One of the start is the container's program, with its user, and runs at START.
	ends 0 make k later leave uid=1000 "hook=start,0,/bin/sh,-c,cat >/tmp/started" -- sleep 100000 || return
	ends 1 order exec in=k -- test -e /tmp/started || return
	ends 0 order start k || return
	same "its owner" 1000 "$(order exec in=k -- stat -c %u /tmp/started)" || return
	want "status" grep -q '"status":"created"' <(order exec in=k -- cat /tmp/started) || return
	drop k || return
	# Each of these is its end.
	denied "a hook has failed: '/bin/false': Operation canceled" run hook=create,0,/bin/true hook=create,0,/bin/false -- true || return
	denied "a hook has failed: '/bin/sleep': Operation timed out" run hook=create,200,/bin/sleep,100 -- true || return
	denied "a hook has failed: '/no': No such file" run hook=create,0,/no -- true || return
	same "what is left" "" "$(order list)" || return
	ends 0 make k later leave hook=start,100,/bin/sleep,100 -- true || return
	denied "a hook has failed: '/bin/sleep': Operation timed out" order start k || return
	same "list" "k stopped -" "$(order list)" || return
	ends 0 order delete k || return
	same "processes that stayed" "" "$(in_vm sh -c 'ps | grep "[s]leep 100$"')"
}

test_container_dump()
{
	container_vm || return
	keep k || return
	"$uvm" dump a >"$dir/text" || return
	for line in '^agent: protocol 3, up ' '^k running pid ' '^MemTotal:' '^[0-9]+ .* sleep 100000$' '\] Linux version|^<[0-9]>'; do
		want "no line '$line' in $(cat "$dir/text")" grep -qE "$line" "$dir/text" || return
	done
	# What the guest makes a process' name must not reach a terminal.
	order exec in=k quiet -- sh -c 'sleep 2000; true' $'\e]0;x\a\\name' &
	for _ in $(seq 50); do "$uvm" dump a | grep -qF '\x1b]0;x\x07\x5cname' && break; done
	want "no escaped name" grep -qF '\x1b]0;x\x07\x5cname' <("$uvm" dump a) || return
	want "an escape" [ "$("$uvm" dump a | tr -d '[:print:]\n\t' | wc -c)" = 0 ] || return
	ends 0 "$uvm" dump --output "$dir/file" a || return
	want "no raw name" grep -qF $'\e]0;x\a\\name' "$dir/file" || return
	ends 1 "$uvm" dump none 2>/dev/null || return
	drop k
}

# The agent keeps a container's mounts until its end is told, and no longer.
test_container_mounts_are_let_go()
{
	container_vm || return
	keep k || return
	same "namespaces of mounts held" 1 "$(in_vm sh -c 'ls -l /proc/1/fd' | grep -c 'mnt:')" || return
	ends 0 order kill k 9 || return
	ends 137 order wait k || return
	same "namespaces held after its end" 0 "$(in_vm sh -c 'ls -l /proc/1/fd' | grep -c 'mnt:')" || return
	ends 0 order delete k
}

test_container_root()
{
	image=$(root)
	container_vm || return
	same "root" overlay "$(run -- awk '$2 == "/" { print $3 }' /proc/mounts)" || return
	ends 0 run -- sh -c 'echo x >/new && rm /etc/passwd && mkdir /a && [ ! -e /etc/passwd ]' || return
	same "lower after that" "1 0" "$(in_vm sh -c 'mkdir /tmp/l && mount -o ro /dev/vdb /tmp/l && ls /tmp/l/etc | grep -c "^passwd$"; ls /tmp/l | grep -c new; umount /tmp/l' | xargs)" || return
	ends 1 order create x std 'root=/dev/vdb,ext4,!tmpfs' -- touch /new 2>/dev/null || return
	order delete x
	ends 0 order create x std 'root=/dev/vdb,ext4,!tmpfs' -- touch /dev/shm/new || return
	order delete x
	ends 1 order create x std root=/dev/vdb,ext4 -- touch /new 2>/dev/null || return
	order delete x
	ends 1 run root=/dev/vdb,ext4,tmpfs -- true 2>/dev/null || return # two roots
	ends 1 order create x std root=/dev/vdb,ext4,tmpfs,1048576 -- dd if=/dev/zero of=/big bs=1M count=3 2>/dev/null || return
	order delete x
	denied "cannot mount '/dev/vdx'" order create x std root=/dev/vdx,ext4,tmpfs -- true || return
	denied "cannot mount '/dev/vdb'" order create x std root=/dev/vdb,erofs,tmpfs -- true || return
	# The guest's own.
	same "guest's root" "/dev/vda" "$(order create x std -- awk '$2 == "/" { print $1 }' /proc/mounts)" || return
	order delete x
	# Nothing of the guest's is to be seen.
	same "mounts of the guest" "" "$(run -- awk '$2 ~ "^/run" || $2 ~ "newroot"' /proc/mounts)"
}

test_container_upper_on_a_disk()
{
	truncate -s 32M "$dir/upper" && mke2fs -q -t ext4 "$dir/upper"
	container_vm --disk "$dir/upper" || return
	local up=root=/dev/vdb,ext4,/dev/vdc
	ends 0 order create one std $up -- sh -c 'echo 1 >/one' || return
	ends 0 order delete one || return
	ends 0 order create two leave quiet std $up -- sleep 1000 || return
	ends 1 order exec in=two -- cat /one 2>/dev/null || return
	same "what it wrote" 1 "$(order create one std $up -- cat /one)" || return
	drop two
}

test_container_without_a_guest_root()
{
	want "build/tests/linux/order is not built" [ -x "$order" ] || return
	boot a --memory 128M --disk "$rootfs,ro" || return
	same "root" overlay "$(order create x std root=/dev/vda,ext4,tmpfs -- awk '$2 == "/" { print $3 }' /proc/mounts)" || return
	order delete x
	ends 0 order create x leave quiet std root=/dev/vda,ext4,tmpfs -- sleep 1000 || return
	same "another process' root" overlay "$(order exec in=x -- awk '$2 == "/" { print $3 }' /proc/mounts)" || return
	ends 1 order exec in=x -- test -e /init
}

test_container_exec()
{
	container_vm || return
	keep k hostname=hut || return
	same "host name" hut "$(order exec in=k -- hostname)" || return
	same "first process" sleep "$(order exec in=k -- cat /proc/1/comm)" || return
	same "cgroup" 0::/ "$(order exec in=k -- cat /proc/self/cgroup)" || return
	ends 9 order exec in=k -- sh -c 'exit 9' || return
	ends 127 order exec in=k -- nothing 2>/dev/null || return
	same "root" overlay "$(order exec in=k -- awk '$2 == "/" { print $3 }' /proc/mounts)" || return
	same "a terminal" $'/dev/pts/0\r' "$(order exec in=k tty -- tty </dev/null)" || return
	same "its size" $'24 80\r' "$(order exec in=k tty size=80x24 -- stty size </dev/null)" || return
	denied "no container" order exec in=none -- true || return
	# Descriptors of the agent's are no way out.
	denied "cannot change the directory" order exec in=k cwd=/proc/self/fd/5 -- true || return
	order exec in=k -- sh -c 'ls /proc/self/fd' | xargs >"$dir/fds"
	same "descriptors" "0 1 2 3" "$(cat "$dir/fds")" || return # 3 is ls' own
	# They die with the first process.
	order exec in=k -- sleep 1000 &
	local client=$!
	for _ in $(seq 50); do order exec in=k -- sh -c 'ps | grep " sleep 1000$"' >/dev/null && break; done
	order kill k 9
	ends 137 wait $client || return
	ends 137 order wait k || return
	denied "has ended" order exec in=k -- true
}

test_container_terminal()
{
	container_vm || return
	same "a terminal" $'/dev/pts/0\r' "$(run tty -- tty)" || return
	same "the console" $'88:0\r' "$(run tty -- stat -c %t:%T /dev/console)" || return
	same "its size" $'50 132\r' "$(run tty size=132x50 -- stty size)" || return
	same "of the user" 1000 "$(run tty uid=1000 -- sh -c 'stat -c %u $(tty)' | tr -d '\r')" || return
	denied "cannot make a terminal" order create x tty root=/dev/vdb,ext4,tmpfs -- true
}

test_container_user()
{
	container_vm || return
	local u=mount=b:/tmp/passwd:/etc/passwd g=mount=b:/tmp/group:/etc/group
	in_vm sh -c 'printf "root:x:0:0::/root:/bin/sh\nnumber:x:1000:100::/home/n:/bin/sh\n12:x:13:14::/x:/y\nlast:x:77:78::/home/last:" >/tmp/passwd
		printf "root:x:0:\nusers:x:100:last,number\nwheel:x:10:number\n" >/tmp/group'
	same "by name" "1000 100 10 100" "$(run $u $g user=number -- sh -c 'id -u; id -g; id -G' | xargs | awk '{ print $1, $2, $4, $3 }')" || return
	same "by name and group" "1000 10 10" "$(run $u $g user=number:wheel -- sh -c 'id -u; id -g; id -G' | xargs)" || return
	same "by number" "1000 100" "$(run $u $g user=1000 -- sh -c 'id -u; id -g' | xargs)" || return
	same "by an unknown number" "4242 0" "$(run $u $g user=4242 -- sh -c 'id -u; id -g' | xargs)" || return
	same "by two numbers" "4242 4343" "$(run $u $g user=4242:4343 -- sh -c 'id -u; id -g' | xargs)" || return
	same "a name of digits" "13 14" "$(run $u $g user=12 -- sh -c 'id -u; id -g' | xargs)" || return
	same "home" /home/n "$(run $u $g user=number -- sh -c 'echo $HOME')" || return
	same "home of the last line" /home/last "$(run $u $g uid=77 -- sh -c 'echo $HOME')" || return
	same "home that is given" /there "$(run $u $g uid=77 env=HOME=/there -- sh -c 'echo $HOME')" || return
	same "home of nobody" / "$(run uid=99 -- sh -c 'echo $HOME')" || return
	same "more groups" "1000 5 6" "$(run uid=1000 group=5 group=6 -- id -G)" || return
	ends 126 run $u $g user=nobody-here -- true 2>"$dir/err" || return
	want "message: $(cat "$dir/err")" grep -q "no user or group 'nobody-here'" "$dir/err" || return
	ends 126 run $u $g user=root:nogroup -- true 2>/dev/null || return
	# In the image's place: a fifo, and nothing.
	in_vm sh -c 'mkfifo /tmp/fifo'
	ends 126 run mount=b:/tmp/fifo:/etc/passwd user=root -- true 2>/dev/null || return
	same "umask" 0027 "$(run umask=027 -- sh -c umask)" || return
	same "umask of its own" 0022 "$(run -- sh -c umask)"
}

test_container_rights()
{
	container_vm || return
	local caps="grep -E ^Cap(Prm|Eff|Bnd|Amb) /proc/self/status"
	same "capabilities" "0000000000000021 0000000000000021 0000000000000021 0000000000000000" \
		"$(run caps=21 -- $caps | awk '{ print $2 }' | xargs)" || return
	same "of a user" "0000000000000000 0000000000000000 0000000000000021 0000000000000000" \
		"$(run caps=21 uid=5 -- $caps | awk '{ print $2 }' | xargs)" || return
	same "ambient" "0000000000000400 0000000000000400 0000000000000400 0000000000000400" \
		"$(run ambient=400 uid=5 -- $caps | awk '{ print $2 }' | xargs)" || return
	keep k caps=21 || return
	same "of another process" "0000000000000021 0000000000000021 0000000000000021 0000000000000000" \
		"$(order exec in=k -- $caps | awk '{ print $2 }' | xargs)" || return
	drop k || return
	same "no_new_privs" 1 "$(run nnp -- awk '/NoNewPrivs/ { print $2 }' /proc/self/status)" || return
	same "no no_new_privs" 0 "$(run -- awk '/NoNewPrivs/ { print $2 }' /proc/self/status)" || return
	# 63 is uname
	ends 159 run forbid=63 nnp -- uname || return
	ends 159 run forbid=63 caps=21 -- uname || return
	ends 0 run forbid=63 nnp -- true || return
	same "filter" 2 "$(run forbid=63 nnp uid=9 -- awk '/^Seccomp:/ { print $2 }' /proc/self/status)" || return
	same "limits" "111 222" "$(run rlimit=7,111,222 -- sh -c 'ulimit -Sn; ulimit -Hn' | xargs)" || return
	same "oom_score_adj" 321 "$(run oom=321 -- cat /proc/self/oom_score_adj)" || return
	same "of another" 0 "$(run -- cat /proc/self/oom_score_adj)"
}

test_container_mounts()
{
	container_vm --disk "$rootfs,ro" || return
	in_vm sh -c 'mkdir -p /tmp/v/sub && echo deep >/tmp/v/sub/f && echo file >/tmp/file'
	same "bind" deep "$(run mount=b:/tmp/v:/new/place -- cat /new/place/sub/f)" || return
	same "bind of a file" file "$(run mount=b:/tmp/file:/new/file -- cat /new/file)" || return
	ends 0 run mount=b:/tmp/v:/v -- touch /v/new || return
	ends 1 run mount=br:/tmp/v:/v -- touch /v/other 2>/dev/null || return
	ends 126 run mount=bx:/bin:/v -- /v/busybox true 2>/dev/null || return
	same "options" "ro,nosuid,nodev,noexec,relatime" "$(run mount=brsdx:/tmp/v:/v -- awk '$2 == "/v" { print $4 }' /proc/mounts | sed 's/,size.*//')" || return
	same "a disk" 1 "$(run mount=r:/dev/vdc:/disk:ext4 -- ls /disk | grep -c '^bin$')" || return
	# What must not be covered, and what may.
	denied "cannot mount on '/proc/self/attr'" run mount=b:/tmp/v:/proc/self/attr -- true || return
	denied "cannot mount on" run mount=b:/tmp/file:/proc/self/status -- true || return
	denied "cannot mount on" run mount=b:/tmp/file:/proc/sys/kernel/hostname -- true || return
	denied "cannot mount on" run mount=b:/tmp/v:/proc -- true || return
	same "meminfo" file "$(run mount=b:/tmp/file:/proc/meminfo -- cat /proc/meminfo)" || return
	denied ".." run mount=b:/tmp/v:/a/../../b -- true || return
	denied "cannot make the mount for '/v'" run mount=b:/nowhere:/v -- true || return
	# Masked and read-only.
	same "a masked file" "" "$(run masked=/etc/passwd -- cat /etc/passwd)" || return
	same "a masked directory" "" "$(run masked=/etc -- ls /etc)" || return
	ends 1 run masked=/etc -- touch /etc/x 2>/dev/null || return
	ends 0 run masked=/not/there readonly=/not/there -- true || return
	ends 1 run readonly=/etc -- touch /etc/x 2>/dev/null || return
	ends 1 run -- sh -c 'echo x >/proc/sys/kernel/hostname' 2>/dev/null || return
	# In one that runs.
	keep k || return
	ends 0 order mount k mount=b:/tmp/v:/late/v mount=:tmpfs:/late/t:tmpfs:size=64k mount=r:/dev/vdc:/late/d:ext4 || return
	same "mounted later" "deep 64 1" "$(order exec in=k -- sh -c 'cat /late/v/sub/f; df -k /late/t | awk "NR == 2 { print \$2 }"; ls /late/d | grep -c ^bin' | xargs)" || return
	denied "cannot mount on '/proc/self/x'" order mount k mount=b:/tmp/v:/proc/self/x || return
	ends 0 order unmount k /late/v || return
	ends 1 order exec in=k -- test -e /late/v/sub || return
	denied "cannot unmount" order unmount k /late/v || return
	drop k
}

# An image that was made to lead mounts astray.
test_container_hostile_image()
{
	image=$(root)
	printf '%s\n' "rmdir /proc" "symlink /proc /etc" "symlink /data /../../../../etc" "symlink /up ../../../tmp" \
		"symlink /loop loop" "symlink /fd /proc/self/fd" >"$dir/commands"
	debugfs -w -f "$dir/commands" "$image" >/dev/null 2>&1
	container_vm || return
	in_vm sh -c 'mkdir -p /tmp/v; echo mark >/tmp/v/mark'
	denied "cannot mount on '/proc'" run -- true || return
	# What the links lead to is inside.
	local bare="order create x root=/dev/vdb,ext4,tmpfs"
	same "through a link" mark "$($bare mount=b:/tmp/v:/data -- cat /etc/mark </dev/null)" || return
	order delete x
	ends 1 in_vm test -e /etc/mark || return
	same "up and out" mark "$($bare mount=b:/tmp/v:/up/sub -- cat /tmp/sub/mark </dev/null)" || return
	order delete x
	ends 1 in_vm test -e /tmp/sub || return
	denied "cannot mount on '/loop/x'" $bare mount=b:/tmp/v:/loop/x -- true || return
	ends 0 $bare node=c,1,3,/data/n -- test -c /etc/n </dev/null || return
	order delete x
	ends 0 $bare masked=/data -- sh -c '[ -z "$(ls /etc)" ]' </dev/null || return
	order delete x
	want "the guest's own /etc is covered" in_vm test -s /etc/passwd || return
	same "guest's mounts" "" "$(in_vm awk '$2 ~ "mark|/data|/up"' /proc/mounts)" || return

	# The same for /dev and /sys.
	"$uvm" stop a
	image=$(root)
	printf '%s\n' "rmdir /sys" "symlink /sys /proc" "rmdir /dev" "symlink /dev /../etc" >"$dir/commands"
	debugfs -w -f "$dir/commands" "$image" >/dev/null 2>&1
	container_vm || return
	denied "cannot mount on '/sys'" run -- true || return
	in_vm test -s /etc/passwd
}

test_container_devices()
{
	container_vm || return
	ends 0 run -- sh -c 'echo x >/dev/null && head -c 5 /dev/zero >/dev/null && head -c 3 /dev/urandom >/dev/null' || return
	same "links" "/proc/self/fd pts/ptmx" "$(run -- sh -c 'readlink /dev/fd; readlink /dev/ptmx' | xargs)" || return
	# To be made, but not to be opened.
	ends 1 run node=b,254,0,/dev/vda -- dd if=/dev/vda of=/dev/null count=1 2>"$dir/err" || return
	want "message: $(cat "$dir/err")" grep -q "not permitted" "$dir/err" || return
	ends 1 run -- sh -c 'mknod /m c 1 1 && head -c 1 /m' 2>/dev/null || return
	keep k || return
	ends 1 order exec in=k -- sh -c 'mknod /m c 1 1 && head -c 1 /m' 2>/dev/null || return
	ends 0 order exec in=k -- sh -c 'mknod /n c 1 3 && echo x >/n' || return
	drop k
}

test_container_limits()
{
	container_vm || return
	same "memory" 67108864 "$(run cgroup=memory.max=67108864 -- cat /sys/fs/cgroup/memory.max)" || return
	ends 137 run cgroup=memory.max=20971520 cgroup=memory.oom.group=1 -- sh -c 'tail /dev/zero' || return
	same "processes" "20 20" "$(run cgroup=pids.max=20 -- sh -c 'cat /sys/fs/cgroup/pids.max; (for i in $(seq 40); do sleep 100 & done) 2>/dev/null; cat /sys/fs/cgroup/pids.current' 2>/dev/null | xargs)" || true
	same "processor" "10000 100000" "$(run "cgroup=cpu.max=10000 100000" -- cat /sys/fs/cgroup/cpu.max)" || return
	denied "no controller's" run cgroup=cgroup.procs=1 -- true || return
	denied "cannot be" run cgroup=../memory.max=1 -- true || return
	denied "cannot set of the cgroup 'memory.none'" run cgroup=memory.none=1 -- true || return
	keep k || return
	ends 0 order update k cgroup=memory.max=33554432 cgroup=pids.max=7 || return
	same "after an update" "33554432 7" "$(order exec in=k -- cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max | xargs)" || return
	denied "memory.max" order update k cgroup=memory.max=nonsense || return
	drop k || return
	same "sysctl" "77 88" "$(run ns=pid,net,ipc sysctl=net.ipv4.ip_default_ttl=77 sysctl=kernel/msgmax=88 -- cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax | xargs)" || return
	same "the guest's" 64 "$(in_vm cat /proc/sys/net/ipv4/ip_default_ttl)" || return
	denied "of the whole guest" run sysctl=vm.swappiness=5 -- true || return
	denied "sysctl" run sysctl=net.../../kernel.hostname=5 -- true || return
	same "cgroups that are left" "" "$(in_vm sh -c 'cd /sys/fs/cgroup/uvm && ls -d */ 2>/dev/null')"
}

test_container_lost_client()
{
	container_vm || return
	# Its streams go with the client: it goes on, and what it writes is dropped.
	make k -- sh -c 'while :; do echo line; usleep 1000; done' >"$dir/out" &
	local client=$!
	for _ in $(seq 100); do [ -s "$dir/out" ] && break; sleep 0.1; done
	kill -KILL "$(pgrep -P $client -x order)" $client
	wait $client 2>/dev/null
	sleep 0.5
	same "list" "k running alive" "$(order list)" || return
	order wait k &
	client=$!
	sleep 0.2
	order kill k 9
	ends 137 wait $client || return
	ends 137 order wait k || return
	order delete k
	# Before it was made, it goes.
	make l later -- sleep 1000 &
	client=$!
	for _ in $(seq 100); do [ "$(order list)" = "l created alive" ] && break; sleep 0.1; done
	kill -KILL "$(pgrep -P $client -x order)" $client
	wait $client 2>/dev/null
	same "list" "l created alive" "$(order list)" || return
	drop l || return
	# Without a container, but kept.
	ends 0 order exec keep key=5 leave quiet -- sh -c 'sleep 1; exit 6' || return
	ends 6 order waitkey 5 2>/dev/null || return
	denied "no such command" order waitkey 5 || return
	ends 0 order exec keep key=6 leave quiet -- sh -c 'exit 8' || return
	sleep 1
	ends 8 order waitkey 6 2>/dev/null
}

test_container_kill_and_pause()
{
	container_vm || return
	make k leave quiet -- sh -c 'sleep 1000 & sleep 1001 & n=0; while :; do n=$((n + 1)); echo $n >/dev/shm/n; usleep 1000; done' || return
	for _ in $(seq 100); do order exec in=k -- test -s /dev/shm/n && break; done
	ends 0 order pause k || return
	same "list" "k paused alive" "$(order list)" || return
	denied "is paused" order exec in=k -- true || return
	denied "not running" order pause k || return
	same "frozen" "frozen 1" "$(in_vm grep frozen /sys/fs/cgroup/uvm/k/cgroup.events)" || return
	ends 0 order resume k || return
	denied "not paused" order resume k || return
	local n
	n=$(order exec in=k -- cat /dev/shm/n)
	for _ in $(seq 100); do [ "$(order exec in=k -- cat /dev/shm/n)" != "$n" ] && break; done
	want "it does not go on" [ "$(order exec in=k -- cat /dev/shm/n)" != "$n" ] || return
	# A signal for all of them, with the first process as it is.
	ends 0 order kill k 15 all || return
	for _ in $(seq 50); do order exec in=k -- sh -c 'ps | grep " sleep 100[01]$"' >/dev/null || break; done
	ends 1 order exec in=k -- sh -c 'ps | grep " sleep 100[01]$"' || return
	ends 0 order pause k || return
	ends 0 order kill k 9 all || return # paused or not
	ends 137 order wait k || return
	ends 0 order delete k || return
	same "containers" "" "$(order list)"
}

test_container_pod()
{
	container_vm || return
	keep pause ns=pid,net,ipc,uts hostname=pod || return
	make one pod=pause podns=net,ipc,uts ns=pid,cgroup leave quiet -- sh -c 'ipcmk -Q >/dev/null 2>&1; nc -l -p 4000 -e echo from-one' || return
	same "host name" pod "$(run pod=pause podns=net,ipc,uts ns=pid,cgroup -- hostname)" || return
	for _ in $(seq 50); do
		run pod=pause podns=net,ipc,uts ns=pid,cgroup -- nc 127.0.0.1 4000 >"$dir/out" 2>/dev/null && break
	done
	same "over the network" from-one "$(cat "$dir/out")" || return
	same "namespaces" "0" "$(run pod=pause podns=ipc,net ns=pid -- sh -c 'readlink /proc/self/ns/net' | grep -cF "$(in_vm readlink /proc/self/ns/net)")" || return
	# Its processes, too.
	same "a shared PID namespace" sleep "$(run pod=pause podns=pid ns=cgroup -- cat /proc/1/comm)" || return
	denied "no container to join" run pod=none podns=net ns=pid -- true || return
	# What it has mounted, which no link of its leads out of.
	order exec in=pause -- sh -c 'echo of-pause >/dev/shm/file; mkdir -p /tmp/x/etc; ln -s /../../etc /tmp/link' || return
	same "a mount of its" of-pause "$(run pod=pause podns=ipc ns=pid mount=bP:/dev/shm:/mnt -- cat /mnt/file)" || return
	same "a read-only one" "of-pause no" "$(run pod=pause podns=ipc ns=pid mount=brP:/dev/shm:/mnt -- sh -c 'cat /mnt/file; echo x >/mnt/file || echo no' 2>/dev/null | xargs)" || return
	same "a link of its" "$(order exec in=pause -- ls /etc | xargs)" "$(run pod=pause podns=ipc ns=pid mount=bP:/tmp/link:/mnt -- ls /mnt | xargs)" || return
	denied "to join has no" run pod=pause podns=ipc ns=pid mount=bP:/no/such:/mnt -- true || return
	denied "cannot look into the container to join" run mount=bP:/dev/shm:/mnt -- true || return
	# One that ends with its client, started or not.
	make tie tied leave quiet -- sleep 1000
	ends 137 order wait tie && ends 0 order delete tie || return
	make tie tied later leave quiet -- sleep 1000
	ends 137 order wait tie && ends 0 order delete tie || return
	drop pause || return
	order kill one 9
	order wait one
	denied "no container to join" run pod=pause podns=net ns=pid -- true
}

test_container_table()
{
	local i
	container_vm || return
	for i in $(seq 16); do
		keep "c$i" || return
	done
	denied "too many containers" make c17 -- true || return
	same "they run" 16 "$(order list | grep -c running)" || return
	drop c3 || return
	keep c17 || return
	for i in 1 2 4 5; do drop "c$i" || return; done
	same "they run" 12 "$(order list | grep -c running)"
}

test_container_bomb_and_hog()
{
	container_vm || return
	make bomb leave quiet -- sh -c 'f() { f | f & }; while :; do f 2>/dev/null; done' || return
	sleep 2
	ends 0 in_vm true || return
	same "list" "bomb running alive" "$(order list)" || return
	want "stats: $(order stats bomb)" grep -q "^cpu_us [1-9]" <(order stats bomb) || return
	ends 0 order kill bomb 9 all || return
	ends 137 order wait bomb || return
	ends 0 order delete bomb || return
	make hog leave quiet -- sh -c 'while :; do tail /dev/zero; done' || return
	sleep 2
	ends 0 in_vm true || return
	want "stats: $(order stats hog)" grep -q "^cpu_us [1-9]" <(order stats hog) || return
	ends 0 order kill hog 9 all || return
	ends 137 order wait hog || return
	ends 0 in_vm true
}

test_container_is_frozen_and_copied()
{
	container_vm || return
	keep k || return
	keep p || return
	ends 0 order pause p || return
	make m later leave quiet -- sleep 1000 || return
	"$uvm" fork a --id b >/dev/null || { reason=fork; return 1; }
	same "in the copy" "k running alive|p paused alive|m created alive|" "$("$order" b list | tr '\n' '|')" || return
	same "in the source" "k running alive|p paused alive|m created alive|" "$(order list | tr '\n' '|')" || return
	same "paused" 1 "$("$uvm" exec b cat /sys/fs/cgroup/uvm/p/cgroup.freeze)" || return
	want "the copy has the source's boot_id" [ "$("$order" b exec in=k -- cat /proc/sys/kernel/random/boot_id)" != \
		"$(order exec in=k -- cat /proc/sys/kernel/random/boot_id)" ] || return
	ends 0 timeout 60 "$order" b start m || return
	ends 0 timeout 60 "$order" b kill m 9 || return
	ends 137 timeout 60 "$order" b wait m || return
	ends 0 timeout 60 "$order" b resume p || return
	same "in the source" "k running alive|p paused alive|m created alive|" "$(order list | tr '\n' '|')"
}

# What VM a has in use: the agent's descriptors and memory, and processes of the guest but the kernel's own,
# which come and go; the monitor's descriptors, threads and memory without the guest's.
in_use()
{
	local monitor=/proc/$(cat "$UVM_RUN/a/pid")
	in_vm sh -c 'ls /proc/1/fd | wc -l; awk "/VmRSS/ { print \$2 }" /proc/1/status; awk "/^PPid:/ && \$2 != 2 { n++ } END { print n }" /proc/[0-9]*/status 2>/dev/null'
	ls "$monitor/fd" | wc -l
	ls "$monitor/task" | wc -l
	awk '/^Rss:/ { rss = $2 } /^VmFlags:/ && !/ dd/ { sum += rss } END { print sum }' "$monitor/smaps"
}

free_memory() { in_vm awk '/MemAvailable/ { print $2 }' /proc/meminfo; }

# The same is in use as before. Names are the guest kernel's to free, which it does by and by.
nothing_kept()
{
	local i
	for i in $(seq 50); do
		[ "$1" = "$(in_use | xargs)" ] && return
		sleep 0.2
	done
	same "in use (agent's fds, KiB, processes; monitor's fds, threads, KiB)" "$1" "$(in_use | xargs)"
}

# UVM_TEST_EXECS=10000 UVM_TEST_LIMIT=1500 makes it as many as that; minutes, where guests are emulated.
test_container_many_execs()
{
	local n=${UVM_TEST_EXECS-250} used before lost
	container_vm || return
	keep k || return
	# So many at once are refused, each with an answer, and none that was taken is lost.
	same "at once" "150 execs" "$(order many 150 150 in=k -- sleep 0.3 | awk '{ print $1 + $3 " execs" }')" || return
	same "one by one" "100 done, 0 refused" "$(order many 100 8 in=k -- true)" || return
	used=$(in_use | xargs) before=$(free_memory)
	same "many" "$n done, 0 refused" "$(timeout 1500 "$order" a many "$n" 8 in=k -- true)" || return
	nothing_kept "$used" || return
	lost=$((before - $(free_memory)))
	printf ' in use after %s execs: %s; memory that the guest lost: %s KiB\n' "$n" "$used" "$lost"
	want "the guest lost $lost KiB" [ "$lost" -lt $((600 + n)) ] || return
	drop k
}

test_container_malformed()
{
	container_vm || return
	timeout 200 "$order" a fuzz 12345 400 std root=/dev/vdb,ext4,tmpfs nnp forbid=63 user=root hostname=h masked=/etc sysctl=net.ipv4.ip_default_ttl=5 -- true >/dev/null 2>&1
	for c in $(order list | cut -d ' ' -f 1); do
		order kill "$c" 9 2>/dev/null
		order wait "$c" >/dev/null 2>&1
		order delete "$c"
	done
	ends 0 run -- true || return
	same "containers" "" "$(order list)" || return
	ends 0 order set other || return
	same "host name" other "$(in_vm hostname)"
}

test_container_figures()
{
	container_vm || return
	make k leave quiet cgroup=memory.max=67108864 cgroup=pids.max=50 -- sh -c 'sleep 1000 & exec sleep 1001' || return
	local v
	# The shell has begun; its child has soon.
	for _ in $(seq 100); do
		v=$(order stats k) || { reason=stats; return 1; }
		[ "${v#* pids 2 }" = "$v" ] || break
		sleep 0.1
	done
	want "figures: $v" grep -qE "^cpu_us [1-9][0-9]* memory [1-9][0-9]* memory_max 67108864 pids 2 pids_max 50 oom_kill 0 " <<<"$v" || return
	v=$(order stats) || { reason=stats; return 1; }
	want "the guest's figures: $v" grep -qE "^cpu_us [1-9][0-9]* memory [1-9][0-9]* memory_max 2[0-9]{8} pids [1-9]" <<<"$v" || return
	same "processes" "1 0 1 S 1 sleep 1001|" "$(order processes k | grep "sleep 1001" | tr '\n' '|')" || return
	same "how many" 2 "$(order processes k | wc -l)" || return
	want "the agent is not among the guest's" grep -q "^1 0 1 . 1 /init" <(order processes) || return
	drop k || return
	denied "no such container" order stats k || return
	# The kernel kills one of it, and its client hears of that.
	order create k std root=/dev/vdb,ext4,tmpfs cgroup=memory.max=20971520 -- sh -c 'tail /dev/zero; sleep 1; exit 5' >/dev/null 2>"$dir/err" </dev/null
	same "status" 5 $? || return
	want "no notice: $(cat "$dir/err")" grep -q "^notice" "$dir/err" || return
	v=$(in_vm awk '/VmRSS/ { print $2 }' /proc/1/status)
	printf ' agent memory: %s KiB\n' "$v"
	want "the agent has $v KiB" [ "$v" -le 1024 ]
}

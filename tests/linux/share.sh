# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # a part of tests/linux/run, whose variables these are
#
# share.sh: directories of the host's in a Linux guest (virtio-fs). "a" is the guest, /mnt where it has
# the directory $dir/share mounted. What runs inside is tests/linux/probe.c.

mount_share() # ID TAG DIR
{
	reason="$2 cannot be mounted in $1"
	vm "$1" sh -c "mkdir -p $3 && mount -t virtiofs $2 $3"
}

# A guest with the probe in it, and the share. shared [SUFFIX [OPTION...]]
shared()
{
	local suffix=${1-}
	shift
	mkdir -p "$dir/share"
	source_vm --rootfs "$(root),cow" --share "$dir/share:tag$suffix" "$@" || return
	mount_share a tag /mnt
}

# in_guest SCRIPT: must succeed. not_in_guest TEXT SCRIPT: must fail, with that message.
in_guest()
{
	reason="in the guest: $1"
	vm a sh -c "$1"
}

not_in_guest()
{
	reason="in the guest, succeeded: $2"
	vm a sh -c "$2" 2>"$dir/err" && return 1
	want "message of $2: $(cat "$dir/err")" grep -q "$1" "$dir/err"
}

# A directory with all sorts of things in it.
tree()
{
	mkdir -p "$1/empty" "$1/deep/er" && cp -r "$top/devices" "$top/docs" "$1" || return
	ln -s ../nowhere "$1/deep/link"
	ln "$1/docs/testing.md" "$1/deep/er/hard"
	: >"$1/nothing"
	head -c 3000000 /dev/urandom >"$1/random"
	chmod 4711 "$1/nothing"
	chmod 1777 "$1/empty"
	chown -R 12:34 "$1/deep"
	chown -h 56:78 "$1/deep/link"
	find "$1" -exec touch -h -d @1600000000 {} +
}

# What of a tree must be the same. Busybox's tar leaves out what is not asked for here.
describe()
{
	(cd "$1" && find . -type f -printf '%p f %m %U %G %n %s %Ts\n' -o -type l -printf '%p l %l\n' -o \
		-printf '%p %y %m %U %G\n' | sort)
}

test_share_files()
{
	shared || return
	echo host >"$dir/share/one"
	same "a file of the host's" host "$(vm a cat /mnt/one)" || return
	in_guest 'echo guest >/mnt/two && echo more >>/mnt/two' || return
	same "a file of the guest's" "guest more" "$(xargs <"$dir/share/two")" || return
	same "how files behave" ok "$(vm a sh -c 'mkdir /mnt/d && /tmp/probe files /mnt/d')" || return
	same "bytes of the mapped file" 100000 "$(stat -c %s "$dir/share/d/map")" || return
	# A second is how long the guest may remember.
	echo longer than before >"$dir/share/one"
	sleep 1.1
	same "a file that the host has changed" "longer than before" "$(vm a cat /mnt/one)" || return
	same "mode of the directory" "$(stat -c %a "$dir/share")" "$(vm a stat -c %a /mnt)"
}

test_share_a_thousand_files()
{
	shared || return
	in_guest 'mkdir /mnt/many && cd /mnt/many && for i in $(seq 1000); do echo $i >f$i; done' || return
	same "files on the host" 1000 "$(find "$dir/share/many" -type f | wc -l)" || return
	same "contents" "$(seq 1000 | sort)" "$(cat "$dir"/share/many/* | sort)" || return
	same "names in the guest" 1000 "$(vm a sh -c 'ls /mnt/many | sort -u | wc -l')" || return
	# Twice with its cache, and once without.
	same "sizes in the guest" 3893 "$(vm a sh -c 'cd /mnt/many && cat * | wc -c; ls -l' | head -n 1)" || return
	same "sizes, cache dropped" 3893 "$(vm a sh -c 'echo 3 >/proc/sys/vm/drop_caches; cat /mnt/many/* | wc -c')" || return
	in_guest 'cd /mnt/many && for i in $(seq 500); do mv f$i g$i; done && rm f* && ls | wc -l' >/dev/null || return
	same "names on the host" "$(seq 500 | sed s/^/g/ | sort)" "$(ls "$dir/share/many" | sort)" || return
	# What is forgotten is closed. The guest does so in its own time.
	in_guest 'rm -r /mnt/many; echo 3 >/proc/sys/vm/drop_caches' || return
	for _ in $(seq 100); do
		[ "$(ls "/proc/$(cat "$UVM_RUN/a/pid")/fd" | wc -l)" -lt 100 ] && return
		sleep 0.1
	done
	reason="the monitor has $(ls "/proc/$(cat "$UVM_RUN/a/pid")/fd" | wc -l) descriptors open"
	return 1
}

test_share_tar_both_ways()
{
	shared || return
	tree "$dir/share/src" || return
	mkdir "$dir/out" "$dir/share/dst"
	vm a tar -C /mnt/src -cf - . >"$dir/tar" || { reason="tar in the guest"; return 1; }
	tar -C "$dir/out" --same-owner -xpf "$dir/tar" || { reason="tar on the host"; return 1; }
	describe "$dir/share/src" >"$dir/expected"
	describe "$dir/out" >"$dir/seen"
	want "out of the guest: $(diff "$dir/expected" "$dir/seen")" cmp -s "$dir/expected" "$dir/seen" || return
	want "bytes differ" diff -r --no-dereference "$dir/share/src" "$dir/out" || return
	vm a tar -C /mnt/dst -xpf - <"$dir/tar" || { reason="tar in the guest"; return 1; }
	describe "$dir/share/dst" >"$dir/seen"
	want "into the guest: $(diff "$dir/expected" "$dir/seen")" cmp -s "$dir/expected" "$dir/seen" || return
	want "bytes differ" diff -r --no-dereference "$dir/share/src" "$dir/share/dst" || return
	# And a copy that stays inside.
	in_guest 'cp -a /mnt/src /mnt/copy && sync' || return
	want "bytes of a copy differ" diff -r --no-dereference "$dir/share/src" "$dir/share/copy"
}

test_share_permissions()
{
	shared || return
	in_guest 'cd /mnt && mkdir open private && chmod 1777 open && chmod 700 private && echo x >private/x && chmod 711 .' || return
	in_guest '/tmp/probe as 1001 sh -c "echo mine >/mnt/open/mine && chmod 600 /mnt/open/mine && mkdir /mnt/open/d"' || return
	same "owner on the host" 1001:1001:600 "$(stat -c %u:%g:%a "$dir/share/open/mine")" || return
	same "owner of a directory" 1001:1001 "$(stat -c %u:%g "$dir/share/open/d")" || return
	not_in_guest "ermission denied" '/tmp/probe as 1002 cat /mnt/open/mine' || return
	not_in_guest "ermission denied" '/tmp/probe as 1002 cat /mnt/private/x' || return
	not_in_guest "ermission denied" '/tmp/probe as 1002 sh -c "echo >/mnt/new"' || return
	not_in_guest "not permitted" '/tmp/probe as 1002 rm -f /mnt/open/mine' || return
	not_in_guest "not permitted" '/tmp/probe as 1002 chown 1002 /mnt/open/mine' || return
	in_guest 'chown 1002:1003 /mnt/open/mine && /tmp/probe as 1002 cat /mnt/open/mine >/dev/null' || return
	same "owner now" 1002:1003 "$(stat -c %u:%g "$dir/share/open/mine")" || return
	# A program with the set-user-ID bit loses it when somebody else writes to it.
	in_guest 'cd /mnt/open && echo x >prog && chmod 4777 prog && /tmp/probe as 1001 sh -c "echo y >>prog"' || return
	same "mode of what another has written to" 777 "$(stat -c %a "$dir/share/open/prog")"
}

test_share_two_and_read_only()
{
	mkdir "$dir/second"
	echo kept >"$dir/second/file"
	shared "" --share "$dir/second:other:ro:cache=always" || return
	mount_share a other /media || return
	same "the second's file" kept "$(vm a cat /media/file)" || return
	not_in_guest "ead-only" 'echo x >/media/file' || return
	not_in_guest "ead-only" 'echo x >>/media/file' || return
	not_in_guest "ead-only" 'echo x >/media/new' || return
	not_in_guest "ead-only" 'rm /media/file' || return
	not_in_guest "ead-only" 'chmod 600 /media/file' || return
	not_in_guest "ead-only" 'mv /media/file /media/x' || return
	same "the second's file" kept "$(cat "$dir/second/file")" || return
	in_guest 'echo x >/mnt/new' || return
	not_in_guest . 'mount -t virtiofs none /tmp' || return
	# Unmounted, and mounted again.
	in_guest 'umount /mnt && umount /media && ! [ -e /mnt/new ]' || return
	for _ in 1 2 3; do
		mount_share a tag /mnt || return
		same "the file, mounted again" x "$(vm a cat /mnt/new)" || return
		in_guest 'umount /mnt' || return
	done
	same "descriptors of shares that are not mounted" 0 \
		"$(find "/proc/$(cat "$UVM_RUN/a/pid")/fd" -lname "$dir/share/*" | wc -l)"
}

test_share_without_cache()
{
	shared :cache=none || return
	in_guest 'echo first >/mnt/x && cat /mnt/x >/dev/null' || return
	echo second >"$dir/share/x"
	same "what the host has just written" second "$(vm a cat /mnt/x)" || return
	in_guest 'dd if=/dev/urandom of=/tmp/r bs=1M count=3 2>/dev/null && cp /tmp/r /mnt/r && cmp /tmp/r /mnt/r'
}

test_share_of_a_user()
{
	mkdir "$dir/share" && chmod 777 "$dir/share" && chmod 711 "$dir" "${dir%/*}" "${dir%/*/*}"
	cp "$uvm" "$dir/uvm" && chmod 755 "$dir/uvm" # the tree may be closed to others
	cp "$kernel" "$dir/kernel" && cp "$(root)" "$dir/root" && chmod 666 "$dir/root" && chmod 644 "$dir/kernel"
	mkdir "$dir/run" && chown 1234:1234 "$dir/run" "$dir/share"
	[ -z "${UVM_LAB-}" ] || chmod 666 /dev/kvm
	local group
	group=$(stat -c %g /dev/kvm)
	UVM_RUN=$dir/run setpriv --reuid 1234 --regid 1234 --groups "1234,$group" \
		"$dir/uvm" boot --kernel "$dir/kernel" --rootfs "$dir/root,cow" --share "$dir/share:tag" --id u --detach >/dev/null 2>"$dir/err" || {
		reason="skip: no VM as a user: $(tail -n 1 "$dir/err")"
		[ -r /dev/kvm ] && grep -q kvm "$dir/err" && return 1
		reason="boot as a user: $(cat "$dir/err")"
		return 1
	}
	reason="in the guest of a user's"
	UVM_RUN=$dir/run "$uvm" exec u -- sh -c 'mount -t virtiofs tag /mnt && echo x >/mnt/file && mkdir /mnt/d' || return
	same "owner on the host" 1234:1234 "$(stat -c %u:%g "$dir/share/file")" || return
	same "owner in the guest" 0:0 "$(UVM_RUN=$dir/run "$uvm" exec u -- stat -c %u:%g /mnt/file)" || return
	ends 1 env UVM_RUN="$dir/run" "$uvm" exec u -- chown 5 /mnt/file 2>"$dir/err" || return
	same "owner on the host, still" 1234 "$(stat -c %u "$dir/share/file")" || return
	reason="a fork of a user's"
	UVM_RUN=$dir/run "$uvm" fork u --id v >/dev/null || return
	UVM_RUN=$dir/run "$uvm" exec v -- sh -c 'grep -q x /mnt/file && mv /mnt/file /mnt/d/moved && echo y >/mnt/fork' || return
	same "what the fork wrote" "x y" "$(cat "$dir/share/d/moved" "$dir/share/fork" | xargs)" || return
	ends 0 env UVM_RUN="$dir/run" "$uvm" kill v || return
	UVM_RUN=$dir/run "$uvm" inspect u >"$dir/inspect"
	ends 0 env UVM_RUN="$dir/run" "$uvm" kill u
}

# The lab's kernel has Landlock in its second version.
test_share_of_a_user_without_namespaces()
{
	local file=/proc/sys/user/max_user_namespaces before status=0
	[ "${UVM_LAB-}" ] || { reason="skip: the limit is the whole host's"; return 1; }
	before=$(cat $file)
	echo 0 >$file
	test_share_of_a_user || status=1
	echo "$before" >$file
	[ $status = 0 ] || return
	want "confinement: $(cat "$dir/inspect")" grep -q '"jail":"none","landlock":"files","seccomp":"on"' "$dir/inspect"
}

test_share_killed_while_it_writes()
{
	local n
	shared || return
	in_guest 'cd /mnt && (while :; do i=$((i + 1)); echo $i >f$i; cat f* >all; done) </dev/null >/dev/null 2>&1 &' || return
	for _ in $(seq 100); do
		[ -e "$dir/share/f20" ] && break
		sleep 0.1
	done
	kill -KILL "$(cat "$UVM_RUN/a/pid")"
	n=$(ls "$dir/share" | wc -l)
	want "only $n files" [ "$n" -ge 20 ] || return
	rm -r "$dir/share/all" && mv "$dir/share/f1" "$dir/share/g1" || { reason="the directory cannot be used"; return 1; }
	for _ in $(seq 100); do
		[ -z "$("$uvm" ps -q)" ] && break
		sleep 0.1
	done
	boot a --rootfs "$(root),cow" --share "$dir/share:tag" || return
	mount_share a tag /mnt || return
	same "files in the next guest" "$((n - 1))" "$(vm a sh -c 'ls /mnt | wc -l')" || return
	same "one of them" 1 "$(vm a cat /mnt/g1)"
}

test_share_in_snapshot_and_clones()
{
	local one two
	shared "" --share placeholder:later || return
	echo x >"$dir/share/x"
	ends 1 "$uvm" snapshot a --out "$dir/snap" 2>"$dir/err" || return
	want "message: $(cat "$dir/err")" grep -q "share tag is mounted; unmount it in the guest first" "$dir/err" || return
	same "file, after a snapshot that was refused" x "$(vm a cat /mnt/x)" || return
	in_guest 'umount /mnt' || return
	# Nothing is behind a placeholder.
	not_in_guest . 'mount -t virtiofs later /mnt && ls /mnt' || return
	in_guest 'umount /mnt; :' || return
	snapshot a --out "$dir/snap" || return
	for one in 1 2; do
		mkdir "$dir/c$one"
		echo "for $one" >"$dir/c$one/file"
		reason="clone c$one"
		"$uvm" clone "$dir/snap" --id "c$one" --detach --share "$dir/c$one:later" --share "$dir/share:tag:ro" >/dev/null || return
		mount_share "c$one" later /mnt || return
		mount_share "c$one" tag /media || return
	done
	for one in 1 2; do
		same "the clone's own" "for $one" "$(vm "c$one" cat /mnt/file)" || return
		same "what both see" x "$(vm "c$one" cat /media/x)" || return
		vm "c$one" sh -c 'echo written >/mnt/new; ! echo x >/media/new' 2>/dev/null || { reason="writing in c$one"; return 1; }
		same "what it wrote" written "$(cat "$dir/c$one/new")" || return
	done
	two=$("$uvm" clone "$dir/snap" --share "$dir/share:other" -- true 2>&1)
	want "a tag that is not there: $two" grep -q "no share with the tag other" <<<"$two" || return
	# The template's own directory is not in the snapshot.
	clone_as c3 || return
	vm c3 sh -c 'mount -t virtiofs tag /mnt && ls /mnt' 2>/dev/null >&2 && { reason="a clone got what nobody gave it"; return 1; }
	return 0
}

# What the guest has open goes on in both, and what one does the other sees.
test_share_goes_on_in_a_fork()
{
	shared || return
	mkdir "$dir/share/d"
	for i in $(seq 300); do echo "$i" >"$dir/share/d/f$i"; done
	in_guest 'mkfifo /tmp/line && (/tmp/probe hold /mnt/d/f7 </tmp/line >/tmp/held 2>&1 &) && exec 9>/tmp/line; (sleep 1000 >&9 &) ; while ! grep -q held /tmp/held; do sleep 0.1; done' || return
	fork_as b a || return
	echo seven >"$dir/share/d/f7"
	sleep 1.1 # how long they may remember that it was shorter
	for id in a b; do
		reason="in $id"
		vm "$id" sh -c 'echo >/tmp/line; while [ "$(wc -l </tmp/held)" -lt 2 ]; do sleep 0.1; done' || return
		same "what $id had open" "301 seven  " "$(vm "$id" tail -n +2 /tmp/held | tr '\n' ' ')" || return
		vm "$id" sh -c "echo $id >/mnt/$id && ls /mnt/d | wc -l" >"$dir/n" || return
		same "names in $id" 300 "$(cat "$dir/n")" || return
	done
	sleep 1.1
	same "what b wrote, in a" b "$(vm a cat /mnt/b)" || return
	same "what a wrote, in b" a "$(vm b cat /mnt/a)" || return
	vm b umount /mnt || { reason="umount in b"; return 1; }
	same "in a, after that" a "$(vm a cat /mnt/a)" || return
	fork_as c a || return
	same "in a fork of the fork's parent" a "$(vm c cat /mnt/a)"
}

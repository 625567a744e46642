# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# lib.sh: what the scripts here and guest/kernel/build share. Sourced, not run.
#
#	die TEXT...		one line on standard error, exit status 1
#	help, usage		the opening comment of the script; its usage lines, and exit status 2
#	scratch DIR		makes a temporary directory in DIR, removed at every exit; its path is
#				in $scratch. A script that has more to clean up defines cleanup().
#	$cache			the directory in which kernels and the lab's initramfs are kept
#	lock NAME		one process at a time beyond this point; the others wait
#
# Everything slow is made beside its place in $cache and renamed into it, so that what is there
# is whole, and two runs at once are harmless.

die()
{
	echo "${0##*/}: $*" >&2
	exit 1
}

# The opening comment of a script is its manual: all of it, or the usage lines only.
help()
{
	sed -n '4,${/^#/!q;s/^# \{0,1\}//p;}' "$0"
}

usage()
{
	help | sed -n '/^usage:/,/^$/p' | sed '/^$/d' >&2
	exit 2
}

cleanup()
{
	:
}

scratch=
leave()
{
	status=$?
	trap '' EXIT HUP INT TERM
	cleanup
	[ -z "$scratch" ] || rm -rf "$scratch"
	exit "$status"
}
trap leave EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

scratch()
{
	mkdir -p "$1" || die "$1: cannot be made; set UVM_CACHE or TMPDIR to a directory that can"
	scratch=$(mktemp -d "$1/${0##*/}.XXXXXX") || die "$1: cannot be written"
}

lock()
{
	mkdir -p "$cache" || die "$cache: cannot be made; set UVM_CACHE to a directory that can"
	exec 9>"$cache/$1.lock"
	flock -n 9 || {
		echo "${0##*/}: waiting for another run that makes the same" >&2
		flock 9
	}
}

# HOME is not set everywhere (CI, systemd units).
cache=${UVM_CACHE:-${XDG_CACHE_HOME:-${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}/.cache}/uvm}

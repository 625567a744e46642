# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # a part of tests/shim/run, whose variables these are
#
# pod.sh: podman's pods: an infra container, whose namespaces the others join. By uses as in podman.sh.
#
# --share-parent=false, since crun 1.8.1 can make no devices in the lab where the pod has a cgroup of its own.

pod="pod create --network none --share-parent=false --infra-image busybox"

# Says nothing of how: whether it is told apart from a timeout is podman's.
states()
{
	for name; do podman_ inspect -f "{{.Name}} {{.State.Status}} {{.State.ExitCode}}" "$name"; done
}

use_pod()
{
	outcome create podman_ $pod --name pod --infra-command 'sleep 1000'
	outcome first podman_ run -d --pod pod --name first -v volume:/volume busybox sh -c 'hostname; cat >/dev/null; while :; do nc -l -p 7000 -e cat; done'
	outcome second podman_ run --rm --pod pod busybox sh -c 'hostname; ls /sys/class/net; for i in 1 2 3 4 5; do echo through lo | nc 127.0.0.1 7000 && break; sleep 1; done; ls /volume; ls -d /proc/[0-9]* | wc -l'
	outcome third podman_ run -d --pod pod --name third --memory 50m --user 1000 busybox sh -c 'trap "exit 5" TERM; while :; do sleep 0.1; done'
	outcome exec podman_ exec first sh -c 'echo shared >/dev/shm/file; touch /own; hostname; id -u'
	outcome exec-third podman_ exec third sh -c 'cat /dev/shm/file; ls /own 2>/dev/null; hostname; id -u; cat /sys/fs/cgroup/memory.max'
	outcome exec-detached podman_ exec -d first touch /detached
	line processes "$(podman_ top first pid | head -n 2 | xargs)"
	outcome cp podman_ cp "$top/README.md" first:/copied
	outcome copied podman_ exec first ls /copied /detached
	outcome_in_any_order diff podman_ diff first
	outcome pause podman_ pause third
	outcome unpause podman_ unpause third
	outcome ps podman_ pod ps --format '{{.Name}} {{.Status}} {{.NumberOfContainers}}'
	outcome stop podman_ stop -t 20 third
	outcome stopped states first third
	outcome again podman_ start third
	outcome kill podman_ kill third
	outcome killed until_ '[ "$(states third)" = "third exited 137" ]'
	outcome rm-third podman_ rm third
	outcome first-goes-on podman_ exec first sh -c 'cat /dev/shm/file; ls /own'
	outcome pod-stop podman_ pod stop -t 1 pod 2>/dev/null
	outcome pod-start podman_ pod start pod
	outcome started podman_ exec first ls /own /copied
	outcome rm podman_ pod rm -f -t 0 pod
	outcome rm-again podman_ pod rm -f --ignore -t 0 pod
	outcome volume podman_ volume rm volume
	outcome left podman_ ps -aq
	line cgroups "$(find /sys/fs/cgroup -name 'libpod-*' -type d | wc -l)"
	line mounts "$(grep -c "$store/" /proc/mounts)"
}

# What podman's defaults do not share: processes; and what they do: names, IPC.
use_pod_shared()
{
	outcome create podman_ $pod --name shared --share pid,net --hostname named --infra-command 'sleep 1000'
	outcome run podman_ run --rm --pod shared --hostname mine --shm-size 1m busybox sh -c 'ps -o args | grep "[s]leep 1000"; hostname; df -k /dev/shm | awk "NR > 1 { print \$2 }"'
	# The sandbox is killed: with crun the others live on.
	outcome alone podman_ run -d --pod shared --name alone busybox sleep 1000
	podman_ kill "$(podman_ pod inspect -f '{{.InfraContainerID}}' shared)" >/dev/null
	outcome infra-killed until_ '[ "$(states alone)" = "alone exited 137" ]'
	outcome rm podman_ pod rm -f -t 0 shared
	outcome left podman_ ps -aq
}

use_pod_sandbox()
{
	outcome create podman_ $pod --name box --infra-command 'sleep 1000'
	outcome run podman_ run -d --pod box --name inside busybox sleep 1000
	podman_ kill "$(podman_ pod inspect -f '{{.InfraContainerID}}' box)" >/dev/null
	sleep 3
	outcome without-sandbox states inside
	outcome rm podman_ pod rm -f -t 0 box
	outcome left podman_ ps -aq
}

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""cri: does with containerd's CRI service what a kubelet does for a pod, and prints what came of it.

usage: tests/shim/cri.py SOCKET HANDLER DIR

HANDLER: the runtime class's, "" for the service's own runtime. DIR: for logs; in DIR/volume is a file "told".
Prints lines "WORD: TEXT", which tests/shim/run compares between runtimes; the time that each call took goes to
standard error.

The service speaks gRPC. Its messages are few and flat, so they are written here as Python's dictionaries, and
the names of their fields beside their numbers in FIELDS (of Kubernetes' runtime.v1), instead of generated code.
"""
import os
import re
import socket
import sys
import time

import grpc

FIELDS = {
    "config": dict(metadata=(1, "name"), hostname=2, log_directory=3, dns=(4, "dns"), annotations=(7, "map"), linux=(8, "sandbox")),
    "name": dict(name=1, uid=2, namespace=3, attempt=4),
    "dns": dict(servers=1, searches=2),
    "map": dict(key=1, value=2),
    "sandbox": dict(cgroup_parent=1, security=(2, "security"), sysctls=(3, "map")),
    "security": dict(namespaces=(1, "namespaces")),
    "namespaces": dict(network=1, pid=2, ipc=3),
    "container": dict(metadata=(1, "attempt"), image=(2, "image"), command=3, args=4, working_dir=5, envs=(6, "map"),
                      mounts=(7, "mount"), log_path=11, stdin=12, tty=14, linux=(15, "limits")),
    "attempt": dict(name=1, attempt=2),
    "image": dict(image=1),
    "mount": dict(container_path=1, host_path=2, readonly=3),
    "limits": dict(resources=(1, "resources"), security=(2, "rights")),
    "resources": dict(cpu_period=1, cpu_quota=2, cpu_shares=3, memory=4),
    "rights": dict(capabilities=(1, "capabilities"), namespaces=(3, "namespaces"), user=(5, "number"), read_only=7,
                   no_new_privs=11, masked=13),
    "capabilities": dict(add=1, drop=2),
    "number": dict(value=1),
    # what is asked, by its method
    "RunPodSandbox": dict(config=(1, "config"), handler=2),
    "CreateContainer": dict(sandbox=1, container=(2, "container"), config=(3, "config")),
    "StopContainer": dict(id=1, timeout=2),
    "ExecSync": dict(id=1, command=2, timeout=3),
    "UpdateContainerResources": dict(id=1, linux=(2, "resources")),
}
ID = dict(id=1)
STATES = ["created", "running", "exited", "unknown"]


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out) + bytes([n])


def encode(kind, message):
    """Protocol buffers, by the table."""
    out = b""
    for name, values in message.items():
        field = FIELDS.get(kind, ID)[name]
        number, kind_of = field if isinstance(field, tuple) else (field, None)
        if kind_of == "map" and isinstance(values, dict):
            values = [{"key": k, "value": v} for k, v in values.items()]
        for v in values if isinstance(values, list) else [values]:
            if isinstance(v, int):
                out += varint(number << 3) + varint(v)
                continue
            data = encode(kind_of, v) if isinstance(v, dict) else v.encode()
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def decode(data):
    """A list of values for each number; bytes of what may be a message."""
    fields, at = {}, 0

    def number():
        nonlocal at
        n = shift = 0
        while True:
            byte = data[at]
            at += 1
            n |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return n

    while at < len(data):
        key = number()
        value = number()
        if key & 7 == 2:
            value, at = data[at:at + value], at + value
        fields.setdefault(key >> 3, []).append(value)
    return fields


class Service:
    def __init__(self, path):
        self.channel = grpc.insecure_channel(f"unix://{path}", options=[("grpc.enable_http_proxy", 0)])

    def __call__(self, method, **request):
        began = time.monotonic()
        call = self.channel.unary_unary(f"/runtime.v1.RuntimeService/{method}")
        answer = decode(call(encode(method, request), timeout=120))
        print(f"{method} took {(time.monotonic() - began) * 1000:.0f} ms", file=sys.stderr)
        return answer


def say(word, text):
    for line in str(text).splitlines() or [""]:
        print(f"{word}: {line}", flush=True)


def failure(error):
    """What a service says, without what differs from run to run."""
    return re.sub(r"[0-9a-f]{12,64}", "ID", error.details().replace("\n", " "))


class Pod:
    def __init__(self, cri, handler, where):
        self.cri, self.where = cri, where
        self.config = {
            "metadata": {"name": "pod", "uid": "uid-1", "namespace": "default"},
            "hostname": "in-a-pod", "log_directory": where,
            "dns": {"servers": ["10.99.0.1"], "searches": ["cluster.local"]},
            "annotations": {"org.uvm.memory": "256M"},
            "linux": {"cgroup_parent": "/kubepods", "sysctls": {"net.ipv4.ip_unprivileged_port_start": "80"},
                      "security": {"namespaces": {"network": 0, "pid": 1, "ipc": 0}}}}
        self.id = cri("RunPodSandbox", config=self.config, handler=handler)[1][0].decode()

    def create(self, name, command, **more):
        linux = {"security": {"namespaces": {"network": 0, "pid": 1, "ipc": 0}, "masked": ["/proc/kcore"]}}
        for part, value in more.pop("linux", {}).items():
            linux[part] = {**linux.get(part, {}), **value}
        container = {"metadata": {"name": name}, "image": {"image": "localhost/pause:latest"}, "command": command,
                     "log_path": f"{name}.log", "linux": linux, **more}
        return self.cri("CreateContainer", sandbox=self.id, container=container, config=self.config)[1][0].decode()

    def run(self, name, command, **more):
        made = self.create(name, command, **more)
        self.cri("StartContainer", id=made)
        return made

    def sh(self, word, container, script, timeout=60):
        """Output, errors and status of a command in it."""
        try:
            r = self.cri("ExecSync", id=container, command=["sh", "-c", script], timeout=timeout)
        except grpc.RpcError as error:
            say(word, failure(error))
            return
        say(word, r.get(1, [b""])[0].decode().rstrip("\n"))
        if 2 in r:
            say(word, "stderr " + r[2][0].decode().rstrip("\n"))
        say(word, f"status {r.get(3, [0])[0]}")

    def status(self, container):
        s = decode(self.cri("ContainerStatus", id=container)[1][0])
        reason = s.get(10, [b""])[0].decode()
        return f"{STATES[s.get(3, [0])[0]]} {s.get(7, [0])[0]} {reason}".rstrip()

    def until(self, word, container, wanted):
        end = time.monotonic() + 30
        while not self.status(container).startswith(wanted) and time.monotonic() < end:
            time.sleep(0.3)
        say(word, self.status(container))

    def log(self, word, name):
        """A log's lines begin with a time."""
        with open(os.path.join(self.where, f"{name}.log"), encoding="utf-8") as f:
            for line in f:
                say(word, line.rstrip("\n").split(" ", 1)[1])

    def address(self):
        status = decode(self.cri("PodSandboxStatus", id=self.id)[1][0])
        say("sandbox", f"ready {status.get(3, [0])[0] == 0}")
        return decode(status[5][0])[1][0].decode()

    def list(self, word):
        pods = self.cri("ListPodSandbox").get(1, [])
        containers = self.cri("ListContainers").get(1, [])
        say(word, f"{len(pods)} pods, {len(containers)} containers")


def echo(address):
    """Through the pod's network, from the host."""
    for _ in range(30):
        try:
            with socket.create_connection((address, 7000), 10) as s:
                s.sendall(b"from the host\n")
                return s.makefile().readline().strip()
        except OSError as error:
            said = error
            time.sleep(0.5)
    return said


def two_containers(pod, address):
    server = pod.run("server", ["sh", "-c", "echo out; echo err >&2; while :; do nc -l -p 7000 -e cat; done"],
                     envs={"GREETING": "hello"}, mounts=[{"container_path": "/volume", "host_path": f"{pod.where}/volume", "readonly": 1}],
                     linux={"resources": {"memory": 64 << 20, "cpu_shares": 512}})
    say("running", pod.status(server))
    pod.sh("inside", server, "hostname; echo $GREETING; cat /volume/told; touch /volume/x; cat /etc/resolv.conf; cat /sys/fs/cgroup/memory.max")
    pod.sh("interfaces", server, "ls /sys/class/net; ip -4 -o addr show eth0 | awk '{ print $4 }'; ip route | sed 's/ *$//'; cat /proc/sys/net/ipv4/ip_unprivileged_port_start")
    say("from-host", echo(address))
    pod.sh("status-of-exec", server, "exit 7")
    pod.sh("late", server, "sleep 100", timeout=2)
    client = pod.run("client", ["sh", "-c", "trap 'echo ended; exit 5' TERM; while :; do sleep 0.1; done"], working_dir="/tmp",
                     linux={"security": {"user": {"value": 1000}, "read_only": 1, "no_new_privs": 1, "capabilities": {"drop": ["ALL"]}}})
    pod.sh("neighbour", client, "id -u; pwd; touch /x; grep -E 'CapEff|NoNewPrivs' /proc/self/status; echo through lo | nc 127.0.0.1 7000; ps | grep -c '[n]c -l'")
    pod.cri("UpdateContainerResources", id=server, linux={"memory": 96 << 20})
    pod.sh("updated", server, "cat /sys/fs/cgroup/memory.max")
    stats = decode(pod.cri("ContainerStats", id=server)[1][0])
    say("stats", f"cpu {2 in stats}, memory {decode(decode(stats[3][0])[2][0])[1][0] > 4096}")
    pod.cri("StopContainer", id=client, timeout=20)
    say("stopped", pod.status(client))
    pod.log("client-log", "client")
    pod.log("server-log", "server")
    return server, client


def failures(pod):
    """Ways in which containers end, or do not begin."""
    last_words = f"{pod.where}/last-words"
    open(last_words, "w", encoding="ascii").close()
    made = pod.run("ends", ["sh", "-c", "echo because >/dev/termination-log; exit 3"],
                   mounts=[{"container_path": "/dev/termination-log", "host_path": last_words}])
    pod.until("ends", made, "exited")
    with open(last_words, encoding="ascii") as f:
        say("last-words", f.read())
    pod.cri("RemoveContainer", id=made)
    again = pod.run("ends", ["true"])
    pod.until("again", again, "exited")
    pod.cri("RemoveContainer", id=again)
    hog = pod.run("hog", ["sh", "-c", "x=$(tail /dev/zero)"], linux={"resources": {"memory": 32 << 20}})
    pod.until("hog", hog, "exited")
    pod.cri("RemoveContainer", id=hog)
    missing = pod.create("missing", ["/no/such/program"])
    try:
        pod.cri("StartContainer", id=missing)
    except grpc.RpcError as error:
        said = failure(error)
        say("missing", f"{'/no/such/program' in said} {said[said.index('no such file'):]}")
    say("missing", pod.status(missing))
    pod.cri("RemoveContainer", id=missing)


def main():
    path, handler, where = sys.argv[1:]
    cri = Service(path)
    pod = Pod(cri, handler, where)
    address = pod.address()
    say("address", address)
    server, client = two_containers(pod, address)
    failures(pod)
    pod.sh("goes-on", server, "echo yes")
    cri("RemoveContainer", id=client)
    pod.list("before")
    cri("StopPodSandbox", id=pod.id)
    say("killed", pod.status(server))
    cri("StopPodSandbox", id=pod.id)
    cri("RemovePodSandbox", id=pod.id)
    cri("RemovePodSandbox", id=pod.id)
    pod.list("after")


main()

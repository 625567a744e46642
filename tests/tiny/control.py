#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A client of a VM's control socket, with nothing but the standard library.

usage: control.py ID REQUEST...      a request: status, pause, "fork 2", ...
       control.py ID snapshot DIR    the same with a directory's descriptor sent along
       control.py ID events          what happens to it, to its end

Prints an answer's keys, or events, as lines of JSON. docs/control-socket.md says what may be asked.
"""
import json
import os
import socket
import sys
import time


def run_directory():
    if "UVM_RUN" in os.environ:
        return os.environ["UVM_RUN"]
    user = os.environ.get("XDG_RUNTIME_DIR")
    return user + "/uvm" if user else "/run/uvm"


class Vm:
    def __init__(self, name):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(f"{run_directory()}/{name}/control.sock")
        self.lines = self.socket.makefile("r", encoding="utf-8", errors="replace")

    def request(self, line, fds=()):
        """Sends a request and returns the answer's (key, value) pairs."""
        socket.send_fds(self.socket, [line.encode() + b"\n"], list(fds))
        pairs, status = [], None
        for text in self.lines:
            word, _, rest = text.rstrip("\n").partition(" ")
            if status is None and word == "error":
                raise RuntimeError(rest)
            if status is None:
                status = word == "ok" or None  # else it is progress
            elif not word:
                return pairs
            else:
                pairs.append((word, rest))
        raise RuntimeError("the VM has ended")

    def snapshot(self, path):
        parent, name = os.path.split(os.path.abspath(path))
        at = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.request("place " + parent)
            return self.request("snapshot " + name, [at])
        finally:
            os.close(at)


def events(name):
    """Yields what has happened and happens to a VM that runs, until its end."""
    line = ""
    with open(f"{run_directory()}/{name}/journal", encoding="utf-8") as journal:
        while True:
            line += journal.readline()
            if not line.endswith("\n"):
                time.sleep(0.05)
                continue
            event, line = json.loads(line), ""
            yield event
            if event["event"] == "exit":
                return


if __name__ == "__main__":
    if sys.argv[2] == "events":
        for event in events(sys.argv[1]):
            print(json.dumps(event), flush=True)
        sys.exit(0)
    vm = Vm(sys.argv[1])
    try:
        if sys.argv[2] == "snapshot":
            print(json.dumps(vm.snapshot(sys.argv[3])))
        else:
            for request in sys.argv[2:]:
                print(json.dumps(vm.request(request)))
    except (RuntimeError, OSError) as error:
        sys.exit(f"control.py: {error}")

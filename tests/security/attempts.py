"""Ways out, tried by a step in a sandbox. It prints what it got hold of, and "tried" at the end.

A program of its own: ``python3 -I attempts.py FACTS``.
"""

import ctypes
import glob
import json
import os
import signal
import socket
import sys

facts = json.loads(sys.argv[1])
secret = facts["secret"]
libc = ctypes.CDLL(None, use_errno=True)
ATTEMPTS = []


def attempt(function):
    ATTEMPTS.append(function)
    return function


def reads(path):
    try:
        with open(path, "rb") as file:
            return file.read(1 << 16)
    except OSError:
        return b""


@attempt
def files_of_the_user():
    for path in glob.glob(facts["home"] + "/.ssh/*") + [facts["home"] + "/.ssh/id_canary"]:
        if reads(path):
            yield path


@attempt
def state_folders():
    for folder in (facts["state"], facts["other_state"]):
        for name in (
            "node.db",
            "worker.json",
            "wes-bridge.db",
            "keeper.key",
            "keeper.log",
            "url",
            "resolv.conf",
        ):
            if reads(f"{folder}/{name}"):
                yield f"{folder}/{name}"
        try:
            with open(f"{folder}/made-by-a-step", "w") as file:
                file.write("x")
        except OSError:
            pass


@attempt
def files_of_other_sessions():
    own = os.getcwd()
    for path in glob.glob(facts["sessions"] + "/*/**", recursive=True):
        if os.path.isfile(path) and not path.startswith(os.path.dirname(own)) and reads(path):
            yield path


@attempt
def sockets():
    for path in (facts["state"] + "/keeper", facts["other_state"] + "/keeper"):
        try:
            socket.socket(socket.AF_UNIX).connect(path)
            yield path
        except OSError:
            pass
    try:
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"!", facts["wakeup"])
        yield facts["wakeup"]
    except OSError:
        pass
    try:
        socket.socket(socket.AF_UNIX).connect("\0" + facts["abstract"])
        yield "abstract socket"
    except OSError:
        pass


@attempt
def engines_and_buses():
    for path in (
        "/run/docker.sock",
        "/var/run/docker.sock",
        "/run/podman/podman.sock",
        "/run/dbus/system_bus_socket",
        "/run/systemd/private",
        "/run/containerd/containerd.sock",
    ):
        try:
            socket.socket(socket.AF_UNIX).connect(path)
            yield path
        except OSError:
            pass


@attempt
def the_loopback_interface():
    for host in ("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "0.0.0.0", "localhost", "10.0.2.2"):
        for port in (facts["port"], facts["loopback"]):
            try:
                socket.create_connection((host, port), 1).close()
                yield f"{host} port {port}"
            except OSError:
                pass


@attempt
def processes():
    for path in glob.glob("/proc/*/environ") + ["/proc/1/environ"]:
        if secret.encode() in reads(path):
            yield path
    for pid in facts["pids"]:
        if secret.encode() in reads(f"/proc/{pid}/environ"):
            yield f"/proc/{pid}/environ"
    for number in glob.glob("/proc/[0-9]*"):
        for way in ("root", "cwd"):
            if reads(f"{number}/{way}{facts['home']}/.ssh/id_canary") or reads(
                f"{number}/{way}{facts['state']}/keeper.key"
            ):
                yield f"{number}/{way}"


@attempt
def signals():
    for pid in facts["pids"]:
        for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM):
            try:
                if pid != os.getpid() and "attempts" not in str(reads(f"/proc/{pid}/cmdline")):
                    os.kill(pid, number)
                    yield f"{number!r} to {pid}"
            except OSError:
                pass


@attempt
def tracing():
    for pid in facts["pids"]:  # process 1 of the sandbox has no other rights than the step
        if libc.ptrace(16, pid, 0, 0) == 0:
            yield f"ptrace of {pid}"
        if reads(f"/proc/{pid}/mem") or reads(f"/proc/{pid}/syscall"):
            yield f"memory of {pid}"


@attempt
def mounts():
    for folder in ("/tmp", "/mnt", "/"):
        if libc.mount(b"/", folder.encode(), None, 4096, None) == 0:
            yield f"mount on {folder}"
        if libc.mount(b"none", folder.encode(), None, 32 | 4096, None) == 0:
            yield f"remount of {folder}"
        if libc.umount2(folder.encode(), 2) == 0:
            yield f"umount of {folder}"


@attempt
def namespaces():
    for kind in ("mnt", "pid", "net", "user"):
        for pid in [1, *facts["pids"]]:
            try:
                there = os.stat(f"/proc/{pid}/ns/{kind}").st_ino
                file = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
            except OSError:
                continue
            if there != os.stat(f"/proc/self/ns/{kind}").st_ino and libc.setns(file, 0) == 0:
                yield f"setns to {kind} of {pid}"


@attempt
def mounts_of_a_namespace_of_its_own():
    """All rights over nothing: it must not show what the sandbox covers."""
    pid = os.fork()
    if pid:
        if os.waitpid(pid, 0)[1]:
            yield "unmounting after unshare"
        return
    found = False
    if libc.unshare(0x10000000 | 0x20000) == 0:
        for path in ("/tmp", "/dev", "/proc", facts["state"], "/proc/sys", os.path.dirname(facts["state"])):
            libc.umount2(path.encode(), 2)
        libc.mount(b"none", b"/", None, 32 | 4096, None)
        found = bool(reads(facts["home"] + "/.ssh/id_canary") or reads(facts["state"] + "/keeper.key"))
        found = found or os.access("/etc", os.W_OK) or os.access("/usr", os.W_OK)
    os._exit(1 if found else 0)


@attempt
def the_kernel():
    for path in (
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sys/vm/drop_caches",
        "/proc/sys/kernel/modprobe",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
        "/sys/fs/cgroup/release_agent",
        "/sys/fs/cgroup/cgroup.procs",
    ):
        try:
            with open(path, "r+b", 0) as file:
                file.write(file.read(100) or b"0")
            yield path
        except OSError:
            pass
    for call in (b"/tmp", b"/etc"):
        if libc.chroot(call) == 0:
            yield "chroot"
    if libc.sethostname(b"taken", 5) == 0:
        yield "host name"


@attempt
def devices():
    for name, number in (("mem", os.makedev(1, 1)), ("disk", os.makedev(8, 0)), ("kmsg", os.makedev(1, 11))):
        for folder in (os.getcwd(), "/tmp", "/dev/shm"):
            path = f"{folder}/{name}"
            try:
                os.mknod(path, 0o600 | (0o020000 if name != "disk" else 0o060000), number)
            except OSError:
                continue
            if reads(path):
                yield path
            os.unlink(path)
    for path in ("/dev/mem", "/dev/kmem", "/dev/kmsg", "/dev/sda", "/dev/vda", "/dev/fuse", "/dev/net/tun"):
        if reads(path):
            yield path


@attempt
def other_users():
    for number in (0, 1, 65533):
        if number != os.geteuid():
            pid = os.fork()
            if pid == 0:
                try:
                    os.setuid(number)
                except OSError:
                    os._exit(0)
                os._exit(2 if reads(facts["home"] + "/.ssh/id_canary") else 0)
            if os.waitpid(pid, 0)[1]:
                yield f"files as user {number}"


@attempt
def the_machines_files():
    """Looked for outside: a place of the sandbox's own may be written to."""
    for path in ("/etc/wb-made", "/usr/wb-made", "/wb-made", "/var/tmp/wb-made", "/run/wb-made"):
        try:
            with open(path, "w"):
                pass
        except OSError:
            pass
    return ()


@attempt
def outputs():
    """What is left for who collects it: rights, links, devices, pipes."""
    with open("program", "w") as file:
        file.write("#!/bin/sh\nid\n")
    os.chmod("program", 0o6755)
    os.symlink(facts["home"] + "/.ssh/id_canary", "link")
    os.symlink(facts["home"], "folder")
    os.symlink("/proc/self/environ", "environment")
    os.mkfifo("pipe")
    return ()


signal.alarm(100)
for function in ATTEMPTS:
    print("trying", function.__name__, flush=True)
    try:
        for found in function():
            print("OUT", function.__name__, found, flush=True)
    except Exception as error:
        print("BROKEN", function.__name__, repr(error), flush=True)
print("tried", len(ATTEMPTS))

"""Runs inside a container of ours, in place of its command, and tries what the sandbox must deny. One JSON line a step.

Standard library alone; it knows nothing of Pilotfish. What it finds is judged by the test that started it. Where it is
not nobody (uid 65532) it does nothing: what must be denied there would be done here.
"""

import ctypes
import errno
import json
import os
import socket
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

NOBODY = 65532
LIBC = ctypes.CDLL(None, use_errno=True)
STATUS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
NEW_USER, NEW_NS, NEW_NET = 0x10000000, 0x00020000, 0x40000000
SYSCALLS = {
    "add_key": (248, b"user", b"x", b"x", 1, -3), "keyctl": (250, 0, -3, 1), "bpf": (321, 0, 0, 0), "userfaultfd": (323, 0),
    "perf_event_open": (298, 0, 0, -1, -1, 0), "init_module": (175, 0, 0, b""), "kexec_load": (246, 0, 0, 0, 0),
    "open_by_handle_at": (304, -1, 0, 0), "io_uring_setup": (425, 1, 0), "swapon": (167, b"/x", 0), "reboot": (169, 0, 0, 0, 0),
    "settimeofday": (164, 0, 0), "pivot_root": (155, b".", b"."),
}  # fmt: skip
"""Numbers of x86_64; a kernel that lacks one answers as one that denies it."""


def tried(act, *arguments):
    try:
        act(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    return "done"


def called(name, *arguments):
    ctypes.set_errno(0)
    answer = getattr(LIBC, name)(*arguments)
    return "done" if answer >= 0 else errno.errorcode.get(ctypes.get_errno(), "?")


def write(folder):
    path = Path(folder) / f"probe-{os.getpid()}"
    path.write_text("x")
    path.unlink()


def open_to_write(path):
    os.close(os.open(path, os.O_WRONLY))  # nothing is written, even where it is allowed


def read(path):
    with Path(path).open("rb") as file:
        file.read(16)


def attach():
    if LIBC.ptrace(16, os.getppid() or 1, 0, 0) < 0:
        raise OSError(ctypes.get_errno() or errno.EPERM, "ptrace")


def raw_socket():
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3).close()


def ask(url):
    context = ssl._create_unverified_context()
    try:
        with urllib.request.urlopen(url, context=context, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:
        return f"{type(error).__name__}"


def first(*paths):
    for path in paths:
        if Path(path).is_file():
            return Path(path).read_text().strip()
    return None


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def writable_mounts():
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        place, options, kind = fields[4], fields[5].split(","), fields[fields.index("-") + 1]
        if "rw" in options and kind not in {"proc", "devpts", "mqueue", "tmpfs"}:
            found.append(place)
    return sorted(found)


def look(node):
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    folders = [p for p in ("/", "/etc", "/usr", "/usr/bin", "/var", "/opt", "/home", "/root", "/run", "/sys", "/proc",
                           "/sys/fs/cgroup", "/proc/sys/kernel", str(Path(sys.prefix)), os.environ["HOME"], "/store",
                           "/work", "/tmp", "/source", "/var/run/pilotfish", "/order") if Path(p).is_dir()]  # fmt: skip
    secrets = Path("/var/run/pilotfish")
    return {
        "user": [os.getuid(), os.getgid(), sorted(os.getgroups())],
        "status": {name: status[name].strip() for name in STATUS},
        "token": Path("/var/run/secrets/kubernetes.io").exists(),
        "env": sorted(os.environ),
        "secrets": sorted(str(p.relative_to(secrets)) for p in secrets.rglob("*") if p.is_file()) if secrets.is_dir() else [],
        "mounts": writable_mounts(),
        "writes": {folder: tried(write, folder) for folder in folders},
        "files": {path: tried(open_to_write, path) for path in ("/etc/passwd", "/etc/hosts", "/etc/resolv.conf",
                  "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", sys.executable)},
        "hidden": {path: tried(read, path) for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/dev/mem",
                   "/dev/sda", "/dev/vda", "/dev/kmsg")},
        "calls": {
            "become root": called("setuid", 0), "root's group": called("setgid", 0),
            "user namespace": called("unshare", NEW_USER), "mount namespace": called("unshare", NEW_NS),
            "network namespace": called("unshare", NEW_NET), "mount": called("mount", b"none", b"/tmp", b"tmpfs", 0, 0),
            "chroot": called("chroot", b"/tmp"), "set the host's name": called("sethostname", b"x", 1),
            "device": tried(os.mknod, "/tmp/device", 0o60600, os.makedev(8, 0)), "trace": tried(attach),
            "raw socket": tried(raw_socket),
            **{name: called("syscall", *arguments) for name, arguments in SYSCALLS.items()},
        },
        "processes": sorted(int(name) for name in names("/proc") if name.isdigit() and int(name) != os.getpid()),
        "devices": names("/dev"),
        "runtimes": [p for p in ("/run/containerd", "/var/run/docker.sock", "/var/lib/kubelet", "/host") if Path(p).exists()],
        "limits": {
            "memory": first("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
            "cpu": first("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
            "pids": first("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"),
        },
        "network": {"secrets": ask("https://kubernetes.default.svc/api/v1/secrets"), "kubelet": ask(f"https://{node}:10250/pods")},
    }  # fmt: skip


def hungry(size):
    """A child that wants more memory than the container has; what became of it."""
    child = os.fork()
    if child == 0:
        kept = bytearray(size)
        kept[::4096] = b"x" * len(kept[::4096])
        os._exit(0)
    return os.waitpid(child, 0)[1]


def tell(found):
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if os.getuid() != NOBODY:
        sys.exit("only for a container that runs as nobody")
    tell({"told": os.environ.get("PILOTFISH_JOB", "")})
    tell(look(sys.argv[1]))
    if len(sys.argv) > 2:
        tell({"hungry": hungry(int(sys.argv[2]))})

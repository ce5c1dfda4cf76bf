"""One qemu process: started so that it cannot outlive us, controlled over QMP."""

import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import time

PR_SET_PDEATHSIG = 1
CLONE_NEWNET = 0x40000000
# Of a network namespace; read when a socket is made.
QUEUE_LENGTH = "/proc/sys/net/unix/max_dgram_qlen"
CABLE_PACKETS = 4096

PROBE_SECONDS = 6

_accel = None


class QemuError(Exception):
    pass


def accel(kernel):
    """The -accel option: KVM where it really runs a kernel, else emulation."""
    global _accel
    if _accel is None:
        wish = os.environ.get("SLABSWAP_VM_ACCEL")
        kvm = wish == "kvm" or (wish is None and _kvm_works(kernel))
        _accel = wish if wish and wish not in ("kvm", "tcg") else (
            "kvm" if kvm else "tcg,thread=multi,tb-size=256")
    return _accel


def _kvm_works(kernel):
    """/dev/kvm may exist and hang: boot a kernel that has no root and panics at once."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    probe = start(["-accel", "kvm", "-cpu", "host", "-m", "256", "-serial", "null",
                   "-kernel", str(kernel.image), "-append", "panic=-1 quiet"],
                  stderr=subprocess.DEVNULL)
    try:
        return probe.wait(PROBE_SECONDS) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        probe.kill()
        probe.wait()


def start(arguments, **options):
    """Popen of qemu. It dies with the thread that calls this, which should be the main one."""
    command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
               "-no-reboot", *arguments]
    return popen(command, prepare=_deepen_cables, stdin=subprocess.DEVNULL,
                 stdout=subprocess.DEVNULL, start_new_session=True, **options)


def _deepen_cables():
    """In the child: as many packets fit a cable as the sender's socket has memory for.

    With the system's ten, a socket that the other end does not empty refuses packets and is said to be writable
    nevertheless. Qemu then tries again without pause, holding the lock that its guest needs to take packets in turn:
    with traffic both ways each guest stands still for as long as a minute.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        return  # not root: the cables stay as they are
    with open(QUEUE_LENGTH, "w", encoding="ascii") as queue_length:
        queue_length.write(str(CABLE_PACKETS))


def popen(command, death_signal=signal.SIGKILL, prepare=None, **options):
    """Popen of what gets the signal when the thread that calls this ends. prepare() runs in the child."""
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def die_with_parent():
        libc.prctl(PR_SET_PDEATHSIG, death_signal)
        # A KVM that cannot run ends in abort(): no gigabyte of core for that.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if os.getppid() != parent:
            os._exit(1)
        if prepare:
            prepare()

    return subprocess.Popen(command, preexec_fn=die_with_parent, **options)


class Monitor:
    """The host's end of a QMP connection."""

    def __init__(self, sock):
        self._sock = sock
        self._buffer = b""
        self._next(10)
        self.command("qmp_capabilities")

    def command(self, name, /, timeout=10, **arguments):
        request = {"execute": name, "arguments": arguments}
        self._sock.sendall(json.dumps(request).encode() + b"\n")
        while True:
            reply = self._next(timeout)
            if "error" in reply:
                raise QemuError(f"{name}: {reply['error']['desc']}")
            if "return" in reply:
                return reply["return"]

    def _next(self, timeout):
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            self._sock.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                data = self._sock.recv(65536)
            except socket.timeout:
                raise QemuError(f"no answer from the qemu monitor in {timeout} s") from None
            if not data:
                raise QemuError("qemu closed its monitor")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

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
    return popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                 start_new_session=True, **options)


def popen(command, death_signal=signal.SIGKILL, **options):
    """Popen of what gets the signal when the thread that calls this ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def die_with_parent():
        libc.prctl(PR_SET_PDEATHSIG, death_signal)
        # A KVM that cannot run ends in abort(): no gigabyte of core for that.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if os.getppid() != parent:
            os._exit(1)

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

"""Guests: machines with a stock Debian kernel, emulated by qemu, that see this one's files.

    with guestvm.Run(Kernel("6.1")) as run:
        link = run.link()
        donor = run.guest("donor", mem_mib=768, links=[(link, 2)])
        client = run.guest("client", mem_mib=256, links=[(link, 1)], disks=[512 << 20])
        run.wait_ready()
        donor.rdma_up()
        status, out = client.run("ping -c 1 10.99.0.2")

A guest runs this host's programs from this host's root, read-only over 9p with a layer of
tmpfs to write to. Nothing a guest does reaches the host, but for its disks and its exchange
directory (Guest.share here, /run/vm there).
"""

import atexit
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import initramfs
import qemu
from agent import Agent, CommandFailed, GuestDied, GuestError, GuestTimeout, Job
from kernel import REPO, SERIES, Kernel

__all__ = ["Agent", "CommandFailed", "Guest", "GuestDied", "GuestError", "GuestTimeout", "Job",
           "Kernel", "Link", "REPO", "Run", "SERIES"]

# Frames that hold a 4 KiB page with its RDMA headers: one packet a page instead of four.
MTU = 9000

# Without the kernel's own hardening and debugging, which is most of an emulated boot; with SysRq,
# which is how to see where a guest hangs.
KERNEL_ARGUMENTS = ("console=ttyS0 panic=-1 quiet mitigations=off nokaslr audit=0 apparmor=0 "
                    "net.ifnames=0 random.trust_cpu=on nmi_watchdog=0 sysrq_always_enabled")

SYSTEMD_ARGUMENTS = ("systemd.journald.forward_to_console=1 systemd.show_status=0 "
                     "systemd.condition-needs-update=no systemd.firstboot=off "
                     "systemd.machine_id=5b0c2f3a9d1e4c7f8a6b3d2e1f0a9b8c fsck.mode=skip")


class Run:
    """The temporary directory, the links and the guests of one run; nothing is left at its end."""

    def __init__(self, kernel, visible=()):
        self.kernel = kernel
        self.visible = [REPO, kernel.tree, *(Path(path).resolve() for path in visible)]
        self.guests = []
        self._links = 0
        self.folder = Path(tempfile.mkdtemp(prefix="slabswap-vm-"))
        atexit.register(self.close)
        self.initramfs = self.folder / "initramfs"
        initramfs.write(kernel, self.initramfs)

    def __enter__(self):
        # As an exception, SIGTERM runs every "finally" on the way out.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for guest in self.guests:
            guest.power_off()
        if not os.environ.get("SLABSWAP_VM_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.close)

    def link(self):
        self._links += 1
        return Link(self.folder, self._links - 1)

    def guest(self, name, **options):
        guest = Guest(self, name, **options)
        self.guests.append(guest)
        return guest

    def forget(self, guest):
        """Power the guest off and let its name be used again."""
        guest.power_off()
        self.guests.remove(guest)

    def wait_ready(self, timeout=90):
        """The guests have booted at the same time; wait for all of them."""
        deadline = time.monotonic() + timeout
        for guest in self.guests:
            guest.wait_ready(deadline - time.monotonic())


class Link:
    """A cable between two guests: a pair of datagram sockets, a packet each.

    The host with number N on the first link has 10.99.0.N and fd99:0::N, on the second
    10.99.1.N and so on. A link with one guest is a cable whose other end is not plugged in.
    """

    def __init__(self, folder, index):
        self.index = index
        self._sockets = [folder / f"link{index}.{end}" for end in ("a", "b")]
        self._hosts = []

    def addresses(self, host):
        return f"10.99.{self.index}.{host}", f"fd99:{self.index}::{host}"

    def end(self, host):
        """The host's end: local and remote socket. A host that boots again gets its old end."""
        if host not in self._hosts:
            if len(self._hosts) == 2:
                raise ValueError("a link joins two hosts")
            self._hosts.append(host)
        end = self._hosts.index(host)
        return self._sockets[end], self._sockets[1 - end]


class Guest:
    """links: [(link, host number)], eth0 first. disks: sizes in bytes of new empty disks, or the
    paths of old ones; /dev/vda first. With systemd=True its first process is the host's systemd,
    with no unit of the host's /etc; files is {path: text, or the Path of a file to copy} put onto
    the root before it starts, and enable names units to be enabled."""

    def __init__(self, run, name, mem_mib=512, smp=1, disks=(), links=(), systemd=False,
                 files=None, enable=(), mtu=MTU):
        self.name = name
        self.systemd = systemd
        self._run = run
        self._folder = run.folder / name
        self._folder.mkdir(exist_ok=True)
        self.share = self._new_share(run, name)
        self.links = list(links) or [(run.link(), 1)]
        self.disks = [self._disk(number, disk) for number, disk in enumerate(disks)]
        self._write_share(files or {}, enable, mtu)
        self._console = self._folder / "console.log"
        self._console.write_bytes(b"")
        self._started = time.monotonic()
        self.boot_seconds = None
        ours, agent = socket.socketpair()
        control, monitor = socket.socketpair()
        self._sockets = [ours, control]
        with agent, monitor:
            arguments = self._qemu_arguments(mem_mib, smp, agent.fileno(), monitor.fileno())
            self._process = qemu.start(arguments, pass_fds=(agent.fileno(), monitor.fileno()),
                                       stderr=subprocess.STDOUT)
        self._agent = Agent(ours, self.share / "jobs", name)
        self._control = control
        self._monitor = None

    @property
    def address(self):
        return self.links[0][0].addresses(self.links[0][1])[0]

    @property
    def address6(self):
        return self.links[0][0].addresses(self.links[0][1])[1]

    @property
    def console(self):
        return self._console.read_text(errors="replace")

    def wait_ready(self, timeout=90):
        """Until commands can run; with systemd, until it has started everything."""
        deadline = time.monotonic() + timeout
        self._agent.wait_ready(timeout)
        if self.systemd and self.boot_seconds is None:
            self.run("systemctl is-system-running --wait; "
                     "echo 0 >/sys/fs/cgroup/init.scope/memory.swap.max",
                     timeout=deadline - time.monotonic())
        if self.boot_seconds is None:
            self.boot_seconds = time.monotonic() - self._started

    def ready(self):
        """Does its agent answer by now?"""
        while not self._agent.ready and self._agent.receive(0, "ready"):
            pass
        return self._agent.ready

    def run(self, command, timeout=30, check=True, swappable=False):
        """Run a bash command: (status, stdout). Only swappable ones may be swapped out."""
        return self._agent.run(command, timeout, check, swappable)

    def spawn(self, command, swappable=False):
        """Start a bash command: a Job to wait for."""
        return self._agent.spawn(command, swappable)

    def wait_for(self, condition, timeout=30):
        """Until the bash command succeeds."""
        self.run(f"until {{ {condition}\n}} >/dev/null 2>&1; do\n"
                 "/run/vm-agent/busybox usleep 50000\ndone", timeout)

    def dmesg(self):
        return self.run("dmesg")[1]

    def alive(self):
        return self._process.poll() is None

    def cpu_seconds(self):
        """What its processor has had of this host's since it was switched on; 0 of a dead one."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rdma_up(self):
        """Soft-RoCE on every network card, and what user space needs for it; the kernel's nbd."""
        # 6.12's rxe asks the crypto layer for a CRC-32 without loading it
        crc = "crc32_generic" if self._run.kernel.series == "6.12" else ""
        self.run("rdma link show rxe0/1 >/dev/null 2>&1 && exit\n"
                 f"modprobe -a {crc} nbd rdma_rxe rdma_ucm ib_uverbs && "
                 f"for nic in {' '.join(str(nic) for nic in range(len(self.links)))}; do "
                 "rdma link add rxe$nic type rxe netdev eth$nic || exit; done", timeout=60)

    def set_link(self, up, nic=0):
        """Plug the cable of a network card in or out."""
        self.monitor.command("set_link", name=f"nic{nic}", up=up)

    @property
    def monitor(self):
        if self._monitor is None:
            self._monitor = qemu.Monitor(self._control)
        return self._monitor

    def power_off(self):
        """Pull the power cord."""
        self._process.kill()
        self._process.wait()
        for sock in self._sockets:
            sock.close()

    def shutdown(self, timeout=60):
        """An orderly end, as far as the guest has one."""
        command = "systemctl poweroff" if self.systemd else "echo o >/proc/sysrq-trigger"
        try:
            self.run(command, timeout)
        except GuestDied:
            pass
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise GuestTimeout(f"{self.name}: still on after {timeout} s") from None

    def sysrq(self, key):
        """Press SysRq and the key: "w" has the kernel write its blocked tasks to the console."""
        for pressed in ("7", key):  # 7: show all of it
            self.monitor.command("send-key", keys=[{"type": "qcode", "data": code}
                                                   for code in ("alt", "sysrq", pressed)])

    def log(self):
        """What a person wants to see of a guest that failed."""
        parts = [f"--- {self.name}: console", self.console, *self._agent.unfinished_business()]
        if self.alive() and self._agent.ready:
            try:
                parts += [f"--- {self.name}: dmesg", self.run("dmesg | tail -n 60", timeout=10)[1]]
            except GuestError as error:
                parts += [str(error), f"--- {self.name}: blocked tasks", self._blocked_tasks()]
        return "\n".join(parts)

    def _blocked_tasks(self):
        before = len(self.console)
        self.sysrq("w")
        try:
            # One more thing that the guest does not answer, so that there is time to write.
            self._agent.run("true", timeout=5)
        except GuestError:
            pass
        return self.console[before:]

    def _new_share(self, run, name):
        """A guest that boots again gets a fresh exchange directory."""
        return Path(tempfile.mkdtemp(prefix=f"{name}.", dir=run.folder))

    def _disk(self, number, disk):
        if isinstance(disk, int):
            path = self._folder / f"disk{number}"
            with open(path, "wb") as new:
                new.truncate(disk)
            return path
        return Path(disk)

    def _write_share(self, files, enable, mtu):
        shutil.copytree(initramfs.GUEST, self.share / "guest")
        overlay = self.share / "overlay"
        overlay.mkdir()
        for path, content in files.items():
            target = overlay / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                shutil.copy2(content, target)
            else:
                target.write_text(content)
        nics = []
        for number, (link, host) in enumerate(self.links):
            v4, v6 = link.addresses(host)
            nics.append(f"eth{number},{mtu},{v4}/24,{v6}/64")
        kernel = self._run.kernel
        environment = {
            "NAME": self.name,
            "REPO": REPO,
            "VISIBLE": " ".join(str(path) for path in self._run.visible),
            "KERNEL_VERSION": kernel.version,
            "KERNEL_MODULES": kernel.modules.resolve(),
            "NICS": " ".join(nics),
            "START": "start-systemd" if self.systemd else "start-plain",
            "ENABLE": " ".join(enable),
        }
        (self.share / "guest.env").write_text(
            "".join(f"{key}={shlex.quote(str(value))}\n" for key, value in environment.items()))

    def _qemu_arguments(self, mem_mib, smp, agent_fd, monitor_fd):
        kernel = self._run.kernel
        accel = qemu.accel(kernel)
        # Five-level page tables cost emulation a sixth of its speed and buy nothing.
        cpu = "host" if accel.startswith("kvm") else "max,la57=off"
        append = KERNEL_ARGUMENTS + (" " + SYSTEMD_ARGUMENTS if self.systemd else "")
        arguments = [
            "-accel", accel, "-cpu", cpu, "-smp", str(smp), "-m", str(mem_mib),
            "-kernel", str(kernel.image), "-initrd", str(self._run.initramfs), "-append", append,
            "-serial", f"file:{self._console}",
            "-chardev", f"socket,id=monitor,fd={monitor_fd}",
            "-mon", "chardev=monitor,mode=control",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=agent,fd={agent_fd}",
            "-device", "virtserialport,chardev=agent,name=slabswap.agent",
            "-virtfs", "local,path=/,mount_tag=hostroot,security_model=none,readonly=on,"
                       "multidevs=remap",
            "-virtfs", f"local,path={self.share},mount_tag=exchange,security_model=none",
        ]
        for number, disk in enumerate(self.disks):
            # The disk must survive its guest, not this host: no need to wait for real media.
            arguments += ["-drive", f"id=disk{number},if=none,format=raw,cache=unsafe,file={disk}",
                          "-device", f"virtio-blk-pci,drive=disk{number},serial=disk{number}"]
        for number, (link, host) in enumerate(self.links):
            local, remote = link.end(host)
            # An earlier boot's socket would refuse the new one.
            local.unlink(missing_ok=True)
            mac = f"52:54:00:99:{link.index:02x}:{host:02x}"
            arguments += ["-netdev", f"dgram,id=net{number},local.type=unix,local.path={local},"
                                     f"remote.type=unix,remote.path={remote}",
                          "-device", f"virtio-net-pci,id=nic{number},netdev=net{number},mac={mac},"
                                     "romfile="]
        return arguments

# SPDX-License-Identifier: MIT
"""Block devices of the client: ours, other ways to the donor's memory, and what needs no donor."""
from vm_lab import Unavailable, deploy, needs_modules, needs_programs

NBDKIT_PORT = 10809
NVME_PORT = 4420
# And the next one.
FLOOR_PORT = 4421
NQN = "nqn.2024-01.example.slabswap:bench"
SLAB_MIB = 16
SERVERS_OF_DAEMON = 3
# As the peers, which have none either.
NO_BACKUP = "none"


class Device:
    """start() makes `path` usable, with so many MiB; stop() leaves the guests as they were before."""

    path = None
    # As its manual wants it.
    swapon_options = ""

    def __init__(self, name):
        self.name = name

    def start(self, lab, mib):
        """Raises Unavailable with the reason for the table."""
        raise NotImplementedError

    def stop(self):
        raise NotImplementedError

    def status(self):
        """What slabswapctl says of it, if it is ours."""


class SlabswapServer:
    """A slabswap-nbd on the client, started by the first device that uses it, with a slabswapd on the donor."""

    def __init__(self, backup="/dev/vda", device="swap0", daemon_of=None, limits=""):
        """@daemon_of: a server whose daemon has room for this one too; @limits: besides the lab's."""
        self._backup = backup
        self._device = device
        self._daemon_of = daemon_of
        self._limits = limits
        self.daemon = self.server = None

    def is_running(self):
        return self.server is not None

    def start(self, lab, mib):
        if self.is_running():
            return
        if self._daemon_of:
            self.daemon = self._daemon_of.daemon
        else:
            self.daemon = deploy.Daemon(lab.donor, lab.build, SERVERS_OF_DAEMON * mib, SLAB_MIB)
            self.daemon.start()
        server = deploy.Server(lab.client, lab.build, mib, self._backup, self.daemon.portal,
                               slab_mib=SLAB_MIB, device=self._device,
                               limits=f"{lab.limits}\n{self._limits}")
        server.start()
        server.wait_up()
        self.server = server

    def stop(self):
        self.server.stop()
        if not self._daemon_of:
            self.daemon.stop()
        self.server = self.daemon = None


class Slabswap(Device):
    """Ours: the kernel over a Unix socket to slabswap-nbd, which has the donor's memory over RDMA."""

    swapon_options = "--discard"

    def __init__(self, name, server=None, backup="/dev/vda", node="nbd0", connections=1):
        """@server: that other devices use too; else one of its own with @backup."""
        super().__init__(name)
        self.path = f"/dev/{node}"
        self._backup = backup
        self._share = server
        self._own = None
        self._node = node
        self._options = f"-connections {connections}" if connections > 1 else ""

    def start(self, lab, mib):
        if not self._share:
            self._own = self._share = SlabswapServer(self._backup)
        self._share.start(lab, mib)
        self._share.server.attach(self._node, self._options)
        # What was on the backup does not matter: else it is copied to the donor in the background.
        lab.client.run(f"blkdiscard {self.path}", timeout=60)

    def stop(self):
        self._share.server.detach(self._node)
        if self._own:
            self._own.stop()
            self._own = self._share = None

    def status(self):
        return self._share.server.status()


class NbdClient(Device):
    """The kernel's nbd on a server that launch() starts."""

    def __init__(self, name, node="nbd0", options=""):
        super().__init__(name)
        self.path = f"/dev/{node}"
        self._options = options
        self._client = self._job = None

    def launch(self, lab, mib):
        """(the server's job, what nbd-client is told to find it)"""
        raise NotImplementedError

    def start(self, lab, mib):
        needs_programs(lab.client, "nbd-client")
        self._client = lab.client
        self._job, where = self.launch(lab, mib)
        self._client.run(f"nbd-client {where} {self.path} -b 4096 {self._options}")
        self._client.wait_for(f"test $(blockdev --getsize64 {self.path}) -gt 0")

    def stop(self):
        self._client.run(f"nbd-client -d {self.path}")
        self._job.kill("TERM")
        self._job.wait(30, check=False)


class NbdTcp(NbdClient):
    """nbd-client over TCP to nbdkit's memory on the donor."""

    def launch(self, lab, mib):
        needs_programs(lab.donor, "nbdkit")
        job = lab.donor.spawn(f"exec nbdkit -f -p {NBDKIT_PORT} memory {mib}M")
        lab.donor.wait_for(f"ss -ltn | grep -q :{NBDKIT_PORT}")
        return job, f"{lab.donor.address} {NBDKIT_PORT}"


class Floor(NbdClient):
    """A server of the client with nothing behind it (bench/floor): what the way through a program costs by itself."""

    def launch(self, lab, mib):
        socket = "/run/floor.sock"
        job = lab.client.spawn(f"exec {lab.build}/bench/floor/floor --socket {socket} --size {mib << 20}")
        lab.client.wait_for(f"test -S {socket}")
        return job, f"-unix {socket}"


class RdmaFloor(NbdClient):
    """A server of the client with the donor's memory behind it and nothing else (bench/floor): what the way through a
    program and RDMA cost together."""

    def __init__(self, name, node="nbd0", polls=False):
        super().__init__(name, node)
        self._node = node
        self._port = FLOOR_PORT + polls
        self._poll = "--poll" if polls else ""
        self._lender = None

    def launch(self, lab, mib):
        program = f"{lab.build}/bench/floor/floor-rdma"
        memory = f"--port {self._port} --size {mib << 20}"
        socket = f"/run/{self._node}.sock"
        listening = f"/run/{self._node}.listening"
        needs_programs(lab.client, program)
        self._lender = lab.donor.spawn(f"exec {program} --lend {lab.donor.address} {memory} >{listening}")
        lab.donor.wait_for(f"test -s {listening}")
        job = lab.client.spawn(f"exec {program} --donor {lab.donor.address} {memory} --socket {socket} {self._poll}")
        lab.client.wait_for(f"test -S {socket}")
        return job, f"-unix {socket}"

    def stop(self):
        super().stop()
        self._lender.kill("TERM")
        self._lender.wait(30, check=False)


class NvmeRdma(Device):
    """The kernel's NVMe over RDMA to its target on the donor, which has a RAM disk."""

    path = "/dev/nvme0n1"

    def __init__(self, name):
        super().__init__(name)
        self._client = self._donor = None

    def start(self, lab, mib):
        self._client, self._donor = lab.client, lab.donor
        needs_modules(self._client, "nvme-rdma")
        needs_modules(self._donor, "nvmet-rdma")
        needs_modules(self._donor, "brd", f"rd_nr=1 rd_size={mib << 10}")
        self._donor.run(f"""\
set -e
mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
cd /sys/kernel/config/nvmet
mkdir subsystems/{NQN} subsystems/{NQN}/namespaces/1 ports/1
echo 1 >subsystems/{NQN}/attr_allow_any_host
echo -n /dev/ram0 >subsystems/{NQN}/namespaces/1/device_path
echo 1 >subsystems/{NQN}/namespaces/1/enable
echo ipv4 >ports/1/addr_adrfam
echo rdma >ports/1/addr_trtype
echo {self._donor.address} >ports/1/addr_traddr
echo {NVME_PORT} >ports/1/addr_trsvcid
ln -s $PWD/subsystems/{NQN} ports/1/subsystems/
""")
        self._client.run(f"echo transport=rdma,traddr={self._donor.address},trsvcid={NVME_PORT},nqn={NQN} "
                         ">/dev/nvme-fabrics", timeout=60)
        self._client.wait_for(f"test -b {self.path}")

    def stop(self):
        self._client.run("echo 1 >/sys/class/nvme/nvme0/delete_controller", timeout=60)
        self._donor.run(f"""\
set -e
cd /sys/kernel/config/nvmet
rm ports/1/subsystems/{NQN}
rmdir ports/1 subsystems/{NQN}/namespaces/1 subsystems/{NQN}
modprobe -r brd
""")


class Zram(Device):
    """Compressed, in the client's own memory."""

    path = "/dev/zram0"

    def __init__(self, name):
        super().__init__(name)
        self._client = None

    def start(self, lab, mib):
        self._client = lab.client
        needs_modules(self._client, "zram")
        self._client.run(f"echo {mib}M >/sys/block/zram0/disksize")

    def stop(self):
        self._client.run("echo 1 >/sys/block/zram0/reset")


class Disk(Device):
    """A disk of the client: a file of the host, in its page cache."""

    def __init__(self, name, path="/dev/vda"):
        super().__init__(name)
        self.path = path

    def start(self, lab, mib):
        size = int(lab.client.run(f"blockdev --getsize64 {self.path}")[1])
        if size < mib << 20:
            raise Unavailable(f"{self.path} has only {size} bytes")

    def stop(self):
        pass

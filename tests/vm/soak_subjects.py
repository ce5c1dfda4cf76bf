"""What the soak swaps to: slabswap, and two ways to swap to another machine's memory without it."""

import deploy

SLAB_MIB = 64
# An emulated donor is slower than the default: all that the backup has would be read from there.
NO_HEDGE = "hedge_ms = 0"
NBDKIT_PORT = 10809


class Subject:
    """One way to have /dev/nbd0 on the client with its content in the donor's memory.

    start() boots nothing and leaves /dev/nbd0 attached; donor_returned() is called with a donor
    that has booted again. errors() says what is wrong with it, if anything.
    """

    # Prints a line of JSON about itself, if it can.
    status_command = "true"

    def __init__(self, client, build, mib):
        self.client = client
        self.build = build
        # Of the device.
        self.mib = mib

    def start(self, donor):
        raise NotImplementedError

    def donor_returned(self, donor):
        raise NotImplementedError

    def pid(self):
        """The process in the client that serves the device, if there is one."""

    def errors(self):
        return []

    def log(self):
        return ""

    def stop(self):
        self.client.run("nbd-client -d /dev/nbd0", check=False)


class Slabswap(Subject):
    """The server with the defaults of its ini file, but for buffers that fit the machine."""

    def __init__(self, client, build, mib):
        super().__init__(client, build, mib)
        # One for each life of the donor.
        self._daemons = []
        self._server = None

    def start(self, donor):
        self._daemon_on(donor)
        memory = int(self.client.run("awk '/^MemTotal/ {print $2}' /proc/meminfo")[1]) >> 10
        self._server = deploy.Server(self.client, self.build, self.mib, portal=self._daemons[0].portal,
                                     slab_mib=SLAB_MIB,
                                     usual_limits=f"buffers = {max(4, memory // 16)}M\n{NO_HEDGE}", activity="")
        self._server.start()
        self._server.wait_up()
        self.status_command = self._server.status_command
        self._server.attach()

    def donor_returned(self, donor):
        self._daemon_on(donor)

    def _daemon_on(self, donor):
        self._daemons.append(deploy.Daemon(donor, self.build, self.mib, SLAB_MIB))
        self._daemons[-1].start(timeout=60)

    def pid(self):
        return self._server.pid

    def errors(self):
        ended = self._server.ended()
        if ended is not None:
            return [f"the server ended with status {ended}"]
        return []

    def log(self):
        server = self._server.log if self._server and self._server.pid else ""
        return "\n".join([server, *("--- daemon\n" + daemon.log for daemon in self._daemons)])

    def stop(self):
        self._server.detach()
        self._server.stop()


class NbdClient(Subject):
    """The kernel straight over TCP to the donor."""

    def start(self, donor):
        nbdkit_memory(donor, self.mib)
        self.client.run(f"nbd-client -swap {donor.address} {NBDKIT_PORT} /dev/nbd0 -b 4096")
        self.client.wait_for("test $(blockdev --getsize64 /dev/nbd0) -gt 0")


class NbdkitProxy(Subject):
    """The kernel over a Unix socket to a proxy on the client, which speaks to the donor.

    As its manual has it, but for the OOM killer: it is not to blame for what nobody told it.
    """

    options = ""
    limits = ":"
    _job = None
    socket = "/run/nbdkit.sock"

    def start(self, donor):
        nbdkit_memory(donor, self.mib)
        # It has 192 MiB of zeros, which the kernel refuses a machine with less memory.
        self.client.run("sysctl -q -w vm.overcommit_memory=1")
        self._job = self.client.spawn(
            f"echo -1000 >/proc/self/oom_score_adj; {self.limits}\n"
            f"exec nbdkit -f {self.options} "
            f"-U {self.socket} nbd hostname={donor.address} port={NBDKIT_PORT}")
        self.client.wait_for(f"test -S {self.socket} || ! kill -0 {self._job.pid}", timeout=60)
        status = self._job.poll()
        assert status is None, f"nbdkit ended with status {status} {self.log()}"
        self.client.run("sysctl -q -w vm.overcommit_memory=0")
        self.client.run(f"nbd-client -unix {self.socket} /dev/nbd0 -b 4096 -swap")
        self.client.wait_for("test $(blockdev --getsize64 /dev/nbd0) -gt 0")

    def pid(self):
        return self._job.pid if self._job else None

    def errors(self):
        ended = self._job.poll()
        return [] if ended is None else [f"nbdkit ended with status {ended}"]

    def log(self):
        return self._job.stderr if self._job else ""

    def stop(self):
        super().stop()
        self._job.kill("TERM")


class NbdkitProxySwap(NbdkitProxy):
    """The same, locked into memory as its manual wants it for swap; the small stacks let it start."""

    options = "--swap"
    limits = "ulimit -s 512"


def nbdkit_memory(donor, mib):
    donor.spawn(f"exec nbdkit -f -p {NBDKIT_PORT} memory {mib}M")
    donor.wait_for(f"ss -ltn | grep -q :{NBDKIT_PORT}")


SUBJECTS = {"slabswap": Slabswap, "nbd-client": NbdClient, "nbdkit": NbdkitProxy,
            "nbdkit-swap": NbdkitProxySwap}

"""slabswap in guests: a daemon, a server with its block device, and a hog that swaps."""

import json
import time

import agent
import guestvm

# In so small a machine the kernel's reclaim and the server would else starve each other.
# page-cluster=0: hogs read at random; every page that comes in was asked for.
SYSCTLS = "vm.watermark_boost_factor=0 vm.min_free_kbytes=8192 vm.page-cluster=0"

CONTROL_TIMEOUT = 15

# For machines of a few hundred MiB, and for tests that do not want to wait. An emulated machine is often
# slower to answer than hedge_ms: which copy a page is read from must not depend on that.
LIMITS = "buffers = 8M\nretry_ms = 200\nretry_max_ms = 1000\nhedge_ms = 0"

# The first request maps: tests look at what daemons have.
ACTIVITY = "hot_slab = 0"


class Program:
    """One of slabswap's programs, in a guest."""

    def __init__(self, guest, build, name, ini, control):
        self.guest = guest
        self._build = build
        self._name = name
        self._control = control
        self._job = None
        self._ini = control.replace(".ctl", ".ini")
        self.prefix = ""  # of the command line
        guest.run(f"mkdir -p /run/slabswap && cat >{self._ini} <<'END'\n{ini}END")

    def start(self, timeout=30):
        self._job = self.guest.spawn(
            f"exec {self.prefix} {self._build}/{self._name} -c {self._ini}")
        self._wait(f"test -S {self._control} && {self.status_command}", timeout)

    def stop(self, timeout=60):
        """SIGTERM; it must end with status 0, and without a word of UBSan's."""
        self._job.kill("TERM")
        self._job.wait(timeout)
        assert "runtime error" not in self.log, self.log

    def kill(self):
        self._job.kill("KILL")
        self._job.wait(20, check=False)

    def status(self):
        return json.loads(self.guest.run(self.status_command, timeout=CONTROL_TIMEOUT)[1])

    def wait_status(self, condition, timeout=30):
        """The first status that the function likes."""
        deadline = time.monotonic() + timeout * agent.PATIENCE
        while not condition(status := self.status()):
            assert time.monotonic() < deadline, f"not in {timeout} s: {status}\n{self.log}"
            assert self._job.poll() is None, self._job.report()
            time.sleep(0.1)
        return status

    def ended(self):
        """The exit status, None as long as it runs."""
        return self._job.poll()

    @property
    def pid(self):
        return self._job.pid if self._job else None

    @property
    def log(self):
        return self._job.stderr

    @property
    def status_command(self):
        return f"{self._build}/slabswapctl status {self._control}"

    def _wait(self, condition, timeout):
        try:
            self.guest.wait_for(condition, timeout)
        except guestvm.GuestTimeout:
            raise AssertionError(self._job.report()) from None


class Daemon(Program):
    """@memory: more keys of [memory], and sections behind it; the guests are small, and lend nearly all they have."""

    def __init__(self, guest, build, mib, slab_mib=16, memory="headroom = 0"):
        self.portal = f"rdma:{guest.address}:9400"
        super().__init__(guest, build, "slabswapd", f"""\
[daemon]
listen = {self.portal}
slab_size = {slab_mib}M
control = /run/slabswap/slabswapd.ctl
[memory]
max = {mib}M
{memory}
""", "/run/slabswap/slabswapd.ctl")


class Server(Program):
    def __init__(self, guest, build, mib, backup="/dev/vda", portal="", limits="", backup_keys="",
                 slab_mib=16, usual_limits=LIMITS, activity=ACTIVITY, device="swap0"):
        self.socket = f"/run/slabswap/{device}.sock"
        super().__init__(guest, build, "slabswap-nbd", f"""\
[device]
name = {device}
size = {mib}M
slab_size = {slab_mib}M
[backup]
path = {backup}
{backup_keys}
[daemons]
portals = {portal}
[activity]
{activity}
[limits]
{usual_limits}
{limits}
""", f"/run/slabswap/{device}.ctl")

    def wait_up(self, timeout=30):
        """Until it has its daemon: before, what is written goes to the backup alone."""
        return self.wait_status(lambda status: status["daemons"][0]["up"], timeout)

    def attach(self, node="nbd0", options=""):
        self.guest.run(f"nbd-client -unix {self.socket} /dev/{node} -b 4096 {options}")
        self.guest.wait_for(f"test $(blockdev --getsize64 /dev/{node}) -gt 0")

    def detach(self, node="nbd0"):
        self.guest.run(f"nbd-client -d /dev/{node}")
        self.guest.wait_for(f"! test -e /sys/block/{node}/pid")


class Hog:
    """Writes more memory than there is and reads it back at random, checking every page."""

    def __init__(self, guest, build, options):
        self._guest = guest
        self.job = guest.spawn(f"exec {build}/tests/tools/memhog {options}", swappable=True)

    def wait_progress(self, text, timeout=120):
        """Until it has said that; "write done", or "round 1: 20 %"."""
        deadline = time.monotonic() + timeout * agent.PATIENCE
        while text not in self.job.stderr:
            assert time.monotonic() < deadline, f"not in {timeout} s: {text}\n{self.job.report()}"
            assert self.job.poll() is None, f"ended before: {text}\n{self.job.report()}"
            time.sleep(0.1)

    def end(self, timeout):
        """Of one with --seconds: what it found until now."""
        self.job.kill("TERM")
        return self.finish(timeout)

    def finish(self, timeout):
        """What it found, as a dictionary."""
        _, out = self.job.wait(timeout, check=False)
        try:
            return json.loads(out)
        except json.JSONDecodeError:
            raise guestvm.GuestError(f"the hog did not finish\n{self.job.report()}") from None


def swap_counters(guest):
    """Pages swapped out and in since boot."""
    text = guest.run("cat /proc/vmstat")[1]
    counters = dict(line.split() for line in text.splitlines())
    return int(counters["pswpout"]), int(counters["pswpin"])


def is_sanitized(build):
    """Built with AddressSanitizer, which needs more memory."""
    options = json.loads((build / "meson-info/intro-buildoptions.json").read_text(encoding="utf-8"))
    return any(o["name"] == "b_sanitize" and "address" in o["value"] for o in options)

#!/usr/bin/python3
"""Swap under pressure in a small guest, with what makes it safe and without: the matrix.

Each row is a guest of 256 MiB whose only swap is slabswap, and a hog of more than that. It
is "ok" when the hog has read back all it wrote, "moves" when it is still at it after
ROW_SECONDS, "HUNG" when nothing moved for HUNG_SECONDS: not a block of the backup's disk, not
a tenth of the hog's way.

The whole matrix with SLABSWAP_LONG=1 (scripts/test --long), else the rows that are "quick".
SLABSWAP_MATRIX=REGEX takes the rows that match.
"""

import os
import re
import time
from dataclasses import dataclass

import deploy
import runner
import test_swap

MEM_MIB = 256
DEVICE_MIB = 448
# With less than this the rows that hang did not always.
HOG = "--size 320M --rounds 1 --threads 4"
HUNG_SECONDS = 30
# What still moves then, and has found no mismatch, is not going to hang: it is "moves", and as good.
ROW_SECONDS = 90
QUICK_SECONDS = 25
SAMPLE_SECONDS = 0.25
CONSOLE_SECONDS = 10
DEFAULTS = "default"
ASKED = "as asked"
LONG = bool(os.environ.get("SLABSWAP_LONG"))
NO_FLUSHER = "setpriv --bounding-set -sys_resource --inh-caps -sys_resource"


@dataclass
class Row:
    backup: str             # "raw", "file" (with holes), "filled" (file with fill = yes)
    sysctls: str            # DEFAULTS, or ASKED: as the commands in the server's log set them
    expect: str = "ok"      # "ok", "HUNG", or "any": it depends on luck
    server: str = ""        # what is before the server on its command line
    realtime: str = "auto"
    keeps: str = "max"      # memory.max of the hog
    quick: bool = False

    @property
    def name(self):
        extra = ["" if self.realtime == "auto" else f"realtime = {self.realtime}",
                 "no IO_FLUSHER" if self.server else "",
                 "" if self.keeps == "max" else f"memory.max = {self.keeps}"]
        return f"{self.backup}, sysctls {self.sysctls}" + "".join(f", {e}" for e in extra if e)


ROWS = [
    Row("raw", DEFAULTS, quick=True),
    Row("raw", DEFAULTS, "HUNG", realtime="no", server=NO_FLUSHER),
    Row("file", DEFAULTS, "any"),
    Row("filled", DEFAULTS, "any"),
    Row("filled", ASKED),
    Row("raw", ASKED, quick=True),
    Row("raw", DEFAULTS, "any", realtime="no"),
    Row("raw", ASKED, "any", realtime="no"),
    Row("filled", DEFAULTS, keeps="100M"),
    Row("file", ASKED, "any"),
    Row("file", DEFAULTS, keeps="100M"),
]


class Watch:
    """Sees from outside of the guest whether it still swaps."""

    def __init__(self, guest, hog):
        self._guest = guest
        self._hog = hog
        self._last = None
        self._moved = time.monotonic()
        self.longest = 0.0

    def still_for(self):
        """Seconds since something moved."""
        stats = self._guest.monitor.command("query-blockstats")
        now = time.monotonic()
        seen = [self._hog.job.stderr] + [
            (one["stats"]["rd_bytes"], one["stats"]["wr_bytes"]) for one in stats]
        if seen != self._last:
            self.longest = max(self.longest, now - self._moved)
            self._last, self._moved = seen, now
        return now - self._moved


def start_server(lab, guest, row):
    """With the device attached, and what it asked of the kernel done if the row is so."""
    path, keys = "/dev/vda", ""
    if row.backup != "raw":
        guest.run("mkfs.ext4 -q /dev/vda && mkdir -p /mnt/vda && mount /dev/vda /mnt/vda", timeout=60)
        path, keys = "/mnt/vda/backup.img", "fill = yes" if row.backup == "filled" else ""
    server = deploy.Server(guest, lab.build, DEVICE_MIB, path, backup_keys=keys, limits=f"realtime = {row.realtime}")
    server.prefix = row.server
    server.start(120)
    if row.sysctls == ASKED:
        commands = re.findall(r"sysctl -w \S+$", server.log, re.MULTILINE)
        assert len(commands) == 2, server.log
        guest.run(" && ".join(commands))
        server.stop()
        server.start(120)
    server.attach()
    return server


def swap(guest, server, hog, seconds):
    """(verdict, longest pause, what a person wants to read)"""
    started = time.monotonic()
    watch = Watch(guest, hog)
    while hog.job.poll() is None:
        if watch.still_for() > HUNG_SECONDS:
            before = len(guest.console)
            for key in "mw":
                guest.sysrq(key)
            end = time.monotonic() + CONSOLE_SECONDS
            while time.monotonic() < end and "Showing busy workqueues" not in guest.console[before:]:
                time.sleep(SAMPLE_SECONDS)
            return "HUNG", watch.longest, server.log + guest.console[before:]
        if time.monotonic() - started > seconds:
            assert "memhog: page" not in hog.job.stderr, hog.job.stderr
            return "moves", watch.longest, server.log
        time.sleep(SAMPLE_SECONDS)
    return "ok" if hog.job.status == 0 else f"status {hog.job.status}", watch.longest, server.log + hog.job.stderr


def run_row(lab, row):
    guest = lab.run.guest("matrix", mem_mib=MEM_MIB, smp=2, disks=[512 << 20])
    try:
        lab.run.wait_ready()
        # Hogs read at random: without it most of what is read was not asked for.
        guest.run("modprobe nbd && sysctl -q -w vm.page-cluster=0")
        server = start_server(lab, guest, row)
        guest.run("mkswap /dev/nbd0 && swapon /dev/nbd0")
        guest.run(f"echo {row.keeps} >/sys/fs/cgroup/swappable/memory.max")
        # What is to hang gets the time to, also where everything is slow.
        seconds = 2 * ROW_SECONDS if row.expect == "HUNG" else ROW_SECONDS if LONG else QUICK_SECONDS
        verdict, longest, text = swap(guest, server, deploy.Hog(guest, lab.build, HOG), seconds)
        # Where a limit makes it swap, the machine itself is not short of memory.
        if row.realtime == "auto" and row.keeps == "max" and verdict != "HUNG":
            assert server.status()["realtime"]["switches"] > 0, "it never was a real-time task"
        return verdict, longest, text
    finally:
        lab.run.forget(guest)


@runner.deadline(3000 if LONG else 400)
def test_matrix(lab):
    wanted = os.environ.get("SLABSWAP_MATRIX")
    bad = []
    for row in ROWS:
        if not (re.search(wanted, row.name) if wanted else LONG or row.quick):
            continue
        verdict, longest, text = run_row(lab, row)
        print(f"# | {row.name} | {lab.run.kernel.series} | {verdict} | {longest:.1f} s |", flush=True)
        if verdict not in {"ok": ("ok", "moves"), "any": ("ok", "moves", "HUNG")}.get(row.expect, (row.expect,)):
            bad.append(f"{row.name}: {verdict}, expected {row.expect}\n{text}")
    assert not bad, "\n".join(bad)


def check_tasks(client):
    """PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE on every thread, one of io_uring among them."""
    stats = client.run("dd if=/dev/zero of=/dev/nbd0 bs=64k count=8 conv=fsync status=none && "
                       "cat /proc/$(pidof slabswap-nbd)/task/*/stat")[1]
    tasks = [re.match(r"\d+ \((.*)\) \S+ (?:\S+ ){5}(\d+) ", line).groups() for line in stats.splitlines()]
    assert len(tasks) >= 3 and any(name.startswith("iou-wrk") for name, _ in tasks), tasks
    assert all(int(flags) & 0x180000 == 0x180000 for _, flags in tasks), tasks


@runner.deadline(240)
def test_daemon_killed_while_swapping(lab):
    """With tests/tools/alloc_guard.c: the server allocates nothing while it serves."""
    donor, client = test_swap.pair(lab)
    daemon = deploy.Daemon(donor, lab.build, test_swap.POOL_MIB)
    server = deploy.Server(client, lab.build, test_swap.DEVICE_MIB, "/dev/vda", daemon.portal, limits="strict = yes")
    # A sanitizer has a malloc() of its own, and wants to be first.
    is_guarded = not deploy.is_sanitized(lab.build)
    server.prefix = f"env LD_PRELOAD={lab.build}/tests/tools/liballoc_guard.so" if is_guarded else ""
    daemon.start()
    server.start()
    server.wait_up()
    server.attach()
    check_tasks(client)
    seen = client.run("cat /proc/$(pidof slabswap-nbd)/oom_score_adj; chrt -p $(pidof slabswap-nbd)")[1]
    assert seen.startswith("-1000\n") and "SCHED_OTHER" in seen, seen

    client.run("mkswap /dev/nbd0 && swapon /dev/nbd0")
    client.run(f"echo {test_swap.HOG_KEEPS} >/sys/fs/cgroup/swappable/memory.max")
    hog = deploy.Hog(client, lab.build, "--size 40M --rounds 2 --threads 4")
    hog.wait_progress("round 1: 20 %")
    before = server.status()
    assert before["pages"]["read_remote"] > 0, before
    daemon.kill()
    status = server.wait_status(
        lambda s: s["errors"]["daemons_lost"] > 0 and
        s["pages"]["read_backup"] > before["pages"]["read_backup"], 10)
    assert status["slabs"]["mapped"] == 0, status
    daemon.start()
    server.wait_up()
    test_swap.check_hog(hog.finish(120))
    after = server.status()
    assert after["slabs"]["maps"] > status["slabs"]["maps"], after
    assert after["pages"]["written_remote"] > status["pages"]["written_remote"], after
    assert after["errors"]["reads"] == after["errors"]["writes"] == 0, after
    assert after["nbd"]["error_replies"] == 0 and after["pages"]["lost"] == 0, after
    client.run("swapoff /dev/nbd0", timeout=60)
    server.detach()
    server.stop()
    assert not is_guarded or "alloc_guard: good" in server.log, server.log
    daemon.stop()
    for guest in (donor, client):
        test_swap.check_kernel(guest)


if __name__ == "__main__":
    runner.main()

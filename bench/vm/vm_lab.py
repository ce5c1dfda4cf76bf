# SPDX-License-Identifier: MIT
"""What the parts of bench/vm share: two guests of one processor each (tests/vm), and programs in them."""
import os
import statistics
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "vm"))
import deploy  # noqa: E402  (of tests/vm)
import guestvm  # noqa: E402
import qemu  # noqa: E402

# What a subject may fail with; the bench goes on with the others.
FAILURES = (guestvm.GuestError, AssertionError, qemu.QemuError)
MIB = 1 << 20
# Enough for every part but the one that is about too little memory.
DONOR_MIB = 896
CLIENT_MIB = 384
DISKS_MIB = (128, 128)


class Unavailable(Exception):
    """The subject cannot run here; the text says why."""


class Lab:
    """A donor and a client on one link. Parts leave them as they found them, or shut() them."""

    def __init__(self, run, build, is_quick, limits=""):
        """@limits: more of slabswap-nbd's [limits]."""
        self.run = run
        self.build = build
        self.is_quick = is_quick
        self.limits = limits
        self.donor = self.client = self._booted = None
        self._link = run.link()

    def boot(self, client_mib=CLIENT_MIB, disks_mib=DISKS_MIB):
        """Those of an earlier part, if they are alike and well; else new ones."""
        wanted = (client_mib, disks_mib)
        if self._booted == wanted and self.donor.alive() and self.client.alive():
            return
        self.shut()
        self.donor = self.run.guest("bench-donor", mem_mib=DONOR_MIB, links=[(self._link, 2)])
        self.client = self.run.guest("bench-client", mem_mib=client_mib, links=[(self._link, 1)],
                                     disks=[mib * MIB for mib in disks_mib])
        for guest in (self.donor, self.client):
            guest.wait_ready()
            guest.rdma_up()
        self.client.run(f"sysctl -q -w {deploy.SYSCTLS}")
        self._booted = wanted

    def shut(self):
        for guest in (self.donor, self.client):
            if guest:
                self.run.forget(guest)
        self.donor = self.client = self._booted = None

    def limit_disk(self, number, iops):
        """The client's disk does so many operations a second from now on."""
        unlimited = {key: 0 for key in ("bps", "bps_rd", "bps_wr", "iops_rd", "iops_wr")}
        self.client.monitor.command("block_set_io_throttle", device=f"disk{number}", iops=iops, **unlimited)


def needs_modules(guest, module, options=""):
    if guest.run(f"modprobe {module} {options}", timeout=60, check=False)[0]:
        raise Unavailable(f"no kernel module {module}")


def needs_programs(guest, *programs):
    """Guests see this machine's programs."""
    for program in programs:
        if guest.run(f"command -v {program}", check=False)[0]:
            raise Unavailable(f"{program} is not installed")


def reason(error):
    """Of a failure, for a cell of a table."""
    return " ".join(str(error).split())[:200].replace("|", "/") or type(error).__name__


def say(text):
    print(text, file=sys.stderr, flush=True)


def rotated(subjects, by):
    """Another one is the first every time."""
    by %= max(1, len(subjects))
    return subjects[by:] + subjects[:by]


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def ratios(ours, others):
    """The median of run by run ratios."""
    return median([a / b for a, b in zip(ours, others) if b])


def goal(text, value):
    """That a ratio is at least 1, as bench/run takes it."""
    return {"goal": text, "value": number(value, 2), "met": None if value is None else value >= 1}


def number(value, digits=0):
    """For a table."""
    return "" if value is None else f"{value:.{digits}f}"


def table(columns, rows, texts=1):
    """Markdown; the first columns are text, the others are numbers."""
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * texts + "---:|" * (len(columns) - texts)]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)

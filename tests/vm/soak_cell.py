#!/usr/bin/python3
"""One run of the soak: a client whose memory is far too small, what it swaps to, and a donor.

Writes what happened as JSON to --out, and beside it a log. The exit status is 0 also when the
subject hung: that is a result.
"""

import argparse
import datetime
import json
import os
import re
import sys
import time
import traceback
from pathlib import Path

import deploy
import guestvm
import soak_subjects

HOGS = 3
THREADS = 4
# Without a word of any hog, which each says something every five seconds.
STALL_SECONDS = 30
HANG_SECONDS = 90
HUNG_TASK_SECONDS = 60
SAMPLE_SECONDS = 10
FINISH_SECONDS = 120
DONOR_OFF_SECONDS = 10
# For the server to see that the donor is gone, before the end.
NOTICE_SECONDS = 20
DROP_IN = guestvm.REPO / "conf/sysctl.d/60-slabswap.conf"
WRITEBACK_MIB = 1024
COMPLAINTS_MAX = 20
COMPLAINTS = ("I/O error", "Read-error", "Write-error", "WARNING:", "BUG:",
              "blocked for more than", "Out of memory", "oom-kill", "Kernel panic")
OOM_KILL = re.compile(r"(?:Out of memory|Memory cgroup out of memory): Killed process \d+ \((.*?)\)")
CHECKED = re.compile(r"checked (\d+), round \d+, longest (\d+) ms, (\d+) mismatches")


class Trouble(Exception):
    """What ends a run: the outcome in a word or two, and more about it."""

    def __init__(self, outcome, detail=""):
        super().__init__(f"{outcome}: {detail}" if detail else outcome)
        self.outcome = outcome


class Cell:
    def __init__(self, run, options):
        self.run = run
        self.options = options
        self.link = run.link()
        self.device_mib = 2 * options.mib
        self.hog_mib = options.mib * 5 // 4
        self.donor = self._boot_donor()
        self.client = run.guest("client", mem_mib=options.mib, links=[(self.link, 1)],
                                disks=[self.device_mib << 20, WRITEBACK_MIB << 20])
        self.subject = soak_subjects.SUBJECTS[options.subject](self.client, options.build,
                                                               self.device_mib)
        self.hogs = []
        self.losses = 0
        self.returns = 0
        self.evidence = []
        self.status = {}
        self.swapped = (0, 0)
        self.written_mib = 0
        self.cpu_seconds = 0
        self._booting = False
        self._turn_at = self._last_loss_at = 0
        self._sampler = None
        self._stalled = False

    def _boot_donor(self):
        return self.run.guest("donor", mem_mib=2 * self.options.mib + 256, links=[(self.link, 2)])

    # what runs

    def set_up(self):
        self.run.wait_ready()
        self._say(f"both guests are up, the client in {self.client.boot_seconds:.0f} s")
        for guest in (self.donor, self.client):
            guest.rdma_up()
        client = self.client
        client.run(f"sysctl -q -p {DROP_IN} && sysctl -q -w kernel.hung_task_panic=1 "
                   f"kernel.hung_task_timeout_secs={HUNG_TASK_SECONDS}")
        client.run("mkfs.ext4 -q /dev/vdb && mkdir -p /mnt/writeback && "
                   "mount /dev/vdb /mnt/writeback", timeout=60)
        try:
            self.subject.start(self.donor)
        except (guestvm.GuestError, AssertionError) as error:
            raise Trouble("does not start", str(error)) from None
        client.run("mkswap /dev/nbd0 && swapon /dev/nbd0")
        self._say("swap is on")

    def load(self):
        """Hogs that check every page, and somebody who writes files as fast as he can."""
        for number in range(HOGS):
            self.hogs.append(deploy.Hog(
                self.client, self.options.build,
                f"--size {self.hog_mib // HOGS}M --threads {THREADS} --seed {number + 1} "
                f"--seconds {self.options.seconds}").job)
        self._writer = self.client.spawn(
            "i=0\nwhile :; do i=$((i + 1))\n"
            f"dd if=/dev/zero of=/mnt/writeback/$((i % 4)) bs=64k count={self.options.mib * 8} "
            "conv=notrunc status=none || exit\ndone", swappable=True)

    # what is seen

    def silence(self):
        """Seconds since a hog has said that it gets on."""
        return time.time() - max(hog.last_output() for hog in self.hogs)

    def watch(self):
        started = time.monotonic()
        self._turn_at = started + self._donor_up_seconds()
        self._last_loss_at = started + self.options.seconds - NOTICE_SECONDS
        sample_at = started
        while any(hog.poll() is None for hog in self.hogs):
            now = time.monotonic()
            self.cpu_seconds = self.client.cpu_seconds() or self.cpu_seconds
            self._check_alive(now - started)
            if now >= sample_at:
                self._sample()
                sample_at = now + SAMPLE_SECONDS
            if self.options.power_off:
                self._turn_donor()
            time.sleep(0.5)

    def _check_alive(self, seconds):
        for error in self.subject.errors():
            raise Trouble("server ended", error)
        silence = self.silence()
        if silence > STALL_SECONDS and not self._stalled:
            self._stalled = True
            self._collect_evidence(seconds, silence)
        elif silence <= STALL_SECONDS:
            self._stalled = False
        if silence > HANG_SECONDS:
            raise Trouble("hang", f"no page in {silence:.0f} s")
        if seconds > self.options.seconds + FINISH_SECONDS:
            raise Trouble("hang", "the hogs do not end")

    def _sample(self):
        """Ask for the counters, and take the answer to the last time. A guest that is busy may be
        late with it; whether it hangs, the hogs say."""
        if self._sampler and self._sampler.poll() is None:
            return
        if self._sampler:
            self._take_sample()
        try:
            self._sampler = self.client.spawn(f"cat /proc/vmstat; echo vdb $(cat /sys/block/vdb/stat); "
                                              f"{self.subject.status_command}")
        except guestvm.GuestTimeout as error:
            self._say(f"no sample: {error}")

    def _take_sample(self):
        lines = self._sampler.stdout.splitlines()
        counters = {line.split()[0]: line.split()[1:] for line in lines if line}
        if self._sampler.status != 0 or "vdb" not in counters:
            self._say(f"no sample: {self._sampler.report()}")
            return
        self.swapped = int(counters["pswpout"][0]), int(counters["pswpin"][0])
        self.written_mib = int(counters["vdb"][6]) >> 11
        if lines[-1].startswith("{"):
            self.status = json.loads(lines[-1])

    def _turn_donor(self):
        """The donor serves for a while, is off for a while, boots."""
        now = time.monotonic()
        if self._booting:
            self._serve_when_up()
        elif now < self._turn_at:
            return
        elif self.donor.alive() and now < self._last_loss_at:
            self._say("donor: power off")
            self.run.forget(self.donor)
            self.losses += 1
            self._turn_at = now + DONOR_OFF_SECONDS
        elif not self.donor.alive():
            self._say("donor: boots")
            self.donor = self._boot_donor()
            self._booting = True

    def _serve_when_up(self):
        try:
            if not self.donor.ready():
                return
            self._booting = False
            self.donor.wait_ready()
            self.donor.rdma_up()
            self.subject.donor_returned(self.donor)
        except (guestvm.GuestError, AssertionError) as error:
            # On so busy a machine; another boot may do better.
            self._say(f"donor: does not serve: {error}")
            self._booting = False
            self.run.forget(self.donor)
            self._turn_at = time.monotonic()
            return
        self.returns += 1
        self._turn_at = time.monotonic() + self._donor_up_seconds()
        self._say("donor: serves again")

    def _donor_up_seconds(self):
        """Three losses in ten minutes, at least one in a short run. Between them the donor must
        have the time to get pages that are read again: what it had is gone each time."""
        return min(150, self.options.seconds / 3)

    def _collect_evidence(self, seconds, silence):
        self._say(f"no page in {silence:.0f} s, after {seconds:.0f} s: tasks, CPUs and memory")
        before = len(self.client.console)
        for key in "wlm":
            self.client.sysrq(key)
        pid = self.subject.pid()
        try:
            if pid:
                self._say(self.client.run(
                    f"for t in /proc/{pid}/task/*; do echo $t; cat $t/wchan $t/stack; "
                    "grep -E '^(State|Vm|voluntary)' $t/status; done", timeout=10)[1])
        except guestvm.GuestError as error:
            self._say(str(error))
        self._say(self.client.console[before:])

    def _say(self, text):
        self.evidence.append(f"[{datetime.datetime.now():%H:%M:%S}] {text}")

    # the end

    def wind_up(self):
        for hog in self.hogs:
            status, _ = hog.wait(30, check=False)
            if status == 128 + 9:
                raise Trouble("OOM kill", "of a hog")
            if status not in (0, 1):
                raise Trouble("hog failed", f"status {status}\n{hog.report()}")
        self._say("the hogs are done")
        self._writer.kill()
        self._sampler.wait(60, check=False)
        self._sample()
        self._sampler.wait(60)
        self._take_sample()
        self.client.run("swapoff /dev/nbd0", timeout=120)
        self.subject.stop()

    def complaints(self):
        lines = self.client.console.splitlines()
        try:
            if self.client.alive():
                lines += self.client.dmesg().splitlines()
        except guestvm.GuestError as error:
            self._say(str(error))
        return list(dict.fromkeys(line.strip() for line in lines
                                  if any(word in line for word in COMPLAINTS)))[:COMPLAINTS_MAX]

    def counts(self):
        """What the hogs have said: (pages checked, longest in ms, mismatches)."""
        checked = longest = mismatches = 0
        for hog in self.hogs:
            said = CHECKED.findall(hog.stderr)
            if hog.stdout.startswith("{"):
                result = json.loads(hog.stdout)
                said = [(result["checked"], result["longest_ms"], result["mismatches"])]
            if said:
                checked += int(said[-1][0])
                longest = max(longest, int(said[-1][1]))
                mismatches += int(said[-1][2])
        return checked, longest, mismatches


def measure(cell):
    """The whole run: its outcome, and how long the load ran."""
    try:
        cell.set_up()
    except (guestvm.GuestError, AssertionError, OSError):
        return "no set-up", traceback.format_exc(), 0
    except Trouble as trouble:
        return trouble.outcome, str(trouble), 0
    try:
        started = time.monotonic()
        cell.load()
        cell.watch()
        seconds = time.monotonic() - started
        cell.wind_up()
        return "ok", "", seconds
    except Trouble as trouble:
        return trouble.outcome, str(trouble), time.monotonic() - started
    except guestvm.GuestDied as error:
        return "panic", str(error), time.monotonic() - started
    except guestvm.GuestTimeout as error:
        return "hang", str(error), time.monotonic() - started
    except (guestvm.GuestError, AssertionError, OSError):
        return "failed", traceback.format_exc(), time.monotonic() - started


def result_of(cell, outcome, detail, seconds):
    options = cell.options
    checked, longest, mismatches = cell.counts()
    complaints = cell.complaints()
    if outcome == "panic" and any("blocked for more than" in line for line in complaints):
        outcome = "hang (hung task)"
    kills = OOM_KILL.findall("\n".join(complaints))
    if mismatches:
        # Whatever else followed from it.
        outcome = "mismatch"
    elif outcome == "ok" and kills:
        outcome = "OOM kill"
    elif outcome == "ok" and complaints:
        outcome = "kernel complains"
    pages = cell.status.get("pages", {})
    ours = {key: pages.get(key) for key in ("read_remote", "read_backup", "read_buffer",
                                            "written", "written_remote", "promoted")}
    return {
        "date": f"{datetime.datetime.now():%Y-%m-%d %H:%M}", "kernel": cell.run.kernel.series,
        "mib": options.mib, "subject": options.subject, "power_off": options.power_off,
        "hog_mib": cell.hog_mib, "seconds_wanted": options.seconds, "seconds": round(seconds),
        "cpu_seconds": round(cell.cpu_seconds), "load": os.getloadavg()[1],
        "outcome": outcome, "detail": detail, "complaints": complaints, "oom_kills": kills,
        "checked": checked, "mismatches": mismatches, "longest_ms": longest,
        "swapped_out": cell.swapped[0], "swapped_in": cell.swapped[1],
        "writeback_mib": cell.written_mib, "donor_losses": cell.losses, "donor_returns": cell.returns,
        **ours, "daemons_lost": cell.status.get("errors", {}).get("daemons_lost"),
        "error_replies": cell.status.get("nbd", {}).get("error_replies"), "pages_lost": pages.get("lost"),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=lambda path: Path(path).resolve(), required=True)
    parser.add_argument("--kernel", choices=guestvm.SERIES, required=True)
    parser.add_argument("--mib", type=int, required=True, help="memory of the client")
    parser.add_argument("--subject", choices=soak_subjects.SUBJECTS, default="slabswap")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--power-off", action="store_true", help="of the donor, now and then")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    with guestvm.Run(guestvm.Kernel(options.kernel), visible=[options.build]) as run:
        cell = Cell(run, options)
        result = result_of(cell, *measure(cell))
        log = [*cell.evidence, "--- server", cell.subject.log(), "--- hogs",
               *(hog.stderr[-600:] for hog in cell.hogs), "--- console", cell.client.console]
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        options.out.with_suffix(".log").write_text("\n".join(log), encoding="utf-8")
    print(json.dumps(result))
    sys.exit(0)


if __name__ == "__main__":
    main()

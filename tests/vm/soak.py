#!/usr/bin/python3
"""The soak: every kernel, size of client and way to swap, each a run of soak_cell.py.

    tests/vm/soak.py --build build                    all of it
    tests/vm/soak.py --build build --seconds 60 --mib 128 --kernel 6.1
    tests/vm/soak.py --table build/soak               the table of the runs that are there

Each run leaves KERNEL-MIB-SUBJECT.json and .log in --out.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import guestvm
import qemu
import soak_subjects

SIZES = (128, 192, 256, 512)
OURS = "slabswap"
PEERS = ("nbd-client", "nbdkit", "nbdkit-swap")
SECONDS = int(os.environ.get("SLABSWAP_SOAK_SECONDS", "600"))
PEER_SECONDS = min(SECONDS, 120)
# By then, pages must have come from the donor, whenever it was off.
REMOTE_SECONDS = 240
# Boot, the deadlines of a run that hangs, and a busy machine.
EXTRA_SECONDS = 420

NAMES = {"slabswap": "slabswap", "nbd-client": "`nbd-client` to `nbdkit memory`",
         "nbdkit": "through `nbdkit nbd`", "nbdkit-swap": "through `nbdkit --swap nbd`"}


class Running:
    """A run in a process of its own, so that several can go on at a time."""

    def __init__(self, options, kernel, mib, subject, seconds, power_off):
        suffix = "-power-off" if power_off and subject != OURS else ""
        self.name = f"{kernel}-{mib}-{subject}{suffix}"
        self.out = options.out / f"{self.name}.json"
        self.out.unlink(missing_ok=True)
        self._errors = options.out / f"{self.name}.err"
        with open(self._errors, "wb") as errors:
            # It dies with us, and its guests with it.
            self._process = qemu.popen(
                [sys.executable, Path(__file__).with_name("soak_cell.py"), "--build", options.build,
                 "--kernel", kernel, "--mib", str(mib), "--subject", subject,
                 "--seconds", str(seconds), "--out", self.out,
                 *(["--power-off"] if power_off else [])], signal.SIGTERM,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
        self._end = time.monotonic() + seconds + EXTRA_SECONDS

    def is_done(self):
        if self._process.poll() is None and time.monotonic() > self._end:
            self._process.terminate()
            self._process.wait()
        return self._process.poll() is not None

    def result(self):
        if self.out.exists():
            return json.loads(self.out.read_text(encoding="utf-8"))
        return {"outcome": "no result", "detail": self._errors.read_text(errors="replace")}

    def log(self):
        path = self.out.with_suffix(".log")
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def run_all(options, cells):
    """The cells, a few at a time: yields each that is done."""
    # To look for KVM takes seconds: once is enough.
    os.environ["SLABSWAP_VM_ACCEL"] = qemu.accel(guestvm.Kernel())
    options.out.mkdir(parents=True, exist_ok=True)
    left = list(cells)
    running = []
    while left or running:
        while left and len(running) < options.jobs:
            running.append(Running(options, *left.pop(0)))
        for done in [run for run in running if run.is_done()]:
            running.remove(done)
            yield done
        time.sleep(0.2)


def problems_of(result):
    """What makes a run of ours a failure, as lines."""
    found = []
    if result["outcome"] != "ok":
        return [f"{result['outcome']}: {result['detail']}", *result.get("complaints", [])]
    for key in ("error_replies", "pages_lost", "mismatches"):
        if result[key]:
            found.append(f"{result[key]} {key}")
    if not result["read_remote"] and result["seconds"] >= REMOTE_SECONDS:
        found.append("nothing came from the donor")
    if result["power_off"] and result["donor_losses"] > result["daemons_lost"]:
        found.append(f"{result['donor_losses']} times power off, {result['daemons_lost']} seen")
    return found


def table(results):
    """Markdown."""
    columns = ("kernel", "MiB", "swap on", "outcome", "s", "CPU", "out", "in", "remote", "checked",
               "wrong", "longest", "files", "power off")
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for r in sorted(results, key=lambda r: (r["kernel"], r["mib"], list(NAMES).index(r["subject"]))):
        sources = r["read_remote"], r["read_backup"], r["read_buffer"]
        remote = "-" if None in sources else f"{100 * sources[0] / max(sum(sources), 1):.0f} %"
        lines.append("| " + " | ".join(str(value) for value in (
            r["kernel"], r["mib"], NAMES[r["subject"]],
            f"**{r['outcome']}**" if r["outcome"] != "ok" else "ok", r["seconds"],
            f"{r['cpu_seconds']} s", r["swapped_out"], r["swapped_in"], remote, r["checked"], r["mismatches"],
            f"{r['longest_ms'] / 1000:.1f} s", r["writeback_mib"], r["donor_losses"])) + " |")
    lines += ["", "kernel and MiB: of the client. s: how long the load ran. CPU: what the client had "
              "of this machine's. out, in: pages swapped. "
              "remote: share of what was read that the donor had. checked: pages whose content a hog "
              "compared, wrong: with another than it should be. longest: until a hog had a page. "
              "files: MiB written to another disk meanwhile. power off: of the donor."]
    return "\n".join(lines)


def machine():
    model = next((line.partition(":")[2].strip() for line in
                  Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
                  if line.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} CPUs; guests emulated by qemu, 1 CPU each"


def stored(folder):
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def cells_of(options):
    for mib in options.mib:
        for subject in options.subject:
            for kernel in options.kernel:
                ours = subject == OURS
                yield (kernel, mib, subject, options.seconds if ours else options.peer_seconds,
                       ours or options.power_off)


def is_ours(name):
    return name.endswith(f"-{OURS}")


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=lambda path: Path(path).resolve(), default=Path("build").resolve())
    parser.add_argument("--kernel", nargs="+", choices=guestvm.SERIES, default=guestvm.SERIES)
    parser.add_argument("--mib", nargs="+", type=int, default=SIZES, help="memory of the client")
    parser.add_argument("--subject", nargs="+", choices=soak_subjects.SUBJECTS, default=(OURS, *PEERS))
    parser.add_argument("--seconds", type=int, default=SECONDS)
    parser.add_argument("--peer-seconds", type=int, default=PEER_SECONDS)
    parser.add_argument("--power-off", action="store_true", help="of the donor also for peers")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, two guests each")
    parser.add_argument("--out", type=Path, help="folder of the results, BUILD/soak")
    parser.add_argument("--table", type=Path, metavar="FOLDER", help="only print that of FOLDER")
    options = parser.parse_args(arguments)
    options.out = options.out or options.build / "soak"
    return options


def main():
    options = parse()
    if options.table:
        print(table(stored(options.table)))
        return

    failed = 0
    for run in run_all(options, cells_of(options)):
        result = run.result()
        problems = problems_of(result) if is_ours(run.name) else []
        failed += bool(problems)
        print(f"{run.name}: {result['outcome']}, {json.dumps(result)}", flush=True)
        for problem in problems:
            print(f"  FAILED {problem}", flush=True)
    print(machine())
    print(table(stored(options.out)))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: MIT
"""Swapping: a program writes a pattern over twice the client's memory and checks every page of it."""
import time

from vm_devices import Disk, NbdTcp, Slabswap, Zram
from vm_lab import (CLIENT_MIB, DISKS_MIB, FAILURES, Unavailable, deploy, goal, median, number, ratios, reason, rotated,
                    say, table)

# Real programs' pages compress to about a third; with pages that do not, zram has no chance at all.
UNIQUE_PERCENT = 25
THREADS = 8
DEADLINE_SECONDS = 75  # and four times that in emulation
OURS = "slabswap"
NBD = "nbd-client over TCP to nbdkit"
GROUP = "/sys/fs/cgroup/swappable"

# The client's memory, the program's, and what a control group lets it keep: only the program is short of memory,
SHARE = {"client_mib": CLIENT_MIB, "disks_mib": DISKS_MIB, "device_mib": 96, "hog_mib": 48, "limit_mib": 24, "runs": 3}
QUICK_SHARE = {**SHARE, "hog_mib": 24, "limit_mib": 12, "runs": 1}
# or all of the machine, which is the harder case and takes its time.
MACHINE = {"client_mib": 128, "disks_mib": (320,), "device_mib": 320, "hog_mib": 256, "limit_mib": None, "runs": 1}


def measure(lab):
    """{"devices": {name: {"seconds": [of each run], ...}}, "failed": {name: why}, ...}"""
    return measure_case(lab, QUICK_SHARE if lab.is_quick else SHARE)


def measure_machine(lab):
    """The same in a machine that is too small; that takes minutes."""
    return measure_case(lab, MACHINE)


def all_devices(lab):
    devices = [Slabswap(OURS), NbdTcp(NBD, options="-swap"), Disk("swap on the backup disk")]
    if not lab.is_quick:
        devices.append(Zram("zram"))
    return devices


def measure_case(lab, case):
    devices = all_devices(lab)
    found, failed = {device.name: {} for device in devices}, {}
    for run in range(case["runs"]):
        for device in rotated(devices, run):
            if device.name in failed:
                continue
            say(f"swap of {case['hog_mib']} MiB, run {run + 1} of {case['runs']}: {device.name}")
            try:
                for key, value in swap(lab, case, device).items():
                    found[device.name].setdefault(key, []).append(value)
            except (Unavailable, *FAILURES) as error:
                failed[device.name] = why(lab, error)
                # What is left of it would be the next one's trouble.
                lab.shut()
    return {**case, "unique_percent": UNIQUE_PERCENT, "threads": THREADS, "failed": failed,
            "devices": {name: numbers for name, numbers in found.items() if numbers}}


def why(lab, error):
    try:
        if lab.client.alive() and "Out of memory: Killed process" in lab.client.dmesg():
            return "out of memory: the kernel killed the program"
    except FAILURES:
        return f"the client hangs: {reason(error)}"
    return reason(error)


def swap(lab, case, device):
    lab.boot(case["client_mib"], case["disks_mib"])
    device.start(lab, case["device_mib"])
    client = lab.client
    limit = f"{case['limit_mib']}M" if case["limit_mib"] else "max"
    client.run(f"echo {limit} >{GROUP}/memory.max; mkswap {device.path}; swapon {device.swapon_options} {device.path}",
               timeout=60)
    if case["limit_mib"]:
        # What an emulator sees for the first time is slow.
        run_hog(lab, case["limit_mib"] * 5 // 4)
    out_before, in_before = deploy.swap_counters(client)
    start = time.monotonic()
    hog = run_hog(lab, case["hog_mib"])
    seconds = time.monotonic() - start
    out_after, in_after = deploy.swap_counters(client)
    status = device.status()
    client.run(f"swapoff {device.path}; echo max >{GROUP}/memory.max", timeout=60)
    device.stop()
    assert hog["mismatches"] == 0, f"{hog['mismatches']} pages with wrong content"
    pages = status["pages"] if status else {}
    return {"seconds": seconds, "write_seconds": hog["write_seconds"], "read_seconds": hog["round_seconds"][0],
            "pages_out": out_after - out_before, "pages_in": in_after - in_before,
            "in_per_second": (in_after - in_before) / hog["round_seconds"][0], "longest_ms": hog["longest_ms"],
            "from_donor": pages.get("read_remote"), "from_disk": pages.get("read_backup")}


def run_hog(lab, mib):
    options = f"--size {mib}M --rounds 1 --threads {THREADS} --free --unique {UNIQUE_PERCENT}"
    return deploy.Hog(lab.client, lab.build, options).finish(DEADLINE_SECONDS)


def goals(result):
    """As bench/run takes them."""
    ours, peer = (result["devices"].get(name, {}).get("seconds", []) for name in (OURS, NBD))
    return [goal(f"swap of {result['hog_mib']} MiB: time of {NBD} at least that of {OURS}", ratios(peer, ours))]


def tables(result):
    """Markdown."""
    ours = result["devices"].get(OURS, {}).get("seconds", [])
    rows = []
    for name, numbers in result["devices"].items():
        ratio = "" if name == OURS else number(ratios(numbers["seconds"], ours), 2)
        rows.append((name, *(number(median(numbers[key]), digits) for key, digits in (
            ("seconds", 1), ("write_seconds", 1), ("read_seconds", 1), ("pages_out", 0), ("pages_in", 0),
            ("in_per_second", 0), ("longest_ms", 0))), ratio))
    rows += [(name, f"fails: {cause}", *[""] * 7) for name, cause in result["failed"].items()]
    room = f"{result['limit_mib']} MiB" if result["limit_mib"] else f"a client of {result['client_mib']} MiB"
    return (f"Swap: {result['hog_mib']} MiB in {room}, {result['threads']} threads, every page verified, "
            f"{result['runs']} runs:\n\n" + table(
                ("swap on", "seconds", "to write", "to read", "pages out", "pages in", "pages in a second",
                 "longest ms", f"times {OURS}'s"), rows))

# SPDX-License-Identifier: MIT
"""Swapping: a program writes a pattern over twice the client's memory and checks every page of it."""
import time

from vm_devices import Disk, NbdTcp, NvmeRdma, Slabswap, Zram
from vm_lab import FAILURES, Unavailable, deploy, median, number, ratios, reason, rotated, say, table

DONOR_MIB = 896
# Real programs' pages compress to about a third; with pages that do not, zram has no chance at all.
UNIQUE_PERCENT = 25
THREADS = 8
DEADLINE_SECONDS = 120
OURS = "slabswap"
GROUP = "/sys/fs/cgroup/swappable"

# The client's memory, the program's, and what a control group lets it keep.  In the first one the machine itself
# is too small, which is the harder case, and takes its time; in the second one only the program's share is.
MACHINE = {"client_mib": 128, "hog_mib": 256, "limit_mib": None, "runs": 1}
SHARE = {"client_mib": 192, "hog_mib": 96, "limit_mib": 48, "runs": 3}
QUICK_SHARE = {"client_mib": 192, "hog_mib": 32, "limit_mib": 16, "runs": 1}


def measure(lab):
    """{"cases": [{"devices": {name: {"seconds": [of each run], ...}}, "failed": {name: why}, ...}]}"""
    cases = [QUICK_SHARE] if lab.is_quick else [SHARE, MACHINE]
    return {"unique_percent": UNIQUE_PERCENT, "threads": THREADS, "cases": [measure_case(lab, case) for case in cases]}


def all_devices(lab):
    some = [Slabswap(OURS), NbdTcp("nbd-client over TCP to nbdkit", options="-swap"), Disk("swap on the backup disk")]
    return some if lab.is_quick else [*some, Zram("zram"), NvmeRdma("nvme-rdma to nvmet-rdma")]


def measure_case(lab, case):
    lab.shut()
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
    return {**case, "devices": {name: numbers for name, numbers in found.items() if numbers}, "failed": failed}


def why(lab, error):
    try:
        if lab.client.alive() and "Out of memory: Killed process" in lab.client.dmesg():
            return "out of memory: the kernel killed the program"
    except FAILURES:
        return f"the client hangs: {reason(error)}"
    return reason(error)


def swap(lab, case, device):
    device_mib = case["hog_mib"] + 64
    if not lab.client:
        lab.boot(DONOR_MIB, case["client_mib"], [device_mib])
    device.start(lab, device_mib)
    client = lab.client
    limit = f"{case['limit_mib']}M" if case["limit_mib"] else "max"
    client.run(f"echo {limit} >{GROUP}/memory.max; mkswap {device.path} && swapon {device.path}")
    out_before, in_before = deploy.swap_counters(client)
    start = time.monotonic()
    hog = deploy.Hog(client, lab.build, f"--size {case['hog_mib']}M --rounds 1 --threads {THREADS} --free "
                                        f"--unique {UNIQUE_PERCENT}").finish(DEADLINE_SECONDS)
    seconds = time.monotonic() - start
    out_after, in_after = deploy.swap_counters(client)
    status = device.status()
    client.run(f"swapoff {device.path}", timeout=60)
    device.stop()
    assert hog["mismatches"] == 0, f"{hog['mismatches']} pages with wrong content"
    pages = status["pages"] if status else {}
    return {"seconds": seconds, "write_seconds": hog["write_seconds"], "read_seconds": hog["round_seconds"][0],
            "pages_out": out_after - out_before, "pages_in": in_after - in_before,
            "in_per_second": (in_after - in_before) / hog["round_seconds"][0], "longest_ms": hog["longest_ms"],
            "from_donor": pages.get("read_remote"), "from_disk": pages.get("read_backup")}


def tables(result):
    return "\n\n".join(case_table(result, case) for case in result["cases"])


def case_table(result, case):
    ours = case["devices"].get(OURS, {}).get("seconds", [])
    rows = []
    for name, numbers in case["devices"].items():
        ratio = "" if name == OURS else number(ratios(numbers["seconds"], ours), 2)
        rows.append((name, *(number(median(numbers[key]), digits) for key, digits in (
            ("seconds", 1), ("write_seconds", 1), ("read_seconds", 1), ("pages_out", 0), ("pages_in", 0),
            ("in_per_second", 0), ("longest_ms", 0))), ratio))
    rows += [(name, f"fails: {reason}", *[""] * 7) for name, reason in case["failed"].items()]
    room = f"{case['limit_mib']} MiB" if case["limit_mib"] else f"a client of {case['client_mib']} MiB"
    return (f"Swap: {case['hog_mib']} MiB in {room}, {result['threads']} threads, every page verified, "
            f"{case['runs']} runs:\n\n" + table(
                ("swap on", "seconds", "to write", "to read", "pages out", "pages in", "pages in a second",
                 "longest ms", f"times {OURS}'s"), rows))

# SPDX-License-Identifier: MIT
"""Swapping: a program writes a pattern over twice the client's memory and checks every page of it."""
import time

from vm_devices import Disk, NbdTcp, NvmeRdma, Slabswap, Zram
from vm_lab import FAILURES, Unavailable, deploy, median, number, ratios, reason, rotated, say, table

CLIENT_MIB = 128
DONOR_MIB = 896
HOG_MIB = 2 * CLIENT_MIB
DEVICE_MIB = HOG_MIB + 64
# Real programs' pages compress to about a third; with pages that do not, zram has no chance at all.
UNIQUE_PERCENT = 25
THREADS = 8
RUNS = 3
DEADLINE_SECONDS = 90
OURS = "slabswap"


def measure(lab):
    """{"devices": {name: {"seconds": [of each run], ...}}, "failed": {name: why}, ...}"""
    devices = [Slabswap(OURS), NbdTcp("nbd-client over TCP to nbdkit", options="-swap"), Zram("zram"),
               Disk("swap on the backup disk")]
    if not lab.is_quick:
        devices.append(NvmeRdma("nvme-rdma to nvmet-rdma"))
    runs = 1 if lab.is_quick else RUNS
    numbers = {device.name: {} for device in devices}
    failed = {}
    for run in range(runs):
        for device in rotated(devices, run):
            if device.name in failed:
                continue
            say(f"swap, run {run + 1} of {runs}: {device.name}")
            try:
                for key, value in swap(lab, device).items():
                    numbers[device.name].setdefault(key, []).append(value)
            except (Unavailable, *FAILURES) as error:
                failed[device.name] = reason(error)
                # What is left of it would be the next one's trouble.
                lab.shut()
    return {"client_mib": CLIENT_MIB, "hog_mib": HOG_MIB, "unique_percent": UNIQUE_PERCENT, "threads": THREADS,
            "runs": runs, "devices": {name: found for name, found in numbers.items() if found}, "failed": failed}


def swap(lab, device):
    if not lab.client:
        lab.boot(DONOR_MIB, CLIENT_MIB, [DEVICE_MIB])
    device.start(lab, DEVICE_MIB)
    client = lab.client
    client.run(f"mkswap {device.path} && swapon {device.path}")
    out_before, in_before = deploy.swap_counters(client)
    start = time.monotonic()
    hog = deploy.Hog(client, lab.build, f"--size {HOG_MIB}M --rounds 1 --threads {THREADS} --free "
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
    ours = result["devices"].get(OURS, {}).get("seconds", [])
    rows = []
    for name, numbers in result["devices"].items():
        ratio = "" if name == OURS else number(ratios(numbers["seconds"], ours), 2)
        rows.append((name, *(number(median(numbers[key]), digits) for key, digits in (
            ("seconds", 1), ("write_seconds", 1), ("read_seconds", 1), ("pages_out", 0), ("pages_in", 0),
            ("in_per_second", 0), ("longest_ms", 0))), ratio))
    rows += [(name, f"fails: {why}", *[""] * 7) for name, why in result["failed"].items()]
    return (f"Swap: {result['hog_mib']} MiB in a client of {result['client_mib']} MiB, {result['threads']} threads, "
            f"every page verified, {result['runs']} runs:\n\n" + table(
                ("swap on", "seconds", "to write", "to read", "pages out", "pages in", "pages in a second",
                 "longest ms", f"times {OURS}'s"), rows))

# SPDX-License-Identifier: MIT
"""fio on the kernel's block devices: 4 KiB at random, ours over rxe beside nvme-rdma and nbd over TCP."""
import json

from vm_devices import NO_BACKUP, Floor, NbdTcp, NvmeRdma, RdmaFloor, Slabswap, SlabswapServer
from vm_lab import FAILURES, Unavailable, goal, median, needs_programs, number, ratios, reason, rotated, say, table
from vm_rxe import RxeAlone

# Of each device: more than enough for pages at random, and soon written in full.
DEVICE_MIB = 32
RUNS, QUICK_RUNS = 5, 1
SECONDS = 0.8
WARM_UP_SECONDS = 0.1
RAMP_SECONDS = 0.2
# name, fio's rw, queue depth
JOBS = [("read depth 1", "randread", 1), ("read depth 16", "randread", 16),
        ("write depth 1", "randwrite", 1), ("write depth 16", "randwrite", 16)]
PERCENTILES = {"p50_us": "50.000000", "p99_us": "99.000000", "p999_us": "99.900000"}
OURS = "slabswap, no backup"
# Longer than a page takes here.
POLLING_LIMITS = "spin_us = 5000"
POLLING = f"{OURS}, spin_us 5000"
# What a program between the kernel and the donor costs by itself.
FLOOR = "a server with nothing behind it"
RDMA_FLOOR = "a server with RDMA behind it and nothing else"
RXE = "RDMA alone (perftest)"
PEERS = ("nvme-rdma to nvmet-rdma", "nbd-client over TCP to nbdkit")


def measure(lab):
    """What print_table() takes: {"jobs": {job: {device: {"iops": [of each run], ...}}}, ...}"""
    lab.boot()
    needs_programs(lab.client, "fio")
    runs = QUICK_RUNS if lab.is_quick else RUNS
    servers = [SlabswapServer(NO_BACKUP)]
    servers.append(SlabswapServer("/dev/vda", device="swap1", daemon_of=servers[0]))
    servers.append(SlabswapServer(NO_BACKUP, device="swap2", daemon_of=servers[0], limits=POLLING_LIMITS))
    devices, failed = start_all(lab, all_devices(lab, *servers))
    jobs = {job[0]: {device.name: {} for device in devices} for job in JOBS}
    for run in range(runs):
        for device in rotated(devices, run):
            say(f"fio, run {run + 1} of {runs}: {device.name}")
            for job, numbers in run_jobs(lab, device, SECONDS).items():
                for key, value in numbers.items():
                    jobs[job][device.name].setdefault(key, []).append(value)
    status = {device.name: device.status() for device in devices if device.status()}
    stop_all(devices, servers)
    return {"device_mib": DEVICE_MIB, "runs": runs, "seconds": SECONDS, "jobs": jobs, "failed": failed,
            "status": status}


def all_devices(lab, plain, backed, polling):
    peers = [NvmeRdma(PEERS[0]), NbdTcp(PEERS[1], "nbd3"), Floor(FLOOR, "nbd4"), RxeAlone(RXE)]
    if lab.is_quick:
        return [Slabswap(OURS, plain), *peers]
    return [Slabswap(OURS, plain), Slabswap(f"{OURS}, 4 connections", plain, node="nbd1", connections=4),
            Slabswap("slabswap, backup on a disk", backed, node="nbd2"), Slabswap(POLLING, polling, node="nbd7"),
            *peers, RdmaFloor(RDMA_FLOOR, "nbd5"), RdmaFloor(f"{RDMA_FLOOR}, polling", "nbd6", polls=True)]


def stop_all(devices, servers):
    for device in devices:
        device.stop()
    # The first one's daemon is the others' too.
    for server in reversed(servers):
        if server.is_running():
            server.stop()


def start_all(lab, devices):
    """All at the same time, so that they can be visited in turn: (those that run, {name: why not})."""
    running, failed = [], {}
    for device in devices:
        try:
            device.start(lab, DEVICE_MIB)
            if device.path:
                fill(lab.client, device.path)
            running.append(device)
        except (Unavailable, *FAILURES) as error:
            failed[device.name] = reason(error)
    return running, failed


def fill(guest, path):
    """Reads are to find data, and what an emulator sees for the first time is slow."""
    guest.run(f"fio --name=fill --filename={path} --ioengine=libaio --direct=1 --rw=write --bs=128k --iodepth=4 "
              "--output=/dev/null", timeout=60)
    fio(guest, path, WARM_UP_SECONDS)


def run_jobs(lab, device, seconds):
    """{job: {number: value}}"""
    if not device.path:
        return device.measure(JOBS)
    return fio(lab.client, device.path, seconds)


def fio(guest, path, seconds):
    """All jobs, one after the other: {job: {number: value}}"""
    jobs = " ".join(f"--stonewall --name='{name}' --rw={rw} --iodepth={depth}" for name, rw, depth in JOBS)
    _, out = guest.run(
        f"fio --output-format=json --filename={path} --ioengine=libaio --direct=1 --bs=4k --randrepeat=0 "
        f"--norandommap --thread --time_based --runtime={round(seconds * 1000)}ms "
        f"--ramp_time={round(RAMP_SECONDS * 1000)}ms --percentile_list=50:99:99.9 {jobs}", timeout=30 + 10 * seconds)
    results = {}
    for job in json.loads(out[out.index("{"):])["jobs"]:
        side = max(job["read"], job["write"], key=lambda numbers: numbers["total_ios"])
        percentiles = side["clat_ns"]["percentile"]
        results[job["jobname"]] = {"iops": side["iops"], **{
            key: percentiles[name] / 1000 for key, name in PERCENTILES.items()}}
    return results


def goals(result):
    """As bench/run takes them."""
    return [goal(f"{job}: IOPS of {ours} at least those of {peer}",
                 ratios(devices.get(ours, {}).get("iops", []), devices.get(peer, {}).get("iops", [])))
            for job, devices in result["jobs"].items() for ours in (OURS, *({POLLING} & devices.keys()))
            for peer in PEERS]


def tables(result):
    """Markdown: a table, and what could not run."""
    rows = []
    for job, devices in result["jobs"].items():
        ours = devices.get(OURS, {}).get("iops", [])
        for name, numbers in devices.items():
            iops = numbers["iops"]
            ratio = "" if name == OURS else number(ratios(ours, iops), 2)
            rows.append((job, name, number(median(iops)), number(min(iops)), number(max(iops)),
                         *(number(median(numbers.get(key, []))) for key in PERCENTILES), ratio))
    rows += [("all", name, f"not run: {why}", "", "", "", "", "", "") for name, why in result["failed"].items()]
    return (f"fio, 4 KiB at random on devices of {result['device_mib']} MiB, {result['runs']} runs "
            f"of {result['seconds']} s a job:\n\n" + table(
                ("job", "device", "IOPS", "least", "most", "p50 us", "p99 us", "p99.9 us", "slabswap/this"), rows, 2))

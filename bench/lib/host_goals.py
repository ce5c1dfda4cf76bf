# SPDX-License-Identifier: MIT
"""What the host part has to reach: medians of ratios of runs that came right after each other."""
import figures
import subjects
from subjects import FLOOR, NBDKIT_MEMORY, PROXY

GIB = 1 << 30
BYTES_PER_GIB = 64 << 10
BASE_BYTES = 16 << 20

AT_LEAST = "at least"
AT_MOST = "at most"
BELOW = "below"
COMPARE = {AT_LEAST: lambda value, bound: value >= bound, AT_MOST: lambda value, bound: value <= bound,
           BELOW: lambda value, bound: value < bound}
KEYS = {"iops": "IOPS", "p50_us": "p50", "p99_us": "p99", "cpu_us": "CPU of an operation"}

# job, figure, ours, the peer, how, bound
RATIOS = [
    ("read-4k-1x32", "iops", "shm-none", NBDKIT_MEMORY, AT_LEAST, 2.0),
    ("read-4k-1x32", "p99_us", "shm-none", NBDKIT_MEMORY, BELOW, 1.0),
    ("write-4k-1x32", "iops", "shm-none", NBDKIT_MEMORY, AT_LEAST, 1.5),
    ("write-4k-1x32", "p99_us", "shm-none", NBDKIT_MEMORY, BELOW, 1.0),
    ("read-4k-1x1", "p50_us", "shm-none", NBDKIT_MEMORY, AT_MOST, 0.5),
    ("write-4k-1x1", "p50_us", "shm-none", NBDKIT_MEMORY, AT_MOST, 0.5),
    ("read-4k-1x1", "p50_us", "shm-none-off", NBDKIT_MEMORY, AT_MOST, 0.9),
    ("write-4k-1x1", "p50_us", "shm-none-off", NBDKIT_MEMORY, AT_MOST, 0.9),
    ("burst-4k-1x32", "iops", "shm-remote", NBDKIT_MEMORY, AT_LEAST, 1.2),
    ("read-4k-1x32", "iops", "tcp-none", PROXY, AT_LEAST, 3.0),
    ("write-4k-1x32", "iops", "tcp-none", PROXY, AT_LEAST, 3.0),
    ("read-4k-1x1", "p50_us", "tcp-none", PROXY, AT_MOST, 0.6),
    ("write-4k-1x1", "p50_us", "tcp-none", PROXY, AT_MOST, 0.6),
    ("read-4k-1x32", "iops", "shm-none", FLOOR, AT_LEAST, 0.7),
    ("read-4k-1x1", "cpu_us", "shm-none-off", NBDKIT_MEMORY, BELOW, 1.0),
    ("read-4k-1x32", "cpu_us", "shm-none", NBDKIT_MEMORY, BELOW, 1.0),
    ("write-4k-1x1", "cpu_us", "shm-none-off", NBDKIT_MEMORY, BELOW, 1.0),
    ("write-4k-1x32", "cpu_us", "shm-none", NBDKIT_MEMORY, BELOW, 1.0),
]
# What stands in, and is named, for one that the server's settings do not allow.
STAND_INS = {"shm-none": "shm-remote", "shm-none-off": "shm-none", "tcp-none": "tcp-remote"}


def judge_ratio(results, started, goal):
    job, key, ours, peer, how, bound = goal
    while ours not in started and ours in STAND_INS:
        ours = STAND_INS[ours]
    value = figures.ratio(results, job, key, ours, peer)
    return {"goal": f"{job}: {KEYS[key]} of {ours} {how} {bound} of {peer}",
            "value": "" if value is None else f"{value:.2f}",
            "met": None if value is None else COMPARE[how](value, bound)}


def server_bytes(memory):
    """Of the front, without the daemon's memory that it has mapped."""
    return memory[-1]["peak"] - memory[-1]["shared"]


def judge_memory(part):
    ours = {subject.name: server_bytes(part.memory[subject.name]) for subject in part.started
            if subject.ours and subject.name in part.memory}
    bound = part.arguments.size * BYTES_PER_GIB // GIB + subjects.BUFFER_BYTES + BASE_BYTES
    most = max(ours, key=ours.get, default=None)
    return {"goal": f"memory of slabswap-nbd at most {bound / (1 << 20):.1f} MiB: 64 KiB per GiB of device, "
                    f"{subjects.BUFFERS} of buffers, and 16 MiB",
            "value": "" if most is None else f"{ours[most] / (1 << 20):.1f} MiB ({most})",
            "met": None if most is None else ours[most] <= bound}


def judge(part):
    started = {subject.name for subject in part.started}
    wanted = {job.name for job in part.jobs}
    verdicts = [judge_ratio(part.results, started, goal) for goal in RATIOS if goal[0] in wanted]
    return verdicts + [judge_memory(part)]

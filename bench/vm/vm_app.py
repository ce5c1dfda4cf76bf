# SPDX-License-Identifier: MIT
"""redis with all, three quarters and half of the memory that it needs: the shape of the paper's figures."""
import csv

from vm_devices import Disk, Slabswap
from vm_lab import FAILURES, Unavailable, deploy, median, needs_programs, number, ratios, reason, rotated, say, table

DEVICE_MIB = 128
PERCENTS, QUICK_PERCENTS = (100, 75, 50), (100, 50)
VALUE_BYTES = 1024
KEYS, QUICK_KEYS = 20000, 8000
CONNECTIONS = 8
RUNS = 3
SECONDS, QUICK_SECONDS = 3, 1
PROBE_REQUESTS = 300
REQUESTS_MAX = 40000
# What a hard disk does at random.  The client's other disk is a file in the host's page cache.
HARD_DISK_IOPS = 200
GROUP = "/sys/fs/cgroup/swappable"
SOCKET = "/run/redis.sock"
OURS = "slabswap"


def measure(lab):
    """{"devices": {name: {percent: {"ops": [of each run], "p99_ms": [...]}}}, "failed": {name: why}, ...}"""
    lab.boot()
    needs_programs(lab.client, "redis-server", "redis-benchmark", "redis-cli")
    lab.limit_disk(1, HARD_DISK_IOPS)
    # What an emulator sees for the first time is slow.
    with_redis(lab.client, QUICK_KEYS, lambda: load(lab.client, QUICK_KEYS, PROBE_REQUESTS))
    hard = f"a disk of {HARD_DISK_IOPS} IOPS"
    devices = [Slabswap(OURS), Disk(f"swap on {hard}", "/dev/vdb")]
    if not lab.is_quick:
        devices += [Slabswap(f"{OURS}, backup on {hard}", backup="/dev/vdb")]
    runs = 1 if lab.is_quick else RUNS
    keys = QUICK_KEYS if lab.is_quick else KEYS
    found, failed = {}, {}
    for run in range(runs):
        for device in rotated(devices, run):
            if device.name in failed:
                continue
            say(f"redis, run {run + 1} of {runs}: {device.name}")
            try:
                take(found.setdefault(device.name, {}), serve(lab, device, keys))
            except (Unavailable, *FAILURES) as error:
                failed[device.name] = reason(error)
                lab.shut()
                lab.boot()
                lab.limit_disk(1, HARD_DISK_IOPS)
    return {"keys": keys, "value_bytes": VALUE_BYTES, "connections": CONNECTIONS,
            "runs": runs, "devices": found, "failed": failed}


def take(found, numbers):
    """Adds a run's numbers to those of the others."""
    for percent, values in numbers.items():
        for key, value in values.items():
            found.setdefault(percent, {}).setdefault(key, []).append(value)


def serve(lab, device, keys):
    """{percent: numbers} of a redis that swaps to the device."""
    client = lab.client
    device.start(lab, DEVICE_MIB)
    client.run(f"mkswap {device.path} && swapon {device.swapon_options} {device.path}")
    found = with_redis(client, keys, lambda: measure_levels(lab, keys))
    client.run(f"echo max >{GROUP}/memory.max; swapoff {device.path}", timeout=60)
    device.stop()
    return found


def with_redis(client, keys, do):
    """What do() returns while a redis holds so many values."""
    redis = client.spawn(f"exec redis-server --port 0 --unixsocket {SOCKET} --save '' --appendonly no",
                         swappable=True)
    client.wait_for(f"redis-cli -s {SOCKET} ping")
    fill = (f"local v = string.rep('x', {VALUE_BYTES}) for i = 0, {keys - 1} do "
            "redis.call('SET', string.format('key:%012d', i), v) end")
    client.run(f'redis-cli -s {SOCKET} eval "{fill}" 0', timeout=60)
    result = do()
    redis.kill()
    redis.wait(30, check=False)
    return result


def measure_levels(lab, keys):
    client = lab.client
    load(client, keys, PROBE_REQUESTS)
    working_set = int(client.run(f"cat {GROUP}/memory.current")[1])
    seconds = QUICK_SECONDS if lab.is_quick else SECONDS
    found = {}
    for percent in QUICK_PERCENTS if lab.is_quick else PERCENTS:
        limit_memory(client, working_set * percent // 100)
        # Also lets it find its balance.
        rate = load(client, keys, PROBE_REQUESTS)["ops"]
        requests = min(REQUESTS_MAX, max(PROBE_REQUESTS, round(rate * seconds)))
        found[str(percent)] = {**load(client, keys, requests), "working_set": working_set}
    return found


def limit_memory(client, limit):
    """A limit far below what is in use would have the kernel kill: first it is asked to reclaim."""
    client.run(f"""\
cd {GROUP}
until [ $(cat memory.current) -le {limit} ]; do
	echo 1M >memory.reclaim
done 2>/dev/null
echo {limit} >memory.max
""", timeout=60)


def load(client, keys, requests):
    """GETs of keys at random."""
    _, in_before = deploy.swap_counters(client)
    _, out = client.run(f"redis-benchmark -s {SOCKET} -t get -r {keys} -n {requests} -c {CONNECTIONS} --csv",
                        timeout=60)
    _, in_after = deploy.swap_counters(client)
    row = list(csv.DictReader(out.splitlines()))[-1]
    return {"ops": float(row["rps"]), "p50_ms": float(row["p50_latency_ms"]), "p99_ms": float(row["p99_latency_ms"]),
            "max_ms": float(row["max_latency_ms"]), "pages_in_per_op": (in_after - in_before) / requests}


def goals(_):
    """None: these are figures to look at."""
    return []


def tables(result):
    ours = result["devices"].get(OURS, {})
    rows = []
    for name, levels in result["devices"].items():
        for percent, numbers in levels.items():
            share = ratios(numbers["ops"], levels[str(PERCENTS[0])]["ops"])
            ours_there = ours.get(percent, {}).get("ops", [])
            ratio = "" if name == OURS else number(ratios(ours_there, numbers["ops"]), 2)
            rows.append((name, f"{percent} %", number(median(numbers["ops"])), number(100 * share) + " %",
                         *(number(median(numbers[key]), 2) for key in ("p50_ms", "p99_ms", "pages_in_per_op")), ratio))
    rows += [(name, f"fails: {why}", *[""] * 6) for name, why in result["failed"].items()]
    working_set = median([size for levels in result["devices"].values() for numbers in levels.values()
                          for size in numbers["working_set"]])
    return (f"redis, {result['keys']} values of {result['value_bytes']} bytes (a working set of "
            f"{number((working_set or 0) / (1 << 20))} MiB), GET at random by {result['connections']} connections, "
            f"{result['runs']} runs:\n\n" + table(
                ("swap", "memory", "ops/s", "of all memory", "p50 ms", "p99 ms", "pages in per op",
                 f"{OURS}/this"), rows, 2))

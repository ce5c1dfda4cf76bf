# SPDX-License-Identifier: MIT
"""One run of load on one server: by bench/load, or by fio to compare."""
import json
import subprocess

import jobs

WARMUP_SECONDS = 0.05
FIO_RW = {"read": "randread", "write": "randwrite", "mix": "randrw"}
FILL_BLOCK = 128 * jobs.KIB


class LoadFailed(Exception):
    """A request failed, a page was wrong, or the server left."""


def run(argv, server):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=600, cwd=server.directory,
                          check=False)
    found = json.loads(done.stdout[done.stdout.index("{"):]) if "{" in done.stdout else {}
    if found.get("mismatches"):
        raise LoadFailed(f"{found['mismatches']} pages are not what was written")
    if done.returncode != 0 or not found:
        raise LoadFailed(f"{done.stderr.strip() or done.stdout.strip()}\n{server.front().log()[-2000:]}")
    return found


def load_argv(load, server, *options):
    return [load, "--socket", server.socket, "--export", server.export, *options]


def fill(load, server):
    """Writes the whole device."""
    return run(load_argv(load, server, "--rw", "write", "--block", FILL_BLOCK, "--depth", 8, "--sequential"), server)


def verify(load, server):
    """Reads the whole device; every page must be what was written there."""
    return run(load_argv(load, server, "--rw", "read", "--block", FILL_BLOCK, "--depth", 8, "--sequential",
                         "--verify"), server)


def with_load(load, server, job, seconds, seed):
    options = ["--rw", job.rw(), "--block", job.block, "--depth", job.depth, "--connections", job.connections,
               "--seconds", seconds, "--warmup", WARMUP_SECONDS, "--seed", seed]
    if job.operation == "burst":
        options += ["--burst", jobs.BURST_OPERATIONS]
    return run(load_argv(load, server, *options), server)


def with_fio(server, job, seconds, seed):
    argv = ["fio", "--name=bench", "--ioengine=nbd", f"--uri=nbd+unix:///{server.export}?socket={server.socket}",
            f"--size={server.size}", "--output-format=json", "--percentile_list=50:99:99.9", f"--rw={FIO_RW[job.rw()]}",
            "--rwmixread=70", f"--bs={job.block}", f"--iodepth={job.depth}", f"--numjobs={job.connections}",
            "--group_reporting", "--unified_rw_reporting=1", "--time_based", f"--runtime={seconds * 1000:.0f}ms",
            "--norandommap", f"--randseed={seed}"]
    done = run(argv, server)["jobs"][0]
    if done["error"]:
        raise LoadFailed(f"fio: error {done['error']}")
    side = done["mixed"]
    latency = side["clat_ns"]
    return {"operations": side["total_ios"], "all_operations": side["total_ios"], "iops": side["iops"],
            "seconds": side["runtime"] / 1000, "mean_us": latency["mean"] / 1000, "max_us": latency["max"] / 1000,
            "p50_us": latency["percentile"]["50.000000"] / 1000, "p99_us": latency["percentile"]["99.000000"] / 1000,
            "p999_us": latency["percentile"]["99.900000"] / 1000,
            "load_cpu_us": (done["usr_cpu"] + done["sys_cpu"]) / 100 * done["job_runtime"] * 1000}


def measure(load, server, job, seconds, seed, use_fio=False):
    """What load says, and what the server's processes took for an operation (cpu_us)."""
    before = server.cpu_seconds()
    figures = with_fio(server, job, seconds, seed) if use_fio else with_load(load, server, job, seconds, seed)
    operations = max(figures["all_operations"], 1)
    figures["cpu_us"] = (server.cpu_seconds() - before) * 1e6 / operations
    figures["load_cpu_us"] /= operations
    return figures

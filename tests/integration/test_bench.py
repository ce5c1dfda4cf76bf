# SPDX-License-Identifier: MIT
"""bench/run and its two programs: what they measure is what they say, and a wrong page does not go unseen."""
import json
import os
import signal
import socket
import subprocess
import sys

import nbd

import harness

sys.path.insert(0, os.path.join(harness.ROOT, "bench", "lib"))
import figures  # noqa: E402
import host_goals  # noqa: E402
import jobs  # noqa: E402
import subjects  # noqa: E402

MIB = 1 << 20
PAGE = 4096


def answers(path):
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(path) == 0


def start_floor(t, size=16 * MIB, spin_us=0):
    path = t.path("floor.sock")
    process = t.start([harness.built("bench/floor/floor"), "--socket", path, "--size", size, "--spin", spin_us],
                      ready=lambda: answers(path))
    # It has nothing to stop for.
    t.defer(process.kill)
    return process, path


def start_nbdkit(t, size=16 * MIB):
    harness.require("nbdkit")
    path = t.path("nbdkit.sock")
    t.start(["nbdkit", "-f", "-U", path, "memory", f"size={size}"], ready=lambda: answers(path))
    return path


def connect(t, path):
    handle = nbd.NBD()
    handle.connect_uri(f"nbd+unix:///?socket={path}")
    t.defer(handle.shutdown)
    return handle


def load(path, *options):
    """(exit status, figures or None, stderr)"""
    done = subprocess.run([harness.built("bench/load/load"), "--socket", path, *map(str, options)],
                          capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def load_ok(path, *options):
    status, found, text = load(path, *options)
    assert status == 0, f"status {status}: {text}"
    return found


def refused(function, *arguments):
    try:
        function(*arguments)
    except nbd.Error as error:
        return error.errnum
    raise AssertionError("not refused")


def test_floor_speaks_nbd(t):
    for spin_us in 0, 20:
        process, path = start_floor(t, spin_us=spin_us)
        first = connect(t, path)
        assert first.get_size() == 16 * MIB and first.can_multi_conn()
        content = first.pread(MIB, 0)
        assert len(set(content)) == 1
        # A second one is seen while the first is the only one, and while it is busy.
        second = connect(t, path)
        for handle in first, second, first:
            handle.pwrite(bytes(3 * PAGE), 16 * MIB - 3 * PAGE)
            handle.flush()
            assert handle.pread(PAGE, PAGE) == content[:PAGE]
        first.set_strict_mode(0)
        assert refused(first.pread, PAGE, 16 * MIB) and refused(first.pwrite, bytes(PAGE), 16 * MIB)
        assert second.pread(PAGE, 0) == content[:PAGE]
        process.kill()
        os.unlink(path)


def test_load_counts(t):
    _, path = start_floor(t)
    loads = [("--rw", "read"), ("--rw", "write", "--depth", 32), ("--rw", "mix", "--block", 131072, "--depth", 8),
             ("--rw", "mix", "--depth", 128, "--connections", 4)]
    for options in loads:
        found = load_ok(path, "--seconds", 0.1, "--warmup", 0.02, *options)
        assert 0 < found["operations"] <= found["all_operations"], found
        assert abs(found["operations"] / 0.1 - found["iops"]) < 1, found
        assert 0 < found["p50_us"] <= found["p99_us"] <= found["p999_us"] <= found["max_us"], found
    bursts = load_ok(path, "--rw", "write", "--depth", 32, "--seconds", 0.05, "--burst", 100)
    assert bursts["operations"] % 100 == 0 and bursts["operations"] > 0, bursts
    whole = load_ok(path, "--rw", "read", "--block", 64 * 1024, "--depth", 4, "--sequential")
    assert whole["operations"] == 16 * MIB // (64 * 1024), whole


def test_load_sees_wrong_pages(t):
    path = start_nbdkit(t)
    sweep = ("--block", 128 * 1024, "--depth", 8, "--sequential")
    status, found, _ = load(path, "--rw", "read", "--verify", *sweep)
    assert status == 1 and found["mismatches"] == 16 * MIB // PAGE, found
    load_ok(path, "--rw", "write", *sweep)
    load_ok(path, "--rw", "read", "--verify", *sweep)
    for options in (("--depth", 32), ("--depth", 8, "--connections", 4), ("--depth", 3, "--block", 12 * 1024)):
        assert load_ok(path, "--rw", "mix", "--verify", "--seconds", 0.1, *options)["mismatches"] == 0
    connect(t, path).pwrite(b"x" * 8, 5 * PAGE)
    status, found, _ = load(path, "--rw", "read", "--verify", *sweep)
    assert status == 1 and found["mismatches"] == 1, found


def test_load_sees_a_lost_server(t):
    process, path = start_floor(t)
    runner = subprocess.Popen([harness.built("bench/load/load"), "--socket", path, "--seconds", "60", "--depth", "4"],
                              stderr=subprocess.PIPE, text=True)
    t.defer(runner.kill)
    harness.wait_for(lambda: len(os.listdir(f"/proc/{process.pid}/fd")) > 5, "a connection")
    process.popen.send_signal(signal.SIGKILL)
    _, text = runner.communicate(timeout=20)
    assert runner.returncode == 1 and text.startswith("load: "), text


def bench_run(t, *options):
    harness.built("slabswap-nbd")
    path = t.path("out.json")
    done = subprocess.run([sys.executable, os.path.join(harness.ROOT, "bench", "run"), "--host",
                           "--build", os.path.relpath(harness.build_dir()), "--dir", t.dir, "--runs", "2",
                           "--seconds", "0.05", "--size", "64M", "--json", path, *options],
                          capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr[-2000:]}"
    with open(path, encoding="utf-8") as file:
        return done.stdout, next(iter(json.load(file)["parts"].values()))


def test_run(t):
    harness.require("nbdkit")
    text, part = bench_run(t, "--only", "floor,shm-remote,tcp-remote,nbdkit-memory",
                           "--jobs", "*-4k-1x32,read-128k-1x8")
    assert set(part["results"]) == {"read-4k-1x32", "write-4k-1x32", "mix-4k-1x32", "burst-4k-1x32", "read-128k-1x8"}
    for job, servers in part["results"].items():
        for server, runs in servers.items():
            assert len(runs) == 2 and all(run["all_operations"] > 0 for run in runs), (job, server, runs)
            assert f"| {server} | " in text and job in text
    for server in "shm-remote", "tcp-remote":
        assert part["statuses"][server]["pages"]["read_remote"] > 0
        assert part["memory"][server][-1]["program"] == "slabswap-nbd"
    measured = [goal for goal in part["goals"] if goal["met"] is not None]
    assert len(measured) >= 3, part["goals"]


def test_run_with_fio(t):
    harness.require("nbdkit", "fio")
    _, part = bench_run(t, "--fio", "--only", "nbdkit-memory", "--jobs", "write-4k-4x8,burst-*")
    assert set(part["results"]) == {"write-4k-4x8"}, part["results"]
    assert all(run["all_operations"] > 0 for run in part["results"]["write-4k-4x8"]["nbdkit-memory"])


def test_choice_of_jobs_and_servers(t):
    names = [job.name for job in jobs.ALL]
    assert len(set(names)) == len(names) and set(jobs.QUICK) <= set(names)
    assert [job.name for job in jobs.chosen(False, "read-4k-1x*")] == [f"read-4k-1x{d}" for d in (1, 8, 32, 128)]
    assert {goal[0] for goal in host_goals.RATIOS} <= set(jobs.QUICK), "a goal that --quick does not measure"
    assert {name for goal in host_goals.RATIOS for name in goal[2:4]} <= set(subjects.NAMES)
    for wrong in "reed-4k-1x1", "read-4k-1x1,":
        try:
            jobs.chosen(False, wrong)
        except ValueError:
            continue
        raise AssertionError(f"accepted: {wrong}")


def test_ratios_are_of_runs_side_by_side(t):
    def runs(*values):
        return [{"iops": value} for value in values]
    # The machine was twice as fast in the second run, for both.
    results = {"j": {"a": runs(200, 400, 210), "b": runs(100, 200, 100)}}
    assert figures.ratio(results, "j", "iops", "a", "b") == 2
    assert figures.median(results, "j", "a", "iops") == 210
    assert figures.ratio(results, "j", "iops", "a", "c") is None and figures.median(results, "k", "a", "iops") is None
    goal = ("j", "iops", "a", "b", host_goals.AT_LEAST, 2.0)
    assert host_goals.judge_ratio(results, {"a", "b"}, goal)["met"] is True
    assert host_goals.judge_ratio(results, {"a", "b"}, goal[:5] + (2.1,))["met"] is False
    assert host_goals.judge_ratio({}, {"a", "b"}, goal)["met"] is None


if __name__ == "__main__":
    harness.main(globals())

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Builds slabswap four ways and runs all tests; for scripts/test, which installs what is needed first.

Prints a line for each test, what a failed one has said, and as the very last line

    N passed, N failed            or            N passed, N failed, N skipped

The exit status is 0 when nothing failed.  No process that a test started is left behind: one that was is
killed, and is a failure.
"""
import argparse
import concurrent.futures
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
PYTHON = "/usr/bin/python3"
PR_SET_CHILD_SUBREAPER = 36
# What hangs ends by then. On two cores with other work beside it took 37 minutes (2026-11-26); it has to stay below 25
# on two that are idle.
MINUTES = 45
MINUTES_LONG = 300
TAIL_LINES = 120

# Function names and lines are what a sanitizer's report needs, and less to compile.
SANITIZED = ["-Db_sanitize=address,undefined", "-Dc_args=-g1"]
# (name, compiler, meson options, suites)
BUILDS = [
    ("gcc", "gcc", ["-Dbuildtype=release"], ["unit", "sim", "style", "integration"]),
    ("gcc-asan", "gcc", SANITIZED, ["unit", "sim", "integration"]),
    ("clang-asan", "clang", [*SANITIZED, "-Db_lundef=false", "-Dfuzzing=enabled"],
     ["unit", "fuzz"]),
    ("clang-no-rdma", "clang", ["-Drdma=disabled", "-Dtests=disabled"], []),
]
# (name, build, kernel, files of tests/vm, which tests of them)
ALL = re.compile("")
# A soak takes an hour: in a run of its own.
NO_SOAK = re.compile("^test_(?!soak)")
# That the bench runs at all costs a minute and a half.
NO_BENCH = re.compile("^test_(?!soak|bench)")
VM_RUNS = [
    ("vm-6.1", "gcc", "6.1", "test_*.py", NO_BENCH),
    ("vm-6.1-asan", "gcc-asan", "6.1", "test_swap.py", re.compile("^test_tools")),
]
VM_RUNS_LONG = [
    ("vm-6.12", "gcc", "6.12", "test_*.py", NO_SOAK),
    ("vm-6.1-asan", "gcc-asan", "6.1", "test_swap.py", re.compile("^test_(?!tools)")),
    # Of both kernels, in processes of its own.
    ("vm", "gcc", "6.1", "test_soak.py", ALL),
]
# An emulated guest keeps less than one processor busy, so two files run at the same time. The longest ones begin.
VM_LANES = 2
VM_LONGEST = ["test_control", "test_swap", "test_safety", "test_rdma", "test_systemd", "test_nbd"]

CMOCKA = re.compile(r"^\[ +(OK|FAILED|SKIPPED) +\] (\w+)$")
TAP = re.compile(r"^(ok|not ok)(?: \d+)?(?: -)? (\S.*?)(?: \(([0-9.]+) s\))?$")
RESULTS_GOOD = {"OK", "EXPECTEDFAIL"}


class Report:
    """What has been counted so far."""

    def __init__(self):
        self.passed = self.failed = 0
        self.skipped = []
        self._lock = threading.Lock()

    def ok(self, name, seconds=None):
        with self._lock:
            self.passed += 1
            say(f"ok {name}" + (f" ({float(seconds):.1f} s)" if seconds is not None else ""))

    def bad(self, name, why=""):
        lines = why.rstrip().splitlines()
        said = [f"# ... {len(lines) - TAIL_LINES} lines before"] if len(lines) > TAIL_LINES else []
        said += [f"# {line}" for line in lines[-TAIL_LINES:]]
        with self._lock:
            self.failed += 1
            say("\n  ".join([f"not ok {name}", *said]))

    def skip(self, name, reason):
        with self._lock:
            self.skipped.append((name, reason))
            say(f"ok {name} # SKIP {reason}")

    def finish(self, started):
        say(f"# {time.monotonic() - started:.0f} s")
        for name, reason in self.skipped:
            say(f"# skipped: {name}: {reason}")
        end = f", {len(self.skipped)} skipped" if self.skipped else ""
        say(f"{self.passed} passed, {self.failed} failed{end}")
        return 1 if self.failed or not self.passed else 0


class OutOfTime(Exception):
    pass


def say(line):
    print(line, flush=True)


def descendants():
    """{pid: command line} of everything below this process."""
    parents, names = {}, {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = Path("/proc", entry, "stat").read_bytes().decode(errors="replace")
            command = Path("/proc", entry, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        state, parent = stat.rsplit(")", 1)[1].split()[:2]
        if state != "Z":
            parents[int(entry)] = int(parent)
            names[int(entry)] = command.strip()
    found, frontier = {}, {os.getpid()}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier and pid not in found}
        found.update({pid: names[pid] for pid in frontier})
    return found


def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def kill_descendants():
    """SIGKILL to all of them, until none is left.  What was killed first, as text."""
    first = {}
    end = time.monotonic() + 30
    while time.monotonic() < end:
        found = descendants()
        if not found:
            break
        first = first or found
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        reap()
        time.sleep(0.05)
    reap()
    return "\n".join(f"{pid} {name}" for pid, name in sorted(first.items()))


def check_leftovers(report, phase):
    """Programs get two seconds to end: that of a killed parent may be on its way out."""
    end = time.monotonic() + 2
    while descendants() and time.monotonic() < end:
        reap()
        time.sleep(0.05)
    left = kill_descendants()
    if left:
        report.bad(f"leftovers/{phase}", "processes left behind, now killed:\n" + left)


class Runner:
    def __init__(self, options):
        self.options = options
        self.started = time.monotonic()
        self.deadline = self.started + 60 * (MINUTES_LONG if options.long else MINUTES)
        self.report = Report()
        self.base = REPO / "build-test"
        self.base.mkdir(exist_ok=True)

    def wanted(self, name):
        return not self.options.filter or self.options.filter.search(name)

    def command(self, argv, log, on_poll=lambda: None, env=None):
        """The exit status; the output goes to the file @log, on_poll() runs now and then."""
        with open(log, "wb") as out:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=REPO,
                start_new_session=True, env={**os.environ, **(env or {})})
        while True:
            try:
                status = process.wait(timeout=0.3)
            except subprocess.TimeoutExpired:
                status = None
            on_poll()
            if status is not None:
                return status
            if time.monotonic() > self.deadline:
                raise OutOfTime(" ".join(map(str, argv)))

    # builds

    def directory(self, build):
        return self.base / build

    def configure(self, build):
        name, compiler, meson_options, _ = build
        directory = self.directory(name)
        if (directory / "build.ninja").exists():
            return True
        shutil.rmtree(directory, ignore_errors=True)
        log = self.base / f"{name}-setup.log"
        if self.command(["meson", "setup", directory, REPO, *meson_options], log, env={"CC": compiler}) == 0:
            return True
        self.report.bad(f"build/{name}", read(log))
        return False

    def compile(self, build):
        name = build[0]
        log = self.base / f"{name}-compile.log"
        started = time.monotonic()
        if self.command(["ninja", "-C", self.directory(name)], log) == 0:
            self.report.ok(f"build/{name}", time.monotonic() - started)
            return True
        self.report.bad(f"build/{name}", read(log))
        return False

    # meson's tests

    def meson_tests(self, build):
        """[(id, name in meson)] of what is wanted; the id is build/suite/name."""
        name, _, _, suites = build
        out = subprocess.run(["meson", "introspect", "--tests", self.directory(name)], check=True,
                             capture_output=True, text=True).stdout
        found = []
        for test in json.loads(out):
            # "project:suite"
            own = [suite.split(":")[-1] for suite in test["suite"]]
            suite = next((s for s in suites if s in own), None)
            name_id = f"{name}/{suite}/{test['name']}"
            if suite and ("long" not in own or self.options.long) and self.wanted(name_id):
                found.append((name_id, test["name"]))
        return found

    def run_meson(self, build, tests):
        name = build[0]
        directory = self.directory(name)
        results = directory / "meson-logs" / "testlog.json"
        results.unlink(missing_ok=True)
        ids = {test: name_id for name_id, test in tests}
        seen = set()
        position = 0

        def show():
            nonlocal position
            if not results.exists():
                return
            with open(results, encoding="utf-8", errors="replace") as lines:
                lines.seek(position)
                while (line := lines.readline()).endswith("\n"):
                    position = lines.tell()
                    result = json.loads(line)
                    test = result["name"].split(" / ")[-1].split(":")[-1]
                    if test in ids:
                        seen.add(test)
                        self.count_meson(ids[test], result)

        log = self.base / f"{name}-test.log"
        self.command(["meson", "test", "-C", directory, "--no-rebuild", "--num-processes", "2",
                      *(test for _, test in tests)], log, show)
        show()
        for test in set(ids) - seen:
            self.report.bad(ids[test], "did not run\n" + read(log))

    def count_meson(self, name_id, result):
        stdout, stderr = result.get("stdout") or "", result.get("stderr") or ""
        cases = list(parse_cases(stdout))
        for verdict, case, detail in cases:
            if verdict == "ok":
                self.report.ok(f"{name_id}/{case}", detail)
            elif verdict == "skip":
                self.report.skip(f"{name_id}/{case}", detail)
        failed = [case for verdict, case, _ in cases if verdict == "not ok"]
        if result["result"] in RESULTS_GOOD and not failed:
            if not cases:
                self.report.ok(name_id, result["duration"])
        elif result["result"] == "SKIP" and not failed:
            if not cases:
                self.report.skip(name_id, stderr.strip().splitlines()[-1] if stderr.strip() else "no reason")
        else:
            why = f"{result['result']}, status {result['returncode']}\n{stdout}\n{stderr}"
            for case in failed[:-1]:
                self.report.bad(f"{name_id}/{case}", "see the next one")
            self.report.bad(f"{name_id}/{failed[-1]}" if failed else name_id, why)

    # tests in virtual machines

    def vm_tests(self):
        """[(run, file, [functions])], the run one of VM_RUNS"""
        found = []
        for run in VM_RUNS + (VM_RUNS_LONG if self.options.long else []):
            name, _, _, files, which = run
            for path in sorted((REPO / "tests" / "vm").glob(files)):
                tests = re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
                tests = [t for t in tests if which.search(t) and self.wanted(vm_id(name, path, t))]
                if tests:
                    found.append((run, path, tests))
        return found

    def run_vm(self, run, path, names):
        run_name, build, kernel, _, _ = run
        log = self.base / f"{run_name}-{path.stem}.log"
        seen = set()
        position = 0
        failed = []

        def show():
            nonlocal position
            if not log.exists():
                return
            with open(log, encoding="utf-8", errors="replace") as lines:
                lines.seek(position)
                while (line := lines.readline()).endswith("\n"):
                    position = lines.tell()
                    for verdict, case, detail in parse_cases(line):
                        if case not in names:
                            continue
                        seen.add(case)
                        if verdict == "ok":
                            self.report.ok(vm_id(run_name, path, case), detail)
                        elif verdict == "skip":
                            self.report.skip(vm_id(run_name, path, case), detail)
                        else:
                            failed.append(case)

        status = self.command([PYTHON, path, "--build", self.directory(build), "--kernel", kernel, *names],
                              log, show, env={"PYTHONUNBUFFERED": "1"})
        show()
        # Each failure with the part of the log that is its own: up to the next verdict.
        for case in failed:
            self.report.bad(vm_id(run_name, path, case), section(read(log), case))
        for case in [n for n in names if n not in seen]:
            self.report.bad(vm_id(run_name, path, case), f"did not run, status {status}\n{read(log)}")
        if status and not failed and seen == set(names):
            self.report.bad(f"{run_name}/{path.stem}", f"status {status}\n{read(log)}")

    def run_vms(self, jobs):
        """Of [(run, path, names)] so many at a time as there are lanes."""
        with concurrent.futures.ThreadPoolExecutor(VM_LANES) as pool:
            running = [pool.submit(self.run_vm, *job) for job in sorted(jobs, key=vm_order)]
            try:
                for job in concurrent.futures.as_completed(running):
                    job.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                kill_descendants()
                raise
        check_leftovers(self.report, "vm")

    # all of it

    def run(self):
        built = {}
        chosen = {}
        vm = self.vm_tests()
        for build in BUILDS:
            name = build[0]
            if not self.configure(build):
                continue
            chosen[name] = self.meson_tests(build)
            needed = chosen[name] or self.wanted(f"build/{name}") or any(run[1] == name for run, _, _ in vm)
            if self.options.list or not needed:
                continue
            built[name] = self.compile(build)
        if self.options.list:
            for tests in chosen.values():
                for name_id, _ in tests:
                    say(name_id)
            for run, path, names in vm:
                for name in names:
                    say(vm_id(run[0], path, name))
            return
        for build in BUILDS:
            name = build[0]
            if built.get(name) and chosen[name]:
                self.run_meson(build, chosen[name])
                check_leftovers(self.report, name)
        for run, path, _ in vm:
            if not built.get(run[1]):
                self.report.bad(f"{run[0]}/{path.stem}", "the build has failed")
        vm = [job for job in vm if built.get(job[0][1])]
        self.run_vms([job for job in vm if job[1].stem != "test_soak"])
        # It has processes of its own and needs all of the machine.
        self.run_vms([job for job in vm if job[1].stem == "test_soak"])


def vm_id(run_name, path, name):
    return f"{run_name}/{path.stem[len('test_'):]}/{name[len('test_'):]}"


def vm_order(job):
    stem = job[1].stem
    return VM_LONGEST.index(stem) if stem in VM_LONGEST else len(VM_LONGEST)


def read(path):
    return Path(path).read_text(encoding="utf-8", errors="replace") if Path(path).exists() else ""


def section(text, case):
    """What follows the line "not ok @case", up to the next verdict."""
    lines = text.splitlines()
    for start, line in enumerate(lines):
        match = TAP.match(line)
        if match and match[1] == "not ok" and match[2] == case:
            end = next((i for i in range(start + 1, len(lines)) if TAP.match(lines[i])), len(lines))
            return "\n".join(lines[start + 1:end])
    return text


def parse_cases(stdout):
    """("ok" | "not ok" | "skip", name, seconds or reason) of a cmocka program's or a script's output."""
    for line in stdout.splitlines():
        match = CMOCKA.match(line)
        if match:
            yield {"OK": "ok", "FAILED": "not ok", "SKIPPED": "skip"}[match[1]], match[2], \
                "said so" if match[1] == "SKIPPED" else None
            continue
        match = TAP.match(line)
        if not match:
            continue
        name, _, reason = match[2].partition(" # SKIP ")
        if match[1] == "not ok":
            yield "not ok", name, None
        elif " # SKIP " in match[2]:
            yield "skip", name, reason
        else:
            yield "ok", name, match[3]


def stop(number, _):
    raise KeyboardInterrupt(f"signal {number}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="also what takes long: every kernel, long runs")
    parser.add_argument("--filter", type=re.compile, metavar="REGEX", help="only tests whose name it is found in")
    parser.add_argument("--list", action="store_true", help="print the names of the tests and run none")
    options = parser.parse_args()

    # Orphans of tests come to this process, also those that made a session of their own.
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        sys.exit("cannot become the reaper of orphans")
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
    if options.long:
        os.environ["SLABSWAP_LONG"] = "1"
    runner = Runner(options)
    try:
        runner.run()
    except OutOfTime as error:
        runner.report.bad("time", f"out of time in: {error}\n" + kill_descendants())
    except KeyboardInterrupt as error:
        runner.report.bad("interrupted", f"{error}\n" + kill_descendants())
    finally:
        kill_descendants()
    sys.exit(0 if options.list else runner.report.finish(runner.started))


if __name__ == "__main__":
    main()

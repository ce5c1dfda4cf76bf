# SPDX-License-Identifier: MIT
"""An NBD server under test: its processes, what they cost, and where it listens."""
import json
import os
import signal
import socket
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))
import harness  # noqa: E402  (processes that die with us, waiting for conditions)

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def find_program(build, name):
    """Of a build directory; None when it is not built."""
    for directory, _, files in os.walk(build):
        path = os.path.join(directory, name)
        if name in files and os.access(path, os.X_OK):
            return path
    return None


def stat_fields(pid):
    """/proc/PID/stat from the state on: field 3 of proc(5) is the first."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
        return stat.read().rpartition(")")[2].split()


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def cpu_seconds(pid):
    """User and system time of a process, its threads and its children, also of those that have ended."""
    try:
        fields = stat_fields(pid)
        return sum(int(ticks) for ticks in fields[11:15]) / TICKS_PER_SECOND + sum(map(cpu_seconds, children(pid)))
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def program_of(pid):
    with open(f"/proc/{pid}/comm", encoding="utf-8") as comm:
        return comm.read().strip()


def memory_bytes(pid):
    """{"peak", "shared"}: the most that was resident, and what of it others hold too (shared memory, mapped)."""
    values = {}
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        for line in status:
            name, _, value = line.partition(":")
            if value.endswith(" kB\n"):
                values[name] = int(value.split()[0]) * 1024
    return {"peak": values["VmHWM"], "shared": values["RssShmem"]}


class Daemonized:
    """A program that cannot be kept in the foreground: known by its pid file."""

    def __init__(self, argv, log_path, pid_file):
        process = harness.Process(argv, log_path)
        self.argv = process.argv
        self.log = process.log
        process.wait_exit()

        def read_pid():
            with open(pid_file, encoding="ascii") as file:
                return int(file.read().strip() or 0)
        harness.wait_for(lambda: os.path.exists(pid_file) and read_pid(), f"{pid_file}\n{process.log()}")
        self.pid = read_pid()

    def is_running(self):
        return os.path.exists(f"/proc/{self.pid}")

    def kill(self):
        for pid in [*children(self.pid), self.pid] if self.is_running() else []:
            os.kill(pid, signal.SIGKILL)


class Server:
    """The process that was started last speaks NBD; the others stand behind it."""

    def __init__(self, name, directory, size):
        self.name = name
        self.directory = directory
        self.size = size
        self.socket = os.path.join(directory, "nbd.sock")
        self.export = ""
        self.control = None
        self.processes = []

    def path(self, name):
        return os.path.join(self.directory, name)

    def start(self, argv, **popen):
        process = harness.Process(argv, self.path(f"{len(self.processes)}.log"), **popen)
        self.processes.append(process)
        return process

    def start_daemonized(self, argv, pid_file):
        self.processes.append(Daemonized(argv, self.path(f"{len(self.processes)}.log"), pid_file))

    def front(self):
        return self.processes[-1]

    def answers(self):
        if not self.front().is_running():
            raise AssertionError(f"{self.name} did not start:\n{self.front().log()[-2000:]}")
        with socket.socket(socket.AF_UNIX) as s:
            return os.path.exists(self.socket) and s.connect_ex(self.socket) == 0

    def cpu_seconds(self):
        return sum(cpu_seconds(process.pid) for process in self.processes)

    def memory(self):
        """Of each process, the front last."""
        return [{"program": program_of(process.pid), **memory_bytes(process.pid)} for process in self.processes]

    def status(self, slabswapctl):
        """What ours says of itself."""
        done = subprocess.run([slabswapctl, "status", self.control], capture_output=True, text=True, timeout=10,
                              check=True)
        return json.loads(done.stdout)

    def kill(self):
        for process in reversed(self.processes):
            process.kill()

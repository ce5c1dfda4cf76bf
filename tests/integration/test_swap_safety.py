#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What slabswap-nbd says of a system that refuses a step of its swap safety, and what it does then."""
import re
import subprocess

import device
import harness
from device import Daemon, Device

# Also for root: without the capabilities, as in most containers.
WITHOUT = ["setpriv", "--bounding-set", "-sys_resource,-ipc_lock,-sys_nice", "--inh-caps",
           "-sys_resource,-ipc_lock,-sys_nice", "prlimit", "--memlock=1048576:1048576", "--rtprio=0:0"]


def bare():
    harness.require("setpriv", "prlimit")
    if subprocess.run([*WITHOUT, "true"], check=False, capture_output=True).returncode:
        raise harness.Skip("only root can drop capabilities")
    return WITHOUT


def locks_memory():
    """A build with a sanitizer does not: its shadow is larger than any memory."""
    with open(harness.built("slabswap-nbd"), "rb") as program:
        return b"__asan_init" not in program.read()


def test_each_refused_step_is_one_line(t):
    log = Device(t, wrapper=bare()).process.log()
    for step, grants in (("PR_SET_IO_FLUSHER", "CAP_SYS_RESOURCE"), ("oom_score_adj", "OOMScoreAdjust=-1000"),
                         ("SCHED_FIFO", "CAP_SYS_NICE"), ("mlockall", "LimitMEMLOCK=infinity")):
        lines = [line for line in log.splitlines() if f"swap safety: {step}: " in line]
        if step == "mlockall" and not locks_memory():
            assert not lines
            return
        assert len(lines) == 1 and grants in lines[0], (step, lines)
    needs, limit = re.search(r"it needs (\d+) bytes, RLIMIT_MEMLOCK is (\d+)", log).groups()
    assert int(needs) > 16 * device.MIB and int(limit) == device.MIB, log


def test_realtime_is_optional(t):
    log = Device(t, wrapper=bare(), limits={"realtime": "no"}).process.log()
    assert "SCHED_FIFO" not in log, log


def test_realtime_says_what_the_process_is(t):
    harness.require("chrt")
    for realtime in ("no", "yes", "auto"):
        device = Device(t, limits={"realtime": realtime})
        says = device.status()["realtime"]
        policy = subprocess.run(["chrt", "-p", str(device.process.pid)], check=True, capture_output=True, text=True)
        assert ("SCHED_FIFO" in policy.stdout) == says["now"], (realtime, says, policy.stdout)
        if realtime != "auto" and "SCHED_FIFO: " not in device.process.log():
            assert says["now"] == (realtime == "yes"), (realtime, says)
        device.process.stop()


def test_strict_does_not_start(t):
    bare()
    server = Device(t, limits={"strict": "no"})
    server.process.stop()
    server.sections["limits"]["strict"] = "yes"
    server.wrapper = WITHOUT
    harness.write_ini(server.ini, server.sections)
    process = t.start([*WITHOUT, harness.built("slabswap-nbd"), "-c", server.ini])
    assert process.wait_exit(20) == 1, process.log()
    assert "strict = yes: not starting" in process.log(), process.log()
    assert "ready" not in process.log(), process.log()


def test_daemon_sets_its_oom_score(t):
    daemon = Daemon(t, wrapper=bare())
    assert daemon.process.log().count("oom_score_adj: ") == 1, daemon.process.log()
    assert "OOMScoreAdjust=-500" in daemon.process.log(), daemon.process.log()


def test_daemon_keeps_the_oom_score_it_was_started_with(t):
    harness.require("choom")
    daemon = Daemon(t, wrapper=["choom", "-n", "100", "--"])
    assert "oom_score_adj" not in daemon.process.log(), daemon.process.log()
    with open(f"/proc/{daemon.process.pid}/oom_score_adj", encoding="ascii") as file:
        assert file.read() == "100\n"


if __name__ == "__main__":
    harness.main(globals())

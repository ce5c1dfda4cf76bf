#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""spin_us: servers and daemons that poll for a while serve everything meanwhile, and use no processor when idle."""
import os
import signal
import time

import device
import harness
from device import MIB, Daemon, Device, Load

MEMORY = {"max": "64M"}
LONG_US = 1000
# A program that polls uses a hundred ticks in it.
QUIET_SECONDS = 1.0


def pair(t, transport="tcp", spin_us=LONG_US, **limits):
    listen = "tcp:127.0.0.1:0" if transport == "tcp" else f"shm:{t.path('d')}.shm"
    daemon = Daemon(t, memory=MEMORY, listen=listen, spin_us=spin_us)
    server = Device(t, portals=[daemon.portal], size=32 * MIB, limits={"spin_us": spin_us, **limits})
    server.wait_up()
    return daemon, server


def require_processors():
    if len(os.sched_getaffinity(0)) < 2:
        raise harness.Skip("one processor: nothing spins")


def ticks(process):
    """Of the processor, in user and in system mode; 100 a second."""
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


class Quiet:
    """True as soon as the processes together have used no processor for QUIET_SECONDS."""

    def __init__(self, *processes):
        self.processes = processes
        self.used = None
        self.since = 0.0

    def __call__(self):
        used = sum(ticks(process) for process in self.processes)
        if used != self.used:
            self.used, self.since = used, time.monotonic()
        return time.monotonic() - self.since >= QUIET_SECONDS


def burst(server, requests=2000):
    """Back to back, one at a time."""
    handle = device.connect(server.uri)
    for n in range(requests):
        handle.pwrite(bytes(4096), n % 4096 * 4096)
    return handle


def is_idle_after_a_burst(t, transport):
    require_processors()
    daemon, server = pair(t, transport)
    handle = burst(server)
    spin = server.status()["spin"]
    # How often it pays depends on what else the machine does.
    assert spin["limit_us"] == LONG_US and spin["paid"] + spin["unpaid"] > 0 and spin["spun_us"] > 0, spin
    assert daemon.status()["spin"]["limit_us"] == LONG_US
    # The client is connected, daemon and server go on with PING and PONG.
    harness.wait_for(Quiet(server.process, daemon.process), "no processor is used", 30)
    handle.shutdown()


def test_idle_after_a_burst_over_tcp(t):
    is_idle_after_a_burst(t, "tcp")


def test_idle_after_a_burst_over_shm(t):
    is_idle_after_a_burst(t, "shm")


def test_a_request_now_and_then_is_not_spun_for(t):
    """Each of them finds a sleeping server: in between nothing is spent."""
    require_processors()
    _, server = pair(t, "shm")
    handle = device.connect(server.uri)
    handle.pwrite(bytes(4096), 0)
    harness.wait_for(lambda: server.status()["spin"]["length_us"] == 0, "what came before is forgotten")
    before = server.status()["spin"]["spun_us"]
    for _ in range(5):
        begun = server.status()["uptime_ms"]
        handle.pread(4096, 0)
        harness.wait_for(lambda: server.status()["uptime_ms"] >= begun + 100, "a moment passes")
    # Asking for the status is a burst of its own, of two or three waits.
    assert server.status()["spin"]["spun_us"] - before < 5 * 100 * 1000 // 2


def test_off(t):
    daemon, server = pair(t, spin_us="off")
    burst(server, 500).shutdown()
    for status in server.status(), daemon.status():
        assert status["spin"] == {"limit_us": 0, "length_us": 0, "spun_us": 0, "spun_permille": 0, "paid": 0,
                                  "unpaid": 0}, status


def test_realtime_does_not_spin(t):
    """It would keep others from the processor for as long."""
    if os.geteuid() != 0:
        raise harness.Skip("real-time priority takes root")
    _, server = pair(t, realtime="yes")
    burst(server, 500).shutdown()
    assert server.status()["spin"]["limit_us"] == 0


def test_timers_and_others_are_served_while_one_keeps_it_spinning(t):
    """One request after the other on one connection; the daemon hangs, is given up and used again: all by timers."""
    require_processors()
    daemon, server = pair(t)
    load = Load(t, server.uri, pages=2048, depth=1)
    load.wait_requests(500)
    other = Load(t, server.uri, first=4096, pages=2048, depth=4, seed=2)
    other.wait_requests(500)
    spin = server.status()["spin"]
    assert spin["paid"] + spin["unpaid"] > 0, spin
    daemon.process.popen.send_signal(signal.SIGSTOP)
    server.wait_up(daemons=0)
    for each in load, other:
        each.wait_requests(100)
    daemon.process.popen.send_signal(signal.SIGCONT)
    server.wait_up()
    server.wait_used()
    for each in load, other:
        each.stop()
        each.check_all()
        each.handle.shutdown()
    assert server.no_errors()["errors"]["daemons_lost"] >= 1


if __name__ == "__main__":
    harness.main(globals())

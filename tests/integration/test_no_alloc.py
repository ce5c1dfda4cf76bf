#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""slabswap-nbd allocates nothing while it serves: run with tests/tools/alloc_guard.c, which aborts it if it does.

All kinds of requests, daemons that come, die and refuse, a backup without room, the control socket.
"""
import os
import signal

import nbd

import device
import harness
import test_dns
from device import MIB, PAGE, Daemon, Device, Load

GUARD = "tests/tools/liballoc_guard.so"


def guarded(how=""):
    path = os.path.join(harness.build_dir(), GUARD)
    if not os.path.exists(path):
        raise harness.Skip(f"{path} is not built")
    return ["env", f"LD_PRELOAD={path}", f"ALLOC_GUARD={how}"]


def fixed_daemon(t, **keys):
    return Daemon(t, memory={"max": "64M"}, listen=f"tcp:127.0.0.1:{device.reserve_port(t)}", **keys)


def every_command(server, connections=3):
    """Each command, aligned or not, on several connections that come and go."""
    for _ in range(connections):
        handle = nbd.NBD()
        handle.set_strict_mode(0)
        handle.connect_uri(server.uri)
        data = bytes(range(256)) * 1024
        for offset in (0, 5 * PAGE, 7 * MIB + 1000):
            handle.pwrite(data, offset)
            assert handle.pread(len(data), offset) == data
        handle.pwrite(data[:PAGE], MIB, nbd.CMD_FLAG_FUA)
        handle.flush()
        handle.cache(PAGE, 0)
        handle.zero(3 * PAGE, 2 * MIB)
        handle.zero(1000, 2 * MIB + 500, nbd.CMD_FLAG_NO_HOLE)
        handle.trim(20 * MIB, 3 * MIB)
        assert handle.pread(MIB, 4 * MIB) == bytes(MIB)
        try:
            handle.pread(PAGE, server.size)
            raise AssertionError("a read after the end was answered")
        except nbd.Error:
            pass
        handle.shutdown()


def trim_all(server):
    handle = nbd.NBD()
    handle.connect_uri(server.uri)
    for offset in range(0, server.size, 32 * MIB):
        handle.trim(32 * MIB, offset)
    handle.shutdown()


def stopped_well(server):
    server.process.stop()
    assert server.count("alloc_guard: good") == 1, server.process.log()


def test_serving_allocates_nothing(t):
    daemon = fixed_daemon(t)
    silent = device.reserve_port(t)
    server = Device(t, portals=[daemon.portal, f"tcp:127.0.0.1:{silent}"], wrapper=guarded())
    server.wait_up()
    every_command(server)
    trim_all(server)
    load = Load(t, server.uri, depth=32)
    for how in (signal.SIGKILL, signal.SIGSTOP, signal.SIGKILL):
        server.wait_used()
        load.wait_requests(300)
        daemon.process.popen.send_signal(how)
        server.wait_up(0)
        load.wait_requests(300)
        if how == signal.SIGSTOP:
            daemon.process.popen.send_signal(signal.SIGCONT)
        else:
            daemon.process.popen.wait()
            daemon.start()
        server.wait_up()
    server.wait_used()
    load.stop()
    load.check_all()
    load.handle.shutdown()

    daemon.process.kill()
    server.wait_up(0)
    every_command(server)
    assert server.status()["errors"]["daemons_lost"] >= 4
    stopped_well(server)


def test_serving_over_shm_allocates_nothing(t):
    daemon = Daemon(t, memory={"max": "64M"}, listen=f"shm:{t.path('d.shm')}")
    server = Device(t, portals=[daemon.portal], wrapper=guarded())
    server.wait_up()
    every_command(server)
    trim_all(server)
    load = Load(t, server.uri, depth=32)
    for _ in range(2):
        server.wait_used()
        load.wait_requests(300)
        daemon.process.kill()
        server.wait_up(0)
        load.wait_requests(300)
        daemon.start()
        server.wait_up()
    server.wait_used()
    daemon.process.stop()  # which asks for each slab back
    server.wait_up(0)
    load.stop()
    load.check_all()
    load.handle.shutdown()
    every_command(server)
    stopped_well(server)


def test_a_session_is_the_only_allocation(t):
    """And the guard works: what it must let pass is what ends the program without the scopes."""
    daemon = fixed_daemon(t)
    server = Device(t, wrapper=guarded("no-scopes"))
    every_command(server, 1)
    stopped_well(server)
    server.process.kill()

    server.sections["daemons"] = {"portals": daemon.portal}
    harness.write_ini(server.ini, server.sections)
    try:
        server.start()
    except AssertionError:
        pass
    status = t.processes[-1].wait_exit(10)
    assert status == -signal.SIGABRT, status
    assert "alloc_guard: " in t.processes[-1].log(), t.processes[-1].log()


def test_name_service(t):
    """The name service allocates, in scopes that the guard knows; the heap does not grow."""
    server, daemons = test_dns.listed(t)
    server.ttl = 1
    dev = test_dns.dns_device(t, server, wrapper=guarded())
    dev.wait_up(2)
    load = Load(t, dev.uri, depth=16)
    for n in (1, 2, 1, 2):
        server.srv(test_dns.NAME, [("a.swap.test", test_dns.port_of(d)) for d in daemons[:n]])
        test_dns.again(dev)
        test_dns.wait_portals(dev, daemons[:n])
        load.wait_requests(200)
    load.stop()
    load.check_all()
    load.handle.shutdown()
    stopped_well(dev)


if __name__ == "__main__":
    harness.main(globals())

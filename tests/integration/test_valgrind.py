#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Both programs from start to stop under memcheck: no error, nothing leaked, nothing open at the end."""
import re

import device
import harness
from device import MIB, Daemon, Device, Load

MEMCHECK = ["valgrind", "--error-exitcode=9", "--leak-check=full", "--show-leak-kinds=definite,possible",
            "--errors-for-leak-kinds=definite,possible", "--track-fds=yes"]
SLOW = {"op_timeout_ms": 20000, "connect_timeout_ms": 20000, "ping_ms": 1000}


def check_stopped(process):
    """Stops it; memcheck would have made the status 9."""
    process.stop(seconds=30)
    check_log(process)


def check_log(process):
    text = process.log()
    assert "ERROR SUMMARY: 0 errors" in text, text
    found = re.search(r"FILE DESCRIPTORS: (\d+) open \((\d+) std\) at exit", text)
    assert found and found[1] == found[2], text


def serve(t, server):
    client = device.connect(server.uri)
    client.set_strict_mode(0)
    client.pwrite(b"v" * 3 * MIB, 1000)
    assert client.pread(3 * MIB, 1000) == b"v" * 3 * MIB
    client.trim(MIB, MIB)
    client.zero(MIB // 2, 2 * MIB)
    client.flush()
    client.shutdown()
    load = Load(t, server.uri, first=2048, pages=1024, depth=8)
    load.wait_requests(300, seconds=60)
    return load


def test_memcheck(t):
    harness.require("valgrind")
    port = device.reserve_port(t)
    key = device.write_secret(t.path("psk"), "a key that both of them have")
    daemon = Daemon(t, memory={"max": "16M"}, wrapper=MEMCHECK, psk_file=key, listen=f"tcp:127.0.0.1:{port}")
    server = Device(t, size=16 * MIB, portals=[daemon.portal, "tcp:127.0.0.1:1"], wrapper=MEMCHECK, limits=SLOW,
                    daemons={"psk_file": key})
    server.wait_up()
    load = serve(t, server)
    assert server.pages()["written_remote"] > 0
    check_stopped(daemon.process)
    server.wait_up(0, seconds=30)
    load.wait_requests(100, seconds=60)
    daemon.start()
    server.wait_up(seconds=60)
    load.wait_requests(100, seconds=60)
    load.stop()
    load.check_all()
    check_stopped(server.process)
    check_stopped(daemon.process)


def test_memcheck_of_starts_that_fail(t):
    """The ways out of a start that does not succeed free everything too."""
    harness.require("valgrind")
    port = device.reserve_port(t)
    server = Device(t)
    occupied = t.path("n.sock")
    cases = {
        "locked": {"backup": {"path": server.backup}},
        "listen": {"nbd": {"listen": f"unix:{occupied}", "control": t.path("c1")}},
        "control": {"nbd": {"listen": f"unix:{t.path('s2')}", "control": server.control}},
    }
    for name, change in cases.items():
        sections = {"device": server.sections["device"], "limits": {"buffers": "4M"},
                    "daemons": {"portals": f"tcp:127.0.0.1:{port}"},
                    "nbd": {"listen": f"unix:{t.path(name)}", "control": t.path(f"{name}.ctl")},
                    "backup": {"path": t.path(f"{name}.img")}} | change
        ini = harness.write_ini(t.path(f"{name}.ini"), sections)
        process = t.start([*MEMCHECK, harness.built("slabswap-nbd"), "-c", ini], name=name)
        status = process.wait_exit(60)
        assert status == 1, (name, status)
        check_log(process)


if __name__ == "__main__":
    harness.main(globals())

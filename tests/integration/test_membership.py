#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Portals that are added and removed while slabswap-nbd serves: SIGHUP."""
import signal

import nbd

import harness
from device import MIB, Daemon, Device, Load


def rewrite(server, portals, **sections):
    """The file as it was, with other portals and what @sections change."""
    fresh = {name: dict(keys) for name, keys in server.sections.items()}
    fresh["daemons"] = {"portals": ", ".join(portals)} if portals else {}
    fresh["daemons"] |= {name: key for name, key in server.sections["daemons"].items() if name != "portals"}
    for name, keys in sections.items():
        fresh[name] = fresh.get(name, {}) | keys
    harness.write_ini(server.ini, fresh)


def reload(server, portals, **sections):
    before = server.count(": SIGHUP: ")
    rewrite(server, portals, **sections)
    server.process.popen.send_signal(signal.SIGHUP)
    harness.wait_for(lambda: server.count(": SIGHUP: ") > before, "the file is read again")


def portals_of(server):
    return sorted(d["portal"] for d in server.status()["daemons"])


def wait_portals(server, daemons):
    wanted = sorted(d.portal for d in daemons)
    harness.wait_for(lambda: portals_of(server) == wanted, f"the portals are {wanted}")


def test_added_and_removed_under_load(t):
    daemons = [Daemon(t, memory={"max": "64M"}, name=f"d{i}") for i in range(3)]
    server = Device(t, portals=[daemons[0].portal], daemons={"max_portals": 3})
    server.wait_up()
    load = Load(t, server.uri, depth=16)
    server.wait_used()

    reload(server, [d.portal for d in daemons])
    wait_portals(server, daemons)
    server.wait_up(3)
    load.wait_requests(300)

    # Each that has slabs is removed in turn: what it had is there all the same.
    for rest in (daemons[1:], daemons[2:]):
        reload(server, [d.portal for d in rest])
        wait_portals(server, rest)
        server.wait_used()
        load.wait_requests(300)
    assert daemons[0].status()["slabs"]["free"] == 64 and daemons[1].status()["slabs"]["free"] == 64

    reload(server, [d.portal for d in daemons])
    server.wait_up(3)
    load.wait_requests(300)
    load.stop()
    load.check_all()
    load.handle.shutdown()
    status = server.no_errors()
    assert status["errors"]["daemons_lost"] == 0, status
    server.process.stop()


def test_all_removed_and_back(t):
    daemon = Daemon(t)
    server = Device(t, portals=[daemon.portal])
    server.wait_up()
    handle = nbd.NBD()
    handle.connect_uri(server.uri)
    data = bytes(range(256)) * 4096
    handle.pwrite(data, 0)
    reload(server, [])
    wait_portals(server, [])
    daemon.wait_free(8)
    assert handle.pread(MIB, 0) == data
    reload(server, [daemon.portal])
    server.wait_up()
    handle.shutdown()
    server.no_errors()


def test_a_bad_file_changes_nothing(t):
    daemon = Daemon(t)
    server = Device(t, portals=[daemon.portal])
    server.wait_up()
    reload(server, [daemon.portal, "tcp:nowhere:1"])
    server.wait_count("SIGHUP: " + server.ini + " is not good: the portals stay as they were", 1)
    server.wait_count("tcp:nowhere:1 is not such an address", 1)
    reload(server, [], device={"size": "17X"})
    server.wait_count("is not good: the portals stay as they were", 2)
    many = [f"tcp:127.0.0.1:{1 + i}" for i in range(3)]  # 1 more than were listed at the start are 2
    reload(server, many)
    server.wait_count("more than 2 portals; raise [daemons] max_portals and restart", 1)
    server.wait_count("is not good: the portals stay as they were", 3)
    assert portals_of(server) == [daemon.portal]
    server.wait_up()
    reload(server, [daemon.portal])
    server.no_errors()


def test_other_keys_take_a_restart(t):
    daemon = Daemon(t)
    server = Device(t)
    reload(server, [daemon.portal], limits={"ping_ms": 333}, device={"name": "swap1"})
    server.wait_count("takes a restart: [device] name, [limits] ping_ms", 1)
    server.wait_up()  # the portals have taken effect


def test_many_signals_at_once(t):
    daemon = Daemon(t)
    server = Device(t)
    rewrite(server, [daemon.portal])
    for _ in range(50):
        server.process.popen.send_signal(signal.SIGHUP)
    server.wait_up()
    server.process.stop()


if __name__ == "__main__":
    harness.main(globals())

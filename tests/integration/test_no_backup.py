#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""[backup] path = none: the device while its pages are on the daemons alone."""
import errno
import os
import socket

import device
import harness
import nbd
from device import MIB, PAGE, Daemon, Device

SIZE = 16 * MIB
NONE = {"path": "none"}


def failed(fn, *args):
    """The errno of a request that fails."""
    try:
        fn(*args)
    except nbd.Error as error:
        return error.errnum
    raise AssertionError("it was answered well")


def start(t, daemons, name="n", **sections):
    server = Device(t, size=SIZE, portals=[d.portal for d in daemons], name=name, backup=NONE, **sections)
    server.wait_up(len(daemons))
    return server


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def whole_device(t, daemon):
    server = start(t, [daemon])
    device.fio(t, server.uri, "--bssplit=4k/60:64k/30:128k/10", "--fsync=64", size="16m")
    status = server.no_errors()
    assert status["pages"]["read_backup"] == status["pages"]["written_backup"] == 0, status
    assert status["pages"]["degraded"] == 0 and status["errors"]["backup"] == 0, status
    assert status["backup"]["path"] == "none" and "backup" not in status["latency"], status
    files = [os.readlink(f"/proc/{server.process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{server.process.pid}/fd")]
    assert not any("io_uring" in name or "backup" in name for name in files), files
    assert os.listdir(os.path.dirname(server.backup)) == []
    assert "has no backup: every page" in server.process.log()
    server.process.stop()
    assert "pages are gone with it" in server.process.log(), server.process.log()


def test_whole_device_over_tcp(t):
    whole_device(t, Daemon(t, memory={"max": "24M"}))


def test_whole_device_over_shm(t):
    whole_device(t, Daemon(t, memory={"max": "24M"}, listen=f"shm:{t.path('d')}.shm"))


def test_lost_daemon_and_back(t):
    daemon = Daemon(t, memory={"max": "24M"}, listen=f"tcp:127.0.0.1:{free_port()}")
    server = start(t, [daemon])
    handle = device.connect(server.uri)
    handle.pwrite(b"a" * 2 * PAGE, 0)
    handle.pwrite(b"b" * PAGE, MIB)
    handle.flush()
    assert handle.pread(PAGE, PAGE) == b"a" * PAGE
    daemon.process.kill()
    harness.wait_for(lambda: server.pages()["lost"] == 3, "its pages are lost")
    assert failed(handle.pread, PAGE, 0) == errno.EIO
    assert handle.pread(PAGE, 4 * PAGE) == bytes(PAGE)
    server.wait_count("3 pages are lost: there is no backup", 1)
    daemon.start()
    server.wait_up()
    assert failed(handle.pread, PAGE, 0) == errno.EIO
    handle.pwrite(b"c" * PAGE, 0)
    assert handle.pread(PAGE, 0) == b"c" * PAGE
    handle.trim(PAGE, MIB)
    assert handle.pread(PAGE, MIB) == bytes(PAGE)
    assert failed(handle.pread, PAGE, PAGE) == errno.EIO
    handle.flush()
    assert server.pages()["lost"] == 1, server.pages()
    server.process.stop()


def test_nobody_lends(t):
    server = Device(t, size=SIZE, portals=[f"tcp:127.0.0.1:{free_port()}"], backup=NONE,
                    limits={"op_timeout_ms": 100})
    handle = device.connect(server.uri)
    assert failed(handle.pwrite, b"a" * PAGE, 0) == errno.ENOSPC
    assert handle.pread(PAGE, 0) == bytes(PAGE)
    handle.flush()
    server.process.stop()


def test_starts_anew_with_zeros(t):
    server = start(t, [Daemon(t, memory={"max": "24M"})])
    handle = device.connect(server.uri)
    handle.pwrite(b"a" * PAGE, 0)
    handle.zero(PAGE, 0)
    handle.pwrite(b"a" * PAGE, PAGE, nbd.CMD_FLAG_FUA)
    handle.shutdown()
    server.process.stop()
    server.start()
    server.wait_up()
    assert device.connect(server.uri).pread(2 * PAGE, 0) == bytes(2 * PAGE)
    server.process.stop()


def test_refused_keys(t):
    for key, value in (("ack", "both"), ("fill", "yes")):
        ini = harness.write_ini(t.path("x.ini"), {"device": {"name": "a", "size": "16M", "slab_size": "1M"},
                                                  "nbd": {"listen": f"unix:{t.path('x.sock')}"},
                                                  "backup": NONE | {key: value}})
        said = device.client(harness.built("slabswap-nbd"), "-c", ini, "--check", expect=2)
        assert f"[backup] {key} = {value}: {value} needs a backup" in said or "needs a backup" in said, said


def test_doctor_warns(t):
    ini = harness.write_ini(t.path("x.ini"), {"device": {"name": "a", "size": "16M", "slab_size": "1M"},
                                              "nbd": {"listen": f"unix:{t.path('x.sock')}"}, "backup": NONE})
    said = harness.subprocess.run([harness.built("slabswap-nbd"), "-c", ini, "--doctor"], capture_output=True,
                                  text=True, timeout=60, check=False)
    text = said.stdout + said.stderr
    assert "warning  backup: none: pages are lost with the daemon" in text, text
    assert "io_uring" not in text, text


harness.main(globals())

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""slabswap-nbd with slabswapd over tcp: clients' programs, restarts, limits.  Faults are in test_device_faults.py."""
import os
import random
import re
import signal
import socket
import subprocess
import sys

import nbd

import device
import harness
from device import MIB, PAGE, Daemon, Device, Load, client


def start(t, memory="64M", daemon_keys=None, **sections):
    daemon = Daemon(t, memory={"max": memory}, **(daemon_keys or {}))
    server = Device(t, portals=[daemon.portal], **sections)
    server.wait_up()
    return daemon, server


def test_nbdinfo(t):
    harness.require("nbdinfo")
    _, server = start(t)
    assert client("nbdinfo", "--size", server.uri).strip() == str(64 * MIB)
    text = client("nbdinfo", server.uri)
    for flag in ("flush", "fua", "multi_conn", "trim", "zero", "df", "cache", "fast_zero"):
        assert f"can_{flag}: true" in text, text
    assert "is_rotational: false" in text and "is_read_only: false" in text, text
    assert "block_size_minimum: 4096" in text and f"block_size_maximum: {32 * MIB}" in text, text
    assert server.socket in client("nbdinfo", "--list", server.uri)


def test_copy_in_and_out(t):
    """The same bytes come back, most of them from the daemon; what it lent is free when the server has gone."""
    harness.require("nbdcopy")
    daemon, server = start(t)
    source = device.make_image(t.path("in"), server.size)
    client("nbdcopy", "--connections=4", "--requests=32", source, server.uri)
    # A slab maps at its first write, and what was written before that is not remote.
    client("nbdcopy", "--connections=4", "--requests=32", source, server.uri)
    client("nbdcopy", "--connections=4", "--requests=32", server.uri, t.path("out"))
    device.same_file(source, t.path("out"))
    status = server.no_errors()
    pages = status["pages"]
    assert pages["read_remote"] > 0.8 * (pages["read_remote"] + pages["read_backup"]), pages
    assert status["slabs"]["mapped"] >= 48 and daemon.status()["slabs"]["mapped"] >= 48
    server.process.stop()
    device.same_file(source, server.backup)
    daemon.wait_free(64)


def test_qemu_img(t):
    harness.require("qemu-img")
    _, server = start(t)
    source = device.make_image(t.path("in"), server.size, seed=2)
    client("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", source, server.uri)
    client("qemu-img", "compare", "-f", "raw", "-F", "raw", source, server.uri)
    client("qemu-img", "convert", "-f", "raw", "-O", "raw", server.uri, t.path("out"))
    device.same_file(source, t.path("out"))
    with open(source, "r+b") as file:
        file.write(b"another beginning")
    client("qemu-img", "compare", "-f", "raw", "-F", "raw", source, server.uri, expect=1)


def test_qemu_io(t):
    harness.require("qemu-io")
    _, server = start(t)
    commands = ["write -P 0xab 1M 64k", "read -P 0xab 1M 64k", "write -f -P 1 0 4k", "read -P 1 0 4k",
                "write -P 7 2M 128k", "write -z 2M 64k", "read -P 0 2M 64k", "read -P 7 2112k 64k",
                "write -P 9 3M 64k", "discard 3M 64k", "read -P 0 3M 64k", "flush",
                "aio_write -P 3 4M 1M", "aio_write -P 4 5M 1M", "aio_flush", "read -P 3 4M 1M", "read -P 4 5M 1M",
                # of no alignment at all
                "write -P 5 6M 8k", "write -P 6 6292480 1024", "read -P 5 6M 1k", "read -P 6 6292480 1k",
                "read -P 5 6293504 6k", "write -P 8 1048575 2", "read -P 8 1048575 2", "read -P 0xab 1048577 4095"]
    text = client("qemu-io", "-f", "raw", *[part for c in commands for part in ("-c", c)], server.uri)
    assert "Pattern verification failed" not in text and "failed" not in text.lower(), text
    text = client("qemu-io", "-f", "raw", "-c", "read -P 0xac 1M 4k", server.uri, expect=1)
    assert "Pattern verification failed" in text, text
    server.no_errors()


def test_fio_4k(t):
    _, server = start(t)
    device.fio(t, server.uri, "--bs=4k")
    pages = server.no_errors()["pages"]
    assert pages["read_remote"] > 4 * pages["read_backup"], pages


def test_fio_kernel_like_sizes(t):
    _, server = start(t, size=128 * MIB, memory="128M")
    device.fio(t, server.uri, "--bssplit=4k/50:64k/20:128k/20:1280k/10", size="96m")
    server.no_errors()


def test_fio_without_daemon(t):
    server = Device(t)
    device.fio(t, server.uri, "--bs=4k", size="16m")
    assert server.no_errors()["pages"]["read_remote"] == 0


def test_connections_read_each_others_writes(t):
    _, server = start(t)
    handles = [device.connect(server.uri) for _ in range(3)]
    for version in range(1, 200):
        writer = handles[version % 3]
        offset = version * 37 % 900 * PAGE
        data = b"".join(device.page_bytes(page, version) for page in range(3))
        writer.pwrite(data, offset)
        for handle in handles:
            assert handle.pread(3 * PAGE, offset) == data, version
    loads = [Load(t, server.uri, first=2048 + n * 4096, pages=4096, seed=n) for n in range(3)]
    for load in loads:
        load.wait_requests(1500)
    for load in loads:
        load.stop()
    for n, load in enumerate(loads):
        load.check_all(loads[n - 1].handle)
    assert server.no_errors()["pages"]["read_remote"] > 0


def test_d9_requests_over_blocks_and_slabs(t):
    """One NBD request of many pieces, in mapped and unmapped slabs, at any alignment.  A second answer to one of
    them would be what the next one gets, and libnbd would not have it."""
    daemon, server = start(t, memory="8M")
    handle = device.connect(server.uri)
    noise = random.Random(9)
    expected = bytearray(server.size)
    for offset in (MIB // 2, 5 * MIB - PAGE, 6 * MIB, 20 * MIB + 3 * PAGE, 40 * MIB - PAGE, 60 * MIB) * 2:
        data = noise.randbytes(3 * MIB + 5 * PAGE)
        expected[offset:offset + len(data)] = data
        handle.pwrite(data, offset)
        assert handle.pread(len(data), offset) == data, offset
    assert daemon.status()["slabs"]["mapped"] == 8
    for offset in range(0, server.size, 32 * MIB):
        assert handle.pread(32 * MIB, offset) == expected[offset:offset + 32 * MIB]
    server.no_errors()


def test_readers_see_whole_writes(t):
    """One connection writes the same pages over and over, another never sees a page of two versions or an older one."""
    _, server = start(t)
    writer, reader = device.connect(server.uri), device.connect(server.uri)
    count = 8
    acked = 0
    for version in range(1, 400):
        data = bytearray(b"".join(device.page_bytes(page, version) for page in range(count)))
        write = writer.aio_pwrite(nbd.Buffer.from_bytearray(data), 30 * PAGE)
        buffer = nbd.Buffer(count * PAGE)
        read = reader.aio_pread(buffer, 30 * PAGE)
        while not reader.aio_command_completed(read):
            reader.poll(1000)
        found = buffer.to_bytearray()
        for page in range(count):
            content = bytes(found[page * PAGE:(page + 1) * PAGE])
            assert content in (device.page_bytes(page, acked), device.page_bytes(page, version)), (page, version)
        while not writer.aio_command_completed(write):
            writer.poll(1000)
        acked = version


def test_restart_keeps_contents(t):
    daemon, server = start(t, size=32 * MIB)
    load = Load(t, server.uri, pages=8192)
    load.wait_requests(1500)
    load.stop()
    load.handle.shutdown()
    server.process.stop()
    load.check_file(server.backup)
    server.start()
    server.wait_up()
    load.check_all(device.connect(server.uri))
    server.process.stop()
    load.check_file(server.backup)
    assert daemon.process.is_running()


def stop_under_load(t, ack):
    """SIGTERM: in 5 s with status 0; what was answered is on the backup."""
    _, server = start(t, size=32 * MIB, backup={"ack": ack})
    load = Load(t, server.uri, pages=8192, reads=0.1, depth=32)
    load.may_lose_server = True
    load.wait_requests(1000)
    server.process.stop()
    load.stop()
    check_backup(load, server)


def test_stop_under_load(t):
    stop_under_load(t, "remote")


def test_stop_under_load_with_ack_both(t):
    stop_under_load(t, "both")


def check_backup(load, server):
    """Every page is on the backup as it was answered; those without an answer may hold anything."""
    for page in load.in_doubt:
        load.versions[page] = None
    with open(server.backup, "rb") as backup:
        for page, version in enumerate(load.versions):
            data = backup.read(PAGE)
            assert version is None or data == device.page_bytes(page, version), (page, version, data[:16])


def test_kill_of_a_server_with_ack_both(t):
    """What was answered is on the backup, whatever happens to the server; and it starts again from there."""
    daemon, server = start(t, size=32 * MIB, backup={"ack": "both"})
    load = Load(t, server.uri, pages=8192, reads=0.1, depth=32)
    load.may_lose_server = True
    load.wait_requests(1500)
    assert server.pages()["written_remote"] > 0
    server.process.kill()
    load.stop()
    assert load.in_doubt, "nothing was under way"
    check_backup(load, server)
    daemon.wait_free(64)
    server.start()
    server.wait_up()
    handle = device.connect(server.uri)
    for page, version in enumerate(load.versions):
        if version is not None and page % 7 == 0:
            assert handle.pread(PAGE, page * PAGE) == device.page_bytes(page, version)


def test_trim_gives_back(t):
    _, server = start(t, size=32 * MIB)
    handle = device.connect(server.uri)
    for offset in range(0, 16 * MIB, MIB):
        handle.pwrite(b"x" * MIB, offset)
    handle.flush()
    assert os.stat(server.backup).st_blocks * 512 >= 16 * MIB
    handle.trim(server.size, 0)
    assert handle.pread(MIB, 3 * MIB) == bytes(MIB)
    handle.flush()
    assert server.pages()["trimmed"] >= 16 * 256
    harness.wait_for(lambda: os.stat(server.backup).st_blocks * 512 < 4 * MIB, "the file gets small")


def test_max_connections(t):
    _, server = start(t, nbd={"max_connections": 2})
    first, _second = device.connect(server.uri), device.connect(server.uri)
    third = nbd.NBD()
    try:
        third.connect_uri(server.uri)
        raise AssertionError("a third connection")
    except nbd.Error:
        pass
    first.pwrite(b"y" * PAGE, 0)
    first.shutdown()
    assert server.status()["nbd"]["refused"] >= 1

    def has_room():
        try:
            handle = nbd.NBD()
            handle.connect_uri(server.uri)
            return handle
        except nbd.Error:
            return None
    again = harness.wait_for(has_room, "room for one more")
    assert again.pread(PAGE, 0) == b"y" * PAGE
    again.shutdown()


def test_socket_activation(t):
    """The sockets of LISTEN_FDS stand for those of the file, and stay when the server goes."""
    daemon = Daemon(t)
    path = t.path("activated.sock")
    listening = socket.socket(socket.AF_UNIX)
    t.defer(listening.close)
    listening.bind(path)
    listening.listen(8)
    # systemd's protocol: from descriptor 3 on, for the process of LISTEN_PID.
    launcher = ("import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True);"
                "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); os.execv(sys.argv[2], sys.argv[2:])")
    wrapper = [sys.executable, "-c", launcher, str(listening.fileno())]
    server = Device(t, portals=[daemon.portal], wrapper=wrapper, popen={"pass_fds": [listening.fileno()]})
    assert not os.path.exists(server.socket)
    uri = f"nbd+unix:///{device.EXPORT}?socket={path}"
    handle = device.connect(uri)
    handle.pwrite(b"z" * PAGE, PAGE)
    handle.shutdown()
    server.process.stop()
    assert os.path.exists(path), "it belongs to the service manager"
    waiting = socket.socket(socket.AF_UNIX)
    waiting.connect(path)
    waiting.close()


def test_tcp_listener(t):
    server = Device(t, nbd={"listen": "tcp:127.0.0.1:0", "export": ""})
    host, port = re.search(r"listening at tcp:(\S+):(\d+)", server.process.log()).groups()
    handle = device.connect(f"nbd://{host}:{port}")
    handle.pwrite(b"t" * 3 * PAGE, 0)
    assert handle.pread(2 * PAGE, PAGE) == b"t" * 2 * PAGE


def test_metadata_of_a_large_device(t):
    """64 KiB per GiB at most, and resident memory is that, the buffers, and a little."""
    daemon = Daemon(t, slab_size="64M", memory={"max": "128M"})
    size = 64 << 30
    server = Device(t, size=size, portals=[daemon.portal], device={"slab_size": "64M"})
    server.wait_up()
    handle = device.connect(server.uri)
    for offset in (0, size // 2 + PAGE, size - PAGE):
        handle.pwrite(device.page_bytes(offset // PAGE, 1), offset)
        assert handle.pread(PAGE, offset) == device.page_bytes(offset // PAGE, 1)
    assert os.stat(server.backup).st_size == size
    assert os.stat(server.backup).st_blocks * 512 < 4 * MIB, "sparse"
    memory = server.status()["memory"]
    assert memory["page_map_bytes"] <= 64 * 64 * 1024, memory
    assert memory["slab_table_bytes"] <= size // (64 * MIB) * 64, memory
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as file:
        resident = int(re.search(r"VmRSS:\s+(\d+) kB", file.read())[1]) * 1024
    # A sanitizer's shadow memory is not ours to bound.
    if not is_sanitized():
        known = memory["page_map_bytes"] + memory["slab_table_bytes"] + memory["buffer_bytes"]
        assert resident < known + 16 * MIB, (resident, memory)


def is_sanitized():
    with open(harness.built("slabswap-nbd"), "rb") as program:
        return b"__asan_init" in program.read()


def run_server(t, name, sections, **options):
    ini = harness.write_ini(t.path(name), sections)
    return subprocess.run([harness.built("slabswap-nbd"), "-c", ini], capture_output=True, text=True, check=False,
                          timeout=20, **options)


def errors_of(result):
    return [line for line in result.stderr.splitlines() if "error: " in line]


def test_backup_locked_by_another_server(t):
    server = Device(t)
    sections = server.sections | {"nbd": {"listen": f"unix:{t.path('b.sock')}", "control": t.path("b.ctl")}}
    result = run_server(t, "b.ini", sections)
    lines = errors_of(result)
    assert result.returncode == 1 and len(lines) == 1, result
    assert server.backup in lines[0] and "locked" in lines[0] and str(server.process.pid) in lines[0], lines
    assert not os.path.exists(t.path("b.sock")) and not os.path.exists(t.path("b.ctl"))
    device.connect(server.uri).pwrite(b"1" * PAGE, 0)
    server.process.stop()
    # A socket of a server that was killed is no obstacle, nor is its lock.
    server.start()
    server.process.kill()
    server.start()
    assert device.connect(server.uri).pread(PAGE, 0) == b"1" * PAGE


def test_listen_path_in_use(t):
    server = Device(t)
    sections = server.sections | {"backup": {"path": os.path.join(device.disk_dir(t), "b.img")}}
    result = run_server(t, "b.ini", sections)
    lines = errors_of(result)
    assert result.returncode == 1 and len(lines) == 1 and server.socket in lines[0], result
    assert device.connect(server.uri).get_size() == server.size


def test_no_permission(t):
    if os.geteuid():
        raise harness.Skip("needs root to become somebody else")
    os.chmod(t.dir, 0o777)
    nobody = {"user": "nobody", "group": "nogroup", "extra_groups": []}
    secret = os.path.join(t.dir, "secret")
    os.mkdir(secret, 0o700)
    sections = {"device": {"name": "swap0", "size": "8M", "slab_size": "1M"},
                "nbd": {"listen": f"unix:{t.path('p.sock')}", "control": t.path("p.ctl")},
                "backup": {"path": os.path.join(secret, "b.img")}}
    if not can_execute(nobody):
        raise harness.Skip("the build directory is not for everybody")
    result = run_server(t, "p.ini", sections, **nobody)
    lines = errors_of(result)
    assert result.returncode == 1 and len(lines) == 1 and secret in lines[0] and "Permission" in lines[0], result
    sections["backup"]["path"] = t.path("b.img")
    sections["nbd"]["listen"] = f"unix:{secret}/p.sock"
    result = run_server(t, "q.ini", sections, **nobody)
    lines = errors_of(result)
    assert result.returncode == 1 and len(lines) == 1 and f"{secret}/p.sock" in lines[0], result
    os.chmod(t.path("p.ini"), 0o600)
    result = subprocess.run([harness.built("slabswap-nbd"), "-c", t.path("p.ini")], capture_output=True, text=True,
                            check=False, timeout=20, **nobody)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1, result


def can_execute(who):
    try:
        return subprocess.run([harness.built("slabswap-nbd"), "--version"], stdout=subprocess.DEVNULL,
                              check=False, **who).returncode == 0
    except PermissionError:
        return False


def test_signals_while_it_starts(t):
    """SIGINT stops as SIGTERM does, at once after the start."""
    server = Device(t)
    server.process.popen.send_signal(signal.SIGINT)
    assert server.process.wait_exit() == 0
    assert not os.path.exists(server.socket) and not os.path.exists(server.control)


if __name__ == "__main__":
    harness.main(globals())

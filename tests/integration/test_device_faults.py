#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""slabswap-nbd over tcp while daemons die, hang, refuse and lie, and while the backup has no room."""
import os
import resource
import signal
import socket
import struct
import subprocess
import threading

import device
import harness
from device import MIB, Daemon, Device, Load

MEMORY = {"max": "64M"}
CONNECTED = ": connected, "
TRYING = "trying"
BACKOFF = {"retry_ms": 20, "retry_max_ms": 80}


def fixed_daemon(t, memory=None, **keys):
    """One that has its address again after a restart."""
    return Daemon(t, memory=memory or MEMORY, listen=f"tcp:127.0.0.1:{device.reserve_port(t)}", **keys)


def finish(load, server):
    """All pages are right: as read now, and on the backup after a clean stop."""
    load.stop()
    load.check_all()
    status = server.no_errors()
    load.handle.shutdown()
    server.process.stop()
    load.check_file(server.backup)
    return status


def test_daemon_killed_and_restarted_under_load(t):
    daemon = fixed_daemon(t)
    server = Device(t, portals=[daemon.portal])
    server.wait_up()
    load = Load(t, server.uri, depth=32)
    for turn in range(1, 4):
        server.wait_used()
        load.wait_requests(300)
        daemon.process.kill()
        server.wait_up(0)
        load.wait_requests(300)
        assert server.status()["slabs"]["mapped"] == 0
        assert server.status()["errors"]["daemons_lost"] == turn
        daemon.start()
        server.wait_up()
    server.wait_used()
    status = finish(load, server)
    assert status["pages"]["read_remote"] > 0
    server.wait_count(CONNECTED, 4)
    server.wait_count("are served from the backup", 3)


def test_fio_while_the_daemon_is_killed(t):
    daemon = fixed_daemon(t)
    server = Device(t, portals=[daemon.portal])
    server.wait_up()
    output = []

    def run():
        try:
            output.append(device.fio(t, server.uri, "--bssplit=4k/60:64k/40", "--loops=4", size="48m"))
        except (AssertionError, subprocess.SubprocessError) as error:
            output.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    server.wait_used()
    daemon.process.kill()
    server.wait_up(0)
    daemon.start()
    server.wait_up()
    server.wait_used()
    assert thread.is_alive(), "fio ended too early for this test"
    thread.join()
    assert isinstance(output[0], str), output[0]
    server.no_errors()


def daemon_hangs(t, ping_ms):
    """SIGSTOP for longer than op_timeout: nothing fails, nothing waits much longer; after SIGCONT it is used again."""
    daemon = fixed_daemon(t)
    server = Device(t, portals=[daemon.portal], limits={"ping_ms": ping_ms})
    server.wait_up()
    load = Load(t, server.uri, depth=32)
    server.wait_used()
    load.wait_requests(500)
    daemon.process.popen.send_signal(signal.SIGSTOP)
    t.defer(daemon.process.popen.send_signal, signal.SIGCONT)
    server.wait_up(0)
    load.wait_requests(1000)
    assert server.status()["slabs"]["mapped"] == 0
    daemon.process.popen.send_signal(signal.SIGCONT)
    server.wait_up()
    server.wait_used()
    finish(load, server)
    assert load.slowest < 5 * device.OP_TIMEOUT_MS / 1000, load.slowest
    daemon.wait_free(64)
    return server.process.log()


def test_daemon_hangs(t):
    assert "in time" in daemon_hangs(t, ping_ms=100)


def test_daemon_hangs_between_pings(t):
    """The deadline of each operation finds it too."""
    assert "an operation did not complete in time" in daemon_hangs(t, ping_ms=60000)


def test_idle_daemon_hangs(t):
    """A PING without an answer finds it, without any load."""
    daemon = fixed_daemon(t)
    server = Device(t, portals=[daemon.portal])
    server.wait_up()
    daemon.process.popen.send_signal(signal.SIGSTOP)
    t.defer(daemon.process.popen.send_signal, signal.SIGCONT)
    server.wait_up(0, seconds=5)
    server.wait_count("no answer to PING in time", 1)


def test_two_daemons_one_killed(t):
    """Only its slabs are lost."""
    first, second = (Daemon(t, memory=MEMORY, name=name) for name in "ab")
    server = Device(t, portals=[first.portal, second.portal])
    server.wait_up(2)
    load = Load(t, server.uri, pages=16384, depth=32)
    harness.wait_for(lambda: all(d["slabs_mapped"] > 10 for d in server.status()["daemons"]), "both are used")
    first.process.kill()
    server.wait_up(1)
    load.wait_requests(500)
    status = server.status()
    assert [d["up"] for d in status["daemons"]] == [False, True], status
    assert status["daemons"][0]["slabs_mapped"] == 0 and status["daemons"][1]["slabs_mapped"] > 10
    # Whether it was lost or could not be sent to depends on what came first.
    server.wait_count("trying to reconnect", 1)
    server.wait_used()
    status = finish(load, server)
    assert status["errors"]["daemons_lost"] == 1
    assert second.process.is_running()


def test_daemon_stopped_in_order(t):
    daemon = fixed_daemon(t)
    server = Device(t, portals=[daemon.portal])
    server.wait_up()
    load = Load(t, server.uri)
    server.wait_used()
    daemon.process.stop()
    assert "has not given" not in daemon.process.log(), daemon.process.log()
    server.wait_up(0)
    load.wait_requests(300)
    daemon.start()
    server.wait_up()
    server.wait_used()
    finish(load, server)


def test_daemon_absent_at_start(t):
    """Serves from the backup at once; says it once; uses the daemon when it comes."""
    port = device.reserve_port(t)
    server = Device(t, portals=[f"tcp:127.0.0.1:{port}"], limits=BACKOFF)
    load = Load(t, server.uri)
    load.wait_requests(500)
    status = server.status()
    assert not status["daemons"][0]["up"] and "refused" in status["daemons"][0]["last_error"], status
    assert status["pages"]["read_backup"] > 0 and status["pages"]["written_remote"] == 0
    wait_tries(server)
    server.wait_count(TRYING, 1)
    daemon = Daemon(t, memory=MEMORY, listen=f"tcp:127.0.0.1:{port}")
    server.wait_up()
    server.wait_used()
    server.wait_count(CONNECTED, 1)
    daemon.process.kill()
    server.wait_up(0)
    wait_tries(server)
    # The loss and that nobody listens since: two lines at most, however often it was tried.
    assert server.count(TRYING) <= 3, server.process.log()
    finish(load, server)


def wait_tries(server, seconds=0.6):
    """Lets several tries pass: at most 80 ms lie between two of them."""
    end = server.status()["uptime_ms"] + seconds * 1000
    harness.wait_for(lambda: server.status()["uptime_ms"] > end, "tries pass")


def refused(t, server, reason):
    """The daemon is not used, which is said once, with @reason; I/O works."""
    server.process.wait_log(reason)
    load = Load(t, server.uri, pages=2048)
    load.wait_requests(200)
    wait_tries(server)
    server.wait_count(TRYING, 1)
    server.wait_count(reason, 1)
    status = server.status()
    assert not status["daemons"][0]["up"] and status["pages"]["written_remote"] == 0
    finish(load, server)


def test_wrong_psk(t):
    daemon = Daemon(t, psk_file=device.write_secret(t.path("d.psk"), "a key of the daemon alone"))
    key = device.write_secret(t.path("n.psk"), "a key of the server alone")
    server = Device(t, portals=[daemon.portal], daemons={"psk_file": key}, limits=BACKOFF)
    refused(t, server, "its psk differs from ours")
    assert daemon.status()["slabs"]["mapped"] == 0


def test_psk_missing_here(t):
    daemon = Daemon(t, psk_file=device.write_secret(t.path("d.psk"), "a key of the daemon alone"))
    refused(t, Device(t, portals=[daemon.portal], limits=BACKOFF), "it asks for a psk and psk_file is not set")


def test_psk_missing_there(t):
    """A daemon that does not prove the key is not trusted."""
    daemon = Daemon(t)
    key = device.write_secret(t.path("n.psk"), "a key of the server alone")
    server = Device(t, portals=[daemon.portal], daemons={"psk_file": key}, limits=BACKOFF)
    refused(t, server, "it did not prove the psk")


def test_right_psk(t):
    key = device.write_secret(t.path("psk"), "a key that both of them have")
    daemon = Daemon(t, psk_file=key)
    server = Device(t, portals=[daemon.portal], daemons={"psk_file": key})
    server.wait_up()
    load = Load(t, server.uri, pages=1024)
    server.wait_used()
    finish(load, server)


def test_wrong_slab_size(t):
    daemon = Daemon(t, slab_size="2M")
    refused(t, Device(t, portals=[daemon.portal], limits=BACKOFF), "it refused us: ")


def test_another_reason_is_said(t):
    """Nobody listens; then a daemon that refuses; then one that does not: a line for each change."""
    port = device.reserve_port(t)
    server = Device(t, portals=[f"tcp:127.0.0.1:{port}"], limits=BACKOFF)
    server.process.wait_log("cannot connect")
    wait_tries(server)
    wrong = Daemon(t, slab_size="2M", listen=f"tcp:127.0.0.1:{port}")
    server.process.wait_log("it refused us: ")
    wait_tries(server)
    server.wait_count(TRYING, 2)
    wrong.process.stop()
    Daemon(t, listen=f"tcp:127.0.0.1:{port}")
    server.wait_up()
    server.wait_count(CONNECTED, 1)


def test_max_clients_reached(t):
    """The second device serves from its backup, until the first has gone."""
    daemon = Daemon(t, memory=MEMORY, max_clients=1)
    first = Device(t, portals=[daemon.portal])
    first.wait_up()
    second = Device(t, portals=[daemon.portal], limits=BACKOFF, name="second")
    second.process.wait_log("it refused us: ")
    load = Load(t, second.uri, pages=2048)
    load.wait_requests(200)
    wait_tries(second)
    second.wait_count(TRYING, 1)
    assert first.status()["daemons"][0]["up"]
    first.process.stop()
    second.wait_up()
    second.wait_used()
    finish(load, second)


def test_daemon_is_full(t):
    """It lends what it has; the rest of the device lives on the backup."""
    daemon = Daemon(t, memory={"max": "4M"})
    server = Device(t, portals=[daemon.portal])
    server.wait_up()
    load = Load(t, server.uri, pages=16384, depth=32)
    load.wait_requests(3000)
    status = server.status()
    assert status["slabs"]["mapped"] == 4 and status["daemons"][0]["slabs_free"] == 0, status
    assert status["pages"]["written_remote"] > 0 and status["pages"]["written_backup"] > 0
    assert daemon.status()["slabs"]["free"] == 0
    finish(load, server)


def test_quota(t):
    """max_per_client: refused while the daemon has free slabs, once and not for every write."""
    daemon = Daemon(t, memory={"max": "8M", "max_per_client": "2M"})
    server = Device(t, portals=[daemon.portal])
    server.wait_up()
    load = Load(t, server.uri, pages=16384, depth=32)
    load.wait_requests(2000)
    status = server.status()
    assert status["slabs"]["mapped"] == 2 and status["daemons"][0]["up"], status
    assert daemon.status()["slabs"]["mapped"] == 2
    finish(load, server)


# Daemons that are none.


CTL = struct.Struct("<IHHIIQ")
FRAME = struct.Struct("<IHHIIQII")
FRAME_MAGIC, CTL_MAGIC = 0x54575353, 0x50575353
PREAMBLE, MESSAGE = 1, 2
WELCOME, REFUSED, PONG = 4, 5, 13
REASON_VERSION = 1


def frame(kind, payload=b"", op_id=0):
    return FRAME.pack(FRAME_MAGIC, kind, 0, op_id, 0, 0, len(payload), 0) + payload


def message(kind, payload=b"", version=1, request_id=0x80000002):
    return frame(MESSAGE, CTL.pack(CTL_MAGIC, version, kind, len(payload), request_id, 0) + payload)


class FakeDaemon:
    """Answers each connection with @first, and then what came after it with @second, and waits for its end."""

    def __init__(self, t, first, second=b""):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.portal = "tcp:127.0.0.1:%d" % self.listener.getsockname()[1]
        self.answers = (first, second)
        self.connections = 0
        t.defer(self.listener.close)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            try:
                for answer in self.answers:
                    if connection.recv(65536):
                        connection.sendall(answer)
                while connection.recv(65536):
                    pass
            except OSError:
                pass


WELCOME_PAYLOAD = struct.pack("<QQIIQII", MIB, 7, 8, 8, 0, 0, 0)
WELCOME_OTHER_SLABS = struct.pack("<QQIIQII", 2 * MIB, 7, 8, 8, 0, 0, 0)
HELLO_DONE = frame(PREAMBLE, op_id=1)
LIES = {  # name: (what is sent, then, what the line says)
    "not this protocol": (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 4, b"", "Protocol error"),
    "another tcp version": (frame(PREAMBLE, op_id=2), b"", "Protocol not supported"),
    "noise": (bytes(range(1, 65)), b"", "Protocol error"),
    "noise in a message": (HELLO_DONE, frame(MESSAGE, os.urandom(100)), "cannot be decoded"),
    "another control version": (HELLO_DONE, message(WELCOME, WELCOME_PAYLOAD, version=9), "Protocol not supported"),
    "a slab size that differs": (HELLO_DONE, message(WELCOME, WELCOME_OTHER_SLABS), "slab size"),
    "too long": (HELLO_DONE, frame(MESSAGE, bytes(4096)), "Protocol error"),
    "an answer to nothing": (HELLO_DONE, message(WELCOME, WELCOME_PAYLOAD) + message(PONG), "PONG without PING"),
    "a READ_DONE of nothing": (HELLO_DONE, message(WELCOME, WELCOME_PAYLOAD) + frame(4, bytes(4096), op_id=5),
                               "Protocol error"),
    "silence": (b"", b"", "timed out"),
    "silence after the preamble": (HELLO_DONE, b"", "timed out"),
}


def test_wrong_version(t):
    text = b"speaks 2 to 3".ljust(96, b"\0")
    fake = FakeDaemon(t, HELLO_DONE, message(REFUSED, struct.pack("<I", REASON_VERSION) + text))
    server = Device(t, portals=[fake.portal], limits=BACKOFF)
    refused(t, server, "speaks 2 to 3")
    assert 2 < fake.connections < 100


def test_lying_daemons(t):
    """All at once beside an honest one: each is given up, tried again with pauses, and hurts nobody."""
    honest = Daemon(t, memory=MEMORY)
    fakes = {name: FakeDaemon(t, *lie[:2]) for name, lie in LIES.items()}
    server = Device(t, portals=[honest.portal, *(fake.portal for fake in fakes.values())],
                    limits={"retry_ms": 20, "retry_max_ms": 200})
    load = Load(t, server.uri)
    harness.wait_for(lambda: all(fake.connections >= 3 for fake in fakes.values()), "each was tried again", 20)
    server.wait_used()
    status = finish(load, server)
    assert status["daemons"][0]["up"]
    for name, fake in fakes.items():
        address = fake.portal[len("tcp:"):]
        lines = [line for line in server.process.log().splitlines() if f"daemon {address}: " in line]
        assert any(TRYING in line and LIES[name][2] in line for line in lines), (name, lines)
        # A daemon that was accepted and then failed says both, each time; the others are said once.
        said = [line for line in lines if CONNECTED not in line]
        accepted = len(lines) - len(said)
        assert len(said) <= 1 + accepted, (name, lines)
        # 20, 40, 80, 160, and then 200 ms, also when it says WELCOME first
        uptime_ms = status["uptime_ms"]
        assert fake.connections <= 6 + uptime_ms / 200, (name, fake.connections, uptime_ms)


# The backup.


def small_disk(t, size):
    """A directory on a file system of @size bytes."""
    path = t.path("small")
    os.mkdir(path)
    result = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", path], capture_output=True,
                            text=True, check=False)
    if result.returncode:
        raise harness.Skip(f"cannot mount: {result.stderr.strip()}")
    # Lazily: the server may still be there when the test fails.
    t.defer(subprocess.run, ["umount", "-l", path])
    return path


def full_backup(t, ack):
    """A device whose backup has room for half of what is written, with all of it on a daemon."""
    path = small_disk(t, 16 * MIB)
    with open(os.path.join(path, "ballast"), "wb") as ballast:
        ballast.write(bytes(12 * MIB))
    daemon = fixed_daemon(t)
    server = Device(t, size=8 * MIB, portals=[daemon.portal], backup_dir=path, backup={"ack": ack})
    server.wait_up()
    handle = device.connect(server.uri)
    # Each slab is mapped at its first write, and has a page on the backup.
    for slab in range(8):
        handle.pwrite(b"m" * 4096, slab * MIB)
    harness.wait_for(lambda: server.status()["slabs"]["mapped"] == 8, "all slabs are mapped")
    return daemon, server, handle, os.path.join(path, "ballast")


def write_all(handle, fill):
    for offset in range(0, 8 * MIB, MIB // 2):
        handle.pwrite(bytes([fill]) * (MIB // 2), offset)


def check_all(handle, fill):
    for offset in range(0, 8 * MIB, MIB // 2):
        assert handle.pread(MIB // 2, offset) == bytes([fill]) * (MIB // 2), offset


def backup_is_full(t, ack):
    """Pages stay remote, counted and said; FLUSH tells the truth; all is well when there is room again."""
    _, server, handle, ballast = full_backup(t, ack)
    write_all(handle, 1)
    harness.wait_for(lambda: server.pages()["degraded"] > 512, "pages are degraded")
    status = server.status()
    assert status["errors"]["backup"] > 0 and status["errors"]["writes"] == 0, status
    check_all(handle, 1)
    write_all(handle, 2)
    check_all(handle, 2)
    try:
        handle.flush()
        raise AssertionError("FLUSH succeeded while pages are not on the backup")
    except device.nbd.Error as error:
        assert error.errno in ("EIO", "ENOSPC"), error
    server.wait_count("backup: write failed: No space left on device", 1)
    assert server.status()["slabs"]["mapped"] == 8
    os.unlink(ballast)
    harness.wait_for(lambda: server.pages()["degraded"] == 0, "every page is on the backup", 20)
    server.process.wait_log("backup: works again")
    handle.flush()
    check_all(handle, 2)
    server.process.stop()
    with open(server.backup, "rb") as backup:
        assert backup.read() == b"\2" * 8 * MIB


def test_backup_is_full(t):
    backup_is_full(t, "remote")


def test_backup_is_full_with_ack_both(t):
    backup_is_full(t, "both")


def test_backup_is_full_and_the_daemon_dies(t):
    """What only the daemon had is lost, which is counted, said, and answered with an error, never with old bytes."""
    daemon, server, handle, ballast = full_backup(t, "remote")
    write_all(handle, 3)
    harness.wait_for(lambda: server.pages()["degraded"] > 512, "pages are degraded")
    harness.wait_for(lambda: server.status()["memory"]["writes_unsafe"] == 0, "every write has ended")
    daemon.process.kill()
    server.wait_up(0)
    lost = server.pages()["lost"]
    assert lost > 512, lost
    server.process.wait_log("pages are lost")
    good = bad = 0
    for page in range(2048):
        try:
            assert handle.pread(4096, page * 4096) == b"\3" * 4096, page
            good += 1
        except device.nbd.Error as error:
            assert error.errno == "EIO", error
            bad += 1
    assert bad == lost and good == 2048 - lost, (good, bad, lost)
    os.unlink(ballast)
    write_all(handle, 4)
    check_all(handle, 4)
    handle.flush()
    assert server.pages()["lost"] == 0
    server.process.stop()
    with open(server.backup, "rb") as backup:
        assert backup.read() == b"\4" * 8 * MIB


def test_file_size_limit(t):
    """RLIMIT_FSIZE is one more way of a disk to have no room; SIGXFSZ ends nothing."""
    daemon = fixed_daemon(t)
    server = Device(t, size=8 * MIB, portals=[daemon.portal])
    server.wait_up()
    handle = device.connect(server.uri)
    write_all(handle, 6)
    harness.wait_for(lambda: server.status()["slabs"]["mapped"] == 8, "all slabs are mapped")
    _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (MIB, hard))
    write_all(handle, 7)
    harness.wait_for(lambda: server.pages()["degraded"] == 7 * 256, "pages are degraded")
    check_all(handle, 7)
    server.wait_count("backup: write failed: File too large", 1)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    harness.wait_for(lambda: server.pages()["degraded"] == 0, "every page is on the backup", 20)
    server.process.wait_log("backup: works again")
    handle.flush()
    server.process.stop()
    with open(server.backup, "rb") as backup:
        assert backup.read() == b"\7" * 8 * MIB


def test_stop_with_a_full_backup(t):
    """It cannot bring the pages home: says how many, and does not exit with 0, within a bounded time."""
    _, server, handle, _ = full_backup(t, "remote")
    write_all(handle, 5)
    harness.wait_for(lambda: server.pages()["degraded"] > 512, "pages are degraded")
    handle.shutdown()
    server.process.stop(expect=1, seconds=15)
    assert "error: " in server.process.log()


if __name__ == "__main__":
    harness.main(globals())

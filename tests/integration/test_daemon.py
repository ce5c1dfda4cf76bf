#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""slabswapd over tcp: a client of a few lines borrows memory, misbehaves, and dies."""
import hashlib
import hmac
import os
import signal
import socket
import struct
import subprocess

import harness
from device import Daemon

MIB = 1 << 20
# tcp frames
PREAMBLE, MESSAGE, READ, READ_DONE, WRITE, WRITE_DONE = range(1, 7)
FRAME = struct.Struct("<IHHIIQII")
FRAME_MAGIC = 0x54575353
# control messages
HELLO, CHALLENGE, AUTH, WELCOME, REFUSED, QUERY_MEM, FREE_MEM, MAP, MR_INFO, UNMAP, UNMAPPED, PING, PONG = range(1, 14)
EVICT, DONE = 16, 17
CTL = struct.Struct("<IHHIIQ")
CTL_MAGIC = 0x50575353
VERSION, SLAB_SIZE, BAD_AUTH, CLIENTS, NO_MEMORY, QUOTA, PROTOCOL, BAD_SLAB, STOPPING = range(1, 10)


class Closed(Exception):
    """The daemon has closed the connection."""


class Client:
    def __init__(self, t, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        t.defer(self.socket.close)
        self.ids = 0
        self.frame(PREAMBLE, op_id=1)
        assert self.receive()[0] == PREAMBLE

    def frame(self, kind, payload=b"", op_id=0, rkey=0, addr=0, length=None):
        length = len(payload) if length is None else length
        self.socket.sendall(FRAME.pack(FRAME_MAGIC, kind, 0, op_id, rkey, addr, length, 0) + payload)

    def exactly(self, count):
        data = b""
        while len(data) < count:
            try:
                piece = self.socket.recv(count - len(data))
            except ConnectionResetError:
                piece = b""
            if not piece:
                raise Closed
            data += piece
        return data

    def receive(self):
        magic, kind, status, op_id, _rkey, _addr, length, _ = FRAME.unpack(self.exactly(FRAME.size))
        assert magic == FRAME_MAGIC
        return kind, status, op_id, self.exactly(length)

    def send(self, kind, payload=b"", version=1):
        """Returns the request id."""
        self.ids += 1
        message = CTL.pack(CTL_MAGIC, version, kind, len(payload), self.ids, 0) + payload
        self.frame(MESSAGE, message)
        return self.ids

    def answer(self, request_id):
        """Its type and payload; FREE_MEM that nobody asked for is left out."""
        while True:
            kind, _, _, data = self.receive()
            assert kind == MESSAGE, kind
            magic, _, ctl_type, _, answer_id, _ = CTL.unpack(data[:CTL.size])
            assert magic == CTL_MAGIC
            if ctl_type == FREE_MEM and answer_id == 0:
                continue
            assert answer_id == request_id, (answer_id, request_id)
            return ctl_type, data[CTL.size:]

    def evict(self):
        """The request id and payload of the next EVICT; FREE_MEM before it is left out."""
        while True:
            _, _, _, data = self.receive()
            _, _, ctl_type, _, request_id, _ = CTL.unpack(data[:CTL.size])
            if ctl_type == EVICT:
                return request_id, data[CTL.size:]
            assert ctl_type == FREE_MEM, ctl_type

    def respond(self, request_id, kind, payload):
        self.frame(MESSAGE, CTL.pack(CTL_MAGIC, 1, kind, len(payload), request_id, 0) + payload)

    def ask(self, kind, payload=b"", version=1):
        return self.answer(self.send(kind, payload, version))

    def hello_payload(self, slab_size):
        return b"c" * 16 + b"swap0".ljust(64, b"\0") + struct.pack("<Q", slab_size) + b"n" * 16

    def hello(self, slab_size=MIB, version=1):
        return self.ask(HELLO, self.hello_payload(slab_size), version)

    def hello_with_psk(self, psk, slab_size=MIB):
        payload = self.hello_payload(slab_size)
        sent = CTL.pack(CTL_MAGIC, 1, HELLO, len(payload), self.ids + 1, 0) + payload
        ctl_type, challenge = self.ask(HELLO, payload)
        assert ctl_type == CHALLENGE, ctl_type
        nonce, proof = challenge[:16], challenge[16:]
        good = hmac.new(psk, b"D" + sent + nonce, hashlib.sha256).digest() == proof
        return good, self.ask(AUTH, hmac.new(psk, b"C" + sent + nonce, hashlib.sha256).digest())

    def map(self, slab, generation=1):
        """(address, rkey), or the reason of the refusal."""
        ctl_type, payload = self.ask(MAP, struct.pack("<II", slab, generation))
        if ctl_type == REFUSED:
            return struct.unpack("<I", payload[:4])[0]
        assert ctl_type == MR_INFO, ctl_type
        got_slab, got_generation, addr, length, rkey, _ = struct.unpack("<IIQQII", payload)
        assert (got_slab, got_generation, length) == (slab, generation, MIB)
        return addr, rkey

    def unmap(self, slab, generation=1):
        return self.ask(UNMAP, struct.pack("<II", slab, generation))[0]

    def io(self, kind, mapping, offset, payload=b"", length=0):
        """The bytes of a READ, b"" for a WRITE; control messages that come before the answer are left out."""
        addr, rkey = mapping
        self.frame(kind, payload, op_id=77, rkey=rkey, addr=addr + offset, length=len(payload) or length)
        while True:
            got, status, op_id, data = self.receive()
            if got == MESSAGE:
                continue
            assert got == kind + 1 and op_id == 77
            if status != 0:
                raise PermissionError(status)
            return data

    def write(self, mapping, offset, data):
        return self.io(WRITE, mapping, offset, payload=data)

    def read(self, mapping, offset, length):
        return self.io(READ, mapping, offset, length=length)

    def assert_closed(self):
        try:
            while True:
                self.receive()
        except Closed:
            pass


def reason_of(answer):
    ctl_type, payload = answer
    assert ctl_type == REFUSED, ctl_type
    assert payload[4:].rstrip(b"\0").isascii() and payload[4] != 0
    return struct.unpack("<I", payload[:4])[0]


def test_lends_and_takes_back(t):
    daemon = Daemon(t)
    client = Client(t, daemon.address)
    ctl_type, payload = client.hello()
    slab_size, epoch, free, total, epoch_addr, epoch_rkey, _zero = struct.unpack("<QQIIQII", payload)
    assert (ctl_type, slab_size, free, total) == (WELCOME, MIB, 8, 8)
    assert client.read((epoch_addr, epoch_rkey), 0, 8) == struct.pack("<Q", epoch)
    mapping = client.map(3)
    page = os.urandom(4096)
    client.write(mapping, 8192, page)
    assert client.read(mapping, 8192, 4096) == page
    assert client.read(mapping, 0, 4096) == bytes(4096)
    assert client.ask(PING)[0] == PONG
    status = daemon.status()
    assert status["clients"][0]["device"] == "swap0" and status["clients"][0]["slabs"] == 1
    assert status["slabs"]["mapped"] == 1 and status["slab_bytes"] == MIB
    assert client.unmap(3) == UNMAPPED
    daemon.wait_free(8)
    try:
        client.read(mapping, 8192, 4096)
        raise AssertionError("a read through a revoked grant")
    except PermissionError:
        client.assert_closed()
    daemon.process.wait_log("joined, device swap0")
    daemon.process.wait_log("left (")


def test_next_client_reads_zeros(t):
    daemon = Daemon(t, memory={"max": "2M"})
    for way in ("close", "reset", "unmap"):
        client = Client(t, daemon.address)
        client.hello()
        for slab in (0, 1):
            mapping = client.map(slab)
            for offset in range(0, MIB, 128 * 1024):
                assert client.read(mapping, offset, 128 * 1024) == bytes(128 * 1024)
                client.write(mapping, offset, b"\xa5" * 128 * 1024)
            if way == "unmap":
                assert client.unmap(slab) == UNMAPPED
        if way == "reset":
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.socket.close()
        daemon.wait_free(2)


def test_refuses(t):
    daemon = Daemon(t, memory={"max": "4M", "max_per_client": "3M"}, max_clients=2)
    assert reason_of(Client(t, daemon.address).hello(version=2)) == VERSION
    assert reason_of(Client(t, daemon.address).hello(slab_size=2 * MIB)) == SLAB_SIZE
    first, second = Client(t, daemon.address), Client(t, daemon.address)
    assert first.hello()[0] == WELCOME and second.hello()[0] == WELCOME
    refused = Client(t, daemon.address)
    assert reason_of(refused.hello()) == CLIENTS
    refused.assert_closed()
    for slab in range(3):
        assert isinstance(first.map(slab), tuple)
    assert first.map(0) == BAD_SLAB
    assert first.map(3) == QUOTA
    assert isinstance(second.map(0), tuple)
    assert second.map(1) == NO_MEMORY
    assert reason_of(second.ask(UNMAP, struct.pack("<II", 5, 1))) == BAD_SLAB
    assert first.ask(PING)[0] == PONG and second.ask(PING)[0] == PONG


def test_psk(t):
    psk = b"0123456789abcdef-the-key"
    with open(t.path("psk"), "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
        out.write(psk)
    daemon = Daemon(t, psk_file=t.path("psk"))
    is_daemon_good, (ctl_type, _) = Client(t, daemon.address).hello_with_psk(psk)
    assert is_daemon_good and ctl_type == WELCOME
    is_daemon_good, answer = Client(t, daemon.address).hello_with_psk(b"another key of some length")
    assert not is_daemon_good and reason_of(answer) == BAD_AUTH
    client = Client(t, daemon.address)
    assert client.hello()[0] == CHALLENGE
    client.send(MAP, struct.pack("<II", 0, 1))
    client.assert_closed()
    assert daemon.status()["slabs"]["free"] == 8
    daemon.process.wait_log("MAP before AUTH")


def test_garbage_hurts_nobody_else(t):
    daemon = Daemon(t)
    good = Client(t, daemon.address)
    good.hello()
    mapping = good.map(0)
    good.write(mapping, 0, b"x" * 4096)
    garbage = [
        lambda c: c.socket.sendall(b"GET / HTTP/1.0\r\n\r\n" + bytes(64)),
        lambda c: c.frame(MESSAGE, os.urandom(100)),
        lambda c: c.frame(MESSAGE, b"", length=512 * 1024),
        lambda c: c.send(MAP, struct.pack("<II", 0, 0)),
        lambda c: c.send(WELCOME, bytes(40)),
        lambda c: c.frame(READ, op_id=1, rkey=mapping[1], addr=mapping[0], length=4096),
        lambda c: c.frame(WRITE, b"y" * 4096, op_id=1, rkey=mapping[1], addr=mapping[0]),
    ]
    for joined in (False, True):
        for number, send in enumerate(garbage):
            client = Client(t, daemon.address)
            if joined:
                client.hello()
            send(client)
            client.assert_closed()
            assert good.ask(PING)[0] == PONG, number
            assert good.read(mapping, 0, 4096) == b"x" * 4096, number
    harness.wait_for(lambda: daemon.status()["connections"] == 1, "only the good client is left")
    assert daemon.status()["totals"]["protocol_errors"] >= 5


def test_stops_under_clients(t):
    daemon = Daemon(t, stop_timeout_ms=500)
    clients = [Client(t, daemon.address) for _ in range(4)]
    for client in clients[:3]:
        client.hello()
        client.map(0)
    daemon.process.stop()
    for client in clients:
        client.assert_closed()
    assert not os.path.exists(daemon.control)
    assert "the daemon is stopping" in daemon.process.log() and "notice: stopped" in daemon.process.log()


def test_stop_drains(t):
    """Slabs are asked back first; who answers is waited for, and no longer."""
    daemon = Daemon(t, stop_timeout_ms=4000)
    client = Client(t, daemon.address)
    client.hello()
    for slab in 3, 5:
        client.map(slab, generation=7)
    daemon.process.popen.terminate()
    requests = [client.evict() for _ in range(2)]
    assert client.ask(PING)[0] == PONG
    for request_id, payload in requests:
        slab, generation, deadline_ms, _zero = struct.unpack("<IIII", payload)
        assert slab in (3, 5) and generation == 7 and deadline_ms == 4000, payload
        client.respond(request_id, DONE, payload[:8])
    client.assert_closed()
    assert daemon.process.wait_exit() == 0
    assert "has not given" not in daemon.process.log()


def test_second_signal_stops_at_once(t):
    daemon = Daemon(t, stop_timeout_ms=40000)
    client = Client(t, daemon.address)
    client.hello()
    client.map(0)
    daemon.process.popen.terminate()
    client.evict()
    daemon.process.stop()
    client.assert_closed()
    daemon.process.wait_log("stopping at once: Terminated")


def test_machine_short_of_memory(t):
    """No headroom is left: nothing is taken, and nothing lent."""
    memory = {"max": "8M", "headroom": "16T", "period_ms": 10}
    daemon = Daemon(t, memory=memory, ready="lending up to 8 slabs")
    harness.wait_for(lambda: daemon.status()["memory"]["known"], "the machine's memory is known")
    status = daemon.status()
    assert status["memory"]["short"] and status["memory"]["headroom_bytes"] == 16 << 40, status
    assert 0 < status["memory"]["available_bytes"] <= status["memory"]["total_bytes"], status
    assert status["slabs"]["target"] == 0 and status["slabs"]["empty"] == 8, status
    client = Client(t, daemon.address)
    client.hello()
    assert client.map(0) == NO_MEMORY


def test_tells_systemd(t):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(t.path("notify"))
        notify.settimeout(10)
        daemon = Daemon(t, env={"NOTIFY_SOCKET": t.path("notify")})
        assert b"READY=1" in notify.recv(4096)
        texts = [notify.recv(4096)]
        Client(t, daemon.address).hello()
        while b"1 clients" not in texts[-1]:
            texts.append(notify.recv(4096))
        assert b"8 free, of 8" in texts[-1]
        daemon.process.popen.send_signal(signal.SIGINT)
        while b"STOPPING=1" not in texts[-1]:
            texts.append(notify.recv(4096))
        assert daemon.process.wait_exit() == 0


def test_control_with_silent_clients(t):
    daemon = Daemon(t)
    silent = []
    for _ in range(6):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.connect(daemon.control)
        silent.append(s)
    client = Client(t, daemon.address)
    assert client.hello()[0] == WELCOME  # the loop is not held up
    assert daemon.status()["program"] == "slabswapd"  # and they are thrown out in time
    for s in silent:
        s.close()


def run(t, name, text=None, *options):
    with open(t.path(name), "w", encoding="utf-8") as out:
        out.write(text or "")
    return subprocess.run([harness.built("slabswapd"), "-c", t.path(name), *options], timeout=20,
                          capture_output=True, text=True, check=False)


def test_start_errors(t):
    daemon = Daemon(t)
    ini = "[daemon]\nlisten = {}\nslab_size = 1M\ncontrol = {}\n[memory]\nmax = 2M\nheadroom = 0\n"
    result = run(t, "taken.ini", ini.format(f"tcp:{daemon.address}", t.path("y.ctl")))
    assert result.returncode == 1 and f"cannot listen at tcp:{daemon.address}: Address already in use" in result.stderr
    result = run(t, "control.ini", ini.format("tcp:127.0.0.1:0", daemon.control))
    assert result.returncode == 1 and daemon.control in result.stderr
    assert daemon.status()["program"] == "slabswapd"
    result = run(t, "bad.ini", "[daemon]\nlisten = tcp:127.0.0.1:0\n")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    result = run(t, "good.ini", ini.format("tcp:127.0.0.1:0", t.path("z.ctl")), "--check")
    assert result.returncode == 0 and not os.path.exists(t.path("z.ctl"))
    result = run(t, "v.ini", "", "--version")
    assert result.returncode == 0 and result.stdout.startswith("slabswapd ")


if __name__ == "__main__":
    harness.main(globals())

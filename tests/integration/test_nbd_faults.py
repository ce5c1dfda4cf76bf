#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The NBD server when the storage behind it is slow, reorders, fails, or has no buffers; and when clients are evil."""
import os
import random
import re
import resource
import socket
import struct
import subprocess
import threading
import time

import harness
from nbd_client import *  # noqa: F403: the constants of the protocol

PAGE = 4096
MIB = 1 << 20
BLOCK = 128 * 1024
HOLD = 256 * 1024


def noise(length, seed=1):
    return random.Random(seed).randbytes(length)


def churn(server, rounds, seed, structured):
    """Random requests, pipelined, against a model.  Overlapping ones never are in flight together."""
    rng = random.Random(seed)
    image = bytearray(SIZE)
    with ready(server, structured=structured) as c:
        assert c.request(TRIM, 0, SIZE)[0] == 0
        for _ in range(rounds):
            expected = {}
            requests = []
            free = list(range(0, SIZE // (2 * MIB)))
            rng.shuffle(free)
            for cookie in range(12):
                base = free.pop() * 2 * MIB
                offset = base + rng.choice([0, 1, 4095, PAGE, rng.randrange(MIB)])
                length = rng.choice([1, 100, PAGE, PAGE, 3 * PAGE, BLOCK, 300000, MIB])
                command = rng.choice([READ, READ, WRITE, WRITE, ZEROES, CACHE])
                payload = rng.randbytes(length) if command == WRITE else b""
                requests.append((command, offset, length, 0, payload, cookie))
                expected[cookie] = (command, offset, length)
                if command == WRITE:
                    image[offset:offset + length] = payload
                elif command == ZEROES:
                    image[offset:offset + length] = bytes(length)
            # A client has to read while it writes: the server takes no more than it may hold.
            asking = threading.Thread(target=lambda: [c.send_request(*request) for request in requests])
            asking.start()
            got = {}
            while expected:
                if structured:
                    first = struct.unpack(">I", c.recv(4))[0]
                else:
                    first = SIMPLE_MAGIC
                    assert struct.unpack(">I", c.recv(4))[0] == first
                if first == SIMPLE_MAGIC:
                    error, cookie = struct.unpack(">IQ", c.recv(12))
                    command, offset, length = expected.pop(cookie)
                    assert error == 0
                    if command == READ:
                        assert not structured and c.recv(length) == image[offset:offset + length]
                else:
                    flags, kind, cookie, length = struct.unpack(">HHQI", c.recv(16))
                    assert kind == CHUNK_DATA
                    at = struct.unpack(">Q", c.recv(8))[0]
                    data = got.setdefault(cookie, bytearray(expected[cookie][2]))
                    at -= expected[cookie][1]
                    data[at:at + length - 8] = c.recv(length - 8)
                    if flags & 1:
                        command, offset, length = expected.pop(cookie)
                        assert data == image[offset:offset + length]
            asking.join()


def test_reordered_completions(t):
    server = start_server(t, "--reorder", 12345)
    for structured in (False, True):
        churn(server, 15, 1, structured)
    assert server.stats()["lent"] == 0


def test_late_completions(t):
    server = start_server(t, "--delay-ms", 3, "--reorder", 99)
    churn(server, 8, 2, False)
    assert server.stats()["lent"] == 0


def test_no_buffers_now_and_then(t):
    for every in (2, 3, 7):
        server = start_server(t, "--null-every", every, "--hold", HOLD)
        for structured in (False, True):
            churn(server, 6, every, structured)
        stats = server.stats()
        assert stats["nulls"] > 50 and stats["lent"] == 0, stats


def test_few_buffers_many_connections(t):
    """The pool is smaller than what the clients want; everybody is served all the same."""
    server = start_server(t, "--slots", 8, "--hold", HOLD, "--delay-ms", 1)
    problems = []

    def ask(c):
        for i in range(40):
            if i % 4 == 0:
                c.send_request(WRITE, (i % 30) * BLOCK, 2 * BLOCK, payload=bytes(2 * BLOCK), cookie=i)
            elif i % 4 == 1:
                c.send_request(READ, i * BLOCK, BLOCK, cookie=i)
            elif i % 4 == 2:
                c.send_request(TRIM, i * MIB, MIB, cookie=i)
            else:
                c.send_request(FLUSH, cookie=i)

    def work():
        try:
            with ready(server) as c:
                asking = threading.Thread(target=ask, args=(c,))
                asking.start()
                seen = set()
                while len(seen) < 40:
                    error, cookie = c.simple_reply()
                    assert error == 0
                    seen.add(cookie)
                    if cookie % 4 == 1:
                        c.recv(BLOCK)
                asking.join()
                c.disc()
        except Exception as e:
            problems.append(repr(e))

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not problems, problems
    stats = server.stats()
    assert stats["nulls"] and stats["lent"] == 0 and stats["lent_max"] <= 8


def test_client_that_never_reads_cannot_take_the_pool(t):
    server = start_server(t, "--slots", 12, "--hold", 4 * BLOCK)
    greedy = []
    for _ in range(2):  # 2 * 4 buffers at most; without the bound all 12
        c = ready(server)
        c.s.setblocking(False)
        try:
            for _ in range(3000):
                c.send_request(READ, 0, BLOCK)
        except BlockingIOError:
            pass
        greedy.append(c)
    with ready(server) as c:
        c.s.settimeout(5)
        for i in range(50):
            assert c.write(i * BLOCK, noise(BLOCK, i)) == 0
            assert c.read(i * BLOCK, 2 * BLOCK)[:BLOCK] == noise(BLOCK, i)
        assert len(c.read(0, 32 * MIB)) == 32 * MIB  # through a window of what is left
    for c in greedy:
        c.s.close()


def test_stalled_write_holds_one_buffer(t):
    server = start_server(t, "--slots", 6, "--hold", 2 * BLOCK)
    stalled = []
    for _ in range(4):
        c = ready(server)
        c.send_request(WRITE, 0, 32 * MIB, payload=bytes(BLOCK + 5000))
        stalled.append(c)
    with ready(server) as c:
        c.s.settimeout(5)
        for i in range(20):
            assert c.write(40 * MIB, noise(4 * BLOCK, i)) == 0
            assert c.read(40 * MIB, 4 * BLOCK) == noise(4 * BLOCK, i)
    for c in stalled:
        c.s.close()


def test_read_error_of_a_held_read(t):
    server = start_server(t, "--fail-kind", 1, "--fail-offset", MIB + 5, "--fail-errno", 5)
    for structured in (False, True):
        with ready(server, structured=structured) as c:
            assert c.request(READ, MIB, PAGE)[0] == EIO
            assert c.request(READ, 0, 3 * MIB)[0] == EIO
            assert c.request(CACHE, 0, 3 * MIB)[0] == EIO
            assert c.read(0, MIB) == bytes(MIB)
            assert c.read(MIB + PAGE, MIB) == bytes(MIB)
            c.disc()
    stats = server.stats()
    assert stats["errors"] == 6 and stats["lent"] == 0


def test_read_error_of_a_streamed_read(t):
    server = start_server(t, "--fail-kind", 1, "--fail-offset", 5 * MIB, "--fail-errno", 5, "--hold", HOLD)
    with ready(server, structured=True) as c:
        assert c.request(READ, 0, 16 * MIB)[0] == EIO
        assert c.request(READ, 0, 5 * MIB + 1, F_DF)[0] == EOVERFLOW
        assert c.request(READ, 5 * MIB, 8 * MIB)[0] == EIO  # at its first piece
        assert c.read(0, 5 * MIB) == bytes(5 * MIB)
        c.disc()
    with ready(server) as c:
        assert c.request(READ, 5 * MIB, 8 * MIB)[0] == EIO  # nothing was sent, so it can be said
        assert c.read(0, 5 * MIB) == bytes(5 * MIB)
        c.send_request(READ, 0, 16 * MIB)
        assert c.simple_reply()[0] == 0
        assert len(c.expect_close()) < 16 * MIB
    harness.wait_for(lambda: "failed after its reply began" in server.process.log(), "it is said")
    assert server.stats()["lent"] == 0


def test_write_errors(t):
    for number, expected in ((28, ENOSPC), (5, EIO), (1, EPERM), (110, EIO)):
        server = start_server(t, "--fail-kind", 2, "--fail-offset", MIB, "--fail-errno", number)
        with ready(server) as c:
            assert c.write(0, noise(32 * MIB)) == expected  # and the rest of the payload is consumed
            assert c.write(MIB, b"x") == expected
            assert c.write(MIB - 1, b"xy") == expected
            assert c.write(0, noise(MIB)) == 0
            assert c.read(0, MIB) == noise(MIB)
            assert c.request(ZEROES, MIB - 5, 10)[0] == expected  # its end is a WRITE
            c.disc()
        assert server.stats()["lent"] == 0


def test_errors_of_flush_trim_and_zeroes(t):
    for kind, command in ((3, FLUSH), (4, TRIM), (5, ZEROES)):
        server = start_server(t, "--fail-kind", kind, "--fail-offset", 40 * MIB, "--fail-errno", 5)
        with ready(server) as c:
            assert c.request(command, 0, SIZE if command != FLUSH else 0)[0] == EIO
            assert c.write(0, b"x") == 0
            c.disc()
        assert server.stats()["lent"] == 0


def test_fast_zero_refused_changes_nothing(t):
    server = start_server(t, "--no-fast-zero")
    with ready(server) as c:
        assert c.write(0, b"x" * 4 * PAGE) == 0
        assert c.request(ZEROES, 5, 3 * PAGE, F_FAST_ZERO)[0] == ENOTSUP
        assert c.read(0, 4 * PAGE) == b"x" * 4 * PAGE
        assert c.request(ZEROES, 5, 3 * PAGE)[0] == 0
        assert c.read(0, 4 * PAGE) == b"x" * 5 + bytes(3 * PAGE) + b"x" * (PAGE - 5)
    # The client's own question is not a fault of the device.
    assert "failed" not in server.process.log()


def test_trim_goes_in_steps_and_stops_nobody(t):
    server = start_server(t, "--size", 1 << 30, "--delay-ms", 20)
    with ready(server) as a, ready(server) as b:
        trim = a.send_request(TRIM, 0, 1 << 30)
        flush = a.send_request(FLUSH)
        begin = time.monotonic()
        assert b.write(0, b"x" * PAGE) == 0
        quick = time.monotonic() - begin
        # Requests of the same connection overtake it, too.
        assert a.simple_reply() == (0, flush)
        assert a.simple_reply() == (0, trim)
        assert quick < time.monotonic() - begin
    stats = server.stats()
    assert stats["trims"] == 32 and stats["range_in_flight_max"] == 1 and stats["trimmed_bytes"] == 1 << 30, stats


def test_flags_reach_the_backend(t):
    server = start_server(t)
    with ready(server) as c:
        assert c.write(0, bytes(3 * BLOCK), F_FUA) == 0
        assert c.write(0, bytes(3 * BLOCK)) == 0
        assert c.request(TRIM, 0, PAGE, F_FUA)[0] == 0
        assert c.request(ZEROES, 0, PAGE, F_FUA)[0] == 0
        assert c.request(FLUSH)[0] == 0
    stats = server.stats()
    assert (stats["fua_writes"], stats["fua_ranges"], stats["flushes"]) == (3, 2, 1), stats


def stage(stats, kind, name):
    return stats[f"{kind}_{name}_us"]


def test_stages(t):
    """Every request that reached the backend counts once, and its time is where it was spent."""
    server = start_server(t, "--delay-ms", "20")
    with ready(server) as c, ready(server) as other:
        for _ in range(3):
            c.read(0, PAGE)
        c.read(0, 8 * MIB)  # streamed
        assert c.write(0, bytes(BLOCK + PAGE), F_FUA) == 0
        assert c.request(FLUSH)[0] == 0
        assert c.request(TRIM, 0, MIB)[0] == 0 and c.request(ZEROES, 100, MIB)[0] == 0
        # None of these is measured: refused, nothing to do, not what a device is for.
        assert c.request(READ, SIZE, PAGE)[0] == EINVAL and c.request(READ, 0, 0)[0] == 0
        assert c.request(CACHE, 0, PAGE)[0] == 0
        c.send_request(WRITE, 0, PAGE)
        other.read(0, PAGE)
        c.send(bytes(PAGE))
        assert c.simple_reply()[0] == 0
    stats = server.stats()
    counts = [stats[f"{kind}_count"] for kind in ("read", "write", "flush", "trim")]
    assert counts == [5, 2, 1, 2], stats
    for kind in ("read", "write", "flush", "trim"):
        assert stage(stats, kind, "completed") >= 19000, stats
        assert stage(stats, kind, "total") >= stage(stats, kind, "completed"), stats
    # The payload came after an answer of the other connection; of the long READ not all fits the window.
    assert stage(stats, "write", "queued") >= 19000 and stage(stats, "read", "queued") >= 19000, stats
    assert stage(stats, "flush", "queued") == 0, stats
    # The ends of the ZEROES are written one after the other, behind its middle.
    assert stage(stats, "trim", "posted") >= 38000, stats
    assert stage(stats, "read", "posted") == stage(stats, "write", "posted") == 0, stats


def test_stages_of_a_client_that_takes_no_replies(t):
    server = start_server(t, "--delay-ms", "20")
    with ready(server) as c, ready(server) as other:
        for _ in range(4):
            c.send_request(READ, 0, MIB)
        for _ in range(5):  # the socket is full by then
            other.read(0, PAGE)
        for _ in range(4):
            assert c.simple_reply()[0] == 0
            c.recv(MIB)
    stats = server.stats()
    assert stats["read_count"] == 9 and stage(stats, "read", "answered") >= 60000, stats


def test_handshake_deadline(t):
    """CVE-2024-7409: half-negotiated clients give their places back."""
    server = start_server(t, "--handshake-ms", 300, connections=2)
    idle = [Raw(server) for _ in range(2)]
    idle[1].greet()
    harness.wait_for(lambda: accepts(server.path), "idle clients were closed", 5)
    for c in idle:
        c.expect_close()
    with ready(server) as c:
        harness.wait_for(lambda: server.process.log().count("no end of the handshake") == 2, "2 lines", 5)
        assert c.read(0, PAGE) == bytes(PAGE)
        # In the transmission phase there is no such limit.
        with Raw(server) as other:
            other.expect_close()
        assert c.read(0, PAGE) == bytes(PAGE)


def test_refusals_are_logged_once(t):
    server = start_server(t, connections=1)
    with ready(server):
        for _ in range(50):
            with Raw(server) as c:
                c.expect_close()
    assert server.process.log().count("refused a connection") == 1
    assert server.stats()["refused"] >= 50


def test_io_errors_are_not_a_log_flood(t):
    server = start_server(t, "--fail-kind", 1, "--fail-offset", 0, "--fail-errno", 5)
    with ready(server) as c:
        for _ in range(500):
            assert c.request(READ, 0, PAGE)[0] == EIO
    assert server.process.log().count("failed") == 1


def test_stop_waits_for_the_backend(t):
    server = start_server(t, "--delay-ms", 400)
    with ready(server) as c:
        c.send_request(WRITE, 0, PAGE, payload=noise(PAGE), cookie=5)
        with ready(server) as other:  # the server has seen the WRITE: this was accepted later
            other.request(WRITE, 50 * MIB, 1, payload=b"x")
            server.process.popen.terminate()
            assert c.simple_reply() == (0, 5)
            assert c.expect_close() == b""
    assert server.process.wait_exit() == 0


def test_stop_cuts_off_clients_at_the_deadline(t):
    server = start_server(t, "--stop-ms", 300)
    c = ready(server)
    c.s.setblocking(False)
    try:
        for _ in range(5000):
            c.send_request(READ, 0, MIB)
    except BlockingIOError:
        pass
    c.s.settimeout(5)
    assert c.simple_reply()[0] == 0  # the server took requests and has more to say
    begin = time.monotonic()
    server.process.stop(seconds=3)
    assert time.monotonic() - begin > 0.2
    c.s.close()


def test_clients_gone_while_the_backend_is_slow(t):
    server = start_server(t, "--delay-ms", 50, "--slots", 8, "--hold", HOLD, connections=32)
    for i in range(10):
        c = ready(server, structured=i % 2)
        for _ in range(10):
            c.send_request((READ, TRIM, ZEROES, FLUSH, CACHE)[i % 5], 1, MIB if i % 5 != 3 else 0)
        c.send_request(WRITE, 0, MIB, payload=bytes(200000))
        c.s.close()
        harness.wait_for(lambda: accepts(server.path), "a place is free")
    with ready(server) as c:
        assert len(c.read(0, 4 * MIB)) == 4 * MIB
    assert server.stats()["lent"] == 0


def test_out_of_descriptors(t):
    """accept() fails; the server neither spins nor dies, and goes on afterwards."""
    server = start_server(t, connections=64)
    used = len(os.listdir(f"/proc/{server.process.pid}/fd"))
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (used + 3, used + 3))
    clients = [Raw(server) for _ in range(8)]
    server.process.wait_log("cannot accept")
    before = sum(map(int, open(f"/proc/{server.process.pid}/stat").read().split()[13:15]))
    for c in clients[:3]:
        assert c.greet().go().read(0, PAGE) == bytes(PAGE)
    for c in clients[:3]:
        c.disc()
        c.s.close()
    for c in clients[3:6]:
        assert c.greet().go().read(0, PAGE) == bytes(PAGE)
    after = sum(map(int, open(f"/proc/{server.process.pid}/stat").read().split()[13:15]))
    assert after - before < 50, "the server spun"
    for c in clients:
        c.s.close()


def test_tcp_v4_v6_and_inherited_socket(t):
    inherited = socket.socket()
    inherited.bind(("127.0.0.1", 0))
    inherited.listen()
    server = start_server(t, "--listen", "tcp:127.0.0.1:0", "--listen", "tcp:[::1]:0", "--listen-fd",
                          inherited.fileno(), pass_fds=[inherited.fileno()])
    log = server.process.log()
    port4 = int(re.search(r"ready tcp:127.0.0.1:(\d+)", log).group(1))
    assert port4 != 0 and re.search(r"ready tcp:\[::1\]:(\d+)", log)
    for address in (("127.0.0.1", port4), inherited.getsockname()):
        with Raw(server, address=address) as c:
            c.greet().go()
            assert c.write(0, noise(3 * MIB)) == 0
            assert c.read(0, 3 * MIB) == noise(3 * MIB)
            c.disc()
    with socket.create_connection(("::1", int(re.search(r"ready tcp:\[::1\]:(\d+)", log).group(1))), 5) as s:
        assert s.recv(8) == NBDMAGIC


def test_listen_errors(t):
    program = harness.built("tests/unit/nbd_server/nbd-test-server")
    plain = t.path("file")
    open(plain, "w").close()
    for address in ("unix:", "unix:" + "x" * 200, f"unix:{plain}", "unix:/nonexistent/x", "tcp:127.0.0.1", "tcp:::1:5",
                    "tcp:[::1:5", "tcp:127.0.0.1:70000", "tcp:127.0.0.1:x", "tcp::", "udp:x", "", "tcp:192.0.2.1:0"):
        done = subprocess.run([program, "--listen", address], stderr=subprocess.PIPE, timeout=20, check=False)
        assert done.returncode == 1 and b"cannot listen on" in done.stderr, (address, done)
    assert os.path.exists(plain)


if __name__ == "__main__":
    harness.main(globals())

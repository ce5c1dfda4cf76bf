#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The NBD protocol as a client sees it: every command, every error, and what a broken or evil client may send."""
import os
import random
import socket
import stat
import struct
import subprocess

import harness
from nbd_client import *  # noqa: F403: the constants of the protocol

PAGE = 4096
MIB = 1 << 20
FLAGS = 0b110111101101  # HAS_FLAGS FLUSH FUA TRIM ZEROES DF MULTI_CONN CACHE FAST_ZERO


def alive(server):
    """The server still serves a well-behaved client."""
    with ready(server) as c:
        c.read(0, PAGE)
        c.disc()


def noise(length, seed=1):
    return random.Random(seed).randbytes(length)


# ---- handshake


def test_go_and_all_infos(t):
    server = start_server(t)
    with Raw(server).greet() as c:
        for option in (INFO, GO):
            replies = c.option(option, info_payload(EXPORT, (0, 1, 2, 3, 3, 77)))
            assert replies[0] == (REP_INFO, struct.pack(">HQH", 0, SIZE, FLAGS)), replies
            assert (REP_INFO, struct.pack(">H", 1) + EXPORT.encode()) in replies
            assert (REP_INFO, struct.pack(">H", 2) + DESCRIPTION.encode()) in replies
            assert replies.count((REP_INFO, struct.pack(">HIII", 3, PAGE, PAGE, 32 * MIB))) == 1
            assert replies[-1] == (REP_ACK, b"") and len(replies) == 5
        assert c.read(0, PAGE) == bytes(PAGE)
        c.disc()


def test_go_without_infos_sends_export_only(t):
    server = start_server(t)
    with Raw(server).greet() as c:
        replies = c.option(GO, info_payload(""))
        assert [r for r, _ in replies] == [REP_INFO, REP_ACK]
        # It did not negotiate block sizes, so anything must work.
        assert c.write(1, b"abc") == 0
        assert c.read(0, 5) == b"\0abc\0"


def test_export_name(t):
    server = start_server(t)
    for name in (EXPORT, ""):
        for flags in (FIXED | NO_ZEROES, FIXED, 0, NO_ZEROES):
            with Raw(server).greet(flags) as c:
                assert c.export_name(name, zeroes=not flags & NO_ZEROES) == (SIZE, FLAGS)
                assert c.read(0, 512) == bytes(512)
                c.disc()


def test_unknown_export(t):
    server = start_server(t)
    with Raw(server).greet() as c:
        for name in ("other", EXPORT + "x", EXPORT[:-1], "x" * 4096, "swap0\0"):
            for option in (INFO, GO):
                assert c.option(option, info_payload(name))[0][0] == ERR_UNKNOWN
        c.go()
    with Raw(server).greet() as c:
        c.send_option(EXPORT_NAME, b"other")
        assert c.expect_close() == b""
    alive(server)


def test_list_and_abort(t):
    server = start_server(t)
    with Raw(server).greet() as c:
        entry = struct.pack(">I", len(EXPORT)) + (EXPORT + DESCRIPTION).encode()
        assert c.option(LIST) == [(REP_SERVER, entry), (REP_ACK, b"")]
        assert c.option(LIST, b"x")[0][0] == ERR_INVALID
        assert c.option(ABORT, b"ignored") == [(REP_ACK, b"")]
        assert c.expect_close() == b""


def test_unsupported_options(t):
    server = start_server(t)
    with Raw(server).greet() as c:
        for option in (0, 4, STARTTLS, EXTENDED, 12, 0x7FFFFFFF, 0xFFFFFFFF):
            for payload in (b"", b"x" * 8, noise(65536)):
                assert c.option(option, payload)[0][0] == ERR_UNSUP
        c.go()
        c.disc()


def test_structured_reply_takes_no_data(t):
    server = start_server(t)
    with Raw(server).greet() as c:
        assert c.option(STRUCTURED, b"x")[0][0] == ERR_INVALID
        c.structure()
        c.structure()
        c.go()
        assert c.read(0, 3 * PAGE) == bytes(3 * PAGE)


def test_meta_contexts(t):
    server = start_server(t)
    with Raw(server).greet() as c:
        assert c.set_meta("base:allocation")[0][0] == ERR_INVALID  # before STRUCTURED_REPLY
        c.structure()
        chosen = [(REP_META, struct.pack(">I", 1) + b"base:allocation"), (REP_ACK, b"")]
        listed = [(REP_META, struct.pack(">I", 0) + b"base:allocation"), (REP_ACK, b"")]
        assert c.set_meta("base:allocation") == chosen
        assert c.set_meta("qemu:dirty", "base:allocation", "base:allocation", "", "x" * 4096) == chosen
        for queries in ((), ("base:",), ("base:allocation",)):
            assert c.set_meta(*queries, option=LIST_META) == listed
        for queries in ((), ("base:",), ("base:allocatio",), ("other:",)):
            assert c.set_meta(*queries) == [(REP_ACK, b"")]
        assert c.set_meta("base:allocation", name="other")[0][0] == ERR_UNKNOWN
        c.go()
        # The last successful SET selected nothing.
        assert c.request(STATUS, 0, PAGE)[0] == EINVAL


def test_malformed_option_payloads(t):
    """CVE-2022-26495 and 26496: lengths that lie."""
    server = start_server(t)
    bad_infos = [b"", b"\0\0\0", b"\0\0\0\0", b"\0\0\0\0\0", struct.pack(">IH", 0xFFFFFFFF, 0),
                 struct.pack(">IH", 3, 0), struct.pack(">IHH", 0, 2, 0), struct.pack(">IHHH", 0, 1, 0, 0),
                 struct.pack(">IH", 0, 0xFFFF), struct.pack(">I", 4097) + bytes(4097) + b"\0\0",
                 struct.pack(">I", 0x80000000) + bytes(100)]
    bad_metas = [b"", b"\0\0\0\0", struct.pack(">II", 0xFFFFFFFF, 0), struct.pack(">II", 0, 1),
                 struct.pack(">III", 0, 1, 0xFFFFFFFF), struct.pack(">II", 0, 0xFFFFFFFF),
                 struct.pack(">III", 0, 0x40000000, 0), struct.pack(">II", 0, 0) + b"x",
                 struct.pack(">III", 0, 1, 5) + b"base", struct.pack(">III", 0, 1, 4097) + bytes(4097)]
    with Raw(server).greet() as c:
        c.structure()
        for payload in bad_infos:
            for option in (INFO, GO):
                assert c.option(option, payload)[0][0] == ERR_INVALID, payload[:16]
        for payload in bad_metas:
            for option in (LIST_META, SET_META):
                assert c.option(option, payload)[0][0] == ERR_INVALID, payload[:16]
        c.go()
        c.disc()


def test_option_over_the_limit_closes(t):
    """CVE-2017-15119 and 2022-26495: nothing is allocated or read by the client's length."""
    server = start_server(t, connections=64)
    for option in (EXPORT_NAME, LIST, GO, 99):
        for length in (65537, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFF0):
            with Raw(server).greet() as c:
                c.send_option(option, b"", length)
                assert c.expect_close() == b""
    with Raw(server).greet() as c:
        c.send_option(EXPORT_NAME, b"x" * 4097)
        assert c.expect_close() == b""
    alive(server)


def test_too_many_options_close(t):
    server = start_server(t)
    with Raw(server).greet() as c:
        try:
            for _ in range(1000):
                c.option(99)
            raise AssertionError("a client may negotiate for ever")
        except (Closed, BrokenPipeError, ConnectionResetError):
            pass
    alive(server)


def test_bad_client_flags_and_magic(t):
    server = start_server(t)
    for flags in (4, 0x80000000, 0xFFFFFFFF, 7):
        with Raw(server).greet(flags) as c:
            assert c.expect_close() == b""
    with Raw(server).greet() as c:
        c.send(b"IHAVEOPS" + struct.pack(">II", GO, 0))
        assert c.expect_close() == b""
    with Raw(server).greet() as c:
        c.send(noise(5000))
        assert c.expect_close() == b""
    with Raw(server) as c:
        c.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        c.expect_close()
    alive(server)


HANDSHAKE = (struct.pack(">I", 3) + IHAVEOPT + struct.pack(">II", STRUCTURED, 0)
             + IHAVEOPT + struct.pack(">II", SET_META, len(meta_payload(EXPORT, ["base:allocation"])))
             + meta_payload(EXPORT, ["base:allocation"])
             + IHAVEOPT + struct.pack(">II", GO, len(info_payload(EXPORT, (1, 3)))) + info_payload(EXPORT, (1, 3))
             + struct.pack(">IHHQQI", REQUEST_MAGIC, 0, WRITE, 1, 0, PAGE) + b"w" * PAGE)


def test_close_at_each_byte(t):
    server = start_server(t, connections=64)
    cuts = list(range(len(HANDSHAKE) - PAGE + 3)) + [len(HANDSHAKE) - 1, len(HANDSHAKE)]
    for cut in cuts:
        for half_closed in (False, True):
            with Raw(server) as c:
                c.send(HANDSHAKE[:cut])
                if half_closed:
                    c.s.shutdown(socket.SHUT_WR)
                    c.expect_close()
    alive(server)


def test_handshake_byte_by_byte(t):
    server = start_server(t)
    with Raw(server) as c:
        c.s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        for i in range(len(HANDSHAKE)):
            c.send(HANDSHAKE[i:i + 1])
        c.recv(18)
        for expected in (REP_ACK, REP_META, REP_ACK, REP_INFO, REP_INFO, REP_INFO, REP_ACK):
            assert c.option_reply()[1] == expected
        assert c.simple_reply() == (0, 1)
        c.structured = True
        assert c.read(0, PAGE) == b"w" * PAGE


def test_one_wrong_bit_anywhere_in_the_handshake(t):
    server = start_server(t, connections=64)
    end = len(HANDSHAKE) - PAGE
    for at in range(end):
        data = bytearray(HANDSHAKE[:end])
        data[at] ^= 1 << (at % 8)
        with Raw(server) as c:
            try:
                c.send(bytes(data))
                c.s.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            c.expect_close()
    alive(server)


def test_random_garbage(t):
    server = start_server(t, connections=64)
    for seed in range(150):
        rng = random.Random(seed)
        with Raw(server) as c:
            try:
                c.send(HANDSHAKE[:rng.choice([0, 4, 20, len(HANDSHAKE)])] + rng.randbytes(rng.randrange(1, 300)))
                c.s.shutdown(socket.SHUT_WR)
                c.expect_close()
            except OSError:
                pass
    alive(server)


def test_handshake_pipelined_with_requests(t):
    """Everything in one packet, as a client that knows the server could do."""
    server = start_server(t)
    with Raw(server) as c:
        c.send(HANDSHAKE + struct.pack(">IHHQQI", REQUEST_MAGIC, 0, DISC, 2, 0, 0))
        assert c.expect_close().endswith(struct.pack(">IIQ", SIMPLE_MAGIC, 0, 1))


# ---- commands


def each_mode(server):
    for structured in (False, True):
        with ready(server, structured=structured) as c:
            yield c
            c.disc()


def test_alignment(t):
    server = start_server(t)
    image = bytearray(2 * MIB)
    rng = random.Random(7)
    for c in each_mode(server):
        for i in range(150):
            offset = rng.choice([0, 1, PAGE - 1, PAGE, 128 * 1024 - 1, 128 * 1024, rng.randrange(MIB)])
            length = rng.choice([1, 511, 512, 0x400, PAGE, PAGE + 1, 0x1FC00, 128 * 1024, rng.randrange(1, MIB)])
            if i % 2:
                data = rng.randbytes(length)
                assert c.write(offset, data, rng.choice([0, F_FUA])) == 0
                image[offset:offset + length] = data
            else:
                assert c.read(offset, length) == image[offset:offset + length], (offset, length)
        assert c.read(0, len(image)) == image


def test_large_requests(t):
    server = start_server(t)
    data = noise(32 * MIB)
    for n, c in enumerate(each_mode(server)):
        for offset, length in ((0, 32 * MIB), (4095, 17 * MIB + 1), (131071, 1280 * 1024), (SIZE - 32 * MIB, 32 * MIB)):
            part = data[n:n + length]
            length = len(part)
            assert c.write(offset, part) == 0
            assert c.read(offset, length) == part


def test_pipelined_reads_and_writes(t):
    server = start_server(t)
    pages = {i: noise(PAGE, i) for i in range(400)}
    with ready(server) as c:
        requests = (struct.pack(">IHHQQI", REQUEST_MAGIC, 0, WRITE, i, i * PAGE, PAGE) + d for i, d in pages.items())
        c.send(b"".join(requests))
        done = set()
        for _ in pages:
            error, cookie = c.simple_reply()
            assert error == 0
            done.add(cookie)
        assert done == set(pages)
        c.send(b"".join(struct.pack(">IHHQQI", REQUEST_MAGIC, 0, READ, i, i * PAGE, PAGE) for i in pages))
        for _ in pages:
            error, cookie = c.simple_reply()
            assert error == 0 and c.recv(PAGE) == pages[cookie]


def test_large_read_between_small_ones(t):
    """A streamed reply and others never mix."""
    server = start_server(t)
    data = noise(32 * MIB)
    with ready(server) as c:
        assert c.write(0, data) == 0
        requests = [(0, PAGE), (1, 32 * MIB - 1), (PAGE, PAGE), (0, 32 * MIB), (8192, 100), (5, 9 * MIB), (0, 1)] * 2
        for i, (offset, length) in enumerate(requests):
            c.send_request(READ, offset, length, cookie=i)
        for _ in requests:
            error, cookie = c.simple_reply()
            offset, length = requests[cookie]
            assert error == 0 and c.recv(length) == data[offset:offset + length]


def test_errors_of_ranges(t):
    server = start_server(t)
    for c in each_mode(server):
        past = ((SIZE, 1), (SIZE - 1, 2), (SIZE - PAGE, 2 * PAGE), (1 << 63, PAGE), ((1 << 64) - 1, 2),
                ((1 << 64) - PAGE, PAGE), (SIZE + PAGE, PAGE))
        for offset, length in past:
            assert c.request(READ, offset, length)[0] == EINVAL
            assert c.request(TRIM, offset, length)[0] == EINVAL
            assert c.request(CACHE, offset, length)[0] == EINVAL
            assert c.request(ZEROES, offset, length)[0] == ENOSPC
            assert c.write(offset, b"x" * length) == ENOSPC
        assert c.request(READ, 0, 32 * MIB + 1)[0] == EINVAL
        assert c.request(READ, 0, 0xFFFFFFFF)[0] == EINVAL
        assert c.request(TRIM, 0, 0xFFFFFFFF)[0] == EINVAL
        assert c.request(ZEROES, 0, 0xFFFFFFFF)[0] == ENOSPC
        assert c.write(0, bytes(32 * MIB + 1)) == EINVAL
        assert c.read(SIZE - 1, 1) == b"\0"


def test_zero_length(t):
    server = start_server(t)
    for c in each_mode(server):
        for offset in (0, 5, SIZE):
            for command in (READ, WRITE, TRIM, ZEROES, CACHE, FLUSH):
                assert c.request(command, offset, 0)[0] == 0, command
    with ready(server, status=True) as c:
        assert c.request(STATUS, 0, 0)[0] == EINVAL


def test_oversized_write_closes(t):
    server = start_server(t)
    for length in (64 * MIB + 1, 0xFFFFFFFF):
        with ready(server) as c:
            c.send_request(WRITE, 0, length)
            assert c.expect_close() == b""
    alive(server)


def test_bad_request_magic_closes(t):
    server = start_server(t)
    for magic in (0, REQUEST_MAGIC ^ 1, SIMPLE_MAGIC, 0x21E41C71):  # the last: extended headers
        with ready(server) as c:
            c.send_request(READ, 0, PAGE, magic=magic)
            assert c.expect_close() == b""
    alive(server)


def test_unknown_commands_and_flags(t):
    server = start_server(t)
    for c in each_mode(server):
        for command in (8, 9, 255, 65535):
            assert c.request(command, 0, PAGE)[0] == EINVAL
        for command in (READ, TRIM, ZEROES, CACHE, FLUSH):
            for flag in (0x20, 0x8000, 0xFFFF):
                assert c.request(command, 0, PAGE, flag)[0] == EINVAL
        assert c.write(0, b"x" * PAGE, 0x20) == EINVAL
        assert c.write(0, b"x" * PAGE, F_FAST_ZERO) == EINVAL
        assert c.request(TRIM, 0, PAGE, F_NO_HOLE)[0] == EINVAL
        assert c.request(READ, 0, PAGE, F_REQ_ONE)[0] == EINVAL
        assert c.request(READ, 0, PAGE, F_DF)[0] == (0 if c.structured else EINVAL)
        assert c.request(STATUS, 0, PAGE)[0] == EINVAL  # no context was selected
        assert c.read(0, PAGE) == bytes(PAGE)
        assert c.request(FLUSH, 12345, 678)[0] == 0  # fields of FLUSH mean nothing


def test_trim_and_zeroes(t):
    server = start_server(t)
    for c in each_mode(server):
        image = bytearray(noise(4 * MIB, 3))
        assert c.write(0, bytes(image)) == 0
        ranges = ((0, PAGE), (PAGE + 1, 100), (2 * PAGE - 1, 2), (3 * PAGE + 5, 3 * PAGE), (200000, 300000))
        for offset, length in ranges:
            for flags in (0, F_NO_HOLE, F_FUA):
                assert c.request(ZEROES, offset, length, flags)[0] == 0
                image[offset:offset + length] = bytes(length)
                assert c.write(offset, b"again" * 10) == 0
                image[offset:offset + 50] = b"again" * 10
        assert c.read(0, len(image)) == image
        assert c.request(TRIM, MIB + 1, MIB, F_FUA)[0] == 0
        got = c.read(0, len(image))
        assert got[:MIB + 1] == image[:MIB + 1] and got[2 * MIB + 1:] == image[2 * MIB + 1:]
        assert c.request(TRIM, 0, SIZE)[0] == 0  # the whole device in one request
        assert c.request(ZEROES, 0, SIZE, F_NO_HOLE)[0] == 0
        assert c.read(0, len(image)) == bytes(len(image))


def test_fast_zero_answers(t):
    server = start_server(t)
    with ready(server) as c:
        assert c.write(0, b"x" * 3 * PAGE) == 0
        error = c.request(ZEROES, 10, 2 * PAGE, F_FAST_ZERO)[0]
        assert error in (0, ENOTSUP)
        data = c.read(0, 3 * PAGE)
        expected = b"x" * 10 + bytes(2 * PAGE) + b"x" * (PAGE - 10)
        assert data == (b"x" * 3 * PAGE if error else expected)


def test_cache_and_flush(t):
    server = start_server(t)
    for c in each_mode(server):
        assert c.request(CACHE, 0, SIZE)[0] == 0
        assert c.request(CACHE, 77, 100000)[0] == 0
        assert c.request(CACHE, 0, PAGE, F_FUA)[0] == 0
        assert c.request(FLUSH)[0] == 0


def test_block_status(t):
    server = start_server(t)
    with ready(server, status=True) as c:
        assert c.request(TRIM, 0, SIZE)[0] == 0
        assert c.request(STATUS, 0, SIZE) == (0, [(SIZE, 3)])
        assert c.write(MIB, b"x" * PAGE) == 0
        assert c.request(STATUS, 0, SIZE) == (0, [(MIB, 3), (PAGE, 0), (SIZE - MIB - PAGE, 3)])
        assert c.request(STATUS, 0, SIZE, F_REQ_ONE) == (0, [(MIB, 3)])
        assert c.request(STATUS, MIB, PAGE, F_REQ_ONE) == (0, [(PAGE, 0)])
        assert c.request(STATUS, MIB + 5, 7) == (0, [(7, 0)])
        assert c.request(STATUS, SIZE - 1, 2)[0] == EINVAL
        assert c.request(STATUS, 0, 0xFFFFFFFF)[0] == EINVAL


def test_block_status_is_bounded(t):
    """CVE-2025-47711: the longest reply that the device can be made to give."""
    server = start_server(t)
    with ready(server, status=True) as c:
        for i in range(0, 4096, 2):
            c.send_request(WRITE, i * PAGE, 1, payload=b"x", cookie=i)
            c.simple_reply()
        error, extents = c.request(STATUS, 0, SIZE)
        assert error == 0 and 1 <= len(extents) <= 1024, len(extents)
        assert [e for e in extents[:4]] == [(PAGE, 0), (PAGE, 3)] * 2
        # Many at once wait for each other's buffer and are all answered.  In one send: the replies fill the
        # socket, the server then reads no more, and poll() calls a socket with some 70 unread messages full.
        c.send(b"".join(struct.pack(">IHHQQI", REQUEST_MAGIC, 0, STATUS, i, 0, SIZE) for i in range(100)))
        for i in range(100):
            flags, kind, cookie, payload = c.chunk()
            assert (flags, kind, cookie) == (1, CHUNK_STATUS, i) and len(payload) == 4 + 8 * len(extents)


def test_df_is_one_chunk_or_overflow(t):
    server = start_server(t)
    with ready(server, structured=True) as c:
        assert c.request(READ, 0, 65536, F_DF)[0] == 0
        assert c.request(READ, 1, 65535, F_DF)[0] == 0
        assert c.request(READ, 0, 32 * MIB, F_DF)[0] in (0, EOVERFLOW)


def test_duplicate_cookies(t):
    server = start_server(t)
    with ready(server) as c:
        for _ in range(50):
            c.send_request(READ, 0, PAGE, cookie=9)
        for _ in range(50):
            assert c.simple_reply() == (0, 9) and c.recv(PAGE) == bytes(PAGE)


def test_disc_answers_what_came_before(t):
    server = start_server(t)
    with ready(server) as c:
        c.send(b"".join(struct.pack(">IHHQQI", REQUEST_MAGIC, 0, WRITE, i, i * PAGE, PAGE) + b"d" * PAGE
                        for i in range(100)) + struct.pack(">IHHQQI", REQUEST_MAGIC, 0xFFFF, DISC, 1, 2, 3))
        assert len(c.expect_close()) == 100 * 16


def test_half_close_answers_what_came_before(t):
    server = start_server(t)
    with ready(server) as c:
        for i in range(20):
            c.send_request(READ, i * PAGE, PAGE)
        c.s.shutdown(socket.SHUT_WR)
        assert len(c.expect_close()) == 20 * (16 + PAGE)


# ---- several clients


def test_two_connections_see_each_others_writes(t):
    """What CAN_MULTI_CONN promises."""
    server = start_server(t)
    with ready(server) as a, ready(server, structured=True) as b:
        for i in range(200):
            writer, reader = (a, b) if i % 2 else (b, a)
            data = noise(PAGE, i)
            assert writer.write(i * 100, data) == 0
            assert reader.read(i * 100, PAGE) == data
        assert b.request(FLUSH)[0] == 0


def test_connection_limit(t):
    server = start_server(t, connections=2)
    with ready_when_free(server) as a, ready_when_free(server):
        with Raw(server) as c:
            assert c.expect_close() == b""
        a.read(0, PAGE)
        a.disc()
        ready_when_free(server).s.close()


def test_stalled_clients_delay_nobody(t):
    server = start_server(t)
    stalled = []
    for cut in (2, 10, 30, len(HANDSHAKE) - 10):
        c = Raw(server)
        c.send(HANDSHAKE[:cut])
        stalled.append(c)
    greedy = ready(server)  # asks and never reads
    stalled.append(greedy)
    greedy.s.setblocking(False)
    try:
        for i in range(5000):
            greedy.send_request(READ, 0, MIB)
    except BlockingIOError:
        pass
    with ready(server) as c:
        c.s.settimeout(3)
        for i in range(300):
            assert c.write(i * PAGE, noise(PAGE, i)) == 0
            assert c.read(i * PAGE, PAGE) == noise(PAGE, i)
    for c in stalled:
        c.s.close()


def test_clients_that_vanish_mid_request(t):
    server = start_server(t, connections=64)
    for i in range(60):
        c = ready(server, structured=i % 2)
        if i % 3 == 0:
            c.send_request(WRITE, 0, 8 * MIB, payload=bytes(i * 10000))
        elif i % 3 == 1:
            for _ in range(30):
                c.send_request(READ, 0, MIB)
        else:
            for _ in range(5):
                c.send_request(ZEROES, 1, SIZE - 1)
        c.s.close()
    alive(server)
    harness.wait_for(lambda: accepts(server.path), "the server accepts")


# ---- the process


def test_socket_mode_and_stale_socket(t):
    server = start_server(t)
    assert stat.S_IMODE(os.stat(server.path).st_mode) == 0o600
    server.process.kill()
    assert os.path.exists(server.path)
    again = start_server(t)
    alive(again)
    again.process.stop()
    assert not os.path.exists(server.path)


def test_socket_in_use_is_refused(t):
    server = start_server(t)
    program = subprocess.run([*server.process.argv], stderr=subprocess.PIPE, timeout=10, check=False)
    assert program.returncode not in (0, -6, -11), program.returncode
    assert b"error" in program.stderr
    alive(server)


def test_term_finishes_what_was_accepted(t):
    server = start_server(t)
    with ready(server) as c, Raw(server) as silent:
        payload = noise(8 * MIB)
        c.send_request(WRITE, 0, len(payload), payload=payload[:5 * MIB], cookie=1)
        # An accepted WRITE before it shows that the header of this one was seen, too.
        server.process.popen.terminate()
        harness.wait_for(lambda: not os.path.exists(server.path), "the server stopped listening")
        silent.expect_close()
        c.send(payload[5 * MIB:])
        assert c.simple_reply() == (0, 1)
        assert c.expect_close() == b""
    assert server.process.wait_exit() == 0


def test_term_with_dead_clients(t):
    server = start_server(t)
    greedy = ready(server)
    greedy.s.setblocking(False)
    try:
        for _ in range(5000):
            greedy.send_request(READ, 0, MIB)
    except BlockingIOError:
        pass
    stalled = ready(server)
    stalled.send_request(WRITE, 0, MIB, payload=b"x" * 1000)
    alive(server)
    server.process.stop(seconds=8)
    greedy.s.close()
    stalled.s.close()


# ---- foreign clients


def run(*argv):
    result = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                            check=False)
    assert result.returncode == 0, (argv, result.stdout.decode(errors="replace")[-2000:])
    return result.stdout.decode()


def test_nbdinfo(t):
    harness.require("nbdinfo")
    server = start_server(t)
    for can in ("flush", "fua", "multi-conn", "trim", "zero", "df", "cache", "fast-zero"):
        run("nbdinfo", "--can", can, server.uri)
    assert run("nbdinfo", "--size", server.uri).strip() == str(SIZE)
    assert subprocess.run(["nbdinfo", "--is", "rotational", server.uri], timeout=10, check=False).returncode == 2
    assert DESCRIPTION in run("nbdinfo", "--list", server.uri)
    run("nbdinfo", "--map", server.uri)


def test_nbdcopy_and_qemu_img(t):
    harness.require("nbdcopy", "qemu-img")
    server = start_server(t)
    with open(t.path("in.img"), "wb") as out:
        out.write(noise(20 * MIB) + bytes(SIZE - 40 * MIB) + noise(20 * MIB, 2))
    run("nbdcopy", "--connections=4", "--requests=32", t.path("in.img"), server.uri)
    run("nbdcopy", server.uri, t.path("out.img"))
    run("cmp", t.path("in.img"), t.path("out.img"))
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", t.path("in.img"), server.uri)
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", server.uri, t.path("out2.img"))
    run("cmp", t.path("in.img"), t.path("out2.img"))


def test_qemu_io(t):
    harness.require("qemu-io")
    server = start_server(t)
    commands = ("write -P 0xab 1M 64k", "read -P 0xab 1M 64k", "write -f -P 1 0 4k", "write -z 2M 64k",
                "read -P 0 2M 64k", "discard 3M 64k", "flush", "aio_write -P 3 4M 1M", "aio_flush", "read -P 3 4M 1M",
                "write -P 5 1023 1025", "read -P 5 1023 1025")
    out = run("qemu-io", "-f", "raw", *[x for c in commands for x in ("-c", c)], server.uri)
    assert "failed" not in out, out


def test_fio_verify(t):
    harness.require("fio")
    server = start_server(t)
    run("fio", "--name=v", "--ioengine=nbd", f"--uri={server.uri}", "--rw=randwrite", "--iodepth=32",
        "--bssplit=4k/60:64k/20:1280k/20", "--size=32m", "--verify=crc32c", "--do_verify=1", "--verify_fatal=1",
        "--verify_state_save=0", f"--directory={t.dir}")


def test_libnbd_without_strict_mode(t):
    try:
        import nbd
    except ImportError:
        raise harness.Skip("python3-libnbd is not installed") from None
    server = start_server(t)
    h = nbd.NBD()
    h.set_strict_mode(0)
    h.add_meta_context("base:allocation")
    h.connect_uri(server.uri)
    assert h.get_size() == SIZE and h.get_structured_replies_negotiated() and h.can_fast_zero()
    h.pwrite(b"libnbd" * 100, 100)
    assert h.pread(600, 100) == bytearray(b"libnbd" * 100)
    h.zero(100, 100)
    h.trim(SIZE, 0)
    h.cache(8192, 1)
    h.flush()
    seen = []
    h.block_status(SIZE, 0, lambda context, offset, entries, error: seen.append((context, list(entries))) or 0)
    assert seen == [("base:allocation", [SIZE, 3])], seen

    def fails(errno, fn, *args):
        try:
            fn(*args)
        except nbd.Error as e:
            assert e.errnum == errno, (e.errnum, fn)
            return
        raise AssertionError(fn)
    fails(EINVAL, h.pread, PAGE, SIZE)
    fails(ENOSPC, h.pwrite, b"x", SIZE)
    fails(ENOSPC, h.zero, 2, SIZE - 1)
    fails(EINVAL, h.trim, 2, SIZE - 1)
    fails(EINVAL, h.cache, 2, SIZE - 1)
    fails(EINVAL, h.pread, PAGE, 0, 0x20)
    h.shutdown()


if __name__ == "__main__":
    harness.main(globals())

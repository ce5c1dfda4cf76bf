#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Writes the inputs that somebody thought of, one file each, into the corpora.

What the fuzzer found lies beside them and is not touched.  Inputs named cve-* are the past failures of
other NBD servers, spoken to ours.
Usage: seeds.py [DIRECTORY]      (default: corpus, beside this file)
"""
import struct
import sys
from pathlib import Path

FLAGS = struct.pack(">I", 3)
MAX = 0xffffffff
OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_STARTTLS, OPT_INFO, OPT_GO = 1, 2, 3, 5, 6, 7
OPT_STRUCTURED, OPT_LIST_META, OPT_SET_META, OPT_EXTENDED = 8, 9, 10, 11
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)
MIB = 1 << 20


def option(number, payload=b"", claimed=None):
    return struct.pack(">8sII", b"IHAVEOPT", number, len(payload) if claimed is None else claimed) + payload


def name(text=b"swap0", claimed=None):
    return struct.pack(">I", len(text) if claimed is None else claimed) + text


def info(text=b"swap0", infos=(), claimed=None, count=None):
    return name(text, claimed) + struct.pack(f">H{len(infos)}H", len(infos) if count is None else count, *infos)


def meta(*queries, claimed=None, count=None):
    return name() + struct.pack(">I", len(queries) if count is None else count) + b"".join(
        name(query, claimed) for query in queries)


def request(command, offset=0, length=0, flags=0, cookie=7, magic=0x25609513):
    return struct.pack(">IHHQQI", magic, flags, command, cookie, offset, length)


GO = option(OPT_GO, info())
STRUCTURED = option(OPT_STRUCTURED)
ALLOCATION = option(OPT_SET_META, meta(b"base:allocation"))
SERVING = FLAGS + GO
SERVING_STRUCTURED = FLAGS + STRUCTURED + ALLOCATION + GO


def raw(data, variant=0, chunk=256):
    return bytes([4 | variant, chunk - 1]) + data


def nbd_conversations():
    """What a client says, from its first byte."""
    yield "every-option", FLAGS + option(OPT_LIST) + option(OPT_INFO, info(infos=(3, 1, 2, 0, 9))) + option(
        OPT_LIST_META, meta()) + option(OPT_EXTENDED) + option(77, b"?") + STRUCTURED + ALLOCATION + GO + request(DISC)
    yield "export-name", FLAGS + option(OPT_EXPORT_NAME, b"swap0") + request(READ, 0, 512) + request(DISC)
    yield "export-name-with-zeroes", struct.pack(">I", 1) + option(OPT_EXPORT_NAME) + request(FLUSH) + request(DISC)
    yield "abort", FLAGS + option(OPT_ABORT, b"bye")
    yield "every-command", SERVING + request(WRITE, 4096, 4096, 1) + bytes(range(256)) * 16 + request(
        READ, 4096, 4096) + request(TRIM, 0, MIB) + request(ZEROES, 100, 5000, 2) + request(
        CACHE, 0, 65536) + request(FLUSH) + request(STATUS, 0, 4096) + request(99) + request(DISC)
    yield "every-command-structured", SERVING_STRUCTURED + request(WRITE, 4095, 3) + b"abc" + request(
        READ, 4000, 10000) + request(READ, 0, MIB, 4) + request(STATUS, 0, 4 * MIB) + request(
        STATUS, 0, 4 * MIB, 8) + request(ZEROES, 0, MIB, 16) + request(DISC)
    yield "no-magic", FLAGS + option(OPT_GO).replace(b"IHAVEOPT", b"IHAVENOT")
    yield "request-no-magic", SERVING + request(READ, 0, 512, magic=0x25609514)
    yield "unknown-client-flags", struct.pack(">I", MAX) + GO
    yield "beyond-the-end", SERVING + request(READ, 4 * MIB - 512, 1024) + request(
        WRITE, 4 * MIB - 512, 1024) + bytes(1024) + request(READ, 2 ** 64 - 512, 1024) + request(TRIM, 2 ** 63, MAX)
    yield "write-over-the-limit", SERVING + request(WRITE, 0, 32 * MIB + 1) + bytes(512)
    yield "long-reads", SERVING_STRUCTURED + request(READ, 0, 4 * MIB) * 3 + request(READ, 1, 2 * MIB + 7)
    yield "long-reads-simple", SERVING + request(READ, 0, 4 * MIB) + request(FLUSH) + request(READ, 3, 4 * MIB - 5)
    yield "cache-and-errors", SERVING + request(CACHE, 0, 4 * MIB) + request(CACHE, 4 * MIB, 1) + request(
        DISC, 1, 1) + request(FLUSH, 5, 5, 1)
    yield "no-meta-context", FLAGS + ALLOCATION + STRUCTURED + option(
        OPT_SET_META, meta(b"base:nothing")) + GO + request(
        STATUS, 0, 4096)
    yield "structured-reply-with-data", FLAGS + option(OPT_STRUCTURED, b"x") + option(OPT_LIST, b"x") + option(
        OPT_INFO, b"") + option(OPT_SET_META, b"")
    yield "too-many-options", FLAGS + STRUCTURED * 70
    # nbd-server: 1 is added to the length of a name, and wraps.
    yield "cve-2022-26495-export-name", FLAGS + option(OPT_EXPORT_NAME, b"x" * 64, MAX)
    yield "cve-2022-26495-info", FLAGS + option(OPT_INFO, info(b"x" * 64, claimed=MAX))
    yield "cve-2022-26495-go", FLAGS + option(OPT_GO, info(b"x" * 64, claimed=MAX), MAX)
    yield "cve-2022-26495-meta", FLAGS + STRUCTURED + option(OPT_SET_META, meta(b"base:allocation", claimed=MAX))
    # nbd-server: a long name in INFO or GO goes into a buffer on the stack.
    yield "cve-2022-26496-info", FLAGS + option(OPT_INFO, info(b"n" * 4096))
    yield "cve-2022-26496-go", FLAGS + option(OPT_GO, info(b"n" * 5000, infos=(3,)))
    # nbd-server: a failed negotiation ends the process.
    yield "cve-2013-7441-unknown-export", FLAGS + option(OPT_EXPORT_NAME, b"nothing")
    yield "cve-2013-7441-no-options", FLAGS[:2]
    # nbdkit: the back end is opened before the client has shown that it is one.
    yield "cve-2019-14850", b""
    # nbdkit: an assertion about the order of INFO and GO.
    yield "cve-2019-14851", FLAGS + option(OPT_INFO, info()) + option(OPT_INFO, info(b"nothing")) + GO + request(DISC)
    # nbdkit: what was said before TLS counts after it.
    yield "cve-2021-3716", FLAGS + STRUCTURED + option(OPT_STARTTLS) + GO + request(READ, 0, 512)
    # nbdkit: block status of the longest length there is.
    yield "cve-2025-47711", SERVING_STRUCTURED + request(STATUS, 0, MAX) + request(STATUS, 1, MAX, 8)
    # qemu: a client that goes while it negotiates; one that aborts.
    yield "cve-2017-9524", FLAGS + option(OPT_LIST)[:11]
    yield "cve-2017-7539", FLAGS + option(OPT_ABORT) + option(OPT_ABORT) + GO
    # qemu: an option of 4 GiB is read to its end.
    yield "cve-2017-15119", FLAGS + option(99, bytes(128), MAX)
    # qemu: an error message that repeats a name of the greatest length.
    yield "cve-2020-10761", FLAGS + option(OPT_GO, info(b"%n" * 2048)) + option(OPT_LIST_META, meta(b"q" * 4096))
    # qemu: a name of exactly 4096 bytes and the NUL behind it.
    yield "qemu-export-name-4096", FLAGS + option(OPT_EXPORT_NAME, b"n" * 4096)
    # qemu: clients that connect and stay silent use up the server.
    yield "cve-2024-7409", FLAGS[:1]


def nbd_server():
    for title, data in nbd_conversations():
        yield title, raw(data)
    for variant in range(1, 4):
        yield f"structured-backend-{variant}", raw(dict(nbd_conversations())["every-command-structured"], variant)
        yield f"long-reads-backend-{variant}", raw(dict(nbd_conversations())["long-reads"], variant)
        yield f"long-reads-simple-backend-{variant}", raw(dict(nbd_conversations())["long-reads-simple"], variant)
        yield f"commands-backend-{variant}", raw(dict(nbd_conversations())["every-command"], variant, 61)
    yield "byte-by-byte", raw(FLAGS + STRUCTURED + GO + request(READ, 0, 512) + request(DISC), 0, 1)
    # Operations; see operate().  Both clients, one of them takes no replies.
    two = bytes([2, 0x03, 0x82, 0x07, 10])
    for k in range(12):
        two += bytes([0, k % 8]) + struct.pack("<HH", 8 * k, 64) + bytes([0x80, k % 8]) + struct.pack("<HH", 8, 8192)
    for variant in range(4):
        yield f"two-clients-{variant}", bytes([variant]) + two + bytes([11, 7, 0x8b, 7])
    for variant in range(4):
        for how in (1, 7):
            at_will = b"\4\0\0\0\0" + struct.pack("<QI", 0, 4 * MIB)
            deaf = bytes([variant, 2, how, 10]) + at_will * 2 + b"\0\3\0\0\0\0\13\7"
            yield f"deaf-{variant}-{how}", deaf + bytes([10, 11, 7, 11, 7, 11, 7, 11, 7])
            yield f"deaf-and-gone-{variant}-{how}", deaf + b"\10"
            yield f"half-a-write-{variant}-{how}", bytes([variant, 2, how]) + b"\4\1\0\0\0" + struct.pack(
                "<QI", 1000, MIB) + b"\6\377\177\10"
    yield "half-closed", bytes([0, 2, 2, 0, 0]) + struct.pack("<HH", 0, 4096) + bytes([9, 11, 7])


def nbd_proto():
    yield "client-flags", b"\0" + FLAGS
    yield "option", b"\0" + option(OPT_GO)
    yield "request", b"\0" + request(WRITE, 4096, 512)
    yield "info", b"\1" + info(infos=(0, 1, 2, 3))
    yield "cve-2022-26495-info", b"\1" + info(b"x" * 8, claimed=MAX)
    yield "cve-2022-26496-info", b"\1" + info(b"n" * 4097)
    yield "info-count", b"\1" + info(infos=(1,), count=0xffff)
    for more in (1, 4):
        yield f"name-longer-by-{more}", b"\1" + name(claimed=5 + more)
        yield f"query-longer-by-{more}", b"\2" + meta(b"base:", claimed=5 + more)
    yield "meta-more-queries", b"\2" + meta(b"base:", count=2)
    yield "meta", b"\2" + meta(b"base:allocation", b"base:", b"")
    yield "cve-2022-26495-meta", b"\2" + meta(b"base:allocation", claimed=MAX)
    yield "cve-2020-10761-meta", b"\2" + meta(b"q" * 4097)
    yield "meta-count", b"\2" + meta(b"base:", count=MAX)


CTL_TYPES = {"hello": (1, 104), "challenge": (2, 48), "auth": (3, 32), "welcome": (4, 40), "refused": (5, 100),
             "query-mem": (6, 0), "free-mem": (7, 8), "map": (8, 8), "mr-info": (9, 32), "unmap": (10, 8),
             "unmapped": (11, 8), "ping": (12, 0), "pong": (13, 0)}
FRAMES = {"preamble": (1, 0), "message": (2, 24), "read": (3, 4096), "read-done": (4, 4096), "write": (5, 4096),
          "write-done": (6, 0)}


def message(kind, payload=None, version=1, request_id=7):
    number, length = CTL_TYPES[kind]
    payload = bytes(length) if payload is None else payload
    return struct.pack("<IHHIIQ", 0x50575353, version, number, len(payload), request_id, 0) + payload


def frame(kind, op_id=0, rkey=0, addr=0, length=None, status=0):
    number, usual = FRAMES[kind]
    return struct.pack("<IHHIIQII", 0x54575353, number, status, op_id, rkey, addr,
                       usual if length is None else length, 0)


def ctl():
    for kind in CTL_TYPES:
        yield kind, b"\0" + message(kind)
    yield "hello-version-2", b"\0" + message("hello", version=2)
    yield "ping-version-2", b"\0" + message("ping", version=2)
    yield "hello-device", b"\0" + message("hello", bytes(16) + b"swap0".ljust(64, b"\0") + bytes(24))
    yield "hello-device-without-nul", b"\0" + message("hello", bytes(16) + b"x" * 64 + bytes(24))
    yield "hello-device-behind-nul", b"\0" + message("hello", bytes(16) + b"a\0b".ljust(64, b"\0") + bytes(24))
    yield "ping-reserved", b"\0" + message("ping")[:-1] + b"\1"
    yield "mr-info-reserved", b"\0" + message("mr-info")[:-1] + b"\1"
    yield "refused-unprintable", b"\0" + message("refused", bytes(4) + b"a\x1b[2J".ljust(96, b"\0"))
    yield "length-wraps", b"\0" + message("ping")[:8] + struct.pack("<I", MAX) + bytes(12)
    for kind in FRAMES:
        yield f"frame-{kind}", b"\2" + frame(kind)
        yield f"frame-{kind}-reserved", b"\2" + frame(kind)[:-1] + b"\1"
        yield f"frame-{kind}-unused", b"\2" + frame(kind, 1, 2, 3, status=4)
    yield "frame-length-max", b"\2" + frame("write", length=MAX)
    yield "proof", b"\3\1\20k" + message("hello")


def rdma_hello():
    def private(kind, value, version=1):
        return struct.pack("<IHHH6x", 0x44525353, version, kind, value)
    yield "hello", private(1, 64) + bytes(40)
    for depth in (0, 1024, 1025, 65535):
        yield f"hello-depth-{depth}", private(1, depth)
    yield "hello-padding", private(1, 64)[:-1] + b"\1"
    yield "hello-version-2", private(1, 64, 2)
    for why in range(1, 6):
        yield f"reject-{why}", private(2, why)


def dns():
    """The first byte: asked for SRV, A or AAAA."""
    def label(*parts):
        return b"".join(bytes([len(part)]) + part for part in parts)

    def answer(kind, *rdata, name=b"\xc0\x0c", count=None, ttl=60):
        question = label(b"_slabswap", b"_tcp", b"example", b"com") + b"\0" + struct.pack(">HH", kind, 1)
        records = b"".join(name + struct.pack(">HHIH", kind, 1, ttl, len(data)) + data for data in rdata)
        count = len(rdata) if count is None else count
        return struct.pack(">HHHHHH", 7, 0x8180, 1, count, 0, 0) + question + records

    def srv(target, priority=0, port=9400):
        return struct.pack(">HHH", priority, 0, port) + target

    host = label(b"lender1") + b"\xc0\x1b"
    yield "srv", b"\0" + answer(33, srv(host), srv(label(b"A", b"b") + b"\0", 2, 1), srv(b"\0", 1))
    yield "srv-many", b"\0" + answer(33, *(srv(label(b"h%d" % n) + b"\0", n % 3) for n in range(12)))
    yield "srv-pointer-to-itself", b"\0" + answer(33, srv(b"\xc0\x35"))
    yield "srv-pointer-forward", b"\0" + answer(33, srv(b"\xff\xff"))
    yield "srv-long-name", b"\0" + answer(33, srv(label(*[b"x" * 63] * 4) + b"\0"))
    yield "srv-label-of-64", b"\0" + answer(33, srv(b"\x40" + b"x" * 64 + b"\0"))
    yield "srv-not-a-host-name", b"\0" + answer(33, srv(label(b"a/b") + b"\0"))
    yield "srv-short", b"\0" + answer(33, b"\0\0\0")
    yield "srv-more-than-there-are", b"\0" + answer(33, srv(host), count=65535)
    yield "a", b"\1" + answer(1, bytes([10, 0, 0, 2]), bytes([10, 0, 0, 1]), ttl=MAX)
    yield "a-short", b"\1" + answer(1, b"\1\2\3")
    yield "a-none", b"\1" + answer(1)
    yield "aaaa", b"\2" + answer(28, bytes(15) + b"\1", bytes.fromhex("fd00") + bytes(14))


# The rest are lists of operations: see operate() of each target.


def tcp():
    read, write, lend, take = b"\0\2\1\0\0\377\17", b"\0\20\1\0\0\377\17", b"\2\0", b"\3\0"
    turn = b"\13"
    yield "daemon-access", b"\2" + lend + turn + read + write + read + turn
    yield "daemon-outside", b"\2" + lend + turn + b"\0\2\1\0\100\377\17" + turn
    for title, start, length in (("across-the-end", 0x3f9c, 200), ("behind-the-end", 0x4020, 16),
                                 ("at-the-end", 0x4000, 1)):
        request = struct.pack("<BHH", 1, start, length - 1)
        yield f"daemon-{title}", b"\2" + lend + turn + b"\0\0" + request + turn
        yield f"daemon-read-{title}", b"\2" + lend + turn + b"\0\2" + request + turn
    yield "daemon-before", b"\2" + lend + turn + b"\0\12\1\0\0\377\17" + turn
    yield "daemon-stale", b"\2" + lend + turn + read + take + turn + turn + write + turn
    yield "daemon-revoked-on-the-way", b"\2" + lend + turn + b"\0\20\1\0\0\377\17" + take + turn + b"\7\377\17"
    yield "daemon-message", b"\2\12\300\6\70" + frame("message") + bytes(24) + b"\10\0\1"
    yield "daemon-every-frame", b"\2" + b"".join(b"\6\40" + frame(kind) for kind in FRAMES)
    yield "daemon-preamble-version", b"\0\4\1\2\0\0\0"
    yield "daemon-preamble-in-parts", b"\0\6\5" + frame("preamble", 1)[:5] + b"\6\33" + frame("preamble", 1)[5:]
    yield "client-ops", b"\3" + b"\2\0\0\20\2\201\0\20" + b"\0\0\0\0\1\0" + turn
    for wrong in (1, 2, 4, 8, 16):
        yield f"client-answer-wrong-{wrong}", b"\3\2\200\0\20\2\1\0\20\0\0" + bytes([wrong, 13]) + turn
    yield "client-no-preamble", b"\1\2\200\0\20" + turn + b"\7\0\1"
    yield "client-closes", b"\3\2\200\0\20\2\1\0\20\311"


def daemon():
    hello, turn, advance, memory = b"\1\0\0", b"\12\7", b"\11", b"\14\0"
    come = b"\0" + turn
    full = (advance + memory * 2) * 8
    mapped = full + come + hello + turn * 2 + b"\1\7\10" + turn * 3
    yield "serve", b"\0" + mapped + b"\5\1\5\0" + turn + b"\1\11\10" + turn * 3 + memory
    yield "psk", b"\1" + full + come + hello + turn * 2 + b"\1\2\0" + turn * 2 + b"\1\7\10" + turn
    yield "wrong-proof", b"\1" + full + come + hello + turn * 2 + b"\1\2\1" + turn * 2
    yield "wrong-slab-size", b"\0" + come + b"\1\0\1" + turn * 2 + b"\10\0\20" + advance
    yield "wrong-version", b"\0" + come + b"\1\0\100\2\0" + turn * 2
    yield "silent", b"\0" + come + b"\10\377\77" + advance + turn
    yield "unmap-before-granted", b"\0" + full + come + hello + turn * 2 + b"\1\7\10\1\11\10" + turn * 4
    yield "cut-while-mapped", b"\0" + mapped + b"\5\0\7" + turn * 3 + memory + advance + memory
    yield "revoke-fails", b"\0" + mapped + b"\15\6\1\11\10" + turn * 4
    yield "grant-fails", b"\0" + full + come + hello + turn * 2 + b"\15\5\1\7\10" + turn * 4
    yield "zero-fails", b"\0" + mapped + b"\6" + turn * 3 + advance + b"\14\200" + advance
    yield "takes-no-answers", b"\0" + mapped + b"\217" + b"\1\13\0" * 80
    for kind in range(17):
        yield f"message-{kind}", b"\0" + mapped + bytes([1, kind, 8]) + turn
    # Five slabs lent and three free; then four have to go.
    short, wait = b"\202\0" + advance + turn, b"\10\320\7" + advance + turn
    five = full + come + hello + turn * 2 + b"".join(bytes([1, 7, 8 + slab]) for slab in range(5)) + turn * 3
    answers = b"\2\0\2\1\2\2" + turn + advance + turn
    yield "short-and-relieved", b"\0" + mapped + short + memory * 4 + b"\202\37" + advance + memory * 4
    yield "short-pressed", b"\0" + mapped + b"\202\205" + advance + memory * 2
    yield "evict-answered", b"\0" + five + short + answers + b"\2\3" + turn * 2 + memory * 4
    yield "evict-silent", b"\0" + five + short + wait + wait + memory * 4
    yield "evict-unmap", b"\0" + five + short + b"\1\11\10\1\11\11\1\11\12" + turn * 3 + wait
    yield "evict-cut", b"\0" + five + short + b"\7" + turn * 3 + memory * 4 + wait
    yield "evict-late", b"\0" + five + short + wait + answers + wait + b"\2\3\2\4" + turn * 2
    for wrong in range(0xfc, 0x100):
        yield f"evict-wrong-{wrong:x}", b"\0" + five + short + bytes([2, wrong]) + turn * 3
    yield "drain", b"\0" + five + b"\202\377\40" + advance + turn + b"\2\0\2\1\2\2\2\3\2\4" + turn * 2 + advance
    yield "drain-silent", b"\0" + five + b"\202\377\5" + advance + turn + wait + wait


def device():
    settle, write, read, flush = b"\3\7\3\7\3\7\3\7", b"\0\1\0\3", b"\0\0\0\3", b"\0\2\0\0"
    up = settle * 3
    backup = b"\6\0"
    for how in (0, 0x10, 0x60, 0x80, 0xf0):
        yield f"requests-{how}", (bytes([how]) + up + write + settle * 2 + backup * 2 + read + settle + flush +
                                  backup * 3)
        yield f"trim-zero-{how}", bytes([how]) + up + write + settle + b"\0\3\0\7\0\4\2\7\0\44\4\107" + backup * 4
    for kind in range(17):
        yield f"message-{kind}", b"\0" + up + write + settle * 2 + bytes([9, kind, 2, 0, 0]) + settle
        yield f"message-early-{kind}", b"\0\3\1" + bytes([9, kind, 2, 0, 0]) + settle + write + settle
    for lie in range(12):
        yield f"lie-{lie}", b"\0" + bytes([12, lie]) + up + write + settle * 2 + backup
    yield "daemon-lost", b"\0" + up + write + settle * 2 + b"\15" + settle + read + settle + backup * 3
    yield "backup-broken", b"\0" + up + b"\17\1" + write + settle * 2 + backup + b"\7\377\377" + b"\17\0" + backup
    yield "mr-info-elsewhere", b"\0" + up + b"\14\6" + write + settle + b"\11\10\0\4\0\0\20\0\0\0\0\0\0" + settle
    evict, late, revoke, give = b"\217\0\377", b"\217\0\1", b"\217\100", b"\217\300\0\20"
    for name, what in ("evict", evict), ("evict-late", late + b"\7\377\377"), ("revoke", revoke), ("give-back", give):
        for how in (0, 8):
            start = bytes([how]) + up + write + settle * 2
            yield f"{name}-{how}", start + backup + what + settle * 3 + read + settle + backup * 3
            yield f"{name}-unsafe-{how}", start + what + settle * 3 + write + settle + backup * 3 + settle
            yield f"{name}-broken-{how}", (start + b"\17\1" + backup + write + settle + backup * 2 + what + settle * 3 +
                                          b"\17\0" + settle)
            yield f"{name}-lost-{how}", start + backup + what + b"\3\3" + b"\15" + settle * 3 + read + settle + backup
    yield "silent-operations", b"\0" + up + write + settle * 2 + b"\316" + write + b"\7\377\377" * 4


def ini():
    good_server = b"[device]\nname = swap0\nsize = 1G\n[backup]\npath = /dev/vdb\n"
    good_daemon = b"[daemon]\nlisten = tcp:127.0.0.1:9400\n[memory]\nmax = 1G\n"
    conf = Path(__file__).resolve().parents[2] / "conf"
    yield "empty", b""
    for path in conf.glob("*.ini"):
        yield path.name, path.read_bytes()
    yield "server", good_server
    yield "server-all", good_server + (
        b"ack = both\n[nbd]\nlisten = unix:/run/a.sock, tcp:[::1]:10809\nexport = \"a;b\"\nmax_connections = 3\n"
        b"[daemons]\nportals = rdma:10.0.0.1:9400, tcp:[fe80::1%eth0]:1\npsk_file = /dev/null\n"
        b"[activity]\nhot_slab = 2\nalpha = 0.25\nperiod_ms = 10\ncold_slab = 1\ncold_periods = 1\n"
        b"[placement]\nchoices = 8\nquery_timeout_ms = 10\n"
        b"[eviction]\nmigration = no\nmigrate_rate = 1M\n"
        b"[limits]\nbuffers = 4M\nhedge_ms = 0\nprobe_ms = 10\ncontrol_timeout_ms = 0\n"
        b"retry_ms = 10\nretry_max_ms = 10\n")
    yield "daemon", good_daemon
    yield "daemon-all", b"[daemon]\nlisten = rdma:0.0.0.0:9400\nmax_clients = 1\nslab_size = 1M\n" \
        b"control = /run/x.ctl\n[memory]\nmax = 3M\nmax_per_client = 2M\nheadroom = 0\n" \
        b"beta = 0.05\nperiod_ms = 10\npsi_limit = 100\n[eviction]\nextra_choices = 0\ndeadline_ms = 10\n"
    yield "size-wraps", good_server.replace(b"1G", b"18446744073709551617")
    yield "size-wraps-with-unit", good_server.replace(b"1G", b"18014398509481985K")
    yield "twice", good_server + b"path = /dev/vdc\n"
    yield "unknown-key", good_server + b"[limits]\nspeed = 9\n"
    yield "nul", good_server + b"\0"
    yield "no-end-of-line", good_server[:-1]
    yield "cr", good_server.replace(b"\n", b"\r\n")
    yield "continued", good_server + b"[limits]\nbuffers = \\\n 64M\n"
    yield "long-line", b"[device]\nname = " + b"x" * 1000 + b"\n"
    yield "quotes", good_server.replace(b"swap0", b'"swap0')
    yield "escape", b"[device]\nname = \x1b[2J\n"
    yield "utf8", good_server + "[nbd]\ndescription = \u00e9\n".encode()
    yield "many-items", good_daemon.replace(b"tcp:127.0.0.1:9400", b"tcp:1:1," * 40)


def shm():
    hello, turn, revoked = b"\0\1", b"\11", b"\0\5\0\1"
    up = hello + turn * 3
    lent = up + b"\3\0\3\1" + turn * 3
    yield "daemon-lends", b"\1" + lent + b"\4\0" + turn * 2 + revoked + turn * 3 + b"\4\1" + turn
    yield "daemon-answer-too-early", b"\1" + up + b"\3\0" + turn * 3 + revoked + turn
    yield "daemon-peer-stays", b"\1" + up + b"\3\0" + turn * 3 + b"\10\0" + turn * 3 + b"\7" + turn
    yield "daemon-messages", b"\1" + up + b"\0\2\7\6\0\2\377" + turn * 3 + b"\7"
    yield "daemon-version", b"\1\0\201" + turn * 2
    yield "daemon-noise", b"\1\2\20" + bytes(range(48)) + turn
    for kind in range(8):
        yield f"daemon-kind-{kind}", b"\1" + up + bytes([0, kind, 0, 1]) + turn * 2
        yield f"daemon-gift-{kind}", b"\1" + up + bytes([0, kind | 32, 0, 1, 2, 15]) + turn * 2
        yield f"client-kind-{kind}", b"\0" + up + bytes([0, kind, 0, 1, 15]) + turn * 2
    for how in range(64):
        yield f"client-memory-{how}", b"\0" + up + b"\0\3\0\1" + bytes([how]) + turn * 2 + \
            b"\5\0\1\377\17\0\0\0\1\5\1\0\377\17\0\0\0\1" + turn * 3
    grant = b"\0\3\0\1\17" + turn * 2
    yield "client-behind-the-end", b"\0" + up + grant + b"\5\0\0\377\17\2\20\0\1" + turn * 2
    yield "client-revoked", b"\0" + up + grant + b"\0\4\0\1" + turn + b"\5\0\0\377\17\0\0\0\1" + turn * 2
    yield "client-granted-twice", b"\0" + up + grant + grant
    yield "client-ops-before-up", b"\0\5\0\0\377\17\0\0\0\1" + up


TARGETS = {"nbd_server": nbd_server, "nbd_proto": nbd_proto, "ctl": ctl, "rdma_hello": rdma_hello, "dns": dns,
           "tcp": tcp, "shm": shm, "daemon": daemon, "device": device, "ini": ini}


def main():
    base = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "corpus"
    for target, seeds in TARGETS.items():
        (base / target).mkdir(parents=True, exist_ok=True)
        for title, data in seeds():
            (base / target / title).write_bytes(data)


if __name__ == "__main__":
    main()

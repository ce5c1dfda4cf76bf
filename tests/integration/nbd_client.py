# SPDX-License-Identifier: MIT
"""A raw NBD client that may say anything, and the server it talks to.

SLABSWAP_NBD=real in the environment serves with slabswap-nbd, else with nbd-test-server.
"""
import os
import socket
import struct

import harness

SIZE = 64 << 20
EXPORT = "swap0"
DESCRIPTION = "a test"

NBDMAGIC = b"NBDMAGIC"
IHAVEOPT = b"IHAVEOPT"
REP_MAGIC = 0x3E889045565A9
FIXED, NO_ZEROES = 1, 2
EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED, LIST_META, SET_META, EXTENDED = 1, 2, 3, 5, 6, 7, 8, 9, 10, 11
REP_ACK, REP_SERVER, REP_INFO, REP_META = 1, 2, 3, 4
ERR_UNSUP, ERR_INVALID, ERR_UNKNOWN = 0x80000001, 0x80000003, 0x80000006
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)
F_FUA, F_NO_HOLE, F_DF, F_REQ_ONE, F_FAST_ZERO = 1, 2, 4, 8, 16
EPERM, EIO, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP = 1, 5, 22, 28, 75, 95
REQUEST_MAGIC, SIMPLE_MAGIC, CHUNK_MAGIC = 0x25609513, 0x67446698, 0x668E33EF
CHUNK_NONE, CHUNK_DATA, CHUNK_STATUS, CHUNK_ERROR = 0, 1, 5, 32769


class Server:
    def __init__(self, process, path):
        self.process = process
        self.path = path
        self.uri = f"nbd+unix:///{EXPORT}?socket={path}"

    def stats(self):
        """Stops the test server; its counters."""
        self.process.stop()
        last = self.process.log().strip().splitlines()[-1]
        return {k: int(v) for k, v in (pair.split("=") for pair in last.split())}


# Of daemons whose memory is behind the device; only with SLABSWAP_NBD=real.
PORTALS = os.environ.get("SLABSWAP_PORTALS", "")


def is_real():
    return os.environ.get("SLABSWAP_NBD") == "real"


def accepts(path):
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(5)
            s.connect(path)
            return s.recv(1) == b"N"
    except OSError:
        return False


def start_server(t, *extra, connections=8, **popen):
    """@extra: options of nbd-test-server, which only it knows."""
    path = t.path("s.sock")
    if is_real():
        if extra:
            raise harness.Skip("needs nbd-test-server")
        ini = harness.write_ini(t.path("slabswap-nbd.ini"), {
            "device": {"name": "swap0", "size": SIZE, "slab_size": "1M"},
            "nbd": {"listen": f"unix:{path}", "export": EXPORT, "description": DESCRIPTION,
                    "control": t.path("s.ctl"), "max_connections": connections},
            "backup": {"path": t.path("backup.img")},
            "daemons": {"portals": PORTALS},
        })
        argv = [harness.built("slabswap-nbd"), "-v", "-c", ini]
        process = t.start(argv, ready=lambda: accepts(path), **popen)
        if PORTALS:
            harness.wait_for(lambda: ": connected, " in process.log(), "a daemon lends", 30)
    else:
        argv = [harness.built("tests/unit/nbd_server/nbd-test-server"), "--listen", f"unix:{path}",
                "--size", SIZE, "--export", EXPORT, "--description", DESCRIPTION,
                "--max-connections", connections, *extra]
        process = t.start(argv, ready="ready ", **popen)
    return Server(process, path)


class Closed(Exception):
    """The server closed the connection."""


class Raw:
    """A connection; nothing is sent that the test did not ask for."""

    def __init__(self, server, timeout=10, address=None):
        self.s = socket.socket(socket.AF_INET if address else socket.AF_UNIX)
        self.s.settimeout(timeout)
        self.s.connect(address or server.path)
        self.structured = False
        self.cookie = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.s.close()

    def send(self, data):
        self.s.sendall(data)

    def recv(self, n):
        parts = bytearray()
        while len(parts) < n:
            try:
                part = self.s.recv(min(n - len(parts), 1 << 20))
            except (ConnectionResetError, BrokenPipeError):
                part = b""
            if not part:
                raise Closed(bytes(parts))
            parts += part
        return bytes(parts)

    def expect_close(self):
        """Reads to the end; what came before it."""
        got = bytearray()
        try:
            while True:
                part = self.s.recv(1 << 16)
                if not part:
                    return bytes(got)
                got += part
        except (ConnectionResetError, BrokenPipeError):
            return bytes(got)

    # Handshake.
    def greet(self, flags=FIXED | NO_ZEROES):
        assert self.recv(18) == NBDMAGIC + IHAVEOPT + struct.pack(">H", FIXED | NO_ZEROES)
        self.send(struct.pack(">I", flags))
        return self

    def send_option(self, option, payload=b"", length=None):
        self.send(IHAVEOPT + struct.pack(">II", option, len(payload) if length is None else length) + payload)

    def option_reply(self):
        magic, option, reply, length = struct.unpack(">QIII", self.recv(20))
        assert magic == REP_MAGIC, hex(magic)
        return option, reply, self.recv(length)

    def option(self, option, payload=b""):
        """All replies up to the ACK or error: [(reply, payload)]"""
        self.send_option(option, payload)
        replies = []
        while True:
            echoed, reply, data = self.option_reply()
            assert echoed == option
            replies.append((reply, data))
            if reply == REP_ACK or reply & 0x80000000:
                return replies

    def structure(self):
        assert self.option(STRUCTURED) == [(REP_ACK, b"")]
        self.structured = True
        return self

    def set_meta(self, *queries, option=SET_META, name=EXPORT):
        return self.option(option, meta_payload(name, queries))

    def go(self, name=EXPORT, infos=()):
        replies = self.option(GO, info_payload(name, infos))
        assert replies[-1][0] == REP_ACK, replies
        return self

    def export_name(self, name=EXPORT, zeroes=False):
        self.send_option(EXPORT_NAME, name.encode())
        size, flags = struct.unpack(">QH", self.recv(10))
        if zeroes:
            assert self.recv(124) == bytes(124)
        return size, flags

    # Transmission.
    def send_request(self, command, offset=0, length=0, flags=0, payload=b"", cookie=None, magic=REQUEST_MAGIC):
        if cookie is None:
            self.cookie += 1
            cookie = self.cookie
        self.send(struct.pack(">IHHQQI", magic, flags, command, cookie, offset, length) + payload)
        return cookie

    def simple_reply(self):
        magic, error, cookie = struct.unpack(">IIQ", self.recv(16))
        assert magic == SIMPLE_MAGIC, hex(magic)
        return error, cookie

    def chunk(self):
        magic, flags, kind, cookie, length = struct.unpack(">IHHQI", self.recv(20))
        assert magic == CHUNK_MAGIC, hex(magic)
        return flags, kind, cookie, self.recv(length)

    def request(self, command, offset=0, length=0, flags=0, payload=b""):
        """One request and its reply: (error, data).  BLOCK_STATUS: data is [(length, state)]."""
        cookie = self.send_request(command, offset, length, flags, payload)
        if not self.structured or command not in (READ, STATUS):
            error, echoed = self.simple_reply()
            assert echoed == cookie
            return error, self.recv(length) if command == READ and not error else b""
        data = bytearray()
        extents = []
        error = 0
        covered = 0
        while True:
            chunk_flags, kind, echoed, payload = self.chunk()
            assert echoed == cookie
            if kind == CHUNK_DATA:
                data = data or bytearray(length)
                at = struct.unpack(">Q", payload[:8])[0] - offset
                data[at:at + len(payload) - 8] = payload[8:]
                covered += len(payload) - 8
                assert command == READ and len(data) == length and not (flags & F_DF and covered != length)
            elif kind == CHUNK_STATUS:
                numbers = struct.unpack(f">{len(payload) // 4}I", payload)
                assert numbers[0] == 1
                extents = list(zip(numbers[1::2], numbers[2::2]))
            elif kind == CHUNK_ERROR:
                error = struct.unpack(">I", payload[:4])[0]
            else:
                assert kind == CHUNK_NONE and not payload, kind
            if chunk_flags & 1:
                break
        if command == STATUS:
            return error, extents
        assert error or covered == length
        return error, bytes(data) if not error else b""

    def write(self, offset, data, flags=0):
        return self.request(WRITE, offset, len(data), flags, data)[0]

    def read(self, offset, length, flags=0):
        error, data = self.request(READ, offset, length, flags)
        assert error == 0, error
        return data

    def disc(self):
        self.send_request(DISC)
        assert self.expect_close() == b""


def info_payload(name, infos=()):
    encoded = name.encode()
    return struct.pack(">I", len(encoded)) + encoded + struct.pack(f">H{len(infos)}H", len(infos), *infos)


def meta_payload(name, queries):
    encoded = name.encode()
    out = struct.pack(">I", len(encoded)) + encoded + struct.pack(">I", len(queries))
    for query in queries:
        out += struct.pack(">I", len(query)) + query.encode()
    return out


def ready(server, structured=False, status=False):
    """A connection in the transmission phase."""
    raw = Raw(server).greet()
    if structured or status:
        raw.structure()
    if status:
        raw.set_meta("base:allocation")
    return raw.go()


def ready_when_free(server):
    """The same, once the server has a place for it."""
    def attempt():
        try:
            return ready(server)
        except (Closed, ConnectionResetError, BrokenPipeError):
            return None
    return harness.wait_for(attempt, "the server has a place for a connection")

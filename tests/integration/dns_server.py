# SPDX-License-Identifier: MIT
"""A DNS server on the loopback for tests: SRV, A and AAAA over UDP and TCP, from a table that the test changes."""
import ipaddress
import socket
import struct
import threading

A, AAAA, SRV = 1, 28, 33
NXDOMAIN, SERVFAIL = 3, 2
UDP_BYTES_MAX = 512


def encode_name(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split(".") if label) + b"\0"


def decode_name(message, at):
    labels = []
    while message[at]:
        labels.append(message[at + 1:at + 1 + message[at]].decode())
        at += 1 + message[at]
    return ".".join(labels).lower(), at + 1


class DnsServer:
    """table: {(name, type): [rdata, ...]}; rcodes: {(name, type): rcode}; silent: nothing is answered."""

    def __init__(self, t, ttl=300):
        self.table = {}
        self.rcodes = {}
        self.silent = False
        self.ttl = ttl
        self.questions = []
        self.lock = threading.Lock()
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.tcp = socket.socket()
        while True:  # the same port for both
            self.udp.bind(("127.0.0.1", 0))
            try:
                self.tcp.bind(self.udp.getsockname())
                break
            except OSError:
                self.udp.close()
                self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.tcp.listen()
        self.address = f"127.0.0.1:{self.udp.getsockname()[1]}"
        for loop in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=loop, daemon=True).start()
        t.defer(self._close)

    def _close(self):
        for s in (self.udp, self.tcp):
            s.close()

    def srv(self, name, targets):
        """@targets: (host, port) or (host, port, priority)."""
        with self.lock:
            self.table[name.lower(), SRV] = [
                struct.pack(">HHH", target[2] if len(target) > 2 else 0, 0, target[1]) + encode_name(target[0])
                for target in targets]

    def host(self, name, *addresses):
        with self.lock:
            for kind, version in (A, 4), (AAAA, 6):
                parsed = [ipaddress.ip_address(a) for a in addresses]
                self.table[name.lower(), kind] = [a.packed for a in parsed if a.version == version]

    def asked(self, kind):
        with self.lock:
            return sum(k == kind for _, k in self.questions)

    def _answer(self, message, is_udp):
        name, end = decode_name(message, 12)
        kind, = struct.unpack_from(">H", message, end)
        with self.lock:
            self.questions.append((name, kind))
            if self.silent:
                return None
            known = any(n == name for n, _ in self.table)
            rcode = self.rcodes.get((name, kind), 0 if known else NXDOMAIN)
            records = self.table.get((name, kind), []) if rcode == 0 else []
        body = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, self.ttl, len(r)) + r for r in records)
        flags = 0x8180 | rcode
        if is_udp and end + 4 + len(body) > UDP_BYTES_MAX:
            flags, body, records = flags | 0x0200, b"", []
        return message[:2] + struct.pack(">HHHHH", flags, 1, len(records), 0, 0) + message[12:end + 4] + body

    def _serve_udp(self):
        while True:
            try:
                message, peer = self.udp.recvfrom(4096)
                answer = self._answer(message, True)
                if answer:
                    self.udp.sendto(answer, peer)
            except OSError:
                return

    def _serve_tcp(self):
        while True:
            try:
                connection, _ = self.tcp.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                head = stream.read(2)
                if len(head) == 2:
                    answer = self._answer(stream.read(struct.unpack(">H", head)[0]), False)
                    if answer:
                        connection.sendall(struct.pack(">H", len(answer)) + answer)

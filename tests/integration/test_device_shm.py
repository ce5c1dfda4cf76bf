#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Over shm: the rules of transport.h, the device while daemons die and hang, and peers that are not what they seem."""
import array
import fcntl
import mmap
import os
import re
import signal
import socket
import struct
import threading

import device
import harness
import test_daemon
from device import MIB, Daemon, Device, Load
from test_daemon import CTL, CTL_MAGIC, HELLO, MAP, PING, PONG, UNMAP, UNMAPPED, WELCOME

MEMORY = {"max": "64M"}
PREAMBLE, MESSAGE, GRANT, REVOKE, REVOKED, BYE = range(1, 7)
FRAME = struct.Struct("<IHHIIQ")
FRAME_MAGIC = 0x4d535353
F_ADD_SEALS, F_GET_SEALS, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE = 1033, 1034, 1, 2, 4, 8
CONNECTED = ": connected, "


def path_daemon(t, memory=None, name="d", **keys):
    return Daemon(t, memory=memory or MEMORY, name=name, listen=f"shm:{t.path(name)}.shm", **keys)


def open_files(process):
    names = []
    for fd in os.listdir(f"/proc/{process.pid}/fd"):
        try:
            names.append(os.readlink(f"/proc/{process.pid}/fd/{fd}"))
        except FileNotFoundError:
            pass  # closed since
    return sorted(names)


def mapped_slabs(process):
    """How many slabs the process has mapped."""
    with open(f"/proc/{process.pid}/maps", encoding="utf-8") as maps:
        return sum("memfd:slabswap-slab" in line for line in maps)


# The rules of transport.h, by two programs that do nothing else.


class Peer:
    def __init__(self, t, transport, address, *options):
        self.t = t
        self.transport = transport
        self.program = harness.built("tests/tools/tp-peer")
        self.server = t.start([self.program, "--transport", transport, *options, "server", address], ready="listening")
        self.address = re.search(rf"^listening {transport}:(\S+)$", self.server.log(), re.MULTILINE)[1]

    def client(self, tests, *options, address=None):
        return device.client(self.program, "--transport", self.transport, *options, "client", address or self.address,
                             "--test", tests)


def conformance(t, transport, address):
    peer = Peer(t, transport, address)
    print(peer.client("all"))
    silent = t.path("silent")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(silent)
        listener.listen()
        if transport == "shm":
            peer.client("timeout", "--unreachable", silent)
    # Its own checks are part of the test: all memory comes back.
    peer.server.stop()
    refusing = Peer(t, transport, address, "--refuse")
    refusing.client("refusing-server")
    refusing.server.stop()
    killed = Peer(t, transport, address)
    killed.client("kill-server")
    assert killed.server.wait_exit() == -signal.SIGKILL
    # A socket that a killed server left is taken over.
    again = Peer(t, transport, address)
    again.client("ops")
    again.server.stop()


def test_conformance(t):
    conformance(t, "shm", t.path("s"))


def test_conformance_of_tcp(t):
    conformance(t, "tcp", "127.0.0.1:0")


def test_killed_client(t):
    peer = Peer(t, "shm", t.path("s"))
    for _ in range(3):
        client = t.start([peer.program, "--transport", "shm", "client", peer.address, "--test", "lose-server"],
                         ready="in flight")
        client.kill()
        peer.client("server-clean")
    peer.client("ops")


# The device.


def finish(load, server):
    """All pages are right: as read now, and on the backup after a clean stop."""
    load.stop()
    load.check_all()
    status = server.no_errors()
    load.handle.shutdown()
    server.process.stop()
    load.check_file(server.backup)
    return status


def test_pages_go_through_the_daemons_memory(t):
    daemon = path_daemon(t)
    server = Device(t, portals=[daemon.portal])
    server.wait_up()
    device.fio(t, server.uri, "--bssplit=4k/60:64k/30:128k/10")
    pages = server.no_errors()["pages"]
    assert pages["read_remote"] > 4 * pages["read_backup"], pages
    assert mapped_slabs(server.process) == server.status()["slabs"]["mapped"] > 20
    assert not [name for name in open_files(server.process) if "slab" in name and "memfd" in name]
    server.process.stop()
    daemon.wait_free(64)


def test_listens_on_several_transports(t):
    """One slab may go to whoever asks first."""
    daemon = Daemon(t, memory=MEMORY, listen=f"tcp:127.0.0.1:0, shm:{t.path('d.shm')}")
    near = Device(t, portals=[f"shm:{t.path('d.shm')}"], size=32 * MIB, name="a")
    far = Device(t, portals=[daemon.portal], size=32 * MIB, name="b")
    for server in (near, far):
        server.wait_up()
        device.fio(t, server.uri, "--bs=64k", size="24m")
        assert server.no_errors()["pages"]["read_remote"] > 0
    assert mapped_slabs(far.process) == 0 < mapped_slabs(near.process)
    for server in (near, far):
        server.process.stop()
    daemon.wait_free(64)


def test_daemon_killed_and_restarted_under_load(t):
    daemon = path_daemon(t)
    server = Device(t, portals=[daemon.portal])
    server.wait_up()
    load = Load(t, server.uri, depth=32)
    files = None
    for turn in range(1, 5):
        server.wait_used()
        load.wait_requests(300)
        daemon.process.kill()
        server.wait_up(0)
        load.wait_requests(300)
        status = server.status()
        assert status["slabs"]["mapped"] == 0 and status["errors"]["daemons_lost"] == turn, status
        assert mapped_slabs(server.process) == 0
        files = files or open_files(server.process)
        assert len(open_files(server.process)) == len(files), (files, open_files(server.process))
        daemon.start()
        server.wait_up()
    server.wait_used()
    assert finish(load, server)["pages"]["read_remote"] > 0
    server.wait_count(CONNECTED, 5)


def test_daemon_hangs(t):
    """Its memory can be used without it, for a while; then it is a lost daemon like any other."""
    daemon = path_daemon(t)
    server = Device(t, portals=[daemon.portal], limits={"control_timeout_ms": device.OP_TIMEOUT_MS})
    server.wait_up()
    load = Load(t, server.uri, depth=32)
    server.wait_used()
    daemon.process.popen.send_signal(signal.SIGSTOP)
    t.defer(daemon.process.popen.send_signal, signal.SIGCONT)
    server.wait_up(0)
    load.wait_requests(1000)
    assert server.status()["slabs"]["mapped"] == 0 == mapped_slabs(server.process)
    daemon.process.popen.send_signal(signal.SIGCONT)
    server.wait_up()
    server.wait_used()
    finish(load, server)
    assert load.slowest < 5 * device.OP_TIMEOUT_MS / 1000, load.slowest
    daemon.wait_free(64)


def test_server_killed(t):
    """What it had mapped goes with it: another has all of the memory."""
    daemon = path_daemon(t)
    server = Device(t, portals=[daemon.portal])
    server.wait_up()
    Load(t, server.uri).wait_requests(1000)
    server.process.kill()
    daemon.wait_free(64)
    assert "stay in use" not in daemon.process.log()
    assert sum("memfd:slabswap-slab" in name for name in open_files(daemon.process)) == 64


def test_slabs_are_given_back(t):
    """The daemon asks for each mapping, and the server lets go of it while it goes on."""
    daemons = [path_daemon(t, name=name) for name in "ab"]
    server = Device(t, portals=[d.portal for d in daemons])
    server.wait_up(2)
    load = Load(t, server.uri)
    harness.wait_for(lambda: all(d["slabs_mapped"] > 4 for d in server.status()["daemons"]), "both are used")
    server.sections["daemons"]["portals"] = daemons[1].portal
    harness.write_ini(server.ini, server.sections)
    server.process.popen.send_signal(signal.SIGHUP)
    daemons[0].wait_free(64)
    harness.wait_for(lambda: mapped_slabs(server.process) == server.status()["slabs"]["mapped"], "others are unmapped")
    load.wait_requests(300)
    finish(load, server)


def test_daemon_stopped_under_load(t):
    """Every slab is given back: the daemon ends by itself, and in time."""
    daemons = [path_daemon(t, name=name) for name in "ab"]
    server = Device(t, portals=[d.portal for d in daemons])
    server.wait_up(2)
    load = Load(t, server.uri, depth=32)
    harness.wait_for(lambda: all(d["slabs_mapped"] > 4 for d in server.status()["daemons"]), "both are used")
    daemons[0].process.stop()
    assert "was not unmapped" not in daemons[0].process.log()
    server.wait_up(1)
    load.wait_requests(300)
    finish(load, server)


def test_server_hangs(t):
    """Its daemon takes the slabs without its answer, and counts what it still has mapped."""
    daemon = path_daemon(t)
    server = Device(t, portals=[daemon.portal])
    server.wait_up()
    load = Load(t, server.uri, depth=32)
    server.wait_used()
    load.wait_requests(500)
    load.stop()
    server.process.popen.send_signal(signal.SIGSTOP)
    t.defer(server.process.popen.send_signal, signal.SIGCONT)
    # Silence ends the session; nothing makes a process that does not run unmap.
    harness.wait_for(lambda: "stay in use until that process ends" in daemon.process.log(), "it is counted", seconds=30)
    mapped = mapped_slabs(server.process)
    assert mapped > 20
    status = daemon.status()
    assert status["slabs"]["mapped"] == 0 and status["slabs"]["free"] == 64 - mapped, (status, mapped)
    server.process.popen.send_signal(signal.SIGCONT)
    harness.wait_for(lambda: "are the host's again" in daemon.process.log(), "it is given back")
    load.check_all()
    server.no_errors()
    daemon_free = harness.wait_for(lambda: daemon.status()["slabs"]["free"] + daemon.status()["slabs"]["mapped"] == 64,
                                   "all slabs are there", seconds=30)
    assert daemon_free


# Peers of a few lines.


def send_packet(s, kind, payload=b"", rkey=0, value=0, fds=()):
    packet = FRAME.pack(FRAME_MAGIC, kind, 0, rkey, 0, value) + payload
    s.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])


def receive_packet(s):
    """Kind, rkey, value, payload, descriptors; Closed at the end."""
    try:
        packet, rights, _, _ = s.recvmsg(1024, socket.CMSG_SPACE(16))
    except ConnectionResetError:
        packet, rights = b"", []
    if not packet:
        raise test_daemon.Closed
    fds = array.array("i")
    for _, _, data in rights:
        fds.frombytes(data[:len(data) - len(data) % 4])
    magic, kind, _, rkey, _, value = FRAME.unpack(packet[:FRAME.size])
    assert magic == FRAME_MAGIC
    return kind, rkey, value, packet[FRAME.size:], list(fds)


class Client(test_daemon.Client):
    """Borrows as slabswap-nbd does; @is_mute: but does not answer what it is asked to give back."""

    def __init__(self, t, path, is_mute=False):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(10)
        t.defer(self.socket.close)
        self.socket.connect(path)
        self.ids = 0
        self.is_mute = is_mute
        self.maps = {}
        self.frame(PREAMBLE, value=1)
        assert self.receive()[0] == PREAMBLE

    def frame(self, kind, payload=b"", **keys):
        send_packet(self.socket, kind, payload, **keys)

    def receive(self):
        while True:
            kind, rkey, value, payload, fds = receive_packet(self.socket)
            if kind == GRANT:
                seals = fcntl.fcntl(fds[0], F_GET_SEALS)
                assert seals & F_SEAL_SHRINK and seals & F_SEAL_GROW
                access = mmap.PROT_READ | (0 if seals & F_SEAL_WRITE else mmap.PROT_WRITE)
                self.maps[rkey] = mmap.mmap(fds[0], value, mmap.MAP_SHARED, access)
                os.close(fds[0])
            elif kind == BYE:
                raise test_daemon.Closed
            elif kind != REVOKE:
                return kind, rkey, value, payload
            elif not self.is_mute:
                self.maps.pop(rkey).close()
                self.frame(REVOKED, rkey=rkey)


def test_small_client(t):
    daemon = path_daemon(t, memory={"max": "8M"})
    client = Client(t, daemon.address)
    assert client.hello()[0] == WELCOME
    _, rkey = client.map(3)
    memory = client.maps[rkey]
    assert memory[:] == bytes(MIB)
    memory[4096:8192] = os.urandom(4096)
    assert client.unmap(3) == UNMAPPED
    daemon.wait_free(8)
    for slab in range(8):
        _, rkey = client.map(slab)
        assert client.maps[rkey][:] == bytes(MIB), "what another client wrote"
    assert client.ask(PING)[0] == PONG


def test_client_that_keeps_its_mapping(t):
    """It is closed in time; what it holds is nobody else's, and counts as lent until it is gone."""
    daemon = path_daemon(t, memory={"max": "8M"})
    mute = Client(t, daemon.address, is_mute=True)
    assert mute.hello()[0] == WELCOME
    _, rkey = mute.map(0)
    mute.send(UNMAP, struct.pack("<II", 0, 1))
    mute.assert_closed()
    harness.wait_for(lambda: "was not unmapped for 1000 ms" in daemon.process.log(), "it is said")
    harness.wait_for(lambda: "1 MiB stay in use until that process ends" in daemon.process.log(), "it is counted")
    daemon.wait_free(7)
    honest = Client(t, daemon.address)
    assert honest.hello()[0] == WELCOME
    mine = [honest.maps[honest.map(slab)[1]] for slab in range(7)]
    mute.maps[rkey][:] = b"x" * MIB
    assert all(m[:] == bytes(MIB) for m in mine)
    mute.maps.pop(rkey).close()
    mute.socket.close()
    harness.wait_for(lambda: "are the host's again" in daemon.process.log(), "it is seen")
    harness.wait_for(lambda: daemon.status()["slabs"]["free"] == 1, "the eighth slab", seconds=20)


def test_malformed_packets(t):
    daemon = path_daemon(t)
    bad = {
        "noise": os.urandom(60),
        "short": FRAME.pack(FRAME_MAGIC, MESSAGE, 0, 0, 0, 0)[:20],
        "no payload": FRAME.pack(FRAME_MAGIC, MESSAGE, 0, 0, 0, 0),
        "too long": FRAME.pack(FRAME_MAGIC, MESSAGE, 0, 0, 0, 0) + bytes(513),
        "unknown kind": FRAME.pack(FRAME_MAGIC, 9, 0, 0, 0, 0),
        "second preamble": FRAME.pack(FRAME_MAGIC, PREAMBLE, 0, 0, 0, 1),
        "a client's REVOKE": FRAME.pack(FRAME_MAGIC, REVOKE, 0, 1, 0, 0),
        "REVOKED of nothing": FRAME.pack(FRAME_MAGIC, REVOKED, 0, 65536, 0, 0),
    }
    for name, packet in bad.items():
        before = daemon.process.log().count("; closing")
        client = Client(t, daemon.address)
        client.socket.send(packet)
        client.assert_closed()
        harness.wait_for(lambda count=before: daemon.process.log().count("; closing") > count, f"{name} is said")
        assert daemon.process.log().count("; closing") == before + 1, name
    for first in (b"GET / HTTP/1.0\r\n\r\n", FRAME.pack(FRAME_MAGIC, PREAMBLE, 0, 0, 0, 2)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.settimeout(10)
            s.connect(daemon.address)
            s.send(first)
            while s.recv(1024):
                pass
    harness.wait_for(lambda: "peer speaks shm version 2, not 1" in daemon.process.log(), "it is said")


def test_descriptors_that_nobody_asked_for(t):
    """They are closed, and so is the connection."""
    daemon = path_daemon(t)
    Client(t, daemon.address).hello()
    before = len(open_files(daemon.process))
    for count in (1, 3, 40):
        client = Client(t, daemon.address)
        fds = [os.memfd_create("gift") for _ in range(count)]
        client.frame(MESSAGE, CTL.pack(CTL_MAGIC, 1, PING, 0, 1, 0), fds=fds)
        client.assert_closed()
        client.socket.close()
        for fd in fds:
            os.close(fd)
    harness.wait_for(lambda: len(open_files(daemon.process)) == before, "no descriptor is left")
    assert not any("gift" in name for name in open_files(daemon.process))


def as_nobody(action):
    """What @action returns in a process of another user."""
    if os.geteuid() != 0:
        raise harness.Skip("needs root")
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            os.setgid(65534)
            os.setuid(65534)
            status = action()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_socket_is_private(t):
    daemon = path_daemon(t)
    assert os.stat(daemon.address).st_mode & 0o777 == 0o600
    daemon.process.stop()
    assert not os.path.exists(daemon.address)


def test_peer_of_another_user(t):
    os.chmod(t.dir, 0o755)
    daemon = path_daemon(t)
    os.chmod(daemon.address, 0o666)

    def visit():
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.settimeout(10)
            s.connect(daemon.address)
            try:
                s.send(FRAME.pack(FRAME_MAGIC, PREAMBLE, 0, 0, 0, 1))
                return len(s.recv(1024))
            except (BrokenPipeError, ConnectionResetError):
                return 0
    assert as_nobody(visit) == 0
    harness.wait_for(lambda: "of user 65534 is neither root nor our user" in daemon.process.log(), "it is said")
    assert Client(t, daemon.address).hello()[0] == WELCOME


class FakeDaemon:
    """Lends what lend(request number) makes: (descriptors, length)."""

    def __init__(self, t, lend):
        self.lend = lend
        self.requests = 0
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(t.path("fake"))
        self.listener.listen()
        t.defer(self.listener.close)
        self.portal = f"shm:{t.path('fake')}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            with s:
                try:
                    self._talk(s)
                except (test_daemon.Closed, OSError):
                    pass

    @staticmethod
    def _say(s, kind, request_id, payload=b""):
        send_packet(s, MESSAGE, CTL.pack(CTL_MAGIC, 1, kind, len(payload), request_id, 0) + payload)

    def _talk(self, s):
        while True:
            kind, _, _, payload, _ = receive_packet(s)
            if kind == PREAMBLE:
                send_packet(s, PREAMBLE, value=1)
                continue
            _, _, ctl_type, _, request_id, _ = CTL.unpack(payload[:CTL.size])
            if ctl_type == HELLO:
                self._say(s, WELCOME, request_id, struct.pack("<QQIIQII", MIB, 7, 64, 64, 0, 0, 0))
            elif ctl_type == PING:
                self._say(s, PONG, request_id)
            elif ctl_type == test_daemon.QUERY_MEM:
                self._say(s, test_daemon.FREE_MEM, request_id, struct.pack("<IIII", 64, 64, 0, 0))
            elif ctl_type == MAP:
                self.requests += 1
                fds, length = self.lend()
                send_packet(s, GRANT, rkey=65536 + self.requests, value=length, fds=fds)
                for fd in fds:
                    os.close(fd)


def holey():
    fd = memfd(filled=False)
    os.pwrite(fd, bytes(4096), 0)
    return fd


HOSTILE = {  # what is lent, and what the line says
    "it could shrink": (lambda: ([memfd(seals=F_SEAL_GROW)], MIB), "not sealed against shrinking"),
    "no seals": (lambda: ([memfd(seals=0)], MIB), "not sealed against shrinking"),
    "it could get holes": (lambda: ([memfd(seals=F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)], MIB),
                           "cannot be sealed against holes"),
    "it has holes": (lambda: ([holey()], MIB), "not all there"),
    "shorter than it says": (lambda: ([memfd(size=4096)], MIB), "not as long as it says"),
    "no pages": (lambda: ([memfd()], MIB - 1), "no whole pages"),
    "no memory": (lambda: ([os.open("/dev/null", os.O_RDWR)], MIB), "not sealed against shrinking"),
    "more than there can be": (lambda: ([memfd()], 1 << 62), "cannot map what it lends"),
    "nothing at all": (lambda: ([], MIB), "not a packet of ours"),
    "too much": (lambda: ([memfd(), memfd()], MIB), "not a packet of ours"),
    "nothing of it": (lambda: ([memfd()], 0), "not a packet of ours"),
}


def test_hostile_memory(t):
    """Each is refused before a page of it is touched; the device works on its backup, no descriptor stays."""
    for name, (lend, line) in HOSTILE.items():
        fake = FakeDaemon(t, lend)
        server = Device(t, portals=[fake.portal], size=8 * MIB, name=f"n{len(t.processes)}")
        server.wait_up()
        handle = device.connect(server.uri)
        handle.pwrite(bytes(4096), 0)
        harness.wait_for(lambda s=server, text=line: text in s.process.log(), f"{name}: {line}")

        def again(fake=fake, handle=handle):
            handle.pwrite(bytes(4096), 0)
            return fake.requests >= 2
        harness.wait_for(again, f"{name}: tried again")
        assert handle.pread(4096, 0) == bytes(4096)
        assert mapped_slabs(server.process) == 0
        fake.listener.close()
        # The answer to the last try may be on its way to being refused.
        harness.wait_for(lambda s=server: not [f for f in open_files(s.process) if "hostile" in f],
                         f"{name}: its descriptors are closed")
        handle.shutdown()
        os.unlink(t.path("fake"))
        server.process.stop()


def memfd(size=MIB, seals=F_SEAL_SHRINK | F_SEAL_GROW, filled=True):
    fd = os.memfd_create("hostile", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    if filled:
        os.pwrite(fd, bytes(size), 0)
    if seals:
        fcntl.fcntl(fd, F_ADD_SEALS, seals)
    return fd


if __name__ == "__main__":
    harness.main(globals())

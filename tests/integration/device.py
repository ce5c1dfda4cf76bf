# SPDX-License-Identifier: MIT
"""slabswapd and slabswap-nbd as a test uses them, and clients that check every byte they read.

Clients' programs stay within TIMEOUT; a run that hangs is a failure, never a stuck suite.
"""
import json
import os
import random
import re
import socket
import struct
import subprocess
import tempfile
import threading
import time

import nbd

import harness

MIB = 1 << 20
PAGE = 4096
TIMEOUT = 100
EXPORT = "swap0"
# A daemon that does not answer is given up within this; long enough for a sanitizer's build.
OP_TIMEOUT_MS = 1000
# A slow machine is no hiccup: which copy a read comes from is what tests count.
LIMITS = {"buffers": "16M", "hedge_ms": 0, "op_timeout_ms": OP_TIMEOUT_MS, "connect_timeout_ms": OP_TIMEOUT_MS,
          "ping_ms": 100, "retry_ms": 50, "retry_max_ms": 400}
# The first request maps: tests look at what daemons have.
ACTIVITY = {"hot_slab": 0}


def ask(control):
    """The status that a program's control socket @control gives."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(10)
        s.connect(control)
        s.sendall(b"status\n")
        with s.makefile("rb") as answer:
            return json.loads(answer.read())


def reserve_port(t):
    """A port of the loopback that only a program with SO_REUSEADDR can listen at; nobody listens yet."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", 0))
    t.defer(s.close)
    return s.getsockname()[1]


def write_secret(path, text):
    with open(path, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as out:
        out.write(text)
    return path


def wrapped(argv, wrapper):
    return [*wrapper, *argv]


class Daemon:
    """slabswapd, over tcp unless listen says else.  @name: when a test has several."""

    def __init__(self, t, memory=None, env=None, name="d", wrapper=(), ready="slabs are filled", **keys):
        self.t = t
        self.env = env
        self.ready = ready
        self.wrapper = wrapper
        self.control = t.path(f"{name}.ctl")
        keys = {"listen": "tcp:127.0.0.1:0", "slab_size": "1M", "control": self.control} | keys
        # Several daemons of a test see one another's memory in the machine's: often enough to be fair.
        memory = {"headroom": 0, "period_ms": 50, **(memory or {"max": "8M"})}
        self.ini = harness.write_ini(t.path(f"{name}.ini"), {"daemon": keys, "memory": memory})
        self.start()

    def start(self):
        """Also after kill(): at the same address only when a port was given."""
        self.process = self.t.start(wrapped([harness.built("slabswapd"), "-c", self.ini], self.wrapper),
                                    ready=self.ready, ready_seconds=60, env=self.env, name="slabswapd")
        self.portal = re.search(r"listening at (\S+)", self.process.log()).group(1)
        self.address = self.portal.partition(":")[2]

    def status(self):
        return ask(self.control)

    def wait_free(self, slabs):
        harness.wait_for(lambda: self.status()["slabs"]["free"] == slabs, f"{slabs} free slabs")


class Device:
    """slabswap-nbd.  Sections of its file are keyword arguments; start() starts it again.  @name: as for Daemon."""

    def __init__(self, t, size=64 * MIB, portals=(), wrapper=(), backup_dir=None, popen=None,
                 name="n", **sections):
        self.t = t
        self.size = size
        self.wrapper = wrapper
        self.popen = popen or {}
        self.socket = t.path(f"{name}.sock")
        self.control = t.path(f"{name}.ctl")
        self.uri = f"nbd+unix:///{EXPORT}?socket={self.socket}"
        self.backup = os.path.join(backup_dir or disk_dir(t), "backup.img")
        daemons = {"portals": ", ".join(portals)} if portals else {}
        self.sections = {
            "device": {"name": "swap0", "size": size, "slab_size": "1M"},
            "nbd": {"listen": f"unix:{self.socket}", "export": EXPORT, "control": self.control},
            "backup": {"path": self.backup},
            "daemons": daemons | sections.pop("daemons", {}),
            "activity": ACTIVITY | sections.pop("activity", {}),
            "limits": LIMITS | sections.pop("limits", {}),
        }
        for section, keys in sections.items():
            self.sections[section] = self.sections[section] | keys
        self.ini = harness.write_ini(t.path(f"{name}.ini"), self.sections)
        self.start()

    def start(self):
        argv = wrapped([harness.built("slabswap-nbd"), "-c", self.ini], self.wrapper)
        self.process = self.t.start(argv, ready=" ready: ", ready_seconds=60, name="slabswap-nbd",
                                    **self.popen)

    def status(self):
        return ask(self.control)

    def pages(self):
        return self.status()["pages"]

    def count(self, text):
        return self.process.log().count(text)

    def wait_count(self, text, count):
        """Exactly so often.  A thread of its own writes the log: what has happened may not be said yet."""
        harness.wait_for(lambda: self.count(text) >= count, f"{count} times in the log: {text}")
        assert self.count(text) == count, self.process.log()

    def wait_up(self, daemons=1, seconds=20):
        harness.wait_for(lambda: sum(d["up"] for d in self.status()["daemons"]) == daemons,
                         f"{daemons} daemons are up", seconds)

    def wait_used(self, seconds=20):
        """Until a page is written to a daemon that was not when this was called."""
        before = self.pages()["written_remote"]
        harness.wait_for(lambda: self.pages()["written_remote"] > before, "daemons get pages", seconds)

    def no_errors(self):
        """Nothing was answered with an error, and nothing is missing."""
        status = self.status()
        assert status["nbd"]["error_replies"] == 0 and status["pages"]["lost"] == 0, status
        return status


def disk_dir(t):
    """A fresh directory on the build's file system: /tmp may be memory."""
    path = tempfile.mkdtemp(prefix="slabswap-backup-", dir=harness.build_dir())
    t.defer(subprocess.run, ["rm", "-rf", path])
    return path


def connect(uri):
    handle = nbd.NBD()
    handle.connect_uri(uri)
    return handle


def client(*argv, expect=0):
    """Runs a client's program; its output."""
    result = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=TIMEOUT, check=False,
                            stdin=subprocess.DEVNULL)
    assert result.returncode == expect, f"{argv}: {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result.stdout + result.stderr


def fio(t, uri, *extra, size="32m", name="fio"):
    """Writes and verifies; fails at the first byte that is wrong."""
    harness.require("fio")
    with tempfile.TemporaryDirectory(dir=t.dir) as state:
        return client("fio", f"--name={name}", "--ioengine=nbd", f"--uri={uri}", "--rw=randwrite", f"--size={size}",
                      "--iodepth=32", "--verify=crc32c", "--do_verify=1", "--verify_fatal=1",
                      "--verify_state_save=0", f"--aux-path={state}", *extra)


def make_image(path, size, seed=1):
    """Random data with holes and zeros in between; a quarter is never written."""
    noise = random.Random(seed)
    with open(path, "wb") as out:
        for offset in range(0, size, MIB):
            out.seek(offset)
            if offset // MIB % 4 != 3:
                out.write(noise.randbytes(MIB))
        out.truncate(size)
    return path


def same_file(path, other):
    client("cmp", path, other)


def page_bytes(page, version):
    """What the page @page holds in its @version; 0: never written."""
    return struct.pack("<QQ", page, version) * (PAGE // 16) if version else bytes(PAGE)


class Load:
    """Writes and reads at random in a thread, @depth requests at a time, and checks what it reads.

    Owns the pages [first, first + pages); no two requests in flight touch the same page.
    libnbd 1.14.2 never frees an nbd.Buffer that it was given, hence bytearrays."""

    def __init__(self, t, uri, first=0, pages=8192, seed=1, depth=16, reads=0.5):
        self.handle = connect(uri)
        self.first = first
        self.versions = [0] * pages
        self.busy = set()
        self.noise = random.Random(seed)
        self.depth = depth
        self.reads = reads
        self.requests = 0
        self.slowest = 0.0
        self.started = {}
        self.in_doubt = set()
        self.problem = None
        self.may_lose_server = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        t.defer(self._ended.set)

    def stop(self):
        self._ended.set()
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive(), "a request got no answer"
        if self.problem:
            raise self.problem
        return self.requests

    def wait_requests(self, more=500, seconds=30):
        """Until that many more have been answered."""
        goal = self.requests + more

        def reached():
            if self.problem:
                raise self.problem
            return self.requests >= goal
        harness.wait_for(reached, f"{more} requests are answered", seconds)

    def check_all(self, handle=None):
        """Reads every page again."""
        handle = handle or self.handle
        step = 256
        for start in range(0, len(self.versions), step):
            versions = self.versions[start:start + step]
            data = handle.pread(len(versions) * PAGE, (self.first + start) * PAGE)
            self._compare(start, versions, data)

    def check_file(self, path):
        with open(path, "rb") as backup:
            for page, version in enumerate(self.versions):
                backup.seek((self.first + page) * PAGE)
                self._compare(page, [version], backup.read(PAGE))

    def _compare(self, start, versions, data):
        for n, version in enumerate(versions):
            page = self.first + start + n
            found = bytes(data[n * PAGE:(n + 1) * PAGE])
            if found != page_bytes(page, version):
                raise AssertionError(f"page {page}: expected version {version}, found page and version "
                                     f"{struct.unpack('<QQ', found[:16])}")

    def _choose(self):
        count = self.noise.choice((1, 1, 2, 9, 40))
        start = self.noise.randrange(len(self.versions) - count)
        pages = range(start, start + count)
        return pages if self.busy.isdisjoint(pages) else None

    def _submit(self, flying):
        pages = self._choose()
        if not pages:
            return
        offset = (self.first + pages[0]) * PAGE
        if self.noise.random() < self.reads:
            buffer = bytearray(len(pages) * PAGE)
            versions = [self.versions[p] for p in pages]
            cookie = self.handle.aio_pread(buffer, offset)
            flying[cookie] = (pages, versions, buffer, True)
        else:
            # Known before its answer: a server that dies may have written it or not.
            versions = [self.versions[p] + 1 for p in pages]
            buffer = bytearray(b"".join(page_bytes(self.first + p, v) for p, v in zip(pages, versions)))
            cookie = self.handle.aio_pwrite(buffer, offset)
            flying[cookie] = (pages, versions, buffer, False)
        self.busy.update(pages)
        self.started[cookie] = time.monotonic()

    def _complete(self, flying, cookie):
        # Raises what the server answered.
        assert self.handle.aio_command_completed(cookie)
        pages, versions, buffer, is_read = flying.pop(cookie)
        if is_read:
            self._compare(pages[0], versions, buffer)
        else:
            self.versions[pages[0]:pages[0] + len(pages)] = versions
        self.busy.difference_update(pages)
        self.slowest = max(self.slowest, time.monotonic() - self.started.pop(cookie))
        self.requests += 1

    def _run(self):
        flying = {}
        try:
            while flying or not self._ended.is_set():
                while len(flying) < self.depth and not self._ended.is_set():
                    self._submit(flying)
                cookie = self.handle.aio_peek_command_completed() if flying else 0
                if cookie:
                    self._complete(flying, cookie)
                elif flying:
                    self.handle.poll(1000)
        except (AssertionError, nbd.Error) as error:
            if not (self.may_lose_server and isinstance(error, nbd.Error)):
                self.problem = error
        self.in_doubt = {p for pages, _, _, _ in flying.values() for p in pages}

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""More is written than the backup takes: writers wait, readers do not.  tests/tools/slow_disk.c makes the disk slow."""
import os

import nbd

import device
import harness
from device import MIB, PAGE, Daemon, Device, page_bytes

SLOW_DISK = "tests/tools/libslow_disk.so"
# Of the 16M of device.LIMITS are for reads; a piece of a write is up to 128K, so that less may be left over.
READ_BYTES = 2 * MIB
REST_BYTES = 128 * 1024
PIECE = 16  # pages of a write
READS = range(12288, 12544)  # the pages that are read, behind those that are written


class SlowDisk:
    """Says how fast the disk of a Device with the wrapper @argv is."""

    def __init__(self, t):
        library = os.path.join(harness.build_dir(), SLOW_DISK)
        if not os.path.exists(library):
            raise harness.Skip(f"{library} is not built")
        self.path = t.path("slow_disk")
        self.argv = ["env", f"LD_PRELOAD={library}", f"SLOW_DISK={self.path}"]

    def set(self, bytes_per_second):
        with open(f"{self.path}.new", "w", encoding="utf-8") as out:
            out.write(str(bytes_per_second))
        os.rename(f"{self.path}.new", self.path)

    def stop(self):
        self.set(0)

    def open(self):
        os.unlink(self.path)


class Writer:
    """Writes block after block, @depth requests at a time, on the connection that it is given."""

    def __init__(self, handle, depth, pages=PIECE, end=8192):
        self.handle = handle
        self.depth = depth
        self.pages = pages
        self.end = end
        self.page = 0
        self.versions = [0] * end
        self.flying = {}

    def submit(self):
        first = self.page
        self.page = (self.page + self.pages) % self.end
        if any(first in flying for flying in self.flying.values()):
            return False
        data = bytearray()
        for page in range(first, first + self.pages):
            self.versions[page] += 1
            data += page_bytes(page, self.versions[page])
        cookie = self.handle.aio_pwrite(nbd.Buffer.from_bytearray(data), first * PAGE)
        self.flying[cookie] = range(first, first + self.pages)
        return True

    def turn(self, more=True):
        """Sends what may be sent, takes what has come."""
        while more and len(self.flying) < self.depth and self.submit():
            pass
        self.handle.poll(10)
        for cookie in list(self.flying):
            if self.handle.aio_command_completed(cookie):
                del self.flying[cookie]

    def until(self, condition, what, seconds=60):
        def reached():
            self.turn()
            return condition()
        harness.wait_for(reached, what, seconds)

    def drain(self, seconds=60):
        def drained():
            self.turn(more=False)
            return not self.flying
        harness.wait_for(drained, "every write is answered", seconds)

    def check(self, handle):
        for page in range(0, self.end, 256):
            data = bytes(handle.pread(256 * PAGE, page * PAGE))
            expected = b"".join(page_bytes(p, self.versions[p]) for p in range(page, page + 256))
            assert data == expected, f"pages {page} to {page + 255} are not what was written"


def read_all(handle, pages=1, seconds=30):
    """READS, one request after the other; each must be answered though the disk may stand still."""
    for page in range(READS.start, READS.stop, pages):
        buffer = nbd.Buffer(pages * PAGE)
        cookie = handle.aio_pread(buffer, page * PAGE)

        def answered(cookie=cookie):
            handle.poll(10)
            return handle.aio_command_completed(cookie)
        harness.wait_for(answered, f"the read of page {page} is answered", seconds)
        assert bytes(buffer.to_bytearray()) == b"".join(page_bytes(p, 1) for p in range(page, page + pages))


def start(t):
    """A device all of whose reads come from the daemon, and its disk."""
    disk = SlowDisk(t)
    daemon = Daemon(t, memory={"max": "80M"})
    # A refill in the background reads the disk, and writes of what it reads wait for that.
    server = Device(t, portals=[daemon.portal], wrapper=disk.argv, limits={"refill_rate": 0})
    server.wait_up()
    handle = device.connect(server.uri)
    for page in range(0, server.size // PAGE, 256):
        handle.pwrite(bytes(PAGE), page * PAGE)  # maps its slab
    harness.wait_for(lambda: server.status()["slabs"]["mapped"] == server.size // MIB, "all slabs are mapped")
    for page in READS:
        handle.pwrite(page_bytes(page, 1), page * PAGE)
    harness.wait_for(lambda: server.status()["memory"]["writes_unsafe"] == 0, "the backup has it")
    return disk, server, handle


def ended_well(server):
    status = server.no_errors()
    server.process.stop()
    return status


def test_reads_go_on_behind_writes_of_their_connection(t):
    """Nothing gets to the backup: the answers of writes are held, and reads of the same connection are answered."""
    disk, server, handle = start(t)
    disk.stop()
    before = server.status()["memory"]["answers_held"]
    writer = Writer(handle, 32)
    writer.until(lambda: server.status()["memory"]["answers_held"] - before == writer.depth, "all writes wait")
    assert len(writer.flying) == writer.depth
    read_all(handle)
    read_all(handle, pages=32)
    writer.turn(more=False)
    assert len(writer.flying) == writer.depth, "a write was answered, and the disk stands still"
    disk.open()
    writer.drain()
    writer.check(handle)
    assert ended_well(server)["memory"]["backup_wait_us"] > 0


def test_writes_go_at_the_speed_of_the_backup(t):
    """A disk of 2 MiB/s: more than the buffers hold is written, with reads between, and every byte is right."""
    disk, server, handle = start(t)
    disk.set(2 * MIB)
    writer = Writer(handle, 32)
    written = server.pages()["written"]
    for n in range(1, 5):
        writer.until(lambda n=n: server.pages()["written"] - written >= n * 5 * MIB // PAGE, f"{n * 5} MiB are written")
        read_all(handle, pages=32)
    disk.open()
    writer.drain()
    writer.check(handle)
    memory = ended_well(server)["memory"]
    assert memory["answers_held"] > 0 and memory["backup_wait_us"] > 0 and memory["backup_writes_merged"] > 0, memory


def test_what_is_written_again_gets_to_the_backup_once(t):
    """What waits for the backup is dropped when it is written again, and the backup gets the newest."""
    disk, server, handle = start(t)
    disk.stop()
    pages = range(2, 600, 2)  # no neighbours: nothing is merged
    for version in (1, 2, 3):
        for page in pages:
            handle.pwrite(page_bytes(page, version), page * PAGE)
    memory = server.status()["memory"]
    # Of the first two only those that the disk was given; BACKUP_WRITES of slabswap_nbd.c.
    assert memory["backup_writes_superseded"] >= 2 * (len(pages) - 128), memory
    disk.open()
    handle.flush()
    with open(server.backup, "rb") as backup:
        for page in pages:
            backup.seek(page * PAGE)
            assert backup.read(PAGE) == page_bytes(page, 3), f"page {page}"
    assert server.status()["memory"]["backup_writes_waiting"] == 0
    ended_well(server)


def test_reads_do_not_wait_behind_writes_of_others(t):
    """Two connections have used up the buffers and wait for more: a third one reads."""
    disk, server, handle = start(t)
    disk.stop()
    writers = [Writer(device.connect(server.uri), 24, pages=128, end=8192) for _ in range(2)]

    def is_full():
        for writer in writers:
            writer.turn()
        return server.status()["memory"]["buffer_bytes_free"] <= READ_BYTES + REST_BYTES
    harness.wait_for(is_full, "no buffer is left for writes", 60)
    read_all(handle)
    read_all(handle, pages=32)
    disk.open()
    for writer in writers:
        writer.drain()
        writer.handle.shutdown()
    ended_well(server)


if __name__ == "__main__":
    harness.main(globals())

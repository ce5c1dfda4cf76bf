# SPDX-License-Identifier: MIT
"""RDMA alone between the guests, by perftest: no block device over it can do more, whoever wrote it."""
from vm_lab import Unavailable, needs_programs

PORT = 18515
# By queue depth: about as long as a job of fio.
OPERATIONS = {1: 160, 16: 480}
WARM_UP_OPERATIONS = 32
# perftest counts cycles, and in an emulated guest it sometimes takes them for no rate at all.
TRIES = 3


class RxeAlone:
    """4 KiB from registered memory to registered memory. The client sleeps until a read is complete; of writes
    perftest can only ask again and again."""

    path = None

    def __init__(self, name):
        self.name = name
        self._lab = None

    def start(self, lab, _mib):
        self._lab = lab
        for guest in (lab.client, lab.donor):
            needs_programs(guest, "ib_read_bw", "ib_write_bw")
        for operation in ("read", "write"):
            self._rate(operation, 1, WARM_UP_OPERATIONS)

    def measure(self, jobs):
        """{job: {"iops": ...}} of (job, fio's rw, depth)"""
        return {name: {"iops": self._rate(rw.removeprefix("rand"), depth, OPERATIONS[depth])}
                for name, rw, depth in jobs}

    def stop(self):
        pass

    def status(self):
        pass

    def _rate(self, operation, depth, operations):
        for _ in range(TRIES):
            rate = self._run(operation, depth, operations)
            if rate > 0:
                return rate
        raise Unavailable(f"perftest has measured nothing, {TRIES} times")

    def _run(self, operation, depth, operations):
        command = (f"ib_{operation}_bw --ib-dev=rxe0 --gid-index=1 --port={PORT} --size=4096 --CPU-freq "
                   f"--iters={operations} --tx-depth={depth} --cq-mod=1{' --events' if operation == 'read' else ''}")
        server = self._lab.donor.spawn(f"exec {command}")
        try:
            self._lab.donor.wait_for(f"ss -ltn | grep -q :{PORT}")
            _, out = self._lab.client.run(f"{command} {self._lab.donor.address}", timeout=60)
            server.wait(30)
        finally:
            server.kill("KILL")
        # bytes, iterations, MB/s at best and on average, and millions of operations a second
        row = next(line.split() for line in reversed(out.splitlines()) if line.split()[:1] == ["4096"])
        return float(row[4]) * 1e6

# SPDX-License-Identifier: MIT
"""The load: names are OPERATION-BLOCK-CONNECTIONSxDEPTH, for example read-4k-1x32; the depth is each connection's."""
import fnmatch

KIB = 1024
# Fits into what ours holds before it makes a writer wait for the backup: 16 MiB of buffers of 64.
BURST_OPERATIONS = 4096


class Job:
    def __init__(self, operation, block_kib, connections, depth):
        self.operation = operation  # read, write, mix (70 % are read), burst (of writes)
        self.block = block_kib * KIB
        self.connections = connections
        self.depth = depth
        self.kind = f"{operation}-{block_kib}k"
        self.shape = f"{connections}x{depth}"
        self.name = f"{self.kind}-{self.shape}"

    def rw(self):
        return "write" if self.operation == "burst" else self.operation


def product(operations, block_kib, shapes):
    return [Job(operation, block_kib, *shape) for operation in operations for shape in shapes]


# Left out because they say nothing new: four connections with 128 each have as much in flight as the sockets take
# with 32; 128 KiB are limited by copying from a few in flight on.
ALL = (
    product(["read", "write", "mix"], 4, [(1, 1), (1, 8), (1, 32), (1, 128), (4, 1), (4, 8), (4, 32)])
    + product(["read", "write"], 128, [(1, 1), (1, 8), (1, 32), (4, 8)])
    + product(["mix"], 128, [(1, 8)])
    + product(["burst"], 4, [(1, 32)])
)
QUICK = ("read-4k-1x1", "read-4k-1x32", "read-4k-4x8", "write-4k-1x1", "write-4k-1x32", "write-4k-4x8", "mix-4k-1x32",
         "read-128k-1x8", "write-128k-1x8", "burst-4k-1x32")


def matches(name, patterns):
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def choose(names, wanted, what):
    """The @names that one of the patterns in @wanted (text, with commas) matches; raises when one matches nothing."""
    patterns = [pattern.strip() for pattern in wanted.split(",")]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ValueError(f"no such {what}: {pattern}; there are {', '.join(names)}")
    return [name for name in names if matches(name, patterns)]


def chosen(is_quick, wanted):
    """The jobs of a run; @wanted: --jobs, or None."""
    if wanted:
        names = choose([job.name for job in ALL], wanted, "job")
    else:
        names = QUICK if is_quick else [job.name for job in ALL]
    return [job for job in ALL if job.name in names]

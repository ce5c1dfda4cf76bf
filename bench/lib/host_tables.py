# SPDX-License-Identifier: MIT
"""The tables of the host part."""
import figures
import tables

# What the others are compared with: of each pair the first one that runs.
BASES = (("shm-none", "shm-remote"), ("tcp-none", "tcp-remote"))


def kinds(part):
    """{kind: its jobs}, in their order."""
    found = {}
    for job in part.jobs:
        found.setdefault(job.kind, []).append(job)
    return found


def operations_table(part, some):
    """IOPS of each server (rows) at each shape of the load (columns)."""
    def cells(name):
        return [tables.number(figures.median(part.results, job.name, name, "iops")) for job in some]
    rows = [[subject.name, *cells(subject.name)] for subject in part.started]
    return tables.table(["IOPS", *(job.shape for job in some)], rows)


def details_row(part, job, name, bases):
    iops = figures.spread(part.results, job.name, name, "iops")
    cells = [name, tables.number(figures.median(part.results, job.name, name, "iops")), *map(tables.number, iops)]
    cells += [tables.microseconds(figures.median(part.results, job.name, name, key))
              for key in ("p50_us", "p99_us", "p999_us")]
    cells += [tables.number(figures.median(part.results, job.name, name, key), 2) for key in ("cpu_us", "load_cpu_us")]
    return cells + [tables.number(figures.ratio(part.results, job.name, "iops", base, name), 2) for base in bases]


def details_table(part, job):
    started = [subject.name for subject in part.started]
    bases = [name for pair in BASES for name in [name for name in pair if name in started][:1]]
    head = [job.name, "IOPS", "least", "most", "p50 us", "p99 us", "p99.9 us", "CPU us", "load's CPU us",
            *(f"{base}/this" for base in bases)]
    rows = [details_row(part, job, name, bases) for name in started if figures.runs_of(part.results, job.name, name)]
    return tables.table(head, rows)


def memory_table(part):
    rows = []
    for subject in part.started:
        processes = part.memory.get(subject.name)
        if processes:
            front = processes[-1]
            rows.append([subject.name, front["program"], tables.mebibytes(front["peak"] - front["shared"]),
                         tables.mebibytes(front["shared"]),
                         ", ".join(f"{p['program']} {tables.mebibytes(p['peak'])}" for p in processes[:-1])])
    return tables.table(["server", "program", "peak resident", "and mapped of others", "behind it"], rows, left=2)


def where_pages_came_from(part):
    rows = []
    for name, status in part.statuses.items():
        pages = status["pages"]
        rows.append([name, *(tables.number(pages[key]) for key in ("read_remote", "read_backup", "read_buffer"))])
    return tables.table(["pages read from", "remote", "backup", "buffers"], rows)


STAGES = ("queued", "posted", "completed", "answered", "total")
PERCENTILES = ("p50_ns", "p99_ns", "p999_ns")


def stages_table(part):
    """Of all jobs together: where ours spends the time of a request."""
    rows = []
    for name, status in part.statuses.items():
        for operation in "read", "write":
            stages = status["latency"][operation]
            if stages["total"]["count"]:
                rows.append([name, operation, *(" / ".join(tables.microseconds(stages[stage][key] / 1000)
                                                           for key in PERCENTILES) for stage in STAGES)])
    return tables.table(["p50 / p99 / p99.9 us", "", *STAGES], rows, left=2)


def text(part):
    arguments = part.arguments
    verified = "verified" if arguments.fio else "verified before and after"
    lines = [
        f"Devices of {arguments.size / (1 << 30):g} GiB, written in full and {verified}; "
        f"{arguments.runs} runs of {arguments.seconds:g} s of each job and server, in turn, medians; load by "
        f"{'fio' if arguments.fio else 'bench/load'}; {part.seconds:.0f} s in all. Others had {part.others_share:.1%} "
        "of the processors.", ""]
    lines += [f"- {subject.name}: {subject.what}" for subject in part.started]
    lines += [f"- left out: {name}: {why}" for name, why in part.left_out.items()]
    lines += [f"- **failed**: {p['server']}, {p['what']}: {p['problem'].splitlines()[0]}" for p in part.problems]
    for kind, some in kinds(part).items():
        if len(some) > 1:
            lines += ["", f"### {kind}", "", operations_table(part, some)]
    for job in part.jobs:
        lines += ["", details_table(part, job)]
    lines += ["", "### Memory", "", memory_table(part)]
    if part.statuses:
        lines += ["", where_pages_came_from(part), "",
                  "### Where the time goes, all jobs together", "", stages_table(part)]
    return "\n".join(lines)

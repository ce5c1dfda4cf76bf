# SPDX-License-Identifier: MIT
"""Plots of the host part, for gnuplot."""
import figures

COLORS = {
    "floor": "#999999", "floor-spin": "#cccccc", "shm-none": "#1b9e77", "shm-none-off": "#66c2a5",
    "shm-remote": "#7570b3", "shm-both": "#b3a2d9", "tcp-none": "#d95f02", "tcp-none-off": "#fdae6b",
    "tcp-remote": "#f16913", "nbdkit-memory": "#000000", "nbdkit-file": "#e7298a", "qemu-nbd": "#a6761d",
    "nbd-server": "#e6ab02", "nbdkit-nbd": "#386cb0",
}


def block(name, rows):
    return f"${name} << EOD\n" + "".join(" ".join(map(str, row)) + "\n" for row in rows) + "EOD\n"


def names_of(part):
    return [subject.name for subject in part.started]


def over_depth(part):
    """IOPS over the depth, 4 KiB, one connection."""
    operations = {}
    for job in part.jobs:
        if job.block == 4096 and job.connections == 1 and job.operation != "burst":
            operations.setdefault(job.operation, []).append(job)
    operations = {operation: some for operation, some in operations.items() if len(some) > 1}
    if not operations:
        return None
    script = f"set multiplot layout 1,{len(operations)}\nset logscale x 2\nset yrange [0:*]\nset key left top\n" \
             "set xlabel 'depth'\nset ylabel 'thousand operations a second'\n"
    for operation, some in operations.items():
        script += f"set title '{operation}, 4 KiB, one connection'\n"
        lines = []
        for i, name in enumerate(names_of(part)):
            points = [(job.depth, figures.median(part.results, job.name, name, "iops")) for job in some]
            points = [(depth, iops / 1000) for depth, iops in points if iops is not None]
            if points:
                script += block(f"d{i}", points)
                lines.append(f"$d{i} with linespoints lw 2 pt 7 ps 0.5 lc rgb '{COLORS[name]}' title '{name}'")
        script += "plot " + ", ".join(lines) + "\n"
    return script + "unset multiplot\n"


def bars(part, wanted, key, label):
    """A panel for each of the jobs, a bar for each server."""
    chosen = [job for job in part.jobs if job.name in wanted]
    if not chosen:
        return None
    script = f"set multiplot layout 1,{len(chosen)}\nset style fill solid 0.8\nset boxwidth 0.7\nset yrange [0:*]\n" \
             f"set xtics rotate by -60\nset ylabel '{label}'\nunset key\n"
    for number, job in enumerate(chosen):
        values = [(name, figures.median(part.results, job.name, name, key)) for name in names_of(part)]
        rows = [(i, f'"{name}"', f"{value:.3f}", int(COLORS[name][1:], 16))
                for i, (name, value) in enumerate((n, v) for n, v in values if v is not None)]
        script += block(f"b{number}", rows)
        script += f"set title '{job.name}'\nplot $b{number} using 1:3:4:xtic(2) with boxes lc rgb variable\n"
    return script + "unset multiplot\n"


def scripts(part):
    """{file: script}, of those that there are figures for."""
    both = ("read-4k-1x1", "write-4k-1x1"), ("read-4k-1x32", "write-4k-1x32")
    found = {
        "host-iops.svg": over_depth(part),
        "host-p50-depth1.svg": bars(part, both[0], "p50_us", "p50, us"),
        "host-p99-depth32.svg": bars(part, both[1], "p99_us", "p99, us"),
        "host-cpu.svg": bars(part, both[1], "cpu_us", "CPU of server and daemon, us an operation"),
    }
    return {name: script for name, script in found.items() if script}

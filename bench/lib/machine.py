# SPDX-License-Identifier: MIT
"""Where and when it was measured, and how busy the machine was with other things."""
import datetime
import os
import platform
import re
import resource
import shutil
import subprocess

from servers import ROOT, TICKS_PER_SECOND

GIB = 1 << 30
VERSIONS = {"fio": "--version", "nbdkit": "--version", "qemu-nbd": "--version", "nbd-server": "--version"}


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        match = re.search(r"model name\s*: (.*)", info.read())
    return match[1] if match else platform.machine()


def version_of(program, option):
    done = subprocess.run([program, option], capture_output=True, text=True, check=False)
    return ((done.stdout or done.stderr).splitlines() or [program])[0].removeprefix("This is ")


def describe(arguments, argv):
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True,
                            check=False).stdout.strip()
    file_system = subprocess.run(["stat", "-f", "-c", "%T", arguments.dir], capture_output=True, text=True, check=False)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["bench/run", *argv]),
        "commit": commit,
        "machine": f"{os.cpu_count()} x {processor()}, "
                   f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / GIB:.0f} GiB, "
                   f"Linux {platform.release()}, {file_system.stdout.strip()} in {arguments.dir}",
        "load_at_start": os.getloadavg()[0],
        "versions": [version_of(program, option) for program, option in VERSIONS.items() if shutil.which(program)],
    }


def busy_seconds():
    """Of all processors together, with what the host of a virtual machine took (steal)."""
    with open("/proc/stat", encoding="ascii") as stat:
        user, nice, system, _, _, irq, softirq, steal = map(int, stat.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND


def own_seconds():
    """Of this process and its children that have ended."""
    return sum(usage.ru_utime + usage.ru_stime
               for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Two guests: the kernel's block devices under fio, swap, and an application with too little memory.

usage: bench/vm/main.py [--build DIR] [--quick] [--only fio,swap,swap-machine,app] [--kernel 6.1|6.12] [--json FILE]
                        [--limits 'KEY = VALUE']

Tables go to stdout, what is being done to stderr.  Guests are emulated where KVM does not work: then only
ratios within one run say something.  docs/benchmarks.md says what is measured.
"""
import argparse
import datetime
import json
import os
import platform
import sys
import time
from pathlib import Path

import vm_app
import vm_fio
import vm_lab
import vm_swap
from vm_lab import guestvm, qemu

# name: how to measure it, and the module with tables() and goals() of that
PARTS = {"fio": (vm_fio.measure, vm_fio), "swap": (vm_swap.measure, vm_swap),
         "swap-machine": (vm_swap.measure_machine, vm_swap), "app": (vm_app.measure, vm_app)}
NOT_QUICK = ("swap-machine",)


def parse_arguments():
    parser = argparse.ArgumentParser(prog="bench/vm/main.py", description="block devices and swap in two guests")
    parser.add_argument("--build", type=Path, default=Path(vm_lab.ROOT, "build"), help="a release build")
    parser.add_argument("--quick", action="store_true", help="one run of each, for a first look: 2 minutes")
    parser.add_argument("--only", help=f"parts, of {', '.join(PARTS)}, with commas")
    parser.add_argument("--kernel", choices=guestvm.SERIES, default=guestvm.SERIES[0], help="of the guests")
    parser.add_argument("--limits", default="", metavar="'KEY = VALUE'", help="one more of slabswap-nbd's [limits]")
    parser.add_argument("--json", metavar="FILE", help="write every number there too")
    arguments = parser.parse_args()
    arguments.parts = (arguments.only.split(",") if arguments.only else
                       [name for name in PARTS if not arguments.quick or name not in NOT_QUICK])
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    return arguments


def measure(arguments):
    """{"accelerator": ..., part: what its measure() returns, or {"error": why not}}"""
    build = arguments.build.resolve()
    kernel = guestvm.Kernel(arguments.kernel)
    result = {"date": f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC",
              "machine": machine(), "accelerator": qemu.accel(kernel).partition(",")[0],
              "kernel": kernel.version, "quick": arguments.quick, "limits": arguments.limits, "goals": []}
    with guestvm.Run(kernel, visible=[build]) as run:
        lab = vm_lab.Lab(run, build, arguments.quick, arguments.limits)
        for name in arguments.parts:
            start = time.monotonic()
            do, part = PARTS[name]
            try:
                result[name] = do(lab)
            except (vm_lab.Unavailable, *vm_lab.FAILURES) as error:
                vm_lab.say(f"{name}: {error}")
                result[name] = {"error": vm_lab.reason(error)}
                lab.shut()
            if "error" not in result[name]:
                result["goals"] += part.goals(result[name])
            result[name]["took_seconds"] = round(time.monotonic() - start)
    return result


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as text:
        model = next((line.partition(":")[2].strip() for line in text if line.startswith("model name")),
                     platform.machine())
    return f"{model}, {os.cpu_count()} CPUs, Linux {platform.release()}"


def tables(result):
    """Markdown of all parts that are there."""
    guests = {"kvm": "by KVM", "tcg": "emulated (TCG): compare only within a table"}
    texts = [f"{result['date']}, {result['machine']}; two guests, "
             f"{guests.get(result['accelerator'], result['accelerator'])}, Linux {result['kernel']}"]
    for name, (_, part) in PARTS.items():
        if "error" in result.get(name, {}):
            texts.append(f"{name}: not run: {result[name]['error']}")
        elif name in result:
            texts.append(part.tables(result[name]))
    return "\n\n".join(texts)


def main():
    arguments = parse_arguments()
    result = measure(arguments)
    print(tables(result))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
    sys.exit(any("error" in result[name] for name in arguments.parts))


if __name__ == "__main__":
    main()

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The static probes are in the programs, as docs/operations.md lists them."""
import json
import os
import re
import subprocess

import harness

# A line of the list in docs/operations.md: | `nbd_queued` | request, command | when |
ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \|", re.MULTILINE)


def has_probes():
    """Whether sys/sdt.h was there when this was built."""
    with open(os.path.join(harness.build_dir(), "compile_commands.json"), encoding="utf-8") as file:
        return any("-DHAVE_SDT" in command["command"].split() for command in json.load(file))


def notes(program):
    """{name: number of arguments} of the probes of provider slabswap."""
    text = subprocess.run(["readelf", "--wide", "--notes", harness.built(program)], capture_output=True, text=True,
                          check=True, env={**os.environ, "LC_ALL": "C"}).stdout
    found = re.findall(r"Provider: slabswap\s+Name: (\w+)\s+Location: (0x\w+), Base: .*\s+Arguments: (.*)", text)
    assert all(int(location, 16) > 0 for _, location, _ in found), found
    return {name: len(arguments.split()) for name, _, arguments in found}


def documented():
    with open(os.path.join(harness.ROOT, "docs", "operations.md"), encoding="utf-8") as file:
        section = file.read().split("\n### Probes\n")[1].split("\n## ")[0]
    return {name: len(arguments.split(",")) for name, arguments in ROW.findall(section)}


def test_probes_of_the_server(_):
    harness.require("readelf")
    if not has_probes():
        raise harness.Skip("built without sys/sdt.h (systemtap-sdt-dev)")
    assert notes("slabswap-nbd") == documented()
    assert len(documented()) == 8


if __name__ == "__main__":
    harness.main(globals())

# SPDX-License-Identifier: MIT
"""The part of bench/run in virtual machines: bench/vm/main.py, a program of its own."""
import json
import os
import subprocess
import sys

from servers import ROOT

TITLE = "Block devices in virtual machines"


def run(arguments, directory):
    """As host.run()."""
    path = os.path.join(directory, "vm.json")
    argv = [sys.executable, os.path.join(ROOT, "bench", "vm", "main.py"), "--build", arguments.build, "--json", path]
    done = subprocess.run(argv + ["--quick"] * arguments.quick, stdout=subprocess.PIPE, text=True, check=False)
    data = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    return {"title": TITLE, "text": done.stdout.strip(), "goals": data.pop("goals", []), "data": data, "plots": {},
            "failed": done.returncode != 0}

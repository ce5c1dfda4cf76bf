#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Prints which lines of the cores, the codecs and the NBD server the tests reach; for scripts/coverage.

Runs the unit tests, the simulator's short run and the corpora of the fuzz targets in a build with gcov.
The status is 1 when a test fails or a pure folder is below its minimum.
"""
import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
SUITES = ["unit", "sim", "fuzz"]
# Folder: percent of its lines that must be reached, or None.
MINIMUM = {"wire": 90, "slab": 90, "daemon": 90, "nbd_server": None}


def run(*argv, **how):
    return subprocess.run([str(word) for word in argv], cwd=REPO, check=True, **how)


def build(directory):
    if not (directory / "build.ninja").exists():
        run("meson", "setup", directory, REPO, "-Db_coverage=true", "-Dbuildtype=debug",
            env={**os.environ, "CC": "gcc"}, stdout=subprocess.DEVNULL)
    run("ninja", "-C", directory, stdout=subprocess.DEVNULL)


def run_tests(directory):
    """Whether all of them have passed."""
    for path in directory.rglob("*.gcda"):
        path.unlink()
    suites = [word for suite in SUITES for word in ("--suite", suite)]
    # Without optimization and with counters, tests take longer than they ask for.
    done = subprocess.run(["meson", "test", "-C", directory, "--no-rebuild", "--num-processes", "2",
                           "--timeout-multiplier", "5", *suites, "--no-suite", "long"],
                          cwd=REPO, check=False, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout[-4000:], done.stderr[-4000:], sep="\n")
    return done.returncode == 0


def collect(directory):
    """The files of gcovr's report."""
    report = directory / "coverage.json"
    run("gcovr", "--root", REPO, "--filter", f"src/({'|'.join(MINIMUM)})/", "--json", report, directory,
        stderr=subprocess.DEVNULL)
    return json.loads(report.read_text(encoding="utf-8"))["files"]


def ranges(numbers):
    """[3, 4, 5, 9] as "3-5, 9"."""
    found = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(f"{first}-{last}" if first != last else str(first) for first, last in found)


def show(files):
    """The folders that are below their minimum."""
    reached, lines = dict.fromkeys(MINIMUM, 0), dict.fromkeys(MINIMUM, 0)
    print("not reached:")
    for file in sorted(files, key=lambda f: f["file"]):
        folder = file["file"].split("/")[1]
        code = [line for line in file["lines"] if not line["gcovr/noncode"]]
        missing = [line["line_number"] for line in code if not line["count"]]
        reached[folder] += len(code) - len(missing)
        lines[folder] += len(code)
        functions = [f["name"] for f in file.get("functions", []) if not f["execution_count"]]
        if missing:
            names = f"; functions: {', '.join(functions)}" if functions else ""
            print(f"  {file['file']}: {ranges(missing)}{names}")
    print()
    low = []
    for folder, minimum in MINIMUM.items():
        percent = 100 * reached[folder] / lines[folder] if lines[folder] else 0
        wanted = f", at least {minimum} % wanted" if minimum else ""
        print(f"src/{folder:<12} {percent:5.1f} % of {lines[folder]:5} lines{wanted}")
        if minimum and percent < minimum:
            low.append(folder)
    return low


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path, nargs="?", default=REPO / "build-coverage")
    directory = parser.parse_args().build.resolve()
    build(directory)
    passed = run_tests(directory)
    low = show(collect(directory))
    if not passed:
        print("a test has failed")
    if low:
        print("too low: " + ", ".join(low))
    return 0 if passed and not low else 1


if __name__ == "__main__":
    sys.exit(main())

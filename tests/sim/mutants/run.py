#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Proves that the simulator can fail: breaks the code in one known way at a time and wants to see it caught.

Each *.patch beside this file is a mistake that somebody could make.  In a copy of the tree it is applied, the
simulator is built and run for the seeds that the patch states ("3000": the first so many; "8000 to 9000"); it must
exit with 1, name a seed, and blame what the patch says.  First of all the code as it is must pass some of them; that
it passes all is what the test "sim" shows.

    ok - NAME (X s)        with a line before that says which seed caught it, and how
    not ok - NAME (X s)    the mistake was not caught, or the patch does not apply or compile any more

Usage: run.py [--jobs N] [--seeds N] [name of a mutant ...]
"""
import argparse
import concurrent.futures
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PROGRAM = "tests/sim/sim"
# What does not end is no catch. On two idle cores 6000 seeds take half a minute.
RUN_SECONDS_MAX = 300
CONTROL_SEEDS = 1000
FAIL = re.compile(r"^FAIL seed (\d+): (.*)", re.MULTILINE)
HEADER = re.compile(r"^# (\w[\w ]*): +(.*)$")
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
CONTINUED = re.compile(r"^# {2,}(.*)$")


class Broken(Exception):
    """Nothing can be said about the mutant."""


class Children:
    """The programs that run.  A signal ends them all, so that the copies of the tree can be removed."""

    def __init__(self):
        self.lock = threading.Lock()
        self.running = set()
        self.is_ended = False

    def run(self, argv, timeout=None, **options):
        """(exit status or None when it took too long, standard output where that is a pipe)"""
        with self.lock:
            if self.is_ended:
                raise Broken("ended by a signal")
            child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, **options)
            self.running.add(child)
        try:
            output, _ = child.communicate(timeout=timeout)
            return child.returncode, output
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return None, None
        finally:
            with self.lock:
                self.running.discard(child)

    def end(self, signum, _frame):
        """Of the main thread, which starts none of them."""
        for again in SIGNALS:
            signal.signal(again, signal.SIG_IGN)
        with self.lock:
            self.is_ended = True
            for child in self.running:
                child.terminate()
        sys.exit(128 + signum)


class Mutant:
    """One patch file: what its header says, and which files it changes."""

    def __init__(self, path):
        self.path = path
        self.name = path.stem
        text = path.read_text(encoding="utf-8")
        self.files = re.findall(r"^\+\+\+ b/(\S+)", text, re.MULTILINE)
        header = self.read_header(text)
        missing = {"mistake", "caught by", "seeds"} - set(header)
        if missing or not self.files:
            raise Broken(f"{path}: no {', '.join(sorted(missing)) or 'patch'}")
        first, _, last = header["seeds"].rpartition(" to ")
        self.first, self.last = int(first or 1), int(last)
        self.caught_by = [name.strip() for name in header["caught by"].split(",")]

    @staticmethod
    def read_header(text):
        header, last = {}, None
        for line in text.splitlines():
            if not line.startswith("#"):
                break
            if match := HEADER.match(line):
                last = match[1]
                header[last] = match[2]
            elif (match := CONTINUED.match(line)) and last:
                header[last] += " " + match[1]
        return header


class Tree:
    """A copy of the project that may be broken, with its own build."""

    def __init__(self, directory, children):
        self.root = Path(directory)
        self.children = children
        self.build = self.root / "build"
        shutil.copytree(ROOT, self.root, ignore=shutil.ignore_patterns(".*", "build*", "__pycache__"))

    def configure(self):
        # A mistake may leave something unused; nobody debugs these programs.
        self.command("meson", "setup", self.build, self.root, "-Drdma=disabled", "-Dwerror=false",
                     "-Doptimization=1", "-Ddebug=false", env={"CC": "gcc"})

    def compile(self):
        self.command("ninja", "-C", self.build, "-j", "1", PROGRAM)

    def command(self, *argv, env=None):
        status, output = self.children.run(argv, cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                           text=True, env={**os.environ, **(env or {})})
        if status:
            raise Broken(f"{argv[0]} ends with {status}\n{output}")

    def simulate(self, first, seeds):
        """(exit status or None, output)"""
        with tempfile.TemporaryFile() as out:
            argv = [self.build / PROGRAM, "--first", str(first), "--seeds", str(seeds)]
            status, _ = self.children.run(argv, timeout=RUN_SECONDS_MAX, cwd=self.build, stdout=out,
                                          stderr=subprocess.STDOUT)
            out.seek(0)
            return status, out.read().decode(errors="replace")

    def try_mutant(self, mutant, first, seeds):
        """(seed, what the simulator said); raises Broken, or AssertionError when it survived."""
        before = {name: (self.root / name).read_bytes() for name in mutant.files}
        try:
            self.command("patch", "-p1", "--fuzz=0", "--no-backup-if-mismatch", "-r", "-", "-i", mutant.path)
            self.compile()
            status, output = self.simulate(first, seeds)
        finally:
            for name, content in before.items():
                (self.root / name).write_bytes(content)
        return judge(mutant, seeds, status, output)


def judge(mutant, seeds, status, output):
    found = FAIL.search(output)
    tail = "\n".join(output.splitlines()[-40:])
    if status is None:
        raise AssertionError(f"no end within {RUN_SECONDS_MAX} s\n{tail}")
    if status == 0:
        raise AssertionError(f"survived {seeds} seeds\n{tail}")
    if status != 1 or not found:
        raise AssertionError(f"status {status} instead of a failing seed\n{tail}")
    if not any(found[2].startswith(name) for name in mutant.caught_by):
        raise AssertionError(f"seed {found[1]} blames something else than {', '.join(mutant.caught_by)}: {found[2]}")
    return int(found[1]), found[2]


def report(verdict, name, started, lines):
    """In one piece: several threads report."""
    text = f"{verdict} - {name} ({time.monotonic() - started:.1f} s)\n"
    if verdict == "ok":
        text = "".join(f"# {name}: {line}\n" for line in lines) + text
    else:
        text += "".join(f"  # {line}\n" for line in lines)
    sys.stdout.write(text)
    sys.stdout.flush()


def control(tree, first, seeds):
    """The code as it is must pass; this also makes the build that the mutants start from."""
    tree.configure()
    tree.compile()
    status, output = tree.simulate(first, seeds)
    if status != 0:
        raise AssertionError(f"status {status} without any mistake\n" + "\n".join(output.splitlines()[-60:]))


def control_all(pool, trees, seeds):
    started = time.monotonic()
    share = -(-seeds // len(trees))
    tries = [pool.submit(control, tree, 1 + i * share, share) for i, tree in enumerate(trees)]
    try:
        for attempt in tries:
            attempt.result()
    except (AssertionError, Broken) as error:
        report("not ok", "control", started, str(error).splitlines())
        return False
    report("ok", "control", started, [f"{share * len(trees)} seeds pass"])
    return True


def one(mutant, free_trees, seeds):
    """True when it was caught."""
    first, last = (1, seeds) if seeds else (mutant.first, mutant.last)
    tree = free_trees.get()
    started = time.monotonic()
    try:
        seed, said = tree.try_mutant(mutant, first, last - first + 1)
    except (AssertionError, Broken) as error:
        report("not ok", mutant.name, started, str(error).splitlines())
        return False
    finally:
        free_trees.put(tree)
    report("ok", mutant.name, started, [f"seed {seed} of {first} to {last}: {said}"])
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="copies of the tree at work")
    parser.add_argument("--seeds", type=int, help="instead of what the patches state")
    parser.add_argument("names", nargs="*", help="only these")
    options = parser.parse_args()
    try:
        mutants = [Mutant(path) for path in sorted(HERE.glob("*.patch"))]
    except Broken as error:
        sys.exit(f"not ok - {error}")
    if unknown := set(options.names) - {m.name for m in mutants}:
        sys.exit(f"no such mutant: {', '.join(sorted(unknown))}")
    mutants = [m for m in mutants if not options.names or m.name in options.names]
    free_trees = queue.SimpleQueue()
    children = Children()
    for signum in SIGNALS:
        signal.signal(signum, children.end)
    with tempfile.TemporaryDirectory(prefix="slabswap-mutants-") as directory, \
            concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        trees = [Tree(Path(directory, str(i)), children) for i in range(options.jobs)]
        if not control_all(pool, trees, CONTROL_SEEDS):
            sys.exit(1)
        for tree in trees:
            free_trees.put(tree)
        caught = list(pool.map(lambda m: one(m, free_trees, options.seeds), mutants))
    print(f"{caught.count(True)} of {len(caught)} caught")
    sys.exit(0 if all(caught) else 1)


if __name__ == "__main__":
    main()

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Searches with libFuzzer for inputs that break a target, or makes its corpus small again.

    run.py BUILD TARGET             fuzzes for SLABSWAP_FUZZ_SECONDS (600); status 1 when something broke
    run.py BUILD TARGET --merge     takes what was found so far into tests/fuzz/corpus/TARGET

BUILD is a build directory with -Dfuzzing=enabled.  What is found lies in BUILD/fuzz: corpus/TARGET reaches
new code, crashes/TARGET breaks it.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SECONDS = 600
INPUT_BYTES_MAX = 4096
# A longer run of one input is a finding.
INPUT_SECONDS_MAX = 30
SANITIZERS = {
    "ASAN_OPTIONS": "abort_on_error=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
}
HASHED = re.compile(r"^[0-9a-f]{40}$")


def fuzz(program, target, found, crashes):
    seconds = int(os.environ.get("SLABSWAP_FUZZ_SECONDS") or SECONDS)
    before = set(crashes.iterdir())
    # The entropic schedule costs more than what it chooses among: more than half of the time of nbd_server.
    argv = [program, f"-max_total_time={seconds}", f"-timeout={INPUT_SECONDS_MAX}", f"-max_len={INPUT_BYTES_MAX}",
            "-entropic=0", "-len_control=0", "-rss_limit_mb=2048", "-print_final_stats=1",
            f"-artifact_prefix={crashes}/"]
    dictionary = HERE / f"{target}.dict"
    if dictionary.exists():
        argv.append(f"-dict={dictionary}")
    done = subprocess.run([*argv, found, HERE / "corpus" / target], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, errors="replace", env={**os.environ, **SANITIZERS}, check=False)
    lines = done.stderr.splitlines()
    for line in lines:
        if line.startswith("stat::") or "\tDONE " in line:
            print(f"# {line}")
    if done.returncode == 0:
        return 0
    print("\n".join(lines[-100:]))
    for path in sorted(set(crashes.iterdir()) - before):
        print(f"# breaks it: {path}")
    print(f"# new inputs are in {crashes}; add one as tests/fuzz/corpus/{target}/regression-NAME")
    return 1


def merge(program, target, found):
    """Inputs with a name stay; of the others, what reaches lines that those before it did not."""
    corpus = HERE / "corpus" / target
    with tempfile.TemporaryDirectory() as old:
        for path in corpus.iterdir():
            if HASHED.match(path.name):
                shutil.move(path, old)
        argv = [program, "-set_cover_merge=1", "-use_counters=0", f"-max_len={INPUT_BYTES_MAX}", corpus, old, found]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                              env={**os.environ, **SANITIZERS}, check=False)
    files = [path for path in corpus.iterdir() if not path.name.startswith(".")]
    print(f"{target}: {len(files)} inputs, {sum(path.stat().st_size for path in files)} bytes")
    if done.returncode:
        print(done.stderr[-4000:])
    return 1 if done.returncode else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("target")
    parser.add_argument("--merge", action="store_true")
    options = parser.parse_args()
    build = options.build.resolve()
    found = build / "fuzz" / "corpus" / options.target
    crashes = build / "fuzz" / "crashes" / options.target
    for directory in (found, crashes):
        directory.mkdir(parents=True, exist_ok=True)
    program = build / "tests" / "fuzz" / f"fuzz_{options.target}"
    if options.merge:
        return merge(program, options.target, found)
    return fuzz(program, options.target, found, crashes)


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/python3
"""Swap for ten minutes with far too little memory, files written at the same time, and a donor
whose power fails: slabswap must not notice. What else swaps to another machine runs for a while
under the same load, to compare; see soak.py. Only for scripts/test --long: all of it takes an hour.

SLABSWAP_SOAK_SECONDS: another length, 600 otherwise.
"""

import guestvm
import runner
import soak

JOBS = len(guestvm.SERIES)
DEADLINE_SECONDS = soak.SECONDS + len(soak.PEERS) * soak.PEER_SECONDS + soak.EXTRA_SECONDS * 2


def run(lab, mib):
    """Both kernels at the same time; what became of the peers is no failure."""
    options = soak.parse(["--build", str(lab.build), "--mib", str(mib), "--jobs", str(JOBS)])
    problems = []
    for done in soak.run_all(options, soak.cells_of(options)):
        if soak.is_ours(done.name):
            found = soak.problems_of(done.result())
            problems += [f"{done.name}: {line}" for line in found] + ([done.log()] if found else [])
    print(soak.table(soak.stored(options.out)), flush=True)
    assert not problems, "\n".join(problems)


@runner.deadline(DEADLINE_SECONDS)
def test_soak_128(lab):
    run(lab, 128)


@runner.deadline(DEADLINE_SECONDS)
def test_soak_192(lab):
    run(lab, 192)


@runner.deadline(DEADLINE_SECONDS)
def test_soak_256(lab):
    run(lab, 256)


@runner.deadline(DEADLINE_SECONDS)
def test_soak_512(lab):
    run(lab, 512)


if __name__ == "__main__":
    runner.main()

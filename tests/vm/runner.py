"""Runs the functions test_* of a file: what every test of tests/vm ends with.

    def test_something(lab):
        donor, client = lab.pair()
        ...

    if __name__ == "__main__":
        runner.main()

Booting is what takes time, so the guests of one test serve the next as well, if all of them
are alive and the test did not fail. A test leaves a guest as it found it, or pulls its cord.
"""

import argparse
import signal
import sys
import time
import traceback
from pathlib import Path

import agent
import guestvm

DEADLINE_SECONDS = 120


class Deadline(Exception):
    pass


def deadline(seconds):
    """Decorator: another deadline than the usual one."""
    def mark(function):
        function.deadline = seconds
        return function
    return mark


class Lab:
    """What a test gets: guests, and the build directory if there is one."""

    def __init__(self, run, build):
        self.run = run
        self.build = build
        self._groups = {}
        self._used = set()
        self.link = run.link()

    def shared(self, name, make):
        """The guests that make() returns, in a tuple; those of an earlier test if they are well."""
        self._used.add(name)
        guests = self._groups.get(name)
        if not guests or not all(guest.alive() for guest in guests):
            self.drop(name)
            guests = make()
            self._groups[name] = guests
            self.run.wait_ready()
        return guests

    def one(self):
        """A guest of 256 MiB with a disk of 512 MiB and Soft-RoCE."""
        def make():
            return self.run.guest("one", mem_mib=256, smp=2, disks=[512 << 20]),
        guest, = self.shared("one", make)
        guest.rdma_up()
        return guest

    def pair(self):
        """(donor, client): donor 10.99.0.2 with 768 MiB, client 10.99.0.1 with 256 MiB and a disk
        of 512 MiB, Soft-RoCE on both."""
        def make():
            return (self.run.guest("donor", mem_mib=768, links=[(self.link, 2)]),
                    self.run.guest("client", mem_mib=256, links=[(self.link, 1)],
                                   disks=[512 << 20]))
        guests = self.shared("pair", make)
        for guest in guests:
            guest.rdma_up()
        return guests

    def drop(self, name):
        for guest in self._groups.pop(name, ()):
            self.run.forget(guest)

    def begin_test(self):
        self._used.clear()

    def used_guests(self):
        return [guest for name in self._used for guest in self._groups.get(name, ())]

    def drop_used(self):
        for name in self._used:
            self.drop(name)


def main(module="__main__"):
    tests = {name: value for name, value in vars(sys.modules[module]).items()
             if name.startswith("test_") and callable(value)}
    parser = argparse.ArgumentParser()
    parser.add_argument("--kernel", choices=guestvm.SERIES, default=guestvm.SERIES[0])
    parser.add_argument("--build", type=Path, help="the build directory", default=Path("build"))
    parser.add_argument("tests", nargs="*", metavar="TEST", help=f"of {', '.join(tests)}")
    options = parser.parse_args()
    unknown = set(options.tests) - set(tests)
    if unknown:
        parser.error(f"no such test: {', '.join(sorted(unknown))}")
    chosen = options.tests or list(tests)

    failed = 0
    signal.signal(signal.SIGALRM, _give_up)
    build = options.build.resolve()
    with guestvm.Run(guestvm.Kernel(options.kernel), visible=[build]) as run:
        lab = Lab(run, build)
        for name in chosen:
            failed += not _passes(lab, name, tests[name])
    print(f"{len(chosen) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


def _passes(lab, name, test):
    start = time.monotonic()
    lab.begin_test()
    signal.alarm(getattr(test, "deadline", DEADLINE_SECONDS) * agent.PATIENCE)
    try:
        test(lab)
        signal.alarm(0)
    except Exception:
        signal.alarm(0)
        print(f"not ok {name}", flush=True)
        for guest in lab.used_guests():
            print(guest.log(), file=sys.stderr, flush=True)
        # Last: of a long text only the end is kept.
        traceback.print_exc()
        lab.drop_used()
        return False
    print(f"ok {name} ({time.monotonic() - start:.1f} s)", flush=True)
    return True


def _give_up(*_):
    raise Deadline("the test took too long")

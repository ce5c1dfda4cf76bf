# SPDX-License-Identifier: MIT
"""What every integration test needs: processes that never outlive the test, waiting on conditions, one report.

A test file defines functions test_*(t) and ends with:  if __name__ == "__main__": harness.main(globals())
t is a Case: t.dir (a fresh directory), t.start(argv, ready=...), t.defer(fn).  A test passes when it returns,
fails when it raises, and is skipped when it raises Skip (or calls harness.require()).

Usage of a test file: [SLABSWAP_BUILD=<build directory>] test_x.py [build directory] [name of a test ...]
Exit status: 0 all passed, 1 some failed, 77 all skipped.
"""
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STOP_SECONDS = 5
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Skip(Exception):
    """What the test needs is not on this machine."""


def require(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Skip(f"{program} is not installed")


def build_dir():
    return os.path.abspath(os.environ.get("SLABSWAP_BUILD", os.path.join(ROOT, "build")))


def built(path):
    """A program of the build directory, for example built('slabswap-nbd')."""
    full = os.path.join(build_dir(), path)
    if not os.access(full, os.X_OK):
        raise Skip(f"{full} is not built")
    return full


def wait_for(condition, what, seconds=10):
    """Returns the first true value of condition(); raises after @seconds.  Never waits longer than needed."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.005)


def write_ini(path, sections):
    """sections: {"device": {"name": "swap0"}}"""
    with open(path, "w", encoding="utf-8") as out:
        for section, keys in sections.items():
            out.write(f"[{section}]\n")
            out.writelines(f"{key} = {value}\n" for key, value in keys.items())
            out.write("\n")
    return path


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """One started program; its output goes to a log file."""

    def __init__(self, argv, log_path, env=None, **popen):
        self.argv = [str(a) for a in argv]
        self.log_path = log_path
        full_env = dict(os.environ)
        full_env.setdefault("ASAN_OPTIONS", "abort_on_error=1:detect_stack_use_after_return=1")
        full_env.setdefault("UBSAN_OPTIONS", "halt_on_error=1:print_stacktrace=1")
        full_env.update(env or {})
        popen.setdefault("stdin", subprocess.DEVNULL)
        with open(log_path, "ab") as log:
            self.popen = subprocess.Popen(
                self.argv, stdout=log, stderr=log, env=full_env, preexec_fn=_die_with_parent, **popen)
        self.pid = self.popen.pid

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def is_running(self):
        return self.popen.poll() is None

    def wait_log(self, text, seconds=10):
        """Until @text is in the log; an early exit is a failure."""
        def seen():
            if text in self.log():
                return True
            if not self.is_running():
                raise AssertionError(f"{self.argv[0]} exited with {self.popen.returncode} before it said: {text}")
            return False
        wait_for(seen, f"log line: {text}", seconds)

    def wait_exit(self, seconds=STOP_SECONDS):
        """The exit status (negative: by a signal)."""
        return self.popen.wait(timeout=seconds)

    def stop(self, expect=0, seconds=STOP_SECONDS):
        """SIGTERM; must exit within @seconds and with status @expect."""
        if self.is_running():
            self.popen.terminate()
        try:
            status = self.popen.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.argv[0]} did not exit within {seconds} s of SIGTERM") from None
        if status != expect:
            raise AssertionError(f"{self.argv[0]} exited with {status}, not {expect}")

    def kill(self):
        if self.is_running():
            self.popen.kill()
        self.popen.wait()


class Case:
    def __init__(self, directory):
        self.dir = directory
        self.processes = []
        self._deferred = []

    def path(self, name):
        return os.path.join(self.dir, name)

    def defer(self, fn, *args):
        """Run at the end of the test, last one first."""
        self._deferred.append((fn, args))

    def start(self, argv, ready=None, ready_seconds=10, env=None, name=None, **popen):
        """Starts a program.  @ready: text awaited in its log, or a function awaited to be true.

        What still runs at the end of the test gets SIGTERM and has to exit with 0 in 5 s."""
        base = name or os.path.basename(str(argv[0]))
        process = Process(argv, self.path(f"{base}-{len(self.processes)}.log"), env=env, **popen)
        self.processes.append(process)
        if isinstance(ready, str):
            process.wait_log(ready, ready_seconds)
        elif ready:
            def ready_or_dead():
                if not process.is_running():
                    raise AssertionError(f"{process.argv[0]} exited with {process.popen.returncode} at start")
                return ready()
            wait_for(ready_or_dead, f"{base} is ready", ready_seconds)
        return process

    def _finish(self):
        """Returns the failures of the cleanup."""
        failures = []
        for fn, args in reversed(self._deferred):
            try:
                fn(*args)
            except Exception as e:
                failures.append(f"cleanup: {e}")
        for process in reversed(self.processes):
            try:
                if process.is_running():
                    process.stop()
            except Exception as e:
                failures.append(str(e))
            text = process.log()
            if "AddressSanitizer" in text or "runtime error:" in text or "LeakSanitizer" in text:
                failures.append(f"{process.argv[0]}: sanitizer report")
        return failures


def _run_one(name, fn):
    """'ok', 'skip' or 'not ok'"""
    directory = tempfile.mkdtemp(prefix="slabswap-")
    case = Case(directory)
    problem = None
    skipped = None
    started = time.monotonic()
    try:
        fn(case)
    except Skip as e:
        skipped = str(e)
    except Exception:
        problem = traceback.format_exc()
    finally:
        failures = case._finish()
    if failures:
        problem = (problem or "") + "\n".join(failures)
    spent = time.monotonic() - started
    if problem:
        print(f"not ok - {name} ({spent:.1f} s)")
        for line in problem.rstrip().splitlines():
            print(f"  # {line}")
        for process in case.processes:
            print(f"  # --- {' '.join(process.argv)}")
            for line in process.log().splitlines()[-60:]:
                print(f"  # {line}")
    elif skipped:
        print(f"ok - {name} # SKIP {skipped}")
    else:
        print(f"ok - {name} ({spent:.1f} s)")
    sys.stdout.flush()
    shutil.rmtree(directory, ignore_errors=True)
    return "not ok" if problem else "skip" if skipped else "ok"


def main(namespace):
    arguments = sys.argv[1:]
    if arguments and os.path.isdir(arguments[0]):
        os.environ["SLABSWAP_BUILD"] = arguments.pop(0)
    tests = {n: f for n, f in namespace.items() if n.startswith("test_") and callable(f)}
    unknown = [n for n in arguments if n not in tests]
    if unknown:
        sys.exit(f"no such test: {', '.join(unknown)}")
    results = [_run_one(n, f) for n, f in tests.items() if not arguments or n in arguments]
    print(f"{results.count('ok')} passed, {results.count('not ok')} failed, {results.count('skip')} skipped")
    if "not ok" in results:
        sys.exit(1)
    sys.exit(77 if results.count("skip") == len(results) else 0)

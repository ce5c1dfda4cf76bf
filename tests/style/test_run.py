#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The runner behind scripts/test: it counts what tests print, and finds what they leave behind."""
import ctypes
import io
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import run  # noqa: E402


def test_cases_of_cmocka():
    text = "[==========] Running 3 test(s).\n[ RUN      ] a\n[       OK ] a\n[  FAILED  ] b\n[  SKIPPED ] c\n" \
           "[  FAILED  ] 1 test(s), listed below:\n[  PASSED  ] 1 test(s).\n"
    assert [case[:2] for case in run.parse_cases(text)] == [("ok", "a"), ("not ok", "b"), ("skip", "c")]


def test_cases_of_scripts():
    text = "ok - test_a (0.1 s)\nnot ok - test_b (2.0 s)\n  # ok - inside a log\nok - test_c # SKIP no fio\n" \
           "ok test_d (1.5 s)\nnot ok test_e\n5 passed, 1 failed\nok 3 - numbered\n"
    assert list(run.parse_cases(text)) == [
        ("ok", "test_a", "0.1"), ("not ok", "test_b", None), ("skip", "test_c", "no fio"), ("ok", "test_d", "1.5"),
        ("not ok", "test_e", None), ("ok", "numbered", None)], list(run.parse_cases(text))


def test_log_of_one_case():
    text = "ok a\nnot ok b\nwhy b\nmore\nnot ok c\nwhy c\n"
    assert run.section(text, "b") == "why b\nmore"
    assert run.section(text, "c") == "why c"


def report_of(function):
    """(Report, what it printed)"""
    report, out = run.Report(), io.StringIO()
    with redirect_stdout(out):
        function(report)
    return report, out.getvalue()


def test_meson_results():
    def count(result, stdout, stderr=""):
        runner = run.Runner.__new__(run.Runner)
        runner.report = run.Report()
        with redirect_stdout(io.StringIO()):
            runner.count_meson("b/unit/x", {"result": result, "stdout": stdout, "stderr": stderr, "returncode": 1,
                                            "duration": 0.1})
        return runner.report.passed, runner.report.failed, len(runner.report.skipped)

    assert count("OK", "[       OK ] a\n[       OK ] b\n") == (2, 0, 0)
    assert count("OK", "") == (1, 0, 0)
    assert count("FAIL", "[       OK ] a\n[  FAILED  ] b\n") == (1, 1, 0)
    assert count("FAIL", "[       OK ] a\n") == (1, 1, 0), "a crash after a good case"
    assert count("TIMEOUT", "") == (0, 1, 0)
    assert count("OK", "not ok - a\n") == (0, 1, 0), "exit status 0 does not hide a failed case"
    assert count("SKIP", "", "no fio\n") == (0, 0, 1)


def test_last_line():
    report, out = report_of(lambda r: (r.ok("a"), r.finish(0)))
    assert out.splitlines()[-1] == "1 passed, 0 failed"
    _, out = report_of(lambda r: (r.bad("a", "why"), r.skip("b", "no fio"), r.finish(0)))
    assert out.splitlines()[-1] == "0 passed, 1 failed, 1 skipped"
    with redirect_stdout(io.StringIO()):
        assert run.Report().finish(0) == 1, "nothing ran: not a success"


def test_leftovers_are_found_and_killed():
    """Also an orphan in a session of its own."""
    ctypes.CDLL(None).prctl(run.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    report, _ = report_of(lambda r: run.check_leftovers(r, "phase"))
    assert (report.passed, report.failed) == (0, 0)
    out = subprocess.run(["sh", "-c", "setsid sh -c 'exec tail -f /dev/null' >/dev/null 2>&1 & echo $!"], check=True,
                         capture_output=True, text=True).stdout
    assert int(out)
    report, out = report_of(lambda r: run.check_leftovers(r, "phase"))
    assert report.failed == 1 and "not ok leftovers/phase" in out and "tail -f /dev/null" in out, out
    assert not run.descendants()


def main():
    failed = 0
    for name, test in list(globals().items()):
        if not name.startswith("test_"):
            continue
        try:
            test()
            print(f"ok - {name}")
        except AssertionError as error:
            print(f"not ok - {name}\n  # {error!r} at line {error.__traceback__.tb_next.tb_lineno}")
            failed += 1
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()

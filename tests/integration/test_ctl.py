#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""slabswapctl against programs that answer, that do not, and that are not there."""
import os
import re
import signal
import socket
import subprocess
import threading
import time

import device
import harness

STATUS = '{"program": "slabswap-nbd", "connections": 1}\n'


def slabswapctl(*arguments, **options):
    options.setdefault("stdout", subprocess.PIPE)
    return subprocess.run([harness.built("slabswapctl"), *arguments], stderr=subprocess.PIPE, text=True,
                          check=False, timeout=20, stdin=subprocess.DEVNULL, **options)


def listener(t, backlog=8):
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(t.path("x.ctl"))
    server.listen(backlog)
    t.defer(server.close)
    return server


def serve(t, answer):
    """Accepts one connection, reads the request, and calls answer(connection)."""
    server = listener(t)
    requests = []

    def run():
        connection, _ = server.accept()
        with connection:
            requests.append(connection.makefile("rb").readline())
            answer(connection)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return requests


def check_error(result, status, *parts):
    assert result.returncode == status, f"status {result.returncode}: {result.stderr}"
    assert result.stderr.startswith("slabswapctl: ") and result.stderr.count("\n") == 1, result.stderr
    for part in parts:
        assert part in result.stderr, result.stderr


def test_prints_the_answer(t):
    requests = serve(t, lambda c: c.sendall(STATUS.encode()))
    result = slabswapctl("status", t.path("x.ctl"))
    assert (result.returncode, result.stdout, result.stderr) == (0, STATUS, ""), result
    assert requests == [b"status\n"], requests


def test_long_answer_in_pieces(t):
    text = STATUS * 20000

    def answer(connection):
        connection.sendall(text[:10].encode())
        connection.sendall(text[10:].encode())

    serve(t, answer)
    result = slabswapctl("status", t.path("x.ctl"))
    assert result.returncode == 0 and result.stdout == text


def test_no_answer(t):
    serve(t, lambda c: None)
    check_error(slabswapctl("status", t.path("x.ctl")), 1, t.path("x.ctl"), "no answer")


def test_silent_program(t):
    """Accepted by the kernel, never read: ends at its deadline."""
    listener(t)
    started = time.monotonic()
    check_error(slabswapctl("-t", "200", "status", t.path("x.ctl")), 1, "Connection timed out")
    assert 0.2 <= time.monotonic() - started < 5


def test_unknown_to_the_program(t):
    daemon = device.Daemon(t)
    result = slabswapctl("latency", daemon.control)
    check_error(result, 1, daemon.control, "latency", "Operation not supported")
    assert result.stdout == ""


def test_half_an_answer(t):
    """A program that stops in the middle is an error, not a short answer."""
    done = threading.Event()
    t.defer(done.set)

    def answer(connection):
        connection.sendall(STATUS[:10].encode())
        done.wait(20)

    serve(t, answer)
    check_error(slabswapctl("--timeout", "200", "status", t.path("x.ctl")), 1, "Connection timed out")


def test_full_backlog(t):
    server = listener(t, backlog=0)
    waiting = []
    while True:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.setblocking(False)
        t.defer(client.close)
        try:
            client.connect(server.getsockname())
        except BlockingIOError:
            break
        waiting.append(client)
    check_error(slabswapctl("-t", "200", "status", t.path("x.ctl")), 1, "Connection timed out")


def test_nobody_there(t):
    check_error(slabswapctl("status", t.path("gone.ctl")), 1, t.path("gone.ctl"), "No such file or directory")
    listener(t).close()
    check_error(slabswapctl("status", t.path("x.ctl")), 1, "Connection refused")
    check_error(slabswapctl("status", "/" + "x" * 200), 1, "File name too long")


def test_standard_output_is_full(t):
    serve(t, lambda c: c.sendall(STATUS.encode()))
    with open("/dev/full", "w", encoding="utf-8") as full:
        check_error(slabswapctl("status", t.path("x.ctl"), stdout=full), 1, "No space left on device")


def members(value):
    """The names of all members of a JSON document."""
    if isinstance(value, list):
        return set().union(*(members(item) for item in value))
    if isinstance(value, dict):
        return set(value).union(*(members(item) for item in value.values()))
    return set()


def test_every_field_is_explained(t):
    """And nothing is that is not there: in slabswapctl(1), in the section of each program."""
    daemon = device.Daemon(t)
    server = device.Device(t, portals=[daemon.portal])
    server.wait_up()
    with open(os.path.join(harness.ROOT, "docs", "man", "slabswapctl.1"), encoding="utf-8") as page:
        sections = page.read().split("\n.SH ")
    for status, title in ((server.status(), "ANSWER OF SLABSWAP-NBD"), (daemon.status(), "ANSWER OF SLABSWAPD\n")):
        text = next(section for section in sections if section.startswith(title))
        bold = " ".join(re.findall(r"^\.R?BR? (.*)", text, re.MULTILINE))
        bold = set(re.findall(r"\w+", re.sub(r'"[^"]*"', "", bold)))
        fields = members(status) | ({"name", "portal"} if "dns" in status else {"connection", "device", "slabs"})
        assert fields == bold, f"not explained: {fields - bold}; not there: {bold - fields}"


def test_counters_of_the_control_plane(t):
    """A slab is placed, used, and moves when its daemon stops."""
    first, second = device.Daemon(t, name="d0"), device.Daemon(t, name="d1")
    server = device.Device(t, portals=[first.portal, second.portal], limits={"probe_ms": 20})
    server.wait_up(2)
    handle = device.connect(server.uri)
    for _ in range(2):  # the first maps
        handle.pwrite(os.urandom(device.MIB), 0)
        harness.wait_for(lambda: server.status()["slabs"]["mapped"] == 1, "the slab is mapped")
    harness.wait_for(lambda: server.status()["activity"]["pages_per_second"] > 0, "the period ends")
    status = server.status()
    assert status["placement"] == {"started": 1, "failed": 0, "queries": 2, "queries_unanswered": 0}, status
    assert status["activity"]["hottest_pages_per_second"] == status["activity"]["pages_per_second"], status
    assert status["slabs"]["hot"] == 1 and status["slabs"]["maps"] == 1, status
    harness.wait_for(lambda: server.status()["health"]["probes"] > 0, "the daemon is probed")
    lender = first if status["daemons"][0]["slabs_mapped"] else second
    lender.process.popen.send_signal(signal.SIGTERM)
    assert lender.process.wait_exit() == 0
    status = server.status()
    evictions = status["evictions"]
    assert (evictions["done"], evictions["migrations"], evictions["late"]) == (1, 1, 0), status
    assert evictions["us_most"] == evictions["us_total"] > 0, status
    assert status["pages"]["migrated"] > 0 and status["slabs"]["maps"] == 2, status
    states = {d["portal"]: (d["state"], d["up"], d["slabs_mapped"]) for d in status["daemons"]}
    assert states[lender.portal] == ("down", False, 0), states
    assert ("up", True, 1) in states.values(), states
    server.no_errors()


STAGES = ("queued", "posted", "completed", "answered")


def check_times(times, count, text):
    """@times is what @count values can be."""
    order = [times[f"{name}_ns"] for name in ("p50", "p90", "p99", "p999", "max")]
    assert times["count"] == count and order == sorted(order), (text, times)
    if count:
        # The clock's own resolution is below that; a request that takes half a minute has failed long before.
        assert order[0] / 1.05 - 32 <= times["max_ns"] < 30e9 and times["mean_ns"] <= times["max_ns"], (text, times)


def test_latency(t):
    """Every request counts once in each stage, the stages are its time, and the table has the same."""
    daemon = device.Daemon(t)
    server = device.Device(t, portals=[daemon.portal], limits={"probe_ms": 0})
    server.wait_up()
    handle = device.connect(server.uri)
    for times in server.status()["latency"].values():
        assert isinstance(times, list) or all(one["count"] == 0 for one in times.values()), times
    handle.pwrite(bytes(device.PAGE), 0)
    harness.wait_for(lambda: server.status()["slabs"]["mapped"] == 1, "the slab is mapped")
    for i in range(20):
        handle.pwrite(os.urandom(device.PAGE), i * device.PAGE)
    handle.flush()  # else reads may find what they want in the buffers of these
    for i in range(30):
        handle.pread(device.PAGE, i * device.PAGE)
    handle.trim(device.MIB, device.MIB)
    handle.zero(device.PAGE, 2 * device.MIB)
    # Its reply is sent before it is counted.
    harness.wait_for(lambda: server.status()["latency"]["trim"]["total"]["count"] == 2, "the last one is counted")
    status = server.no_errors()
    latency = status["latency"]
    assert status["nbd"]["reads"] == 30 and status["nbd"]["writes"] == 21, status["nbd"]
    for kind, count in (("read", 30), ("write", 21), ("flush", 1), ("trim", 2)):
        for stage in (*STAGES, "total"):
            check_times(latency[kind][stage], count, (kind, stage))
        total = latency[kind]["total"]["mean_ns"]
        parts = sum(latency[kind][stage]["mean_ns"] for stage in STAGES)
        assert abs(total - parts) <= len(STAGES) and total > 0, latency[kind]
    assert [d["portal"] for d in latency["daemons"]] == [daemon.portal], latency["daemons"]
    pages, remote = status["pages"], latency["daemons"][0]
    check_times(remote["write"], pages["written_remote"] + pages["promoted"] + pages["refilled"], "daemon")
    check_times(remote["read"], pages["read_remote"], "daemon")
    assert remote["read"]["p50_ns"] > 0, remote
    # Pages that wait together become one operation.
    merged = status["memory"]["backup_writes_merged"]
    check_times(latency["backup"]["write"], pages["written_backup"] - merged, "backup")
    assert latency["backup"]["sync"]["count"] >= 1 and latency["backup"]["write"]["p50_ns"] > 0, latency["backup"]
    result = slabswapctl("latency", server.control)
    assert result.returncode == 0 and not result.stderr, result
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[0] == ["us", "count", "mean", "p50", "p90", "p99", "p99.9", "max"], rows
    assert [row for row in rows if len(row) < 8][-1] == ["daemon", daemon.portal], rows
    first = rows.index(["read"]) + 1
    for row, stage in zip(rows[first:], (*STAGES, "total")):
        times = latency["read"][stage]
        columns = [times[f"{name}_ns"] / 1000 for name in ("mean", "p50", "p90", "p99", "p999", "max")]
        assert row[:2] == [stage, "30"] and row[2:] == [f"{us:.1f}" for us in columns], (row, times)


def test_usage(_):
    for arguments in ([], ["nosuch"], ["status"], ["status", "a", "b"], ["latency"], ["-t", "0", "status", "a"],
                      ["-t", "x", "status", "a"], ["-t", "600001", "status", "a"]):
        check_error(slabswapctl(*arguments), 2)
    assert slabswapctl("--nosuch").returncode == 2
    result = slabswapctl("--help")
    assert result.returncode == 0 and "usage: slabswapctl" in result.stdout and not result.stderr
    result = slabswapctl("--version")
    assert result.returncode == 0 and result.stdout.startswith("slabswapctl ") and not result.stderr


def test_closed_standard_output(t):
    """A reader that has gone, "| head", must not look like success."""
    serve(t, lambda c: c.sendall(STATUS.encode() * 100000))
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out:
        result = slabswapctl("status", t.path("x.ctl"), stdout=out)
    assert result.returncode != 0, result


if __name__ == "__main__":
    harness.main(globals())

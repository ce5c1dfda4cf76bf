#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""slabswapctl against programs that answer, that do not, and that are not there."""
import os
import socket
import subprocess
import threading
import time

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


def test_usage(_):
    for arguments in ([], ["nosuch"], ["status"], ["status", "a", "b"], ["-t", "0", "status", "a"],
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

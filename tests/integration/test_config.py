#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Both programs with a bad configuration: exit status 2 and one line that says file, section, key, value and what
is allowed; with and without --check, and before anything is opened or created."""
import os
import re
import shutil
import subprocess

import harness

SERVER = {
    "device": {"name": "swap0", "size": "128M"},
    "nbd": {"listen": "unix:{dir}/nbd.sock", "control": "{dir}/nbd.ctl"},
    "backup": {"path": "{dir}/backup"},
}
DAEMON = {
    "daemon": {"listen": "tcp:127.0.0.1:0", "control": "{dir}/daemon.ctl"},
    "memory": {"max": "64M"},
}
# (section, key, value, what the line says); value None: the key is left out
SERVER_BAD = [
    ("device", "size", "17X", "[device] size = 17X: not a size; allowed: 1M to 64T, with unit K, M, G or T"),
    ("device", "size", "abc", "[device] size = abc: not a size; allowed: 1M to 64T"),
    ("device", "size", "65T", "[device] size = 65T: too large; allowed: 1M to 64T"),
    ("device", "size", "100M", "[device] size = 100M: not a multiple of slab_size (64M); allowed: a multiple of 64M"),
    ("device", "size", None, "[device] size: missing; allowed: 1M to 64T"),
    ("device", "name", None, "[device] name: missing; allowed: "),
    ("device", "name", "a/b", "[device] name = a/b: not a device name; allowed: "),
    ("device", "slab_size", "3M", "[device] slab_size = 3M: not a power of two; allowed: 1M, 2M, 4M, ... 1G"),
    ("device", "slab_size", "512K", "[device] slab_size = 512K: too small; allowed: 1M to 1G"),
    ("device", "length", "1G", "[device] length = 1G: unknown key; allowed: name, size or slab_size"),
    ("compression", "method", "lz4", "[compression]: unknown section; allowed: device, nbd, backup, daemons, "),
    ("placement", "choices", "0", "[placement] choices = 0: too small; allowed: 1 to 8"),
    ("activity", "alpha", "0.0001", "[activity] alpha = 0.0001: not a number; allowed: 0.001 to 1"),
    ("nbd", "listen", "tcp:localhost:1", "[nbd] listen = tcp:localhost:1: tcp:localhost:1 is not such an address"),
    ("nbd", "max_connections", "many", "[nbd] max_connections = many: not a number; allowed: 1 to 1024"),
    ("nbd", "max_connections", "1025", "[nbd] max_connections = 1025: too large; allowed: 1 to 1024"),
    ("backup", "path", "nothing", "[backup] path = nothing: not an absolute path; allowed: the absolute path of a "),
    ("backup", "ack", "maybe", "[backup] ack = maybe: unknown word; allowed: remote or both"),
    ("daemons", "portals", "10.0.0.1:9400", "[daemons] portals = 10.0.0.1:9400: 10.0.0.1:9400 is not such an address"),
    ("daemons", "psk_file", "{dir}/gone", "psk_file = {dir}/gone: cannot read: No such file or directory; allowed: "),
    ("daemons", "psk_file", "{dir}/open", "psk_file = {dir}/open: open to group or others (mode 0644); allowed: "),
    ("daemons", "psk_file", "{dir}/short", "psk_file = {dir}/short: key too short; allowed: "),
    ("limits", "op_timeout_ms", "2s", "[limits] op_timeout_ms = 2s: not a number; allowed: 10 to 60000 ms"),
    ("limits", "spin_us", "10001", "[limits] spin_us = 10001: too large; allowed: 0 to 10000 us, or off"),
    ("limits", "spin_us", "on", "[limits] spin_us = on: not a number; allowed: 0 to 10000 us, or off"),
]
DAEMON_BAD = [
    ("daemon", "listen", None, "[daemon] listen: missing; allowed: 1 to 8 of "),
    ("daemon", "listen", "unix:/x", "[daemon] listen = unix:/x: unix:/x is not such an address; allowed: 1 to 8 of "),
    ("daemon", "slab_size", "48M", "[daemon] slab_size = 48M: not a power of two; allowed: "),
    ("daemon", "max_clients", "0", "[daemon] max_clients = 0: too small; allowed: 1 to 1024"),
    ("daemon", "spin_us", "1ms", "[daemon] spin_us = 1ms: not a number; allowed: 0 to 10000 us, or off"),
    ("memory", "max", "63M", "[memory] max = 63M: not a multiple of slab_size (64M); allowed: a multiple of 64M"),
    ("memory", "max", "18446744073709551616", "[memory] max = 18446744073709551616: too large; allowed: 1M to 16T"),
    ("memory", "max_per_client", "128M", "[memory] max_per_client = 128M: more than max; allowed: max or less"),
    ("memory", "headroom", "-1", "[memory] headroom = -1: not a size; allowed: 0 to 16T, with unit K, M, G or T"),
    ("memory", "reserve", "8G", "[memory] reserve = 8G: unknown key; allowed: max, max_per_client, headroom, beta, "
     "period_ms, psi_limit or huge_pages"),
    ("memory", "huge_pages", "always", "[memory] huge_pages = always: unknown word; allowed: no or yes"),
    ("daemon", "psk_file", "{dir}/open", "psk_file = {dir}/open: open to group or others (mode 0644); allowed: "),
]


def program(name):
    """Wherever the build has put it."""
    for folder in "", "src/daemon", "src/nbd_server", "src/programs":
        path = os.path.join(harness.build_dir(), folder, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    raise AssertionError(f"{name} is not built in {harness.build_dir()}")


def run(argv, **options):
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20,
                          stdin=subprocess.DEVNULL, env={k: v for k, v in os.environ.items() if k != "JOURNAL_STREAM"},
                          **options)


def filled(t, value):
    return value.replace("{dir}", t.dir)


def write_config(t, sections, name="x.ini"):
    return harness.write_ini(t.path(name), {
        section: {key: filled(t, value) for key, value in keys.items()} for section, keys in sections.items()})


def with_key(sections, section, key, value):
    changed = {s: dict(k) for s, k in sections.items()}
    changed.setdefault(section, {})[key] = value
    if value is None:
        del changed[section][key]
    return changed


def make_psk_files(t):
    for name, text, mode in ("open", "0123456789abcdef", 0o644), ("short", "0123", 0o600):
        with open(t.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(t.path(name), mode)


def check_refused(t, argv, path, expect):
    """Exit status 2, one line, and nothing created."""
    before = sorted(os.listdir(t.dir))
    result = run(argv)
    assert result.returncode == 2, f"{argv}: status {result.returncode}: {result.stderr}"
    assert result.stdout == "", result.stdout
    assert result.stderr.startswith(path + ": "), result.stderr
    assert result.stderr.count("\n") == 1 and result.stderr.endswith("\n"), result.stderr
    assert expect in result.stderr, f"expected: {expect}\ngot: {result.stderr}"
    assert sorted(os.listdir(t.dir)) == before, "a refused configuration has left a file"


def check_all_bad(t, name, good, bad):
    make_psk_files(t)
    binary = program(name)
    for section, key, value, expect in bad:
        path = write_config(t, with_key(good, section, key, value))
        for argv in [binary, "-c", path, "--check"], [binary, "-c", path]:
            check_refused(t, argv, path, filled(t, expect))


def check_syntax(t, name, good):
    """What no key is to blame for."""
    binary = program(name)
    path = write_config(t, good)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    first_section = re.search(r"\[\w+\]", text)[0]
    first_key = re.search(r"\w+ = .*", text)[0]
    for bad, expect in [
            (text.replace(first_key, first_key + "\n" + first_key), "given twice; allowed: once, lines 2 and 3"),
            (text + first_section + "\n", f"{first_section}: given twice; allowed: once"),
            ("x = 1\n" + text, "line 1: key before the first [section]"),
            (text + "hello\n", ": neither [section], key = value nor a comment"),
            (text.replace(first_key, first_key + "x" * 2000), "line 2: line too long"),
            (text + "a\0b = 1\n", ": NUL byte"),
            ("", ": missing; allowed: ")]:
        with open(path, "w", encoding="utf-8") as file:
            file.write(bad)
        check_refused(t, [binary, "-c", path, "--check"], path, expect)


def check_unreadable(t, name, good, section):
    binary = program(name)
    gone = t.path("gone.ini")
    check_refused(t, [binary, "-c", gone, "--check"], gone, "No such file or directory")
    check_refused(t, [binary, "-c", t.dir, "--check"], t.dir, "Is a directory")
    if os.geteuid() != 0:
        raise harness.Skip("only root can become somebody who has no permission")
    os.chmod(t.dir, 0o755)
    with open(t.path("psk"), "w", encoding="utf-8") as file:
        file.write("0123456789abcdef")
    os.chmod(t.path("psk"), 0o600)
    path = write_config(t, with_key(good, section, "psk_file", "{dir}/psk"))
    # The build may stand where only root can look.
    binary = shutil.copy(binary, t.dir)
    for mode, expect in [(0o600, f"{path}: cannot read the configuration: Permission denied"),
                         (0o644, f"psk_file = {t.dir}/psk: cannot read: Permission denied")]:
        os.chmod(path, mode)
        result = run([binary, "-c", path, "--check"], user=65534, group=65534, extra_groups=[])
        assert result.returncode == 2 and expect in result.stderr, f"{result.returncode}: {result.stderr}"
        assert result.stderr.count("\n") == 1, result.stderr


def check_good(t, name, good, example):
    binary = program(name)
    for path in write_config(t, good), os.path.join(harness.ROOT, "conf", example):
        before = sorted(os.listdir(t.dir))
        result = run([binary, "-c", path, "--check"])
        assert (result.returncode, result.stdout, result.stderr) == (0, "", ""), f"{path}: {result}"
        assert sorted(os.listdir(t.dir)) == before, "--check has created a file"


def check_usage(name):
    binary = program(name)
    for arguments in [], ["-c"], ["--nosuch"], ["-c", "x", "y"]:
        result = run([binary, *arguments])
        assert result.returncode == 2 and result.stderr, f"{arguments}: {result}"
    for option in "--help", "--version":
        result = run([binary, option])
        assert result.returncode == 0 and name in result.stdout and not result.stderr, result


def test_server_bad_values(t):
    check_all_bad(t, "slabswap-nbd", SERVER, SERVER_BAD)


def test_server_syntax(t):
    check_syntax(t, "slabswap-nbd", SERVER)


def test_server_unreadable(t):
    check_unreadable(t, "slabswap-nbd", SERVER, "daemons")


def test_server_good(t):
    check_good(t, "slabswap-nbd", SERVER, "slabswap-nbd.ini")


def test_server_usage(_):
    check_usage("slabswap-nbd")


def test_daemon_bad_values(t):
    check_all_bad(t, "slabswapd", DAEMON, DAEMON_BAD)


def test_daemon_syntax(t):
    check_syntax(t, "slabswapd", DAEMON)


def test_daemon_unreadable(t):
    check_unreadable(t, "slabswapd", DAEMON, "daemon")


def test_daemon_good(t):
    check_good(t, "slabswapd", DAEMON, "slabswapd.ini")


def test_daemon_usage(_):
    check_usage("slabswapd")


if __name__ == "__main__":
    harness.main(globals())

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The systemd units and drop-ins: systemd-analyze verify, the order of stopping, and the attach script with
stand-ins for the programs that need a kernel with nbd."""
import os
import re
import shutil
import stat
import subprocess

import harness

CONF = os.path.join(harness.ROOT, "conf")
INSTANCE = "swap0"
SERVICES = ["slabswapd.service", "slabswap-nbd@.service", "slabswap-attach@.service"]


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def write(path, text, mode=0o644):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)


def unit_dir(t):
    """All units in one directory; the programs that they start exist."""
    folder = t.path("units")
    os.mkdir(folder)
    for name in SERVICES:
        text = read(os.path.join(harness.build_dir(), "conf", name))
        assert "@" + "sbindir@" not in text and "@" + "libexecdir@" not in text, f"{name}: not configured"
        write(os.path.join(folder, name),
              re.sub(r"^(Exec\w+=)/\S+", rf"\g<1>{shutil.which('true')}", text, flags=re.MULTILINE))
    shutil.copy(os.path.join(CONF, "systemd", "dev-nbd0.swap"), folder)
    return folder


def verify(folder, *units):
    """What systemd-analyze has to say about them."""
    result = subprocess.run(["systemd-analyze", "verify", "--man=no", *(os.path.join(folder, u) for u in units)],
                            capture_output=True, text=True, check=False, timeout=60,
                            env={**os.environ, "SYSTEMD_UNIT_PATH": folder + ":", "SYSTEMD_LOG_LEVEL": "warning"})
    # About units of this machine that are none of ours.
    ours = [line for line in result.stderr.splitlines() if "slabswap" in line or "nbd0" in line or folder in line]
    return result.returncode, ours


def instances():
    return ["slabswapd.service", f"slabswap-nbd@{INSTANCE}.service", f"slabswap-attach@{INSTANCE}.service",
            "dev-nbd0.swap"]


def test_verify(t):
    folder = unit_dir(t)
    status, lines = verify(folder, *instances())
    assert (status, lines) == (0, []), lines


def test_verify_can_fail(t):
    """A wrong key, a wrong value, a loop in the order, and a missing unit are found."""
    for name, old, new in [
            ("slabswapd.service", "Restart=on-failure", "Restart=on-failur"),
            ("slabswap-nbd@.service", "OOMPolicy=continue", "OOMPolici=continue"),
            ("slabswap-attach@.service", "Type=oneshot", "Type=oneshot\nExecStart=/nonexistent/x"),
            ("dev-nbd0.swap", "What=/dev/nbd0", "What=/dev/nbd1"),
            ("dev-nbd0.swap", "Before=systemd-user-sessions.service", "Before=sysinit.target"),
            ("dev-nbd0.swap", "slabswap-attach@swap0", "slabswap-nosuch@swap0")]:
        folder = unit_dir(t)
        path = os.path.join(folder, name)
        text = read(path)
        assert old in text, f"{name} has no {old}"
        write(path, text.replace(old, new))
        status, lines = verify(folder, *instances())
        shutil.rmtree(folder)
        assert status or lines, f"{name}: nothing said about {new}"


def properties(text):
    """{key: [values]} of a unit, sections put together."""
    found = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        found.setdefault(key, []).extend(value.split())
    return found


def test_order_of_stopping(t):
    """swapoff, then detach, then the server: the reverse of After=, each with a Requires= that starts the next."""
    folder = unit_dir(t)
    swap = properties(read(os.path.join(folder, "dev-nbd0.swap")))
    attach = properties(read(os.path.join(folder, "slabswap-attach@.service")))
    server = properties(read(os.path.join(folder, "slabswap-nbd@.service")))
    for unit, needs in (swap, f"slabswap-attach@{INSTANCE}.service"), (attach, "slabswap-nbd@%i.service"):
        assert needs in unit["After"] and needs in unit["Requires"], unit
    # The sessions end first; what ends swap and services at shutdown is what all of them have by default.
    assert "systemd-user-sessions.service" in swap["Before"]
    assert not any("DefaultDependencies" in unit for unit in (attach, server))
    # The default would order it before swap.target, which the network comes after: a loop
    # that systemd-analyze does not see where it takes the machine for a container.
    assert swap["DefaultDependencies"] == ["no"]
    assert "umount.target" in swap["Conflicts"] and "umount.target" in swap["Before"]
    # A server that dies is not started behind the back of a kernel that has lost it.
    assert server["Restart"] == ["no"] and server["Type"] == ["notify"]
    assert server["OOMScoreAdjust"] == ["-1000"] and server["MemorySwapMax"] == ["0"]


def test_install(t):
    """What meson installs, and where."""
    # A directory of its own: installing writes into the build directory.
    result = subprocess.run(["meson", "setup", "--prefix=/usr", t.path("build"), harness.ROOT], capture_output=True,
                            text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stdout[-2000:]
    result = subprocess.run(["meson", "introspect", "--installed", t.path("build")], capture_output=True, text=True,
                            check=True, timeout=60)
    for path in ("/usr/bin/slabswapctl", "/usr/libexec/slabswap-attach", "/usr/lib/systemd/system/slabswapd.service",
                 "/usr/lib/systemd/system/slabswap-nbd@.service", "/usr/lib/systemd/system/slabswap-attach@.service",
                 "/usr/share/doc/slabswap/examples/slabswap-nbd.ini", "/usr/share/doc/slabswap/examples/slabswapd.ini",
                 "/usr/share/doc/slabswap/examples/dev-nbd0.swap", "/usr/share/doc/slabswap/examples/swap0.attach",
                 "/usr/lib/sysctl.d/60-slabswap.conf", "/usr/lib/modules-load.d/slabswap-nbd.conf",
                 "/usr/lib/modules-load.d/slabswap-rdma.conf", "/usr/lib/tmpfiles.d/slabswap.conf",
                 "/usr/share/man/man8/slabswap-nbd.8", "/usr/share/man/man5/slabswapd.ini.5"):
        assert f'"{path}"' in result.stdout, f"not installed: {path}"
    for name in SERVICES:
        for program in re.findall(r"^Exec\w+=(\S+)", read(os.path.join(t.path("build"), "conf", name)), re.MULTILINE):
            if program == "/bin/kill":  # of procps, which systemd's own units use
                continue
            assert f'"{program}"' in result.stdout, f"{name} starts {program}, which is not installed"


def test_drop_ins(_):
    """Every line is one that its program understands."""
    for line in read(os.path.join(CONF, "tmpfiles.d/slabswap.conf")).splitlines():
        assert re.fullmatch(r"#.*|d /run/slabswap 0700 root root -", line), line
    for name in "slabswap-nbd.conf", "slabswap-rdma.conf":
        for line in read(os.path.join(CONF, "modules-load.d", name)).splitlines():
            assert re.fullmatch(r"#.*|\w+", line), line
    for line in read(os.path.join(CONF, "sysctl.d/60-slabswap.conf")).splitlines():
        match = re.fullmatch(r"([\w.]+) = \d+", line)
        assert match or line.startswith("#") or not line, line
        assert not match or os.path.exists("/proc/sys/" + match[1].replace(".", "/")), line


# The attach script, in a root of its own: a copy whose paths point there, and stand-ins that act on files.

STAND_INS = {
    "nbd-client": """
case $1 in
-unix)
	[ "$4 $5" = "-b 4096" ] || exit 9
	[ ! -e "$ROOT/refuse" ] || exit 1
	echo 1 >"$ROOT/sys/block/${3##*/}/pid" ;;
-d) rm "$ROOT/sys/block/${2##*/}/pid" ;;
esac
""",
    "blockdev": "echo 1048576\n",
    "blkid": 'cat "$ROOT/type" 2>/dev/null || exit 2\n',
    "mkswap": 'echo swap >"$ROOT/type"\n',
    "udevadm": "",
    "modprobe": "exit 1\n",
}


class Attach:
    def __init__(self, t, devices=2):
        self.t = t
        self.root = t.path("attach")
        text = read(os.path.join(CONF, "slabswap-attach"))
        for folder in "sys/block", "sys/module/nbd", "dev", "run/slabswap", "proc/self", "bin":
            os.makedirs(os.path.join(self.root, folder))
        # The stand-ins for devices are sockets, as the script asks for a special file that needs no root here.
        text = text.replace("[ -b ", "[ -e ").replace("PATH=/usr/sbin:", f"PATH={self.root}/bin:/usr/sbin:")
        text = re.sub(r"(?<![\w$/}])/(sys|dev|run|proc)/", rf"{self.root}/\1/", text)
        write(os.path.join(self.root, "slabswap-attach"), text, 0o755)
        for name, body in STAND_INS.items():
            write(os.path.join(self.root, "bin", name),
                  f'#!/bin/sh\nROOT={self.root}\necho "{name} $*" >>"$ROOT/calls"\n{body}', 0o755)
        for index in range(devices):
            os.mkdir(self.path(f"sys/block/nbd{index}"))
            write(self.path(f"dev/nbd{index}"), "")
        for name in "proc/swaps", "proc/self/mounts", "calls":
            write(self.path(name), "")
        self.socket = t.path("x.sock")
        os.mknod(self.socket, stat.S_IFSOCK | 0o600)

    def path(self, name):
        return os.path.join(self.root, name)

    def dev(self, index=0):
        return self.path(f"dev/nbd{index}")

    def run(self, verb, **env):
        result = subprocess.run([self.path("slabswap-attach"), verb, INSTANCE], capture_output=True, text=True,
                                check=False, timeout=30, env={"NBD_SOCKET": self.socket, **env})
        return result.returncode, result.stderr

    def calls(self):
        return read(self.path("calls")).splitlines()

    def is_attached(self, index=0):
        return os.path.exists(self.path(f"sys/block/nbd{index}/pid"))

    def link(self):
        return self.path(f"run/slabswap/{INSTANCE}.dev")


def test_attach_and_detach(t):
    a = Attach(t)
    assert a.run("attach", NBD_DEVICE=a.dev(1)) == (0, "")
    assert a.is_attached(1) and not a.is_attached(0)
    assert os.readlink(a.link()) == a.dev(1)
    assert not any(call.startswith(("mkswap", "blkid")) for call in a.calls())
    status, err = a.run("attach", NBD_DEVICE=a.dev(1))
    assert status == 1 and "in use already" in err
    assert a.run("detach") == (0, "")
    assert not a.is_attached(1) and not os.path.lexists(a.link())
    assert a.run("detach") == (0, ""), "detaching twice is harmless"


def test_attach_takes_a_free_device(t):
    a = Attach(t)
    write(a.path("sys/block/nbd0/pid"), "1")
    assert a.run("attach") == (0, "")
    assert os.readlink(a.link()) == a.dev(1)
    status, err = a.run("attach")
    assert status == 1 and "every" in err


def test_attach_makes_swap_of_an_empty_device_only(t):
    a = Attach(t)
    assert a.run("attach", MKSWAP="yes") == (0, "")
    assert f"mkswap -L slabswap-{INSTANCE} {a.dev()}" in a.calls()
    assert a.run("detach") == (0, "")
    write(a.path("calls"), "")
    assert a.run("attach", MKSWAP="yes") == (0, ""), "has a signature now"
    assert not any(call.startswith("mkswap") for call in a.calls())
    assert a.run("detach") == (0, "")
    write(a.path("type"), "ext4\n")
    status, err = a.run("attach", MKSWAP="yes")
    assert status == 1 and "holds ext4" in err, err
    assert not a.is_attached() and not os.path.lexists(a.link())
    assert a.run("attach") == (0, ""), "without MKSWAP the content does not matter"


def test_detach_refuses_a_device_in_use(t):
    a = Attach(t)
    assert a.run("attach") == (0, "")
    for name, word in ("proc/swaps", "swapoff"), ("proc/self/mounts", "umount"):
        write(a.path(name), f"{a.dev()} x\n")
        status, err = a.run("detach")
        assert status == 1 and word in err, err
        assert a.is_attached()
        write(a.path(name), f"{a.dev()}5 another one\n")
    assert a.run("detach") == (0, "")


def test_detach_after_the_server_died(t):
    a = Attach(t)
    assert a.run("attach") == (0, "")
    os.unlink(a.path("sys/block/nbd0/pid"))
    assert a.run("detach") == (0, "")
    assert not os.path.lexists(a.link())


def test_attach_errors(t):
    a = Attach(t)
    write(a.path("refuse"), "")
    status, err = a.run("attach")
    assert status == 1 and "nbd-client cannot attach" in err
    os.unlink(a.path("refuse"))
    status, err = a.run("attach", NBD_SOCKET=t.path("gone.sock"))
    assert status == 1 and "is not there" in err
    status, err = a.run("attach", NBD_DEVICE=a.path("dev/nbd9"))
    assert status == 1 and "not a block device" in err
    status, err = a.run("nosuch")
    assert status == 1 and "no such command" in err
    os.rmdir(a.path("sys/module/nbd"))
    status, err = a.run("attach")
    assert status == 1 and "no nbd module" in err
    assert not a.is_attached()


if __name__ == "__main__":
    harness.main(globals())

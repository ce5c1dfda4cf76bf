#!/usr/bin/python3
"""The units, as installed, in a guest with systemd: swap comes up at boot, goes down in order."""

import json
import re
from pathlib import Path

import deploy
import guestvm
import runner

CONF = guestvm.REPO / "conf"
ADDRESS = "10.99.0.1"
UNITS = ("slabswapd.service", "slabswap-nbd@swap0.service", "slabswap-attach@swap0.service",
         "dev-nbd0.swap")

# Stands for a network card that does RDMA.
RXE_UNIT = """\
[Unit]
DefaultDependencies=no
After=systemd-modules-load.service
Before=slabswapd.service slabswap-nbd@swap0.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=modprobe -a {modules}
ExecStart=rdma link add rxe0 type rxe netdev eth0
[Install]
WantedBy=sysinit.target
"""


def installed(build):
    """{where "meson install" puts it: the file} of everything but the manual pages."""
    files = json.loads((build / "meson-info/intro-installed.json").read_text(encoding="utf-8"))
    return {target: Path(source) for source, target in files.items() if "/man/" not in target}


def example(name, changes):
    """An example of conf/ with some keys set, as an administrator would."""
    text = (CONF / name).read_text(encoding="utf-8")
    for key, value in changes.items():
        text, count = re.subn(rf"^;?{key} =.*$", f"{key} = {value}", text, flags=re.MULTILINE)
        assert count == 1, f"{name}: {key}: {count}"
    return text


def files(lab):
    modules = ["rdma_rxe", *(["crc32_generic"] if lab.run.kernel.series == "6.12" else [])]
    found = installed(lab.build)
    found.update({
        "/etc/systemd/system/rxe.service": RXE_UNIT.format(modules=" ".join(modules)),
        "/etc/systemd/system/dev-nbd0.swap": CONF / "systemd/dev-nbd0.swap",
        "/etc/slabswap/swap0.attach": CONF / "swap0.attach",
        "/etc/slabswap/slabswapd.ini": example("slabswapd.ini", {
            "listen": f"rdma:{ADDRESS}:9400", "max": "128M", "max_per_client": "128M", "headroom": "0"}),
        "/etc/slabswap/swap0.ini": example("slabswap-nbd.ini", {
            "size": "128M", "path": "/dev/vda", "portals": f"rdma:{ADDRESS}:9400",
            "buffers": "8M"}),
    })
    return found


def boot(lab, disk):
    more = 512 if deploy.is_sanitized(lab.build) else 0
    guest, = lab.shared("systemd", lambda: (lab.run.guest(
        "systemd", mem_mib=640 + more, smp=2, systemd=True, disks=[disk], links=[(lab.link, 1)],
        files=files(lab), enable=["rxe.service", "slabswapd.service", "dev-nbd0.swap"]),))
    return guest


def check_up(guest):
    _, out = guest.run("systemctl is-system-running; systemctl --failed --no-legend --plain; "
                       f"systemctl is-active {' '.join(UNITS)}; cat /proc/swaps", check=False)
    lines = out.splitlines()
    assert lines[:5] == ["running"] + ["active"] * 4, out
    assert re.search(r"^/dev/nbd0\s.*\s100$", out, re.MULTILINE), out
    assert guest.run("sysctl -n vm.watermark_boost_factor")[1] == "0\n"


def check_order(text, *lines):
    """The lines are in the text, each after the one before. All of systemd's or all of one
    program's: the journal reads them from a socket each."""
    position = 0
    for line in lines:
        found = text.find(line, position)
        assert found >= 0, f"{line!r} is not there, or too early, in\n{text}"
        position = found + len(line)


def check_swaps(guest, build):
    """The daemon's memory is used: what the hog may not keep goes there and comes back."""
    guest.run("echo 16M >/sys/fs/cgroup/swappable/memory.max")
    hog = deploy.Hog(guest, build, "--size 32M --rounds 1 --threads 4")
    assert hog.finish(90)["mismatches"] == 0
    status = json.loads(guest.run(f"{build}/slabswapctl status /run/slabswap/swap0.ctl")[1])
    assert status["pages"]["read_remote"] > 1000, status
    # What only the server's own memory could be swapped out to.
    limit = guest.run("cat /sys/fs/cgroup/system.slice/system-slabswap\\\\x2dnbd.slice/"
                      "slabswap-nbd@swap0.service/memory.swap.max")[1]
    assert limit == "0\n", limit


@runner.deadline(400)
def test_boot_and_shutdown(lab):
    guest = boot(lab, 256 << 20)
    disk = guest.disks[0]
    check_up(guest)
    boot_log = guest.console
    # The attach script fails if the server says READY before its socket is there.
    check_order(boot_log, "Started slabswap-nbd@swap0.service",
                "Starting slabswap-attach@swap0.service",
                "Finished slabswap-attach@swap0.service", "Activated swap dev-nbd0.swap")
    assert "ordering cycle" not in boot_log and "cyclic" not in boot_log, boot_log
    check_swaps(guest, lab.build)
    guest.shutdown(90)
    stop_log = guest.console[len(boot_log):]
    check_order(stop_log, "device swap0: stopping: Terminated", "device swap0: stopped")
    check_order(stop_log, "Deactivated swap dev-nbd0.swap",
                "Stopping slabswap-attach@swap0.service", "Stopped slabswap-attach@swap0.service",
                "Stopping slabswap-nbd@swap0.service",
                # systemd says so of status 0 only
                "slabswap-nbd@swap0.service: Deactivated successfully")
    assert "I/O error" not in guest.console, guest.console
    with open(disk, "rb") as backup:
        backup.seek(4086)
        assert backup.read(10) == b"SWAPSPACE2", "what mkswap wrote is not on the backup"

    # The same disk again: it holds a swap signature already.
    lab.drop("systemd")
    guest = boot(lab, disk)
    check_up(guest)
    assert "Setting up swapspace" not in guest.console, guest.console
    guest.run("systemctl stop slabswap-nbd@swap0.service", timeout=90)
    _, out = guest.run("cat /proc/swaps; ls /sys/block/nbd0; "
                       f"systemctl is-active {' '.join(UNITS)}", check=False)
    assert "/dev/nbd0" not in out and "\npid\n" not in out, out
    assert out.splitlines()[-4:] == ["active", "inactive", "inactive", "inactive"], out
    lab.drop("systemd")


if __name__ == "__main__":
    runner.main()

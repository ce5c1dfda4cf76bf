#!/usr/bin/python3
"""The harness itself: guests boot, and have verbs, kernel NBD, swap and each other."""

import json

import guestvm
import runner

PING = "/run/vm-agent/busybox ping"


def test_commands(lab):
    guest = lab.one()
    assert guest.run("exit 3", check=False)[0] == 3
    assert guest.run("echo one; echo two >&2")[1] == "one\n"
    job = guest.spawn("exec tail -f /dev/null")
    assert job.poll() is None
    job.kill()
    assert job.wait(10, check=False)[0] == 128 + 9
    try:
        guest.run("tail -f /dev/null", timeout=0.5)
        raise AssertionError("no deadline")
    except guestvm.GuestTimeout:
        pass
    assert guest.run(f"test -x {guestvm.REPO}/scripts/fetch-kernel && uname -r")[0] == 0


def test_verbs_in_one_guest(lab):
    guest = lab.one()
    server = guest.spawn("exec ib_write_lat -d rxe0 -x 1 -n 100 -s 4096")
    guest.wait_for("ss -ltn | grep -q :18515")
    guest.run(f"ib_write_lat -d rxe0 -x 1 -n 100 -s 4096 {guest.address}", timeout=60)
    server.wait(30)


def test_swap_on_kernel_nbd(lab):
    guest = lab.one()
    # A hog with more pages than it may keep; the rest must fit into nbdkit in the same guest.
    server = guest.spawn("exec nbdkit -f -U /run/nbd.sock memory 64M")
    guest.wait_for("test -S /run/nbd.sock")
    guest.run("nbd-client -unix /run/nbd.sock /dev/nbd0 -b 4096")
    guest.run("mkswap /dev/nbd0 && swapon /dev/nbd0")
    guest.run("echo 4M >/sys/fs/cgroup/swappable/memory.max")
    out = guest.run(f"{memhog(lab)} --size 8M --rounds 1", timeout=150, swappable=True)[1]
    result = json.loads(out)
    assert result["mismatches"] == 0, out
    pages_in = int(guest.run("awk '/^pswpin/ {print $2}' /proc/vmstat")[1])
    assert pages_in > result["pages"] / 4, f"only {pages_in} pages came from swap"
    guest.run("echo max >/sys/fs/cgroup/swappable/memory.max; swapoff /dev/nbd0")
    guest.run("nbd-client -d /dev/nbd0")
    server.kill("TERM")
    server.wait(10, check=False)


def test_verbs_between_guests(lab):
    donor, client = lab.pair()
    for address in (donor.address, donor.address6):
        server = donor.spawn(f"exec rping -s -a {address} -C 20 -S 4096")
        # rping says nothing when it listens: try until it does
        client.wait_for(f"rping -c -a {address} -C 20 -S 4096", timeout=60)
        server.wait(30, check=False)


def test_cable_and_power_cord(lab):
    donor, client = lab.pair()
    client.run(f"{PING} -c 1 -W 5 {donor.address}")
    donor.set_link(False)
    client.run(f"! {PING} -c 1 -W 1 {donor.address}")
    donor.set_link(True)
    client.wait_for(f"{PING} -c 1 -W 1 {donor.address}")
    donor.power_off()
    client.run(f"! {PING} -c 1 -W 1 {donor.address}")
    try:
        donor.run("true")
        raise AssertionError("the donor still answers")
    except guestvm.GuestDied:
        pass
    assert client.alive()


def test_systemd(lab):
    unit = ("[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=echo begin\n"
            "ExecStop=echo an orderly end\n[Install]\nWantedBy=multi-user.target\n")
    guest, = lab.shared("systemd", lambda: (lab.run.guest(
        "systemd", systemd=True, smp=2, files={"/etc/systemd/system/probe.service": unit},
        enable=["probe.service"]),))
    assert guest.run("systemctl is-active probe.service multi-user.target")[0] == 0
    assert guest.run("systemctl is-system-running")[1] == "running\n"
    guest.shutdown()
    assert "an orderly end" in guest.console, "the console has no journal"
    lab.drop("systemd")


def memhog(lab):
    return lab.build / "tests/tools/memhog"


if __name__ == "__main__":
    runner.main()

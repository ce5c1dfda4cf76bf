#!/usr/bin/python3
"""The rdma transport between two processes of one guest, and between two guests."""

import re
import time

import runner


class Server:
    """tp-peer's server in a guest, and the clients that talk to it."""

    def __init__(self, lab, guest, host=None, options=""):
        self._peer = f"{lab.build}/tests/tools/tp-peer --transport rdma -v {options}"
        self.guest = guest
        self.job = guest.spawn(f"exec {self._peer} server {host or guest.address}:0")
        wait_output(self.job, "listening")
        self.address = re.search(r"^listening rdma:(\S+)$", self.job.stdout, re.MULTILINE).group(1)

    def command(self, tests, address=None, options=""):
        return f"exec {self._peer} {options} client {address or self.address} --test {tests}"

    def client(self, tests, guest=None, address=None, options="", timeout=100):
        return (guest or self.guest).run(self.command(tests, address, options), timeout=timeout)[1]

    def stop(self):
        """Its own checks are part of the test: all memory comes back."""
        self.job.kill("TERM")
        self.job.wait(20)


def wait_output(job, text, timeout=30):
    deadline = time.monotonic() + timeout
    while text not in job.stdout:
        if job.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"no {text!r} from {job.command}\n{job.stdout}\n{job.stderr}")
        time.sleep(0.05)


def one(lab):
    def make():
        return lab.run.guest("rdma", mem_mib=768, smp=2),
    guest, = lab.shared("rdma", make)
    guest.rdma_up()
    return guest


def check_no_kernel_complaint(guest):
    log = guest.dmesg()
    assert "WARNING" not in log and "BUG" not in log, log


@runner.deadline(240)
def test_conformance(lab):
    guest = one(lab)
    server = Server(lab, guest)
    print(server.client("all", timeout=200))
    assert "type 2B memory windows" in server.job.stderr, server.job.stderr
    server.stop()
    check_no_kernel_complaint(guest)


@runner.deadline(240)
def test_conformance_without_windows(lab):
    guest = one(lab)
    server = Server(lab, guest, options="--register-grants")
    server.client("all", timeout=200)
    assert "one registration per grant" in server.job.stderr, server.job.stderr
    server.stop()
    check_no_kernel_complaint(guest)


def test_addresses(lab):
    guest = one(lab)
    link_local = re.search(r"inet6 (fe80::\S+)/64", guest.run("ip -6 addr show dev eth0")[1])
    for host in (f"[{guest.address6}]", f"[{link_local.group(1)}%eth0]"):
        server = Server(lab, guest, host)
        server.client("connect,messages,ops,revoked,closed-by-peer")
        server.stop()
    for host, targets in (("0.0.0.0", [guest.address]), ("[::]", [f"[{guest.address6}]"])):
        server = Server(lab, guest, host)
        for target in targets:
            port = server.address.rsplit(":", 1)[1]
            server.client("connect,ops", address=f"{target}:{port}")
        server.stop()


def test_refused_and_timeout(lab):
    guest = one(lab)
    server = Server(lab, guest, options="--refuse")
    server.client("refusing-server")
    unreachable = f"{guest.address.rpartition('.')[0]}.77:9400"
    server.client("timeout", options=f"--unreachable {unreachable}")
    server.stop()


def test_not_our_protocol(lab):
    """Another program's connection is refused with a reason, and the server goes on."""
    guest = one(lab)
    server = Server(lab, guest)
    host, port = server.address.rsplit(":", 1)
    status, out = guest.run(f"timeout 20 rping -c -a {host} -p {port} -C 1 2>&1", check=False)
    assert status not in (0, 124), out
    server.client("server-clean")
    assert "not our protocol" in server.job.stderr, server.job.stderr
    server.stop()


def test_killed_server(lab):
    guest = one(lab)
    server = Server(lab, guest)
    print(server.client("kill-server"))
    server.job.wait(20, check=False)
    server = Server(lab, guest)
    server.client("ops")
    server.stop()


def test_killed_client(lab):
    guest = one(lab)
    server = Server(lab, guest)
    for _ in range(3):
        client = guest.spawn(server.command("lose-server"))
        wait_output(client, "in flight")
        client.kill("KILL")
        client.wait(20, check=False)
        start = time.monotonic()
        server.client("server-clean")
        assert time.monotonic() - start < 10
    server.client("ops")
    server.stop()
    check_no_kernel_complaint(guest)


def lose_device(lab, command):
    """Connections over it end at both ends, the processes do not."""
    guest = one(lab)
    server = Server(lab, guest)
    client = guest.spawn(server.command("lose-server"))
    wait_output(client, "in flight")
    losing = guest.spawn(command)
    client.wait(30)
    # An op or the peer may notice before the device says so.
    assert re.search(r"^reason -\d+,", client.stdout, re.MULTILINE), client.stdout + client.stderr
    wait_output(server.job, "down -")
    assert server.job.poll() is None
    server.stop()
    losing.wait(20)
    # The kernel's own RDMA does not survive this: another machine for the next test.
    lab.drop("rdma")
    return server.job.stderr


def test_port_down(lab):
    assert "port 1: port error" in lose_device(lab, "ip link set eth0 down")


def test_device_removed(lab):
    assert "the device is gone" in lose_device(lab, "rdma link delete rxe0")


@runner.deadline(240)
def test_two_guests(lab):
    donor, client = lab.pair()
    server = Server(lab, donor)
    print(server.client("all", client, timeout=200))
    server.stop()


@runner.deadline(180)
def test_power_off(lab):
    donor, client = lab.pair()
    server = Server(lab, donor)
    job = client.spawn(server.command("lose-server"))
    wait_output(job, "in flight")
    donor.power_off()
    print(job.wait(30)[1])
    assert "reason -110" in job.stdout, job.stdout
    lab.drop("pair")


if __name__ == "__main__":
    runner.main()

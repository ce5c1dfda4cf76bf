#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""slabswap-nbd --doctor: every check is made to fail where a host without virtual machines can, and the exit status.

What only a whole machine has (everything right, no nbd module, no RDMA) is tests/vm/test_doctor.py."""
import collections
import os
import re
import shutil
import socket
import subprocess
import threading
import time

import device
import harness
from dns_server import DnsServer

MIB = device.MIB
TIMEOUT_MS = 1000
Finding = collections.namedtuple("Finding", "verdict what text fix")


def parse(output):
    """The findings; each line has its form, and each but an "ok" its command."""
    findings = []
    for line in output.splitlines():
        if match := re.fullmatch(r"(ok|warning|failure) +([^:]+): (.+)", line):
            findings.append(Finding(*match.groups(), None))
            continue
        assert line.startswith(" " * 9) and line.strip(), f"neither a finding nor a command: {line!r}"
        last = findings.pop()
        assert last.verdict != "ok" and last.fix is None, f"a command too many: {line!r}"
        findings.append(last._replace(fix=line.strip()))
    for finding in findings:
        assert finding.verdict == "ok" or finding.fix, f"nothing mends it: {finding}"
    return findings


class Doctor:
    """One configuration, and runs over it."""

    def __init__(self, t, portals=(), **sections):
        self.t = t
        self.folder = device.disk_dir(t)
        self.sections = {
            "device": {"name": "swap0", "size": "8M", "slab_size": "1M"},
            "nbd": {"listen": f"unix:{t.path('x.sock')}", "control": t.path("x.ctl")},
            "backup": {"path": os.path.join(self.folder, "backup.img")},
            "daemons": {"portals": ", ".join(portals)} if portals else {},
            "limits": {"buffers": "4M", "connect_timeout_ms": TIMEOUT_MS},
        }
        for section, keys in sections.items():
            self.sections[section] = self.sections[section] | keys

    def write(self):
        return harness.write_ini(self.t.path("x.ini"), self.sections)

    def run(self, wrapper=(), **popen):
        ini = self.write()
        return subprocess.run([*wrapper, harness.built("slabswap-nbd"), "-c", ini, "--doctor"], capture_output=True,
                              text=True, check=False, timeout=60, stdin=subprocess.DEVNULL, **popen)

    def findings(self, wrapper=()):
        """Those of a good file: nothing on standard error, and the status says whether one is a failure."""
        result = self.run(wrapper)
        assert result.stderr == "", result.stderr
        findings = parse(result.stdout)
        has_failure = any(f.verdict == "failure" for f in findings)
        assert result.returncode == (1 if has_failure else 0), f"{result.returncode}: {result.stdout}"
        return findings

    def expect(self, verdict, what, text, fix="", wrapper=()):
        """Among the findings is this one."""
        findings = self.findings(wrapper)
        for finding in findings:
            if (finding.verdict, finding.what) == (verdict, what) and text in finding.text \
                    and fix in (finding.fix or ""):
                return findings
        raise AssertionError(f"not found: {verdict} {what}: {text} ({fix})\n" + "\n".join(map(str, findings)))


def of(findings, what):
    return [(f.verdict, f.text) for f in findings if f.what == what]


def root_wrapper(*argv):
    """A command before the doctor's that takes from it what root has."""
    if os.geteuid() != 0:
        raise harness.Skip("only root has something to give up")
    harness.require(argv[0])
    return argv


def manual_subjects():
    """What the manual page's section says that is looked at."""
    with open(os.path.join(harness.ROOT, "docs/man/slabswap-nbd.8"), encoding="utf-8") as file:
        section = re.search(r"\.SH DOCTOR\n(.*?)\n\.SH ", file.read(), re.DOTALL)[1]
    headings = re.findall(r"^\.TP\n\.BR? (.*)$", section, re.MULTILINE)
    return {name.strip('"').replace("\\-", "-") for line in headings for name in re.split(r' ", " |, ', line)}


def listing(folder):
    return sorted((name, os.stat(os.path.join(folder, name)).st_size) for name in os.listdir(folder))


def make_file(path, size):
    with open(path, "wb") as out:
        out.truncate(size)


def test_all_checks_are_there(t):
    """With a daemon that lends enough; and nothing was made, locked or left."""
    psk = device.write_secret(t.path("psk"), "0123456789abcdef")
    daemon = device.Daemon(t, psk_file=psk)
    daemon.wait_free(8)
    doctor = Doctor(t, [daemon.portal], daemons={"psk_file": psk})
    doctor.write()
    before = listing(t.dir), listing(doctor.folder)
    findings = doctor.expect("ok", "portal", "lends, 8 of 8 slabs are free")
    assert [name for name, _ in before[0]] == [name for name, _ in listing(t.dir)]
    assert before[1] == listing(doctor.folder)
    subjects = [f.what for f in findings]
    for what in ("server", "user", "CAP_SYS_RESOURCE", "CAP_IPC_LOCK", "CAP_SYS_NICE", "PR_SET_IO_FLUSHER", "io_uring",
                 "RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "memory", "cgroup", "kernel", "vm.watermark_boost_factor",
                 "vm.min_free_kbytes", "vm.swappiness", "vm.page-cluster", "zswap", "nbd module", "nbd-client", "swap",
                 "swap cycle", "backup", "O_DIRECT", "listen socket", "control socket", "rdma", "psk_file", "portal",
                 "remote memory"):
        assert what in subjects, f"no finding about {what}: {subjects}"
    documented = manual_subjects()
    assert documented >= set(subjects), f"not in the manual page: {set(subjects) - documented}"
    for what in "listen socket", "control socket", "psk_file", "remote memory", "O_DIRECT", "kernel":
        assert [v for v, _ in of(findings, what)] == ["ok"], of(findings, what)
    harness.wait_for(lambda: "left" in daemon.process.log(), "the doctor has left the daemon")
    daemon.wait_free(8)


def test_capabilities(t):
    doctor = Doctor(t)
    for name in "sys_resource", "ipc_lock", "sys_nice":
        wrapper = root_wrapper("setpriv", "--bounding-set", f"-{name}", "--inh-caps", f"-{name}")
        verdict = "failure" if name == "sys_resource" else "warning"
        doctor.expect(verdict, f"CAP_{name.upper()}", "missing", "its bounding set lacks", wrapper)
    wrapper = root_wrapper("setpriv", "--bounding-set", "-sys_resource", "--inh-caps", "-sys_resource")
    doctor.expect("failure", "PR_SET_IO_FLUSHER", "not permitted", "CAP_SYS_RESOURCE", wrapper)


def test_memlock(t):
    doctor = Doctor(t)
    without = root_wrapper("setpriv", "--bounding-set", "-ipc_lock", "--inh-caps", "-ipc_lock")
    harness.require("prlimit")
    doctor.expect("failure", "RLIMIT_MEMLOCK", "64 KiB, but ", "ulimit -l ",
                  ("prlimit", "--memlock=65536:65536", *without))
    doctor.expect("ok", "RLIMIT_MEMLOCK", "which CAP_IPC_LOCK lifts", "", ("prlimit", "--memlock=65536:65536"))


def test_descriptors(t):
    harness.require("prlimit")
    doctor = Doctor(t, nbd={"max_connections": 500})
    doctor.expect("failure", "RLIMIT_NOFILE", "max_connections = 500", "ulimit -n 572", ("prlimit", "--nofile=256"))
    doctor.expect("ok", "RLIMIT_NOFILE", "572 are needed", "", ("prlimit", "--nofile=572"))


def test_dns(t):
    server = DnsServer(t)
    name = "_slabswap._tcp.swap.test"
    daemons = [device.Daemon(t, name=f"d{i}") for i in range(2)]
    server.srv(name, [("a.swap.test", int(d.portal.rsplit(":", 1)[1])) for d in daemons] + [("a.swap.test", 1)])
    server.host("a.swap.test", "127.0.0.1")
    doctor = Doctor(t, portals=[f"dns:{name}"])
    doctor.sections["daemons"] |= {"dns_servers": server.address, "max_portals": 2}
    doctor.expect("ok", "dns", f"dns:{name}: 3 daemons")
    findings = doctor.expect("warning", "dns", "3 daemons in all, max_portals lets 2 be used", "max_portals = 3")
    assert sorted(v for v, _ in of(findings, "portal")) == ["failure", "ok", "ok"], findings
    server.srv(name, [("b.swap.test", 1)])
    findings = doctor.expect("failure", "dns", "no target has an address", f"dig SRV {name}")
    assert of(findings, "portal") == [], findings
    server.silent = True
    doctor.expect("failure", "dns", "no answer in time", "dig SRV")


def test_not_root(t):
    root_wrapper("setpriv")
    os.chmod(t.dir, 0o755)
    binary = shutil.copy(harness.built("slabswap-nbd"), t.dir)
    doctor = Doctor(t)
    result = subprocess.run([binary, "-c", doctor.write(), "--doctor"], user=65534, group=65534, extra_groups=[],
                            capture_output=True, text=True, check=False, timeout=60)
    findings = parse(result.stdout)
    assert result.returncode == 1 and not result.stderr, result
    assert of(findings, "user")[0][0] == "warning", findings
    assert of(findings, "CAP_SYS_RESOURCE")[0][0] == "failure", findings
    assert of(findings, "listen socket")[0][0] == "failure", findings


def test_backup_missing(t):
    doctor = Doctor(t)
    doctor.expect("warning", "backup", "does not exist and becomes a file", "a partition")
    doctor.expect("ok", "O_DIRECT", "works")
    doctor.sections["backup"]["path"] = "/dev/slabswap-no-such-device"
    doctor.expect("failure", "backup", "no such device", "lsblk")
    doctor.sections["backup"]["path"] = os.path.join(doctor.folder, "no", "backup")
    doctor.expect("failure", "backup", "there is no directory", f"install -d -m 700 {doctor.folder}/no")
    doctor.sections["backup"]["path"] = "/dev/null"
    doctor.expect("failure", "backup", "neither a block device nor a file", "lsblk")


def test_backup_file(t):
    doctor = Doctor(t)
    path = doctor.sections["backup"]["path"]
    make_file(path, 8 * MIB)
    findings = doctor.expect("warning", "backup", "is a file", "a partition")
    assert [v for v, _ in of(findings, "backup's size") + of(findings, "backup's contents")] == ["ok", "ok"], findings
    make_file(path, 4 * MIB)
    doctor.expect("failure", "backup's size", "has 4 MiB, the device needs 8 MiB", "a smaller [device] size")
    make_file(path, 8 * MIB)
    with open(path, "r+b") as out:
        out.seek(1080)
        out.write(b"\x53\xef")
    doctor.expect("warning", "backup's contents", "ext4", "wipefs -a")
    doctor.sections["device"]["size"] = "32T"
    doctor.expect("failure", "backup's space", "MiB are free", "a smaller [device] size")


def test_backup_in_memory(t):
    if not os.path.ismount("/dev/shm"):
        raise harness.Skip("/dev/shm is no file system in memory")
    doctor = Doctor(t, backup={"path": f"/dev/shm/slabswap-doctor-{os.getpid()}"})
    path = doctor.sections["backup"]["path"]
    make_file(path, 8 * MIB)
    t.defer(os.unlink, path)
    doctor.expect("failure", "backup's file system", "is in memory", "on a disk")


def test_backup_in_use(t):
    running = device.Device(t, size=8 * MIB)
    doctor = Doctor(t, backup={"path": running.backup})
    doctor.expect("failure", "backup's lock", f"slabswap-nbd (process {running.process.pid})", "fuser")


def test_running_server(t):
    """Of the server that serves this device nothing is in the way."""
    daemon = device.Daemon(t)
    running = device.Device(t, size=8 * MIB, portals=[daemon.portal])
    running.wait_up()
    doctor = Doctor(t, [daemon.portal], backup={"path": running.backup},
                    nbd={"listen": f"unix:{running.socket}", "control": running.control})
    findings = doctor.expect("ok", "server", f"process {running.process.pid}")
    for what in "backup's lock", "listen socket", "control socket":
        assert of(findings, what)[0][0] == "ok" and "running server's" in of(findings, what)[0][1], findings
    running.no_errors()


def test_sockets(t):
    doctor = Doctor(t)
    folder = t.path("run")
    path = os.path.join(folder, "x.sock")
    doctor.sections["nbd"]["listen"] = f"unix:{path}"
    doctor.expect("failure", "listen socket", "there is no directory", f"install -d -m 700 {folder}")
    os.mkdir(folder)
    os.chmod(folder, 0o777)
    doctor.expect("failure", "listen socket", "mode 0777", f"chmod 700 {folder}")
    os.chmod(folder, 0o750)
    doctor.expect("warning", "listen socket", "mode 0750", f"chmod 700 {folder}")
    os.chmod(folder, 0o700)
    doctor.expect("ok", "listen socket", "can be made")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        doctor.expect("failure", "listen socket", f"(process {os.getpid()})", "another path")
    doctor.expect("ok", "listen socket", "from a server that is gone")
    os.unlink(path)
    make_file(path, 0)
    doctor.expect("failure", "listen socket", "is in the way", f"rm {path}")
    doctor.sections["nbd"] = {"listen": "tcp:127.0.0.1:10809", "control": path}
    doctor.expect("warning", "listen socket", "whoever reaches it", "unix:")
    doctor.expect("failure", "control socket", "is in the way", f"rm {path}")


def test_portals_unreachable(t):
    doctor = Doctor(t)
    doctor.expect("warning", "portal", "none", "[daemons] portals")
    doctor = Doctor(t, [f"tcp:127.0.0.1:{device.reserve_port(t)}"])
    doctor.expect("failure", "portal", "Connection refused", "on 127.0.0.1: systemctl start slabswapd")
    doctor.expect("warning", "swap cycle", "is this host", "remove it")
    doctor.expect("warning", "psk_file", "not set", "openssl rand")
    doctor = Doctor(t, [f"shm:{t.path('none')}"])
    doctor.expect("failure", "portal", "Connection refused", "on localhost: systemctl start slabswapd")
    doctor.expect("warning", "swap cycle", "is this host", "remove it")
    doctor.expect("ok", "psk_file", "no daemon of another host")


def test_portal_of_this_host(t):
    daemon = device.Daemon(t, listen=f"shm:{t.path('d.shm')}")
    doctor = Doctor(t, [daemon.portal])
    doctor.expect("ok", "portal", "lends, 8 of 8 slabs are free")
    plain = Doctor(t, [daemon.portal], device={"slab_size": "2M"})
    plain.expect("failure", "portal", "slabs here have 1048576 bytes", "slabswapd.ini of localhost")


def test_portals_refusing(t):
    key = device.write_secret(t.path("psk"), "0123456789abcdef")
    wrong = device.write_secret(t.path("wrong"), "fedcba9876543210")
    plain = device.Daemon(t, name="plain")
    secret = device.Daemon(t, name="secret", psk_file=key)
    doctor = Doctor(t, [plain.portal], device={"slab_size": "2M"})
    doctor.expect("failure", "portal", "slabs here have 1048576 bytes", "slab_size in")
    doctor = Doctor(t, [secret.portal])
    doctor.expect("failure", "portal", "asks for a psk, and psk_file is not set", "scp 127.0.0.1:")
    doctor = Doctor(t, [secret.portal, plain.portal], daemons={"psk_file": wrong})
    findings = doctor.expect("failure", "portal", "its psk differs", f"scp 127.0.0.1:PSK_FILE {wrong}")
    assert [v for v, _ in of(findings, "portal")] == ["failure", "failure"], findings
    doctor.expect("failure", "portal", "does not ask for the psk", "psk_file in slabswapd.ini")


def test_portals_full(t):
    daemon = device.Daemon(t, memory={"max": "4M"}, max_clients=1)
    daemon.wait_free(4)
    doctor = Doctor(t, [daemon.portal])
    doctor.expect("warning", "remote memory", "4 slabs are free, the device has 8", "a larger [memory] max")
    running = device.Device(t, portals=[daemon.portal])
    running.wait_up()
    doctor.expect("failure", "portal", "1 clients are served already", "max_clients")


def answer(listener, text):
    """Sends @text to each that connects, and never anything else."""
    kept = []
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        kept.append(connection)
        if text:
            connection.sendall(text)


def silent_portal(t, text=b""):
    listener = socket.create_server(("127.0.0.1", 0))
    t.defer(listener.close)
    t.defer(listener.shutdown, socket.SHUT_RDWR)
    threading.Thread(target=answer, args=(listener, text), daemon=True).start()
    return f"tcp:127.0.0.1:{listener.getsockname()[1]}"


def test_portals_silent(t):
    """All of them at once: together they take as long as one, and less than two seconds more."""
    good = device.Daemon(t)
    portals = [silent_portal(t) for _ in range(4)]
    doctor = Doctor(t, [*portals, good.portal])
    started = time.monotonic()
    findings = doctor.expect("failure", "portal", "Connection timed out", "ping 127.0.0.1")
    spent = time.monotonic() - started
    assert [v for v, _ in of(findings, "portal")] == ["failure"] * 4 + ["ok"], findings
    assert TIMEOUT_MS / 1000 <= spent < TIMEOUT_MS / 1000 + 2, spent


def test_portal_of_something_else(t):
    doctor = Doctor(t, [silent_portal(t, b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n" * 20)])
    findings = doctor.findings()
    assert [v for v, _ in of(findings, "portal")] == ["failure"], findings


def test_lends_too(t):
    daemon = device.Daemon(t)
    doctor = Doctor(t)
    doctor.expect("warning", "swap cycle", "lends too (slabswapd, process ", "systemctl disable --now slabswapd")
    daemon.process.stop()
    assert f"process {daemon.process.pid})" not in str(of(doctor.findings(), "swap cycle"))


def test_no_rdma(t):
    if os.path.exists("/dev/infiniband"):
        raise harness.Skip("this host has RDMA")
    doctor = Doctor(t, ["rdma:127.0.0.1:9400"])
    result = doctor.run()
    if result.returncode == 2:
        raise harness.Skip("built without RDMA")
    doctor.expect("failure", "rdma_ucm", "no /dev/infiniband/rdma_cm", "modprobe -a rdma_ucm ib_uverbs")
    doctor.expect("failure", "rdma device", "", "rdma_rxe")
    doctor.expect("failure", "portal", "cannot be reached", "modprobe")


def check_status_2(t, sections, text):
    """As --check says it, and nothing else."""
    doctor = Doctor(t)
    for section, keys in sections.items():
        doctor.sections[section] = doctor.sections[section] | keys
    result = doctor.run()
    check = subprocess.run([harness.built("slabswap-nbd"), "-c", t.path("x.ini"), "--check"], capture_output=True,
                           text=True, check=False, timeout=20)
    assert result.returncode == 2 and result.stdout == "" and text in result.stderr, result
    assert result.stderr == check.stderr, f"{result.stderr}\n{check.stderr}"


def test_bad_configuration(t):
    check_status_2(t, {"device": {"size": "17X"}}, "[device] size = 17X: not a size")
    psk = device.write_secret(t.path("psk"), "0123456789abcdef")
    os.chmod(psk, 0o644)
    check_status_2(t, {"daemons": {"psk_file": psk}}, "open to group or others (mode 0644)")


def test_usage(t):
    doctor = Doctor(t)
    ini = doctor.write()
    for argv in (["slabswap-nbd", "--doctor"], ["slabswap-nbd", "-c", ini, "--doctor", "--check"],
                 ["slabswapd", "-c", ini, "--doctor"]):
        result = subprocess.run([harness.built(argv[0]), *argv[1:]], capture_output=True, text=True, check=False,
                                timeout=20)
        assert result.returncode == 2 and result.stderr.count("\n") == 1 and not result.stdout, f"{argv}: {result}"
    for name, has_doctor in ("slabswap-nbd", True), ("slabswapd", False):
        text = subprocess.run([harness.built(name), "--help"], capture_output=True, text=True, check=True).stdout
        assert ("--doctor" in text) == has_doctor, text


if __name__ == "__main__":
    harness.main(globals())

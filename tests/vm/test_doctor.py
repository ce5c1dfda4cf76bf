#!/usr/bin/python3
"""slabswap-nbd --doctor on machines of its own: with everything right, and with what only a guest can lack."""

import re

import deploy
import runner

PSK = "/run/slabswap/psk"
# Not a secret: both ends have to have the same.
KEY = "0123456789abcdef0123456789abcdef"


def pair(lab):
    """(donor, client): the client with two disks of 512 MiB, its kernel set as the documents say."""
    more = 512 if deploy.is_sanitized(lab.build) else 0

    def make():
        return (lab.run.guest("donor", mem_mib=640 + more, links=[(lab.link, 2)]),
                lab.run.guest("client", mem_mib=256 + more, links=[(lab.link, 1)],
                              disks=[512 << 20, 512 << 20]))
    guests = lab.shared("doctor", make)
    for guest in guests:
        guest.rdma_up()
        guest.run(f"mkdir -p -m 700 /run/slabswap && (umask 077; echo {KEY} >{PSK})")
    # A guest with ASan has more memory, of which more has to be kept free.
    reserve = 8192 + more * 1024 // 32
    guests[1].run(f"sysctl -q -w {deploy.SYSCTLS} vm.min_free_kbytes={reserve}")
    return guests


def start_daemon(lab, donor):
    daemon = deploy.Program(donor, lab.build, "slabswapd", f"""\
[daemon]
listen = rdma:{donor.address}:9400
slab_size = 16M
psk_file = {PSK}
control = /run/slabswap/slabswapd.ctl
[memory]
max = 256M
headroom = 0
""", "/run/slabswap/slabswapd.ctl")
    daemon.start()
    daemon.wait_status(lambda status: status["slabs"]["free"] == 16)
    return daemon


def server(lab, client, portal, backup="/dev/vda"):
    """Not started; its file is what the doctor looks at."""
    return deploy.Program(client, lab.build, "slabswap-nbd", f"""\
[device]
name = swap0
size = 256M
slab_size = 16M
[backup]
path = {backup}
[daemons]
portals = {portal}
psk_file = {PSK}
[limits]
buffers = 8M
""", "/run/slabswap/swap0.ctl")


def doctor(lab, client, prefix=""):
    status, out = client.run(f"{prefix} {lab.build}/slabswap-nbd -c /run/slabswap/swap0.ini --doctor 2>&1",
                             check=False)
    print(f"--- {prefix or 'as root'}: exit status {status}\n{out}", flush=True)
    assert status == (1 if re.search(r"^failure ", out, re.MULTILINE) else 0), out
    return status, out


def check(out, *patterns):
    for pattern in patterns:
        assert re.search("^" + pattern, out, re.MULTILINE), f"{pattern!r} is not in\n{out}"


@runner.deadline(240)
def test_everything_right(lab):
    """Before it is started, while it runs, and while the kernel swaps to it: not even a warning."""
    donor, client = pair(lab)
    daemon = start_daemon(lab, donor)
    swap0 = server(lab, client, f"rdma:{donor.address}:9400")
    status, out = doctor(lab, client)
    assert status == 0 and set(re.findall(r"^\S+", out, re.MULTILINE)) == {"ok"}, out
    check(out, r"ok +rdma device: rxe0: .*type 2B", r"ok +portal: rdma:10.99.0.2:9400: lends, 16 of 16",
          r"ok +backup: /dev/vda is a block device that nobody uses", r"ok +PR_SET_IO_FLUSHER: works",
          r"ok +swap: none in use yet", r"ok +nbd module: loaded", r"ok +remote memory: 16 slabs")

    swap0.start()
    swap0.wait_status(lambda status: status["daemons"][0]["up"])
    client.run("nbd-client -unix /run/slabswap/swap0.sock /dev/nbd0 -b 4096")
    client.wait_for("test $(blockdev --getsize64 /dev/nbd0) -gt 0")
    client.run("mkswap /dev/nbd0 && swapon -p 100 /dev/nbd0")
    status, out = doctor(lab, client)
    assert status == 0 and set(re.findall(r"^\S+", out, re.MULTILINE)) == {"ok"}, out
    check(out, r"ok +server: running, process \d+", r"ok +swap: /dev/nbd0 is in use with priority 100",
          r"ok +backup's lock: the running server's")

    client.run("mkswap /dev/vdb && swapon -p 100 /dev/vdb")
    check(doctor(lab, client)[1], r"warning  swap: /dev/vdb has priority 100, this device 100: .*spreads")
    client.run("swapoff /dev/vdb && swapon -p -1 /dev/vdb")
    check(doctor(lab, client)[1], r"warning  swap: /dev/vdb has priority -\d+, this device 100: .*does not fit")
    client.run("swapoff /dev/vdb && swapoff /dev/nbd0 && nbd-client -d /dev/nbd0", timeout=60)
    client.wait_for("! test -e /sys/block/nbd0/pid")
    swap0.stop()
    check(doctor(lab, client)[1], r"ok +backup's contents: a swap signature")
    daemon.stop()


@runner.deadline(240)
def test_backup_of_somebody_else(lab):
    _, client = pair(lab)
    server(lab, client, "rdma:10.99.0.2:9400", "/dev/vdb")
    client.run("mkswap /dev/vdb && swapon /dev/vdb")
    check(doctor(lab, client)[1], r"failure  backup: /dev/vdb cannot be claimed", r"warning  swap: /dev/vdb")
    client.run("swapoff /dev/vdb && mkfs.ext4 -q -F /dev/vdb && mkdir -p /mnt/vdb && mount /dev/vdb /mnt/vdb",
               timeout=60)
    check(doctor(lab, client)[1], r"failure  backup: /dev/vdb is mounted at /mnt/vdb", r" +umount /mnt/vdb")
    client.run("umount /mnt/vdb")
    check(doctor(lab, client)[1], r"warning  backup's contents: ext4", r" +wipefs -a /dev/vdb")
    client.run("wipefs -q -a /dev/vdb")
    server(lab, client, "rdma:10.99.0.2:9400", "/dev/vdb").guest.run(
        "sed -i 's/^size = .*/size = 1G/' /run/slabswap/swap0.ini")
    check(doctor(lab, client)[1], r"failure  backup's size: /dev/vdb has 512 MiB, the device needs 1024 MiB")


@runner.deadline(240)
def test_without(lab):
    """The kernel's settings, the cgroup, a capability, the nbd module, RDMA: one after the other."""
    _, client = pair(lab)
    server(lab, client, "rdma:10.99.0.2:9400")
    client.run("sysctl -q -w vm.watermark_boost_factor=15000 vm.min_free_kbytes=1000 vm.swappiness=0")
    check(doctor(lab, client)[1], r"failure  vm.watermark_boost_factor: 15000",
          r" +sysctl -w vm.watermark_boost_factor=0", r"warning  vm.min_free_kbytes: 1000",
          r"warning  vm.swappiness: 0")
    client.run(f"sysctl -q -w {deploy.SYSCTLS} vm.swappiness=60")

    client.run("mkdir -p /sys/fs/cgroup/doctor")
    for limit, verdict in ("8M", "failure"), ("48M", "warning"):
        client.run(f"echo {limit} >/sys/fs/cgroup/doctor/memory.high")
        out = doctor(lab, client, "echo $BASHPID >/sys/fs/cgroup/doctor/cgroup.procs && exec")[1]
        if not deploy.is_sanitized(lab.build):
            check(out, rf"{verdict}  cgroup: /sys/fs/cgroup/doctor/memory.high is ")
    out = doctor(lab, client, "setpriv --bounding-set -sys_resource --inh-caps -sys_resource")[1]
    check(out, r"failure  CAP_SYS_RESOURCE: missing", r"failure  PR_SET_IO_FLUSHER: Operation not permitted",
          r"failure  portal: rdma:10.99.0.2:9400: cannot be reached")

    client.run("modprobe -r nbd")
    check(doctor(lab, client)[1], r"warning  nbd module: not loaded", r" +modprobe nbd")
    client.run("mount -t tmpfs none /lib/modules")
    check(doctor(lab, client)[1], r"failure  nbd module: this kernel has none")
    client.run("umount /lib/modules")

    client.run("rdma link delete rxe0")
    check(doctor(lab, client)[1], r"failure  rdma device: there is none", r" +.*rdma link add rxe0 type rxe")
    client.run("modprobe -r rdma_ucm")
    status, out = doctor(lab, client)
    assert status == 1, out
    check(out, r"failure  rdma_ucm: no /dev/infiniband/rdma_cm", r" +modprobe -a rdma_ucm ib_uverbs")
    client.power_off()


if __name__ == "__main__":
    runner.main()

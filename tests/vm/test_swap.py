#!/usr/bin/python3
"""A kernel that swaps to slabswap, and keeps files on it, over rdma: two guests."""

import re
import time

import deploy
import runner

DEVICE_MIB = 256
POOL_MIB = 320
# Of what loses a session once in a while.
TRIES = 3
# What the hog may keep in memory, of what it has.
HOG_KEEPS = "20M"
# Aligned and not, with FUA, zeros, a trim, and what was written before beside it.
QEMU_IO = " ".join(f"-c '{command}'" for command in (
    "write -P 0xab 1M 64k", "read -P 0xab 1M 64k", "write -f -P 1 0 4k", "write -z 2M 64k",
    "read -P 0 2M 64k", "discard 3M 64k", "flush", "write -P 3 4194816 1536",
    "read -P 3 4194816 1536", "aio_write -P 4 5M 1M", "aio_flush", "read -P 4 5M 1M"))
HOG = "--size 56M --rounds 2 --threads 4"


class Setup:
    """Daemon and server on the two guests of the file."""

    def __init__(self, lab, backup="/dev/vda", mib=DEVICE_MIB, with_daemon=True):
        self.build = lab.build
        self.donor, self.client = pair(lab)
        self.client.run("dmesg -C")
        self.daemon = deploy.Daemon(self.donor, lab.build, POOL_MIB)
        self.server = deploy.Server(self.client, lab.build, mib, backup,
                                    self.daemon.portal if with_daemon else "")
        if with_daemon:
            self.daemon.start()
        self.server.start()
        if with_daemon:
            self.server.wait_up()

    def swap_on(self, options=""):
        self.server.attach()
        self.client.run(f"mkswap /dev/nbd0 && swapon {options} /dev/nbd0")

    def swap_off(self):
        self.client.run("swapoff /dev/nbd0", timeout=60)
        self.server.detach()

    def hog(self, options=HOG, keeps=HOG_KEEPS):
        self.client.run(f"echo {keeps} >/sys/fs/cgroup/swappable/memory.max")
        return deploy.Hog(self.client, self.build, options)

    def end(self):
        self.server.stop()
        self.daemon.stop()
        check_kernel(self.donor)
        check_kernel(self.client)


def pair(lab):
    """(donor, client), the client with two disks of 512 MiB; larger for a build with ASan."""
    more = 512 if deploy.is_sanitized(lab.build) else 0
    link = lab.link

    def make():
        return (lab.run.guest("donor", mem_mib=640 + more, links=[(link, 2)]),
                lab.run.guest("client", mem_mib=256 + more, links=[(link, 1)],
                              disks=[512 << 20, 512 << 20]))
    guests = lab.shared("swap", make)
    for guest in guests:
        guest.rdma_up()
    guests[1].run(f"sysctl -q -w {deploy.SYSCTLS}")
    return guests


def check_kernel(guest):
    log = guest.dmesg()
    for complaint in ("I/O error", "Read-error", "Write-error", "WARNING:", "BUG:", "hung_task",
                      "blocked for more than", "Out of memory"):
        assert complaint not in log, f"{complaint}:\n{log}"


def check_hog(result):
    assert result["mismatches"] == 0, result


def fill(client, path, mib):
    client.run(f"dd if=/dev/urandom of={path} bs=1M count={mib} status=none", timeout=60)


@runner.deadline(240)
def test_ext4_on_raw_and_file(lab):
    _, client = pair(lab)
    client.run("mkfs.ext4 -q /dev/vdb && mkdir -p /mnt/vdb /mnt/nbd && mount /dev/vdb /mnt/vdb",
               timeout=60)
    for backup in ("/dev/vda", "/mnt/vdb/backup.img"):
        setup = Setup(lab, backup)
        setup.server.attach()
        client.run("mkfs.ext4 -q -F /dev/nbd0 && mount /dev/nbd0 /mnt/nbd", timeout=60)
        client.run("cp -r /usr/sbin/nbd-client /usr/include/linux /mnt/nbd/", timeout=90)
        fill(client, "/mnt/nbd/random", 8)
        sums = client.run("cd /mnt/nbd && find . -type f | sort | xargs md5sum", timeout=60)[1]
        assert sums.count("\n") > 100, sums
        client.run("umount /mnt/nbd", timeout=60)
        setup.server.detach()
        setup.server.stop()
        status = setup.daemon.status()
        setup.daemon.stop()

        # No daemon now: what was written must be on the backup.
        setup.server.start()
        setup.server.attach()
        client.run("fsck.ext4 -fn /dev/nbd0", timeout=60)
        client.run("mount -o ro /dev/nbd0 /mnt/nbd")
        again = client.run("cd /mnt/nbd && find . -type f | sort | xargs md5sum", timeout=60)[1]
        assert again == sums, status
        client.run("umount /mnt/nbd")
        setup.server.detach()
        setup.server.stop()
        check_kernel(client)
    client.run("umount /mnt/vdb")


def verify_without_loss(setup):
    """fio on the device, small and large requests. A session that lives through all of it is wanted; an emulated link
    that gets no processor may lose one, and not every time."""
    for _ in range(TRIES):
        before = setup.server.status()
        for blocks in ("--bs=4k --size=12M", "--bsrange=4k-1280k --size=24M"):
            setup.client.run(f"fio --name=verify --filename=/dev/nbd0 --ioengine=libaio --direct=1 "
                             f"--rw=randwrite {blocks} --iodepth=32 --verify=crc32c --verify_fatal=1 "
                             f"--randrepeat=0", timeout=100)
        status = setup.server.status()
        if status["errors"]["daemons_lost"] == before["errors"]["daemons_lost"]:
            assert status["pages"]["read_remote"] - before["pages"]["read_remote"] > 24 << 8, status
            return
        print("# a session was lost, so once more")
    raise AssertionError(f"a session was lost each time: {status}")


@runner.deadline(240)
def test_tools(lab):
    """fio with verify on the kernel's device; the NBD tools on the server's socket."""
    setup = Setup(lab, mib=64)
    client = setup.client
    assert "type 2B memory windows" in setup.daemon.log, setup.daemon.log
    # An emulated donor that zeroes its pool can be too busy for op_timeout_ms.
    setup.daemon.wait_status(lambda s: s["slabs"]["free"] + s["slabs"]["mapped"] == s["slabs"]["max"])
    setup.server.attach()
    verify_without_loss(setup)
    setup.server.detach()

    uri = f"nbd+unix:///?socket={setup.server.socket}"
    out = client.run(f"nbdinfo '{uri}'", timeout=60)[1]
    assert "export-size: 67108864" in out, out
    fill(client, "/run/in", 32)
    client.run(f"truncate -s 64M /run/in && nbdcopy /run/in '{uri}'", timeout=60)
    client.run(f"nbdcopy '{uri}' /run/out && cmp /run/in /run/out && rm /run/out", timeout=60)
    out = client.run(f"qemu-img compare -f raw -F raw /run/in '{uri}'", timeout=60)[1]
    assert "identical" in out, out
    client.run(f"qemu-img convert -n -f raw -O raw '{uri}' /run/in && "
               f"qemu-img convert -n -f raw -O raw /run/in '{uri}' && "
               f"qemu-img compare -f raw -F raw /run/in '{uri}' && rm /run/in", timeout=90)
    out = client.run(f"qemu-io -f raw {QEMU_IO} '{uri}'", timeout=60)[1]
    assert "Pattern verification failed" not in out and out.count("read ") == 4, out
    client.run(f"cd /run && fio --name=nbd --ioengine=nbd '--uri={uri}' --rw=randwrite --bs=4k --size=12M "
               f"--iodepth=32 --verify=crc32c --verify_fatal=1 --verify_state_save=0", timeout=100)
    assert setup.server.status()["nbd"]["error_replies"] == 0
    setup.end()


def test_discard(lab):
    setup = Setup(lab)
    setup.server.attach()
    fill(setup.client, "/dev/nbd0", 32)
    setup.client.run("mkswap /dev/nbd0")
    swapon = setup.client.spawn("swapon --discard /dev/nbd0")
    start = time.monotonic()
    setup.server.status()
    assert time.monotonic() - start < 5, "the server was busy with the discard"
    swapon.wait(60)
    status = setup.server.status()
    assert status["nbd"]["trims"] >= 1, status
    assert status["pages"]["trimmed"] >= (DEVICE_MIB - 1) << 8, status
    assert status["nbd"]["error_replies"] == 0, status
    check_hog(setup.hog("--size 32M --rounds 1 --threads 4", "16M").finish(60))
    setup.swap_off()
    setup.end()


def degrade(setup, break_backup, repair_backup, said="write failed"):
    """What is written while the backup fails stays on the daemon, until it works again."""
    client, server = setup.client, setup.server

    def check_content():
        client.run("dd if=/dev/nbd0 bs=1M count=48 iflag=direct status=none | cmp - /run/content",
                   timeout=60)

    server.attach()
    fill(client, "/run/content", 48)
    client.run("dd if=/run/content of=/dev/nbd0 bs=1M count=8 oflag=direct status=none")
    break_backup()
    client.run("dd if=/run/content of=/dev/nbd0 bs=1M oflag=direct status=none", timeout=60)
    status = server.wait_status(lambda s: s["pages"]["degraded"] > 0)
    assert status["errors"]["backup"] > 0, status
    server.wait_status(lambda _: re.search(f"backup: {said}", server.log))
    check_content()
    repair_backup()
    status = server.wait_status(lambda s: s["pages"]["degraded"] == 0, 60)
    assert status["nbd"]["error_replies"] == 0 and status["pages"]["lost"] == 0, status
    server.wait_status(lambda _: "backup: works again" in server.log)

    # All of it must have come to the backup.
    setup.daemon.kill()
    check_content()
    client.run("rm /run/content")
    server.detach()
    server.stop()


@runner.deadline(180)
def test_backup_full(lab):
    _, client = pair(lab)
    client.run("mkfs.ext4 -q -F /dev/vdb 128M && mkdir -p /mnt/vdb && mount /dev/vdb /mnt/vdb && "
               "fallocate -l 84M /mnt/vdb/filler", timeout=60)
    setup = Setup(lab, "/mnt/vdb/backup.img", mib=64)
    degrade(setup, lambda: None, lambda: client.run("rm /mnt/vdb/filler"))
    client.run("umount /mnt/vdb")


@runner.deadline(180)
def test_backup_fails(lab):
    _, client = pair(lab)
    sectors = 64 << 11

    def load(table):
        client.run(f"dmsetup suspend --noudevsync bk && dmsetup load bk --table '{table}' && "
                   "dmsetup resume --noudevsync bk")

    linear = f"0 {sectors} linear /dev/vda 0"
    client.run(f"modprobe dm-mod && dmsetup create --noudevsync bk --table '{linear}' && "
               "dmsetup mknodes bk")
    setup = Setup(lab, "/dev/mapper/bk", mib=64)
    # Said once, and a read may be first.
    degrade(setup, lambda: load(f"0 {sectors} error"), lambda: load(linear), "(read|write) failed")
    client.run("dmsetup remove --noudevsync bk")


@runner.deadline(240)
def test_daemon_powered_off_while_swapping(lab):
    setup = Setup(lab)
    setup.swap_on()
    hog = setup.hog()
    hog.wait_progress("round 1: 20 %")
    before = setup.server.status()
    assert before["pages"]["read_remote"] > 0, before
    setup.donor.power_off()
    # op_timeout_ms is 2000; the rest is emulation.
    setup.server.wait_status(
        lambda s: s["errors"]["daemons_lost"] > 0 and
        s["pages"]["read_backup"] > before["pages"]["read_backup"], 10)
    check_hog(hog.finish(120))
    status = setup.server.status()
    assert status["nbd"]["error_replies"] == 0 and status["pages"]["lost"] == 0, status
    setup.swap_off()
    setup.server.stop()
    check_kernel(setup.client)
    lab.drop("swap")


if __name__ == "__main__":
    runner.main()

#!/usr/bin/python3
"""Shows slabswap at work on this machine: the same hog, swapped to another guest's memory and
swapped to a disk. For scripts/quickstart; the argument is the build directory."""

import argparse
import sys
import time
from pathlib import Path

import deploy
import guestvm

DONOR_MIB = 768
CLIENT_MIB = 256
DISK_MIB = 768
POOL_MIB = 576
HOG_MIB = 272
HOG = f"--size {HOG_MIB}M --rounds 1 --threads 8 --free"
HOG_DEADLINE_SECONDS = 240


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=Path, help="the build directory")
    parser.add_argument("--kernel", choices=guestvm.SERIES, default=guestvm.SERIES[0])
    options = parser.parse_args()
    build = options.build.resolve()

    try:
        with guestvm.Run(guestvm.Kernel(options.kernel), visible=[build]) as run:
            try:
                remote, disk = show(run, build)
            except (guestvm.GuestError, AssertionError):
                for guest in run.guests:
                    print(guest.log(), file=sys.stderr)
                raise
    except (guestvm.GuestError, AssertionError) as error:
        sys.exit(f"quickstart: {error}")
    print_table(remote, disk)
    sys.exit(verdict(remote, disk))


def show(run, build):
    say(f"starting two guests: a donor ({DONOR_MIB} MiB) and a client ({CLIENT_MIB} MiB)")
    link = run.link()
    donor = run.guest("donor", mem_mib=DONOR_MIB, links=[(link, 2)])
    client = run.guest("client", mem_mib=CLIENT_MIB, links=[(link, 1)], disks=[DISK_MIB << 20])
    run.wait_ready()
    donor.rdma_up()
    client.rdma_up()
    client.run(f"sysctl -q -w {deploy.SYSCTLS}")

    say("slabswap: swapping to the donor's memory over RDMA (Soft-RoCE)")
    daemon = deploy.Daemon(donor, build, POOL_MIB)
    daemon.start()
    server = deploy.Server(client, build, DISK_MIB, portal=daemon.portal, activity="")
    server.start()
    server.wait_up()
    server.attach()
    remote = run_hog(client, build, "/dev/nbd0")
    remote["from"] = server.status()["pages"]
    client.run("swapoff /dev/nbd0", timeout=60)
    server.detach()
    server.stop()

    say("a disk alone: swapping to the same disk that was slabswap's backup")
    disk = run_hog(client, build, "/dev/vda")
    client.run("swapoff /dev/vda", timeout=60)
    return remote, disk


def run_hog(client, build, device):
    client.run(f"mkswap {device} && swapon {device}")
    out_before, in_before = deploy.swap_counters(client)
    start = time.monotonic()
    result = deploy.Hog(client, build, HOG).finish(HOG_DEADLINE_SECONDS)
    seconds = time.monotonic() - start
    out_after, in_after = deploy.swap_counters(client)
    return {"seconds": seconds, "mismatches": result["mismatches"],
            "write_seconds": result["write_seconds"], "read_seconds": result["round_seconds"][0],
            "out": out_after - out_before, "in": in_after - in_before}


def say(text):
    print(text, flush=True)


def print_table(remote, disk):
    def row(what, left, right):
        print(f"  {what:<28}{left:>14}{right:>14}")

    print()
    row("", "slabswap", "disk alone")
    row("memory of the guest, MiB", CLIENT_MIB, CLIENT_MIB)
    row("memory of the hog, MiB", HOG_MIB, HOG_MIB)
    row("pages swapped out", remote["out"], disk["out"])
    row("pages swapped in", remote["in"], disk["in"])
    row("  read from remote memory", remote["from"]["read_remote"], "-")
    row("  read from a write's buffer", remote["from"]["read_buffer"], "-")
    row("  read from the disk", remote["from"]["read_backup"], disk["in"])
    row("pages with wrong content", remote["mismatches"], disk["mismatches"])
    for what, key in (("time of the hog, s", "seconds"), ("  to write it all", "write_seconds"),
                      ("  to read and check it", "read_seconds")):
        row(what, f"{remote[key]:.1f}", f"{disk[key]:.1f}")
    print("\nThe times say nothing about real hardware: processors, network and disk are\n"
          "emulated, and the disk is a file in this machine's page cache.")


def verdict(remote, disk):
    if remote["mismatches"] or disk["mismatches"]:
        print("FAILED: pages came back with wrong content")
        return 1
    if remote["from"]["read_remote"] * 2 <= remote["in"]:
        print("FAILED: most pages did not come from remote memory")
        return 1
    print("OK: every page came back as it was written, most of them from remote memory")
    return 0


if __name__ == "__main__":
    main()

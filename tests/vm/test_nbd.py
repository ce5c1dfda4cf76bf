#!/usr/bin/python3
"""Every NBD command and error of the integration tests, with a daemon's memory behind it over rdma."""

import os

import deploy
import runner

POOL_MIB = 256
SCRIPT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "integration",
                      "test_nbd_protocol.py")


@runner.deadline(300)
def test_protocol(lab):
    # The client program holds whole requests of 32 MiB, several at a time.
    guests = lab.shared("nbd", lambda: (
        lab.run.guest("donor", mem_mib=640, links=[(lab.link, 2)]),
        lab.run.guest("client", mem_mib=1024, links=[(lab.link, 1)])))
    for guest in guests:
        guest.rdma_up()
    donor, client = guests
    daemon = deploy.Daemon(donor, lab.build, POOL_MIB, slab_mib=1)
    daemon.start()
    status, out = client.run(f"SLABSWAP_NBD=real SLABSWAP_PORTALS={daemon.portal} "
                             f"/usr/bin/python3 {SCRIPT} {lab.build} 2>&1", timeout=270, check=False)
    assert status == 0, out
    assert daemon.status()["totals"]["maps"] > 0, "nothing went to the daemon"
    daemon.stop()


if __name__ == "__main__":
    runner.main()

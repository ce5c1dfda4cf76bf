#!/usr/bin/python3
"""Every NBD command of the integration tests and its errors, with a daemon's memory behind it over rdma."""

import os
import re

import deploy
import runner

POOL_MIB = 256
SCRIPT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "integration",
                      "test_nbd_protocol.py")
# They run programs of others, as test_swap's test_tools does.
TOOLS = {"test_nbdinfo", "test_nbdcopy_and_qemu_img", "test_qemu_io", "test_fio_verify"}
# What never gets as far as the daemon's memory is the same without it.
NO_DATA = re.compile("handshake|option|export|_infos|list_and|meta_contexts|socket_mode|client_flags|dead_clients"
                     "|garbage|each_byte|takes_no_data|oversized|magic|unknown|limit|in_use|strict_mode|alignment"
                     "|zero_length")


def names():
    with open(SCRIPT, encoding="utf-8") as text:
        return [n for n in re.findall(r"^def (test_\w+)\(", text.read(), re.MULTILINE)
                if n not in TOOLS and not NO_DATA.search(n)]


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
    status, out = client.run(f"SLABSWAP_NBD=real SLABSWAP_PORTALS={daemon.portal} /usr/bin/python3 {SCRIPT} "
                             f"{lab.build} {' '.join(names())} 2>&1", timeout=270, check=False)
    assert status == 0, out
    assert daemon.status()["totals"]["maps"] > 0, "nothing went to the daemon"
    daemon.stop()


if __name__ == "__main__":
    runner.main()

#!/usr/bin/python3
"""NBD commands of the integration tests, with a daemon's memory behind them over rdma."""

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
NO_DATA = re.compile("handshake|option|export|_infos|list_and|meta_contexts|socket_mode|client_flags|dead_clients")
# Those in which many pages do; the others with SLABSWAP_LONG=1 (scripts/test --long).
QUICK = ["test_large_requests", "test_pipelined_reads_and_writes", "test_large_read_between_small_ones",
         "test_trim_and_zeroes", "test_cache_and_flush", "test_block_status", "test_duplicate_cookies",
         "test_two_connections_see_each_others_writes", "test_clients_that_vanish_mid_request",
         "test_term_finishes_what_was_accepted"]


def names():
    if not os.environ.get("SLABSWAP_LONG"):
        return QUICK
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

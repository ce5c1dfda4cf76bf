#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Portals from the name service: slabswap-nbd asks a DNS server of this test."""
import device
import dns_server
import harness
from device import Daemon, Device, Load
from dns_server import DnsServer
from test_membership import portals_of, reload, wait_portals

NAME = "_slabswap._tcp.swap.test"


def port_of(daemon):
    return int(daemon.portal.rsplit(":", 1)[1])


def dns_device(t, server, portals=(f"dns:{NAME}",), **sections):
    daemons = {"dns_servers": server.address} | sections.pop("daemons", {})
    return Device(t, portals=portals, daemons=daemons, **sections)


def again(dev, portals=(f"dns:{NAME}",)):
    """SIGHUP: every name is asked for at once."""
    reload(dev, portals)


def listed(t, n=2, **hosts):
    """A server that lists @n daemons."""
    server = DnsServer(t)
    daemons = [Daemon(t, memory={"max": "64M"}, name=f"d{i}") for i in range(n)]
    server.srv(NAME, [("a.swap.test", port_of(d)) for d in daemons])
    server.host("a.swap.test", "127.0.0.1")
    return server, daemons


def test_daemons_are_found_and_serve(t):
    server, daemons = listed(t)
    dev = dns_device(t, server)
    wait_portals(dev, daemons)
    dev.wait_up(2)
    dev.wait_count(f"dns:{NAME}: 2 daemons", 1)
    load = Load(t, dev.uri, depth=16)
    dev.wait_used()
    load.wait_requests(300)
    # One leaves the list under load; a file entry beside the name stays.
    server.srv(NAME, [("a.swap.test", port_of(daemons[1]))])
    again(dev)
    wait_portals(dev, daemons[1:])
    load.wait_requests(300)
    again(dev, (f"dns:{NAME}", daemons[0].portal))
    wait_portals(dev, daemons)
    load.stop()
    load.check_all()
    load.handle.shutdown()
    assert dev.no_errors()["errors"]["daemons_lost"] == 0
    dev.process.stop()


def test_asked_again_when_the_time_to_live_is_over(t):
    server, daemons = listed(t)
    server.ttl = 1  # 5 s are the least
    server.srv(NAME, [("a.swap.test", port_of(daemons[0]))])
    dev = dns_device(t, server)
    wait_portals(dev, daemons[:1])
    server.srv(NAME, [("a.swap.test", port_of(d)) for d in daemons])
    wait_portals(dev, daemons)
    assert server.asked(dns_server.SRV) <= 3
    dev.no_errors()


def failing(server):
    """Ways to get no list, and what is said of them; c-ares asks the next server after a SERVFAIL."""
    good = dict(server.table)
    for rcode, text in ((dns_server.SERVFAIL, "Could not contact DNS servers"),
                        (dns_server.NXDOMAIN, "Domain name not found")):
        server.rcodes[NAME, dns_server.SRV] = rcode
        yield text
    server.rcodes.clear()
    server.srv(NAME, [])
    yield "DNS server returned answer with no data"
    server.srv(NAME, [("nowhere.test", 1)])
    yield "no target has an address"
    server.table = good


def test_failures_keep_what_was_there(t):
    server, daemons = listed(t)
    dev = dns_device(t, server)
    wait_portals(dev, daemons)
    dev.wait_up(2)
    for text in failing(server):
        again(dev)
        dev.wait_count(f"dns:{NAME}: {text}; its 2 daemons stay", 1)
        assert dev.status()["dns"][0]["last_error"] == text
    server.silent = True
    again(dev)
    dev.wait_count("its 2 daemons stay", 5)
    server.silent = False
    again(dev)
    harness.wait_for(lambda: not dev.status()["dns"][0]["last_error"], "it is answered again")
    wait_portals(dev, daemons)
    dev.wait_up(2)
    assert dev.status()["errors"]["daemons_lost"] == 0
    # RFC 2782: "." says that there is no such service.
    server.srv(NAME, [(".", 0)])
    again(dev)
    wait_portals(dev, [])


def test_target_that_does_not_resolve(t):
    server, daemons = listed(t)
    server.srv(NAME, [("a.swap.test", port_of(daemons[0])), ("b.swap.test", port_of(daemons[1])), ("c.swap.test", 7)])
    server.host("b.swap.test", "127.0.0.1")
    dev = dns_device(t, server)
    wait_portals(dev, daemons)
    dev.wait_count("target c.swap.test:7 has no address: left out", 1)
    # Not an answer: the address of the last time.
    server.rcodes["b.swap.test", dns_server.A] = dns_server.SERVFAIL
    again(dev)
    asked = server.asked(dns_server.SRV)
    harness.wait_for(lambda: server.asked(dns_server.SRV) > asked, "it is asked again soon", 30)
    assert portals_of(dev) == sorted(d.portal for d in daemons)
    # An answer: there is no such host.
    del server.rcodes["b.swap.test", dns_server.A]
    server.host("b.swap.test")
    again(dev)
    wait_portals(dev, daemons[:1])
    dev.wait_count("has no address: left out", 2)


def test_address_families(t):
    server, daemons = listed(t)
    v6 = Daemon(t, name="six", listen="tcp:[::1]:0")
    server.srv(NAME, [("a.swap.test", port_of(daemons[0])), ("six.swap.test", port_of(v6))])
    server.host("a.swap.test", "127.0.0.9", "127.0.0.1", "::1")  # one address each, the lowest IPv4 first
    server.host("six.swap.test", "::1")
    dev = dns_device(t, server)
    wait_portals(dev, [daemons[0], v6])
    dev.wait_up(2)


def test_many_targets(t):
    """An answer that needs TCP; more than there is room for."""
    server, daemons = listed(t)
    targets = [("a.swap.test", 20000 + i, 5) for i in range(60)]
    server.srv(NAME, targets + [("a.swap.test", port_of(daemons[0]), 1)])
    dev = dns_device(t, server, daemons={"max_portals": 10})
    harness.wait_for(lambda: len(portals_of(dev)) == 10, "10 daemons")
    assert daemons[0].portal in portals_of(dev)  # of the lowest priority
    dev.wait_count("51 daemons of the name service are left out; raise [daemons] max_portals (10)", 1)


def test_no_server(t):
    port = device.reserve_port(t)
    dev = Device(t, portals=[f"dns:{NAME}"], daemons={"dns_servers": f"127.0.0.1:{port}"})
    dev.wait_count("its 0 daemons stay", 1)
    dev.process.stop()


def test_stopped_while_asking(t):
    server, _ = listed(t, 1)
    server.silent = True
    dev = dns_device(t, server)
    harness.wait_for(lambda: server.asked(dns_server.SRV) > 0, "it asks")
    dev.process.stop()


def test_bytes_that_are_no_answer(t):
    server, daemons = listed(t)
    dev = dns_device(t, server)
    wait_portals(dev, daemons)
    good = server.table[NAME, dns_server.SRV]
    for garbage in (b"", b"\0" * 6, b"\0" * 6 + b"\xc0\x0c" * 3, b"\0" * 6 + b"\3a b\0", b"\xff" * 40):
        server.table[NAME, dns_server.SRV] = [garbage]
        again(dev)
        harness.wait_for(lambda: dev.status()["dns"][0]["last_error"], "it is said")
        server.table[NAME, dns_server.SRV] = good
        again(dev)
        harness.wait_for(lambda: not dev.status()["dns"][0]["last_error"], "it is good again")
    wait_portals(dev, daemons)


if __name__ == "__main__":
    harness.main(globals())

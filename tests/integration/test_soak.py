#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Minutes of verified load while two daemons are killed, hung, restarted and full, at random.

Part of the long run only.  SLABSWAP_SOAK_SECONDS: how long each test lasts, 180 unless set.
"""
import os
import random
import signal
import time

import device
import harness
from device import Daemon, Device, Load

SECONDS = int(os.environ.get("SLABSWAP_SOAK_SECONDS", "180"))


def hang(server, daemon, noise):
    """Stopped for about a deadline: sometimes noticed, sometimes not."""
    daemon.process.popen.send_signal(signal.SIGSTOP)
    until = time.monotonic() + noise.uniform(0.2, 1.5) * device.OP_TIMEOUT_MS / 1000
    harness.wait_for(lambda: time.monotonic() > until or
                     sum(d["up"] for d in server.status()["daemons"]) < 2, "it is noticed, or not", 10)
    daemon.process.popen.send_signal(signal.SIGCONT)


def soak(t, ack):
    noise = random.Random(int(time.time()))
    # Together they lend three quarters of the device: some slabs are refused.
    daemons = [Daemon(t, memory={"max": "24M"}, name=f"d{n}",
                      listen=f"tcp:127.0.0.1:{device.reserve_port(t)}") for n in range(2)]
    server = Device(t, portals=[d.portal for d in daemons], backup={"ack": ack}, limits={"buffers": "8M"})
    loads = [Load(t, server.uri, first=n * 4096, pages=4096, seed=noise.random(), depth=24) for n in range(4)]
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        daemon = noise.choice(daemons)
        if noise.random() < 0.5:
            daemon.process.kill()
            daemon.start()
        else:
            hang(server, daemon, noise)
        for load in loads:
            load.wait_requests(noise.randrange(20, 400), 60)
    for load in loads:
        load.stop()
        load.check_all()
    status = server.no_errors()
    assert status["errors"]["daemons_lost"] > 0 and status["pages"]["read_remote"] > 0, status
    for load in loads:
        load.handle.shutdown()
    server.process.stop()
    for load in loads:
        load.check_file(server.backup)


def test_ack_remote(t):
    soak(t, "remote")


def test_ack_both(t):
    soak(t, "both")


if __name__ == "__main__":
    harness.main(globals())

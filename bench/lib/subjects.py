# SPDX-License-Identifier: MIT
"""What bench/run measures on the host: how each server is started, and what it is."""
import os
import re
import shutil
import subprocess

import servers
from servers import harness

SLAB = "64M"
SLAB_BYTES = 64 << 20
BUFFERS = "64M"
BUFFER_BYTES = 64 << 20
FLOOR = "floor"
NBDKIT_MEMORY = "nbdkit-memory"
PROXY = "nbdkit-nbd"
# What the floor polls for; ours has a default of its own.
SPIN_US = 50


class Subject:
    """@ours: {"transport", "backup", "ack", "spins"} of ours, else None.  @needs: programs that must be there."""

    def __init__(self, name, what, start, needs=(), ours=None):
        self.name = name
        self.what = what
        self.start = start
        self.needs = needs
        self.ours = ours


def start_floor(server, programs, *options):
    server.start([programs["floor"], "--socket", server.socket, "--size", server.size, *options])


def start_nbdkit_memory(server, _):
    server.start(["nbdkit", "-f", "-U", server.socket, "memory", f"size={server.size}"])


def image_file(server):
    path = server.path("disk.img")
    with open(path, "wb") as out:
        out.truncate(server.size)
    return path


def start_nbdkit_file(server, _):
    server.start(["nbdkit", "-f", "-U", server.socket, "file", image_file(server)])


def start_qemu_nbd(server, _):
    server.start(["qemu-nbd", "-f", "raw", "-t", "-e", "8", "-k", server.socket, image_file(server)])


def free_port():
    with servers.socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def start_nbd_server(server, _):
    server.export = "disk"
    # It listens on TCP too, whether asked for or not.
    config = harness.write_ini(server.path("nbd-server.conf"), {
        "generic": {"unixsock": server.socket, "listenaddr": "127.0.0.1", "port": free_port()},
        "disk": {"exportname": image_file(server), "flush": "true"}})
    # In the foreground it ends with its first client.
    server.start_daemonized(["nbd-server", "-C", config, "-p", server.path("pid")], server.path("pid"))


def start_proxy(server, _):
    # The kernel picks the port: nbdkit gets the listening socket the way systemd would hand it over.
    listener = servers.socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server.start(
        ["/bin/sh", "-c", f'export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@" 3<&{listener.fileno()}', "sh",
         "nbdkit", "-f", "memory", f"size={server.size}"], pass_fds=(listener.fileno(),))
    listener.close()
    server.start(["nbdkit", "-f", "-U", server.socket, "nbd", "hostname=127.0.0.1", f"port={port}"])


def spin_keys(ours):
    return {} if ours["spins"] else {"spin_us": 0}


def server_ini(server, ours, portal):
    backup = {"path": "none"} if ours["backup"] == "none" else {
        "path": server.path("backup.img"), "ack": ours["ack"]}
    server.control = server.path("swap0.ctl")
    return harness.write_ini(server.path("slabswap-nbd.ini"), {
        "device": {"name": "bench", "size": server.size, "slab_size": SLAB},
        "nbd": {"listen": f"unix:{server.socket}", "control": server.control},
        "backup": backup,
        "daemons": {"portals": portal},
        # Every slab that is used: what is measured is remote memory, not when it is taken.
        "activity": {"hot_slab": 0},
        "limits": {"buffers": BUFFERS, **spin_keys(ours)}})


def start_ours(server, programs, ours):
    listen = {"tcp": "tcp:127.0.0.1:0", "shm": f"shm:{server.path('slabswapd.shm')}"}[ours["transport"]]
    daemon_ini = harness.write_ini(server.path("slabswapd.ini"), {
        "daemon": {"listen": listen, "slab_size": SLAB, "control": server.path("slabswapd.ctl"), **spin_keys(ours)},
        "memory": {"max": server.size, "headroom": 0}})
    daemon = server.start([programs["slabswapd"], "-c", daemon_ini])

    def portal():
        if not daemon.is_running():
            raise AssertionError(f"slabswapd did not start:\n{daemon.log()[-2000:]}")
        return re.search(r"listening at (\S+)", daemon.log())
    match = harness.wait_for(portal, "slabswapd listens")
    server.start([programs["slabswap-nbd"], "-c", server_ini(server, ours, match[1])])


def has_all_memory(server, programs):
    """The daemon takes its memory in the background; before it has, pages go elsewhere."""
    daemon = server.status(programs["slabswapctl"])["daemons"][0]
    return daemon["state"] == "up" and daemon["slabs_free"] * SLAB_BYTES >= server.size


def ours_subject(name, what, transport, backup, ack="remote", spins=True):
    ours = {"transport": transport, "backup": backup, "ack": ack, "spins": spins}
    return Subject(name, what, lambda server, programs: start_ours(server, programs, ours),
                   ("slabswap-nbd", "slabswapd", "slabswapctl"), ours)


OUR_PROGRAMS = ("slabswap-nbd", "slabswapd", "slabswapctl", "floor", "load")
SUBJECTS = [
    Subject(FLOOR, "answers from a fixed buffer, nothing behind it: one thread, bench/floor", start_floor, ("floor",)),
    Subject("floor-spin", f"the same, polling for {SPIN_US} us before it sleeps",
            lambda server, programs: start_floor(server, programs, "--spin", SPIN_US), ("floor",)),
    ours_subject("shm-none", "ours, slabswapd over shared memory, no backup", "shm", "none"),
    ours_subject("shm-none-off", "the same with spin_us = 0: no polling", "shm", "none", spins=False),
    ours_subject("shm-remote", "ours over shared memory, backup file (O_DIRECT), ack = remote", "shm", "file"),
    ours_subject("shm-both", "ours over shared memory, backup file (O_DIRECT), ack = both", "shm", "file", "both"),
    ours_subject("tcp-none", "ours, slabswapd over loopback TCP, no backup", "tcp", "none"),
    ours_subject("tcp-none-off", "the same with spin_us = 0: no polling", "tcp", "none", spins=False),
    ours_subject("tcp-remote", "ours over loopback TCP, backup file (O_DIRECT), ack = remote", "tcp", "file"),
    Subject(NBDKIT_MEMORY, "RAM of the server itself: no network, no disk", start_nbdkit_memory, ("nbdkit",)),
    Subject("nbdkit-file", "a file, through the page cache", start_nbdkit_file, ("nbdkit",)),
    Subject("qemu-nbd", "a raw file, cache=writeback (its default: the page cache)", start_qemu_nbd, ("qemu-nbd",)),
    Subject("nbd-server", "a file, through the page cache; a process a connection, memory is their parent's",
            start_nbd_server, ("nbd-server",)),
    Subject(PROXY, "proxy over loopback TCP to nbdkit memory: the same job as tcp-none", start_proxy, ("nbdkit",)),
]
NAMES = [subject.name for subject in SUBJECTS]


def our_programs(build):
    return {name: servers.find_program(build, name) for name in OUR_PROGRAMS}


def refusal(subject, programs, directory):
    """Why @subject cannot be measured here, or None: programs that are missing, a setting that ours does not know."""
    for program in subject.needs:
        if program in OUR_PROGRAMS and not programs[program]:
            return f"{program} is not built"
        if program not in OUR_PROGRAMS and not shutil.which(program):
            return f"{program} is not installed (scripts/setup --bench)"
    if not subject.ours:
        return None
    os.makedirs(directory, exist_ok=True)
    trial = servers.Server(subject.name, directory, 1 << 30)
    ini = server_ini(trial, subject.ours, "tcp:127.0.0.1:9")
    done = subprocess.run([programs["slabswap-nbd"], "-c", ini, "--check"], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or ["slabswap-nbd --check failed"])[-1].removeprefix(f"{ini}: ")

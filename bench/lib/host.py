# SPDX-License-Identifier: MIT
"""The host part of bench/run: NBD servers over a Unix socket, side by side, in turn."""
import os
import subprocess
import sys
import time

import generator
import host_goals
import host_plots
import host_tables
import jobs
import machine
import servers
import subjects
from servers import harness

TITLE = "NBD servers on this host"


def say(text):
    print(text, file=sys.stderr, flush=True)


class Part:
    """What is measured, and what came out."""

    def __init__(self, arguments, directory):
        self.arguments = arguments
        self.directory = directory
        self.programs = subjects.our_programs(arguments.build)
        self.jobs = jobs.chosen(arguments.quick, arguments.jobs)
        self.servers = []
        self.started = []  # the subjects of self.servers
        self.left_out = {}  # name: why
        self.problems = []
        self.results = {}
        self.statuses = {}
        self.memory = {}
        self.seconds = 0.0
        self.others_share = 0.0

    def start_all(self):
        wanted = jobs.choose(subjects.NAMES, self.arguments.only or "*", "server")
        for subject in subjects.SUBJECTS:
            if subject.name not in wanted:
                continue
            place = os.path.join(self.directory, subject.name)
            os.makedirs(place)
            why = subjects.refusal(subject, self.programs, place)
            if why:
                say(f"left out: {subject.name}: {why}")
                self.left_out[subject.name] = why
                continue
            server = servers.Server(subject.name, place, self.arguments.size)
            self.servers.append(server)
            self.started.append(subject)
            subject.start(server, self.programs)
            harness.wait_for(server.answers, f"{subject.name} answers")
        for subject, server in zip(self.started, self.servers):
            if subject.ours:
                harness.wait_for(lambda s=server: subjects.has_all_memory(s, self.programs),
                                 f"{subject.name} has its memory", 60)

    def kill_all(self):
        for server in self.servers:
            server.kill()

    def has_content(self, server):
        return not server.name.startswith(subjects.FLOOR)

    def try_load(self, server, what, function, *arguments):
        """A server that fails is not asked again."""
        if any(problem["server"] == server.name for problem in self.problems):
            return None
        try:
            return function(*arguments)
        except (generator.LoadFailed, subprocess.TimeoutExpired) as problem:
            say(f"{server.name}: {what}: {problem}")
            self.problems.append({"server": server.name, "what": what, "problem": str(problem)})
            return None

    def each_with_content(self, what, function):
        for server in self.servers:
            if self.has_content(server):
                self.try_load(server, what, function, self.programs["load"], server)

    def measure_all(self):
        self.results = {job.name: {server.name: [] for server in self.servers} for job in self.jobs}
        started = time.monotonic()
        for run in range(self.arguments.runs):
            say(f"run {run + 1} of {self.arguments.runs}, after {time.monotonic() - started:.0f} s")
            for job in self.jobs:
                # Not always the same one first.
                first = run % len(self.servers)
                for server in self.servers[first:] + self.servers[:first]:
                    figures = self.try_load(server, job.name, generator.measure, self.programs["load"], server, job,
                                            self.arguments.seconds, run, self.arguments.fio)
                    if figures:
                        self.results[job.name][server.name].append(figures)
        self.seconds = time.monotonic() - started

    def measure_with_others(self):
        """And what share of the machine somebody else had meanwhile."""
        def ours():
            return machine.own_seconds() + sum(server.cpu_seconds() for server in self.servers)
        busy, own = machine.busy_seconds(), ours()
        self.measure_all()
        others = max(machine.busy_seconds() - busy - (ours() - own), 0)
        self.others_share = others / (self.seconds * os.cpu_count()) if self.seconds else 0

    def look_at_processes(self):
        for subject, server in zip(self.started, self.servers):
            if not all(process.is_running() for process in server.processes):
                continue
            self.memory[server.name] = server.memory()
            if subject.ours:
                self.statuses[server.name] = server.status(self.programs["slabswapctl"])


def run(arguments, directory):
    """{"title", "text" (markdown), "goals", "data" (for JSON), "plots" ({file: gnuplot script}), "failed"}"""
    part = Part(arguments, directory)
    if not part.programs["load"]:
        raise AssertionError(f"bench/load is not built in {arguments.build} (scripts/build)")
    if arguments.fio:
        part.jobs = [job for job in part.jobs if job.operation != "burst"]
    try:
        part.start_all()
        if not part.servers:
            raise AssertionError("none of the servers can be started")
        say("writing all devices in full, and reading them")
        part.each_with_content("fill", generator.fill)
        part.each_with_content("read back", generator.verify)
        part.measure_with_others()
        part.look_at_processes()
        if not arguments.fio:  # it writes what nobody can tell from another page
            part.each_with_content("verify", generator.verify)
    finally:
        part.kill_all()
    verdicts = host_goals.judge(part)
    return {
        "title": TITLE,
        "text": host_tables.text(part),
        "goals": verdicts,
        "data": {"results": part.results, "memory": part.memory, "statuses": part.statuses,
                 "left_out": part.left_out, "problems": part.problems, "seconds": part.seconds,
                 "others_share": part.others_share},
        "plots": host_plots.scripts(part),
        "failed": bool(part.problems),
    }

"""The host's end of guest/agent: start commands in a guest, wait for them."""

import select
import time


# Deadlines are there to end what hangs; an emulated machine on a busy host has minutes in
# which everything takes several times as long.
PATIENCE = 4


class GuestError(Exception):
    pass


class GuestDied(GuestError):
    pass


class GuestTimeout(GuestError):
    pass


class CommandFailed(GuestError):
    pass


class Job:
    """A command that runs in a guest. Its output can be read while it runs, and after the guest
    has died."""

    def __init__(self, agent, number, command):
        self._agent = agent
        self._path = agent.folder / str(number)
        self.command = command
        self.pid = None
        self.status = None

    def wait(self, timeout, check=True):
        """(status, stdout); the job is killed when it is not done in time."""
        try:
            self._agent.pump(lambda: self.status is not None, timeout, f"done: {self.command}")
        except GuestTimeout as error:
            self.kill()
            raise GuestTimeout(f"{error}\n{self.report()}") from None
        if check and self.status != 0:
            raise CommandFailed(f"status {self.status}: {self.command}\n{self.report()}")
        return self.status, self.stdout

    def poll(self):
        """The exit status, None as long as the command runs."""
        while self.status is None and self._agent.receive(0, self.command):
            pass
        return self.status

    def kill(self, signal="KILL"):
        """Signal the command and all its children."""
        self._agent.run(f"kill -s {signal} -- -{self.pid}", timeout=30, check=False)

    @property
    def stdout(self):
        return self._read(".out")

    @property
    def stderr(self):
        return self._read(".err")

    def _read(self, suffix):
        try:
            return self._path.with_suffix(suffix).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def last_output(self):
        """When it last wrote to stderr, or was started, in seconds since the epoch; also of a
        dead guest."""
        path = self._path.with_suffix(".err")
        return (path if path.exists() else self._path.with_suffix(".cmd")).stat().st_mtime

    def report(self):
        """The end of what it wrote."""
        return f"stdout: {self.stdout[-4000:]}\nstderr: {self.stderr[-4000:]}"


class Agent:
    def __init__(self, sock, folder, name):
        self._sock = sock
        self._buffer = b""
        self._name = name
        self._jobs = {}
        self.folder = folder
        self.ready = False
        folder.mkdir()

    def wait_ready(self, timeout):
        self.pump(lambda: self.ready, timeout, "ready")

    def spawn(self, command, swappable=False):
        number = len(self._jobs) + 1
        job = self._jobs[number] = Job(self, number, command)
        (self.folder / f"{number}.cmd").write_text(command + "\n")
        group = "swappable" if swappable else "resident"
        try:
            self._sock.sendall(f"run {number} {group}\n".encode())
        except OSError:
            raise GuestDied(f"{self._name}: gone before: {command}") from None
        self.pump(lambda: job.pid is not None, 60, f"started: {command}")
        return job

    def run(self, command, timeout=30, check=True, swappable=False):
        return self.spawn(command, swappable).wait(timeout, check)

    def unfinished_business(self):
        """Reports of the commands that still run or have failed."""
        return [f"--- {self._name}: status {job.status}: {job.command}\n{job.report()}"
                for job in self._jobs.values() if job.status != 0]

    def pump(self, condition, timeout, what):
        """Take in what the guest reports until the condition holds."""
        deadline = time.monotonic() + timeout * PATIENCE
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                raise GuestTimeout(f"{self._name}: not in {timeout} s: {what}")
            self.receive(left, what)

    def receive(self, timeout, what):
        """Take in one piece of what the guest reports; False when none came in time."""
        if not select.select([self._sock], [], [], timeout)[0]:
            return False
        try:
            data = self._sock.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            raise GuestDied(f"{self._name}: died before: {what}")
        self._take(data)
        return True

    def _take(self, data):
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            verb, *numbers = line.decode().split()
            if verb == "ready":
                self.ready = True
            elif verb == "started":
                self._jobs[int(numbers[0])].pid = int(numbers[1])
            elif verb == "done":
                self._jobs[int(numbers[0])].status = int(numbers[1])

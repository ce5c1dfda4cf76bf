"""A kernel that scripts/fetch-kernel has extracted."""

import lzma
import subprocess
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]

SERIES = ("6.1", "6.12")


class Kernel:
    def __init__(self, series="6.1"):
        self.series = series
        fetch = subprocess.run([REPO / "scripts/fetch-kernel", "--series", series],
                               stdout=subprocess.PIPE, text=True, check=True)
        self.tree = Path(fetch.stdout.strip())
        self.modules = next((self.tree / "lib/modules").iterdir())
        self.version = self.modules.name
        unpacked = self.tree / "boot/vmlinux"
        self.image = unpacked if unpacked.exists() else self.tree / f"boot/vmlinuz-{self.version}"

    def load_order(self, names):
        """Files of the named modules and what they depend on, in the order to load them.

        Names that are built into the kernel, or that this series does not have, are left out.
        """
        files = {}
        for line in (self.modules / "modules.dep").read_text().splitlines():
            path, _, depends = line.partition(":")
            files[_module_name(path)] = [path, *depends.split()]
        order = []
        for name in names:
            # depmod lists what is to be loaded first last
            order += reversed(files.get(name, []))
        return list(dict.fromkeys(order))

    def module_bytes(self, path):
        data = (self.modules / path).read_bytes()
        return lzma.decompress(data) if path.endswith(".xz") else data


def _module_name(path):
    return Path(path).name.partition(".")[0].replace("-", "_")

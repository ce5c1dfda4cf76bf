"""The initramfs of the guests: busybox, the modules that reach the root, guest/init."""

import shutil
import stat
import struct
from pathlib import Path

MODULES = ("virtio_pci", "9p", "9pnet_virtio", "overlay", "virtio_net", "virtio_blk",
           "virtio_console")

PT_INTERP = 3

GUEST = Path(__file__).resolve().parent / "guest"


def write(kernel, path):
    archive = _Cpio()
    for folder in ("bin", "dev", "proc", "sys", "modules", "exchange", "host", "upper", "newroot",
                   "plain"):
        archive.add(folder, stat.S_IFDIR | 0o755)
    # The kernel opens /dev/console for PID 1 before anything can mount devtmpfs.
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.add("bin/busybox", stat.S_IFREG | 0o755, _busybox().read_bytes())
    archive.add("init", stat.S_IFREG | 0o755, (GUEST / "init").read_bytes())
    order = kernel.load_order(MODULES)
    for number, module in enumerate(order):
        # the shell's * sorts by name: the number is the order to load them in
        archive.add(f"modules/{number:02}-{Path(module).name.partition('.')[0]}.ko",
                    stat.S_IFREG | 0o644, kernel.module_bytes(module))
    path.write_bytes(archive.finish())


def _busybox():
    found = shutil.which("busybox")
    if not found:
        raise FileNotFoundError("busybox: install busybox-static")
    if _needs_loader(Path(found).read_bytes()):
        raise RuntimeError(f"{found} is not static: install busybox-static")
    return Path(found)


def _needs_loader(elf):
    table, = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    kinds = [struct.unpack_from("<I", elf, table + size * entry)[0] for entry in range(count)]
    return PT_INTERP in kinds


class _Cpio:
    """An archive in the "newc" format, the one the kernel unpacks."""

    def __init__(self):
        self._out = bytearray()
        self._inode = 0

    def add(self, name, mode, data=b"", device=(0, 0)):
        self._inode += 1
        raw = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(raw), 0)
        self._out += b"070701" + b"".join(b"%08X" % field for field in fields) + raw
        self._pad()
        self._out += data
        self._pad()

    def finish(self):
        self.add("TRAILER!!!", 0)
        return bytes(self._out)

    def _pad(self):
        self._out += b"\0" * (-len(self._out) % 4)

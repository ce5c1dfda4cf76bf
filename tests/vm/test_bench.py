#!/usr/bin/python3
"""bench/vm still runs: one of its parts, as short as it can be, with numbers for all that Debian has."""

import sys

import guestvm
import runner

sys.path.insert(0, str(guestvm.REPO / "bench/vm"))
import vm_fio  # noqa: E402  (of bench/vm)
import vm_lab  # noqa: E402


@runner.deadline(150)
def test_bench_fio(lab):
    # Nobody reads the numbers.
    vm_fio.SECONDS, vm_fio.RAMP_SECONDS, vm_fio.WARM_UP_SECONDS = 0.1, 0.05, 0
    bench = vm_lab.Lab(lab.run, lab.build, is_quick=True)
    result = vm_fio.measure(bench)
    bench.shut()
    print(vm_fio.tables(result), flush=True)
    assert not result["failed"], result["failed"]
    for job, devices in result["jobs"].items():
        for name, numbers in devices.items():
            assert numbers["iops"][0] > 0, (job, name)
    pages = result["status"][vm_fio.OURS]["pages"]
    assert pages["read_remote"] > 10 * pages["read_backup"], pages


if __name__ == "__main__":
    runner.main()

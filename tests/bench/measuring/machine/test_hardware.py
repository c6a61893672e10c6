import pytest

from bench.measuring.device import KINDS
from bench.measuring.machine import hardware
from tests.fake_device import FakeDevice


@pytest.fixture
def machine(tmp_path):
    cpu = tmp_path / "sys/devices/system/cpu/cpu0"
    for index, words in enumerate(["1 Data 48K", "1 Instruction 32K", "2 Unified 1024K"]):
        folder = cpu / f"cache/index{index}"
        folder.mkdir(parents=True)
        for name, word in zip(("level", "type", "size"), words.split(), strict=True):
            (folder / name).write_text(word + "\n")
    (cpu / "cpufreq").mkdir()
    (cpu / "cpufreq/scaling_governor").write_text("performance\n")
    (cpu / "cpufreq/cpuinfo_max_freq").write_text("3700000\n")
    for name, text in {
        "proc/cpuinfo": "model name\t: X\ncpu MHz\t\t: 2596.124\n\ncpu MHz\t\t: 3100.0\n",
        "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
        "sys/fs/cgroup/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/memory.max": "4294967296\n",
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


def test_what_a_machine_tells_is_read(machine):
    found = hardware.describe(("cpu",), machine)
    assert found["caches_bytes"] == {"L1d": 48 * 1024, "L1i": 32 * 1024, "L2": 2**20}
    assert found["frequency_governor"] == "performance"
    assert found["max_frequency_mhz"] == 3700 and found["frequency_mhz"] == [2596, 3100]
    assert found["huge_pages"] == "madvise"
    assert found["container_cores"] == 1.5 and found["container_memory_bytes"] == 4 * 2**30


def test_no_limit_is_no_number(machine):
    (machine / "sys/fs/cgroup/cpu.max").write_text("max 100000\n")
    (machine / "sys/fs/cgroup/memory.max").write_text("max\n")
    found = hardware.describe(("cpu",), machine)
    assert "container_cores" not in found and "container_memory_bytes" not in found


def test_a_machine_that_tells_nothing_leaves_the_build_of_torch(tmp_path):
    found = hardware.describe(("cpu",), tmp_path)
    assert found.keys() == {"blas", "vector_instructions", "parallel_backend"}
    assert all(isinstance(value, str) for value in found.values())


def test_the_driver_is_asked_for_where_a_card_is_measured_on(monkeypatch, tmp_path):
    monkeypatch.setitem(KINDS, "cuda", FakeDevice)
    assert hardware.describe(("cpu", "cuda:0"), tmp_path)["cuda_driver"] == "1.0"
    assert "cuda_driver" not in hardware.describe(("cpu",), tmp_path)

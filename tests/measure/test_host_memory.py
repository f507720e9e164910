"""The kernel's tables of what a process has and a machine is."""

from pathlib import Path

from runner.measure.host_memory import free_memory_bytes, values_in

TABLE = """\
MemTotal:       24589168 kB
MemAvailable:   23189168 kB
MemAvailable2:  1 kB
model name\t: AMD EPYC: the 7th
  Model: \t\t NVIDIA H200
no value
model name\t: AMD EPYC: the 7th
VmHWM:\t   12 kB\tof MemTotal: 3 kB
"""


def test_a_key_has_all_of_its_values_and_no_other_keys(tmp_path: Path) -> None:
    table = tmp_path / "table"
    table.write_text(TABLE)
    assert values_in(table, "MemTotal") == ["24589168 kB"]
    assert values_in(table, "MemAvailable") == ["23189168 kB"]
    assert values_in(str(table), "model name") == ["AMD EPYC: the 7th"] * 2
    assert values_in(table, "Model") == ["NVIDIA H200"]
    assert values_in(table, "VmHWM") == ["12 kB\tof MemTotal: 3 kB"]
    for absent in ("no value", "MemFree", "Mem.otal"):
        assert values_in(table, absent) == []
    assert values_in(tmp_path / "none", "MemTotal") == []


def test_the_free_memory_of_this_machine_is_some() -> None:
    assert (free_memory_bytes() or 0) > 2**20

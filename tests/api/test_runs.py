"""Sweeps from Python, and tables whose types do not depend on what a run holds."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import opsweep
from runner.report.column_reference import columns_of, tables
from runner.sweep.grids import as_overrides
from tests.conftest import ROOT

groups: list[int] = []


class Noted(subprocess.Popen[str]):
    """A process whose group is noted as it begins."""

    def __init__(self, *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        groups.append(os.getpgid(self.pid))


def test_a_sweep_is_a_data_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    frame = opsweep.sweep("timing=minimal", "limit.time_s=900", op=["add", "mul"], size=[4, 8])
    assert list(frame["op"]) == ["add", "add", "mul", "mul"]
    assert set(frame["size"]) == {"4x4", "8x8"}
    assert frame["median_s"].gt(0).all() and frame["launch_s"].isna().all()
    folder = Path(frame.attrs["folder"])
    assert (folder / "report.html").is_file() and frame.attrs["exit_code"] == 0
    again = opsweep.read(folder)
    pd.testing.assert_frame_equal(frame, again)
    monkeypatch.setattr(subprocess, "Popen", Noted)
    with pytest.raises(ValueError, match=r"^op=nosuch is unknown"):
        opsweep.sweep(op="nosuch")
    assert groups and os.getpgid(0) not in groups  # a terminal interrupts all of a group
    with pytest.raises(ValueError, match=r"^size is empty; leave it out"):
        opsweep.sweep(size=[])


def test_a_tuple_is_a_list_of_values() -> None:
    assert as_overrides("params", {"size": (64, 256)}) == ["size=64,256"]


COMPOSED = """
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins

Plugins.instance()  # looks for plugins before ours are on the path
import opsweep

with initialize_config_dir({own!r}, version_base="1.3"):
    print(compose("config").mine)
    print(opsweep.compose("op=softmax", "size=256", "hydra/sweeper=grid").op.signature)
    print(compose("config").mine)  # the caller's own is as it was
for wrong in ("op=sofmax", "szie=3", "op=add,mul"):
    try:
        opsweep.compose(wrong)
    except ValueError as error:
        print(error)
"""


def test_a_configuration_is_composed_beside_the_callers_own(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("mine: 1\n")
    script = COMPOSED.format(own=str(tmp_path))
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    before, signature, after, *refused = done.stdout.splitlines()
    assert (before, signature, after) == ("1", "... n -> ... n", "1")
    assert [line.split(";")[0] for line in refused] == [
        "op=sofmax is unknown",
        "szie is unknown",
        "op=add,mul has several values, which need -m: python -m runner -m op=add,mul",
    ]


def test_a_tables_types_are_those_of_the_schema_whatever_it_holds(smoke: Path) -> None:
    frame = opsweep.read(smoke)
    known = opsweep.dtypes()
    assert set(frame.columns) == set(known)
    types = {name: str(dtype) for name, dtype in frame.dtypes.items()}
    assert types == known
    # of an accelerator that is not here, and of nothing at all
    assert {types["concurrent_sweep"], types["launch_s"], types["reason"]} == {
        "boolean",
        "float64",
        "string",
    }
    assert types["samples"] == "Int64" and frame["samples"].isna().any()
    pairs = opsweep.read(smoke, "pairs.csv")
    assert str(pairs["calm"].dtype) == "boolean" and pairs["calm"].notna().all()
    with pytest.raises(KeyError):
        opsweep.dtypes("nosuch.csv")


def test_every_column_of_every_table_is_described() -> None:
    for file, record in tables().items():
        for column in columns_of(record):
            assert column.meaning, f"{file}: {column.name}"
            assert ":`" not in column.meaning and "``" not in column.meaning


def test_the_reference_has_each_columns_type_unit_and_meaning() -> None:
    columns = {column.name: column for column in columns_of(tables()["results.csv"])}
    assert columns["median_s"].unit == "s" and columns["median_s"].type == "float"
    assert columns["median_s"].meaning.startswith("seconds a call: the median over the samples; of")
    assert columns["flags"].type == "words"
    assert columns["clock_before_hz"].unit == "Hz" and columns["node"].unit == ""
    assert columns["ci_high_s"].meaning == "upper end of the median's 95 % interval"
    assert columns["device"].meaning.startswith("cpu, gpu (whatever accelerator there is)")


PAGE = (ROOT / "docs" / "python.md").read_text()


@pytest.mark.exhaustive
def test_the_documented_lines_for_a_repl_run(tmp_path: Path) -> None:
    (lines,) = re.findall(r"```python\n(import torch[^`]*)```", PAGE)
    done = subprocess.run(
        [sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for words in ("sin: ", "sin against sin: ", "sin: pass, ", "256x256", "outputs/"):
        assert words in done.stdout

"""The machine's own peaks: measured, kept for later runs, and what a row makes of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from runner.config.schema import Timing
from runner.measure.device import Device
from runner.measure.peaks import Peaks, find_peaks, identity_of, peaks_file, save_peaks, saved_peaks
from runner.tasks import roof as job
from runner.tasks.task import Task, WorkerState
from tests.conftest import Runner
from tests.support.factories import cell, ran

ONCE = Timing(precision=1.0, min_samples=1, max_samples=1, warmup_s=0.0)
CPU = Device(torch.device("cpu"))
PEAKS = Peaks("host", "cpu X", "float32", 2, "2.9", "full", flop_per_s=100.0, bytes_per_s=10.0)


def test_the_fraction_is_of_the_roof_under_which_the_work_takes_longer() -> None:
    assert PEAKS.fraction(1000, 50, 20.0) == (0.5, "compute")  # 10 s of computing, 5 s of moving
    assert PEAKS.fraction(100, 50, 20.0) == (0.25, "memory")
    assert PEAKS.fraction(None, 50, 20.0) == (0.25, "memory")
    assert PEAKS.fraction(None, 50, 2.5) == (2.0, "memory")  # from a cache
    assert PEAKS.fraction(None, 0, 20.0) is None  # a view moves nothing
    assert PEAKS.fraction(1000, None, 20.0) is None


def test_a_kept_roof_is_found_again_and_measuring_again_replaces_it() -> None:
    assert saved_peaks() == []
    save_peaks(PEAKS)
    save_peaks(replace(PEAKS, dtype="float16"))
    save_peaks(replace(PEAKS, flop_per_s=0.1 + 0.2))
    assert sorted(saved_peaks(), key=lambda roof: roof.dtype) == [
        replace(PEAKS, dtype="float16"),
        replace(PEAKS, flop_per_s=0.1 + 0.2),
    ]


@pytest.mark.parametrize("text", ["", "nonsense\n1,2\n", "host,device_name\nx,y\n"])
def test_a_damaged_file_holds_no_roofs_and_is_replaced(text: str) -> None:
    peaks_file().parent.mkdir(parents=True)
    peaks_file().write_text(text)
    assert saved_peaks() == []
    save_peaks(PEAKS)
    assert saved_peaks() == [PEAKS]


def test_a_roof_holds_for_its_machine_device_dtype_threads_version_and_precision_alone() -> None:
    known = cell("add")
    own = Peaks(**identity_of(known, CPU), flop_per_s=1.0, bytes_per_s=1.0)
    others = {
        "host": "x",
        "device_name": "x",
        "dtype": "int8",
        "threads": 99,
        "torch": "x",
        "products": "bf16",
    }
    for key, value in others.items():
        save_peaks(replace(own, **{key: value}))  # type: ignore[arg-type]
    assert find_peaks(known, CPU) is None
    save_peaks(own)
    assert find_peaks(known, CPU) == own


def test_a_row_says_how_near_its_roof_it_comes() -> None:
    assert ran("add", size=64).fraction_of_peak is None
    save_peaks(Peaks(**identity_of(cell("add"), CPU), flop_per_s=1e12, bytes_per_s=1e11))
    found = ran("add", size=64)
    assert found.bound == "memory"
    assert found.median_s and found.fraction_of_peak == pytest.approx(
        3 * 4 * 64**2 / 1e11 / found.median_s
    )
    product = ran("matmul", size=128)
    assert product.bound == "compute"
    assert product.median_s and product.fraction_of_peak == pytest.approx(
        2 * 128**3 / 1e12 / product.median_s
    )
    for blank in (
        ran("transpose", size=64),
        ran("add", size=64, direction="backward"),
        ran("add", size=8, threads=1),
    ):
        assert (blank.status, blank.fraction_of_peak, blank.bound) == ("ok", None, None)


def test_the_best_of_several_sizes_and_kernels_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "_tensor_bytes", lambda device: 4096)
    state = WorkerState()
    steps: list[str] = []
    asked = cell("matmul", job="roof", size=600, timing=ONCE)
    (found,), _ = job.run(Task(asked, CPU, torch.matmul, state, steps.append))
    assert steps[:3] == ["multiplying 256x256", "multiplying 512x512", "multiplying 600x600"]
    assert [step.rpartition(" ")[2] for step in steps[3:]] == [
        "elements",
        "copy",
        "add",
        "triad",
        "sum",
    ]
    assert found.flop_per_s is not None and found.flop_per_s > 0
    assert found.flop_by in ("256x256", "512x512", "600x600", "addcmul of 65536 elements")
    steps.clear()
    job.run(Task(asked, CPU, torch.matmul, state, steps.append))
    assert not any("memory" in step for step in steps)  # it has been measured for these threads


def test_a_product_that_would_take_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "_tensor_bytes", lambda device: 4096)
    state = WorkerState()
    steps: list[str] = []
    asked = cell(
        "matmul", job="roof", size=4096, dtype="float16", timing=replace(ONCE, max_time_s=1e-5)
    )
    (found,), _ = job.run(Task(asked, CPU, torch.matmul, state, steps.append))
    assert steps[:2] == ["multiplying 256x256", "multiplying and adding elements"]
    assert found.flop_by is not None


def test_a_contended_roof_is_shown_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = {disturbed: job.Peak(5.0, "copy", disturbed) for disturbed in (True, False)}
    monkeypatch.setattr(
        job, "_products", lambda *arguments: iter([job.Peak(3.0, "256x256", False)])
    )
    asked = cell("matmul", job="roof", size=256)
    monkeypatch.setattr(job, "_multiply_add", lambda *arguments: job.Peak(2.0, "addcmul", False))
    for disturbed, peak in peaks.items():
        monkeypatch.setattr(job, "_memory_peak", lambda *arguments, peak=peak: peak)
        (found,), _ = job.run(Task(asked, CPU, torch.matmul, WorkerState(), lambda step: None))
        assert found.flags == (("contended",) if disturbed else ())
        assert bool(saved_peaks()) is not disturbed
    assert (saved_peaks()[0].flop_per_s, saved_peaks()[0].bytes_per_s) == (3.0, 5.0)


def test_the_sweep_leaves_a_row_a_device_and_dtype(rows: Callable[..., pd.DataFrame]) -> None:
    found = rows("+sweep=roof", "size=8", "dtype=float32,int32", "timing=minimal", file="roofs.csv")
    assert list(found["dtype"] + found["device"]) == [
        "float32cpu",
        "float32gpu",
        "int32cpu",
        "int32gpu",
    ]
    here = found[found["device"] == "cpu"]
    assert (here["status"] == "ok").all(), here["reason"].to_list()
    assert (here[["flop_per_s", "bytes_per_s"]] > 0).all(axis=None)
    assert here["bytes_per_s"].nunique() == 1


def test_a_roof_of_another_operation_is_refused(runner: Runner, tmp_path: Path) -> None:
    done = runner("job=roof", "op=add", code=2)
    assert "job=roof measures the op matmul, not add" in done.stderr
    assert not list(tmp_path.rglob("roofs.csv"))

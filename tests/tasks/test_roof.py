"""``job=roof``: the machine's own peaks are measured."""

from dataclasses import replace

import pytest
import torch

from runner.config.schema import Timing
from runner.measure import device
from runner.measure.device import Device
from runner.measure.peaks import SAVED, Peak
from runner.tasks import roof as job
from runner.tasks.task import Task, WorkerState
from tests.support.factories import cell

ONCE = Timing(precision=1.0, min_samples=1, max_samples=1, warmup_s=0.0, patience_s=0.0)
CPU = Device(torch.device("cpu"))


@pytest.fixture
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tensors be small, as on a machine whose caches are."""
    monkeypatch.setattr(device, "last_level_cache_bytes", lambda: 1024)


@pytest.mark.usefixtures("small_cache")
def test_the_best_of_several_sizes_and_kernels_counts() -> None:
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


@pytest.mark.usefixtures("small_cache")
def test_a_product_that_would_take_too_long_is_left_out() -> None:
    state = WorkerState()
    steps: list[str] = []
    asked = cell(
        "matmul", job="roof", size=4096, dtype="float16", timing=replace(ONCE, max_time_s=1e-5)
    )
    (found,), _ = job.run(Task(asked, CPU, torch.matmul, state, steps.append))
    assert steps[:2] == ["multiplying 256x256", "multiplying and adding elements"]
    assert found.flop_by is not None


@pytest.mark.usefixtures("small_cache")
@pytest.mark.parametrize("disturbed", [True, False])
def test_a_contended_roof_is_shown_and_not_kept(
    disturbed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = job.measure

    def told(*arguments: object) -> object:
        """What the engine says, on a machine that was busy, or was not."""
        flags = ("contended",) if disturbed else ()
        return replace(engine(*arguments), flags=flags)  # type: ignore[arg-type]

    monkeypatch.setattr(job, "measure", told)
    asked = cell("matmul", job="roof", size=256, timing=ONCE)
    (found,), _ = job.run(Task(asked, CPU, torch.matmul, WorkerState(), lambda step: None))
    assert found.flags == (("contended",) if disturbed else ())
    kept = [(peaks.flop_per_s, peaks.bytes_per_s) for peaks in SAVED.read()]
    assert kept == [] if disturbed else [(found.flop_per_s, found.bytes_per_s)]


@pytest.mark.parametrize(("rate", "disturbed"), [(0.6, True), (0.4, False)])
def test_a_kernel_that_might_have_won_undisturbed_counts(rate: float, disturbed: bool) -> None:
    calm, busy = Peak(1.0, "calm", False), Peak(rate, "busy", True)
    assert job._best([busy, calm]) == Peak(1.0, "calm", disturbed)


def test_a_roof_of_another_operation_is_refused() -> None:
    asked = cell("add", job="roof")
    assert asked.infeasible_reason.startswith("job=roof measures the op matmul, not add")

"""``job=tensors``: run a line of tensor code and compare its result with what is expected."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from runner.calls.bound_operation import storage_of
from runner.config.cases import TensorCase
from runner.config.cases.nested import shape_of
from runner.config.cases.snippet import CallError
from runner.config.cases.snippet import run as run_snippet
from runner.config.cases.tensor_code import NOTHING
from runner.config.size import shape_text
from runner.errors import is_unsupported, one_line
from runner.rows.rows import TensorRow
from runner.tasks.task import MOST_SHOWN, Task, TaskResult

CALL = "call"  # the check that the code can be run at all


@dataclass(frozen=True)
class Check:
    """One thing that was expected, and what there was."""

    check: str
    expected: str
    got: str
    problem: str = ""  # what is wrong; blank where nothing is


@dataclass(frozen=True)
class Outcome:
    """What a case's code left."""

    inputs: dict[str, torch.Tensor]  # by name, as they are afterwards
    before: dict[str, torch.Tensor]  # copies of them as they were at first
    result: torch.Tensor  # what is checked


def run(task: Task) -> TaskResult:
    """Check one case, a row for each check; what PyTorch does not have for a device is raised."""
    case = task.cell.case
    assert isinstance(case, TensorCase)
    task.report_step("running tensor code")
    begun, blank = time.perf_counter(), replace(task.blank(TensorRow), expression=case.result)
    checks: list[Check] = []

    def result() -> TaskResult:
        # the code ran once for all checks, so that each has its share of the time
        of_each = replace(blank, seconds=(time.perf_counter() - begun) / len(checks))
        return TaskResult([_row(of_each, check, case.hint) for check in checks])

    # an operation that PyTorch does not have is the cell's status; other errors are failed checks
    try:
        for check in _checks(case, task.device.torch, task.cell.seed):
            checks.append(check)
            task.keep(result())
    except CallError as error:
        if is_unsupported(error.__cause__):
            raise error.__cause__ from error  # type: ignore[misc]  # is_unsupported(None) is False
        checks.append(Check(CALL, "a tensor", "", str(error)))
    return result()


def _row(blank: TensorRow, check: Check, hint: str) -> TensorRow:
    row = replace(blank, check=check.check, expected=check.expected, got=check.got, verdict="pass")
    if not check.problem:
        return row
    reason = f"{check.check}: {check.problem}"
    if hint:
        reason += f"; {hint}"
    verdict = "error" if check.check == CALL else "fail"
    return replace(row, status="failed", reason=one_line(reason, limit=500), verdict=verdict)


def evaluate(case: TensorCase, device: torch.device, seed: int) -> Outcome:
    """Run a case's code; CallError where a call was refused, or the result is no tensor."""
    *first, last = case.trees()
    names: dict[str, Any] = {}
    before: dict[str, torch.Tensor] = {}
    # the CPU's generator is forked in any case, beside those of devices of a type
    devices, kind = ([], "cuda") if device.type == "cpu" else ([device], device.type)
    # without it sparse tensors reach any memory
    checked = torch.sparse.check_sparse_tensor_invariants()  # type: ignore[no-untyped-call]
    with (
        torch.random.fork_rng(devices, device_type=kind),
        device,
        checked,
        warnings.catch_warnings(record=True) as heard,
    ):
        warnings.simplefilter("always")
        torch.manual_seed(seed)
        for name, tree in zip(case.inputs, first, strict=False):
            names[name] = _tensor(run_snippet(tree, names), case.inputs[name], heard)
            before[name] = names[name].detach().clone()
        for tree in first[len(case.inputs) :]:
            run_snippet(tree, names)
        result = _tensor(run_snippet(last, names), case.result, heard)
    return Outcome(names, before, result)


def _checks(case: TensorCase, device: torch.device, seed: int) -> Iterator[Check]:
    outcome = evaluate(case, device, seed)
    result, expect = outcome.result, case.expect
    # wrong values or a wrong shape say most, and so come first
    if "values" in expect:
        yield _values(expect["values"], result)
    if "shape" in expect or "values" in expect:
        shape = tuple(expect.get("shape", shape_of(expect.get("values"))))
        expected, got = shape_text(shape), _shape(result)
        differs = f"it is {got}, not {expected}" if tuple(result.shape) != shape else ""
        yield Check("shape", expected, got, differs)
    if "dtype" in expect:
        dtype = str(result.dtype).removeprefix("torch.")
        differs = f"it is {dtype}" if dtype != expect["dtype"] else ""
        yield Check("dtype", expect["dtype"], dtype, differs)

    # the elements' properties, where their values cannot be known beforehand
    if "range" in expect:
        low, high = expect["range"]
        yield _in_range(low, high, result)
    if "finite" in expect:
        count, infinite = result.numel(), int((~result.isfinite()).sum().item())
        problem = f"{infinite} of {count} elements are infinite or NaN" if infinite else ""
        yield Check("finite", f"{count} finite", f"{count - infinite} finite", problem)
    if "reproducible" in expect:
        yield _reproducible(case, device, seed, result)

    # what the call did to memory that is not its result's
    if "aliases" in expect:
        yield _aliases(expect["aliases"], outcome)
    for name in case.inputs:
        yield _unchanged(name, outcome)


def _values(expected: object, result: torch.Tensor) -> Check:
    """Element by element, exactly; a decimal stands for the nearest number of the dtype."""
    shape = shape_of(expected)
    shown = json.dumps(expected), text_of(result)
    if tuple(result.shape) != shape:
        return Check("values", *shown, f"its shape is {_shape(result)}, not {shape_text(shape)}")
    got = result.detach().cpu()
    want = _in_dtype_of(got, expected)
    differ = ((got != want) & ~(got.isnan() & want.isnan())).flatten()
    if not bool(differ.any()):
        return Check("values", *shown)
    first = int(differ.to(torch.uint8).argmax())
    index = [int(i) for i in torch.unravel_index(torch.tensor(first), got.shape)]
    count = f"{int(differ.sum())} of {got.numel()} elements differ"
    first_got, first_want = got.flatten()[first].item(), want.flatten()[first].item()
    first_text = f"the first at {index}: {first_got!r}, not {first_want!r}"
    return Check("values", *shown, f"{count}, {first_text}")


def _in_dtype_of(result: torch.Tensor, expected: object) -> torch.Tensor:
    """What is expected, in a dtype in which it can be compared exactly."""
    wide = torch.tensor(expected, dtype=torch.float64)
    if result.is_floating_point() or result.is_complex():
        return wide.to(result.dtype)
    if bool((wide == wide.round()).all() and wide.isfinite().all()):
        return torch.tensor(expected, dtype=torch.int64)
    return wide


def _in_range(low: float, high: float, result: torch.Tensor) -> Check:
    least, end = torch.tensor([low, high], dtype=torch.float64)  # not in the default dtype
    outside = int(((result < least) | (result >= end) | result.isnan()).sum().item())
    expected = f"[{low:g}, {high:g})"
    problem = f"{outside} of {result.numel()} elements are not in {expected}" if outside else ""
    ends = (result.min().item(), result.max().item()) if result.numel() else (0.0, 0.0)
    return Check("range", expected, f"{ends[0]!r} to {ends[1]!r}", problem)


def _reproducible(case: TensorCase, device: torch.device, seed: int, result: torch.Tensor) -> Check:
    again, other = (evaluate(case, device, s).result for s in (seed, seed + 1))
    problem = ""
    if _alike(other, result):
        problem = "the seed changes nothing"
    elif not _alike(again, result):
        problem = "the same seed gave other numbers"
    return Check("reproducible", f"determined by seed={seed}", text_of(again), problem)


def _aliases(expected: str, outcome: Outcome) -> Check:
    storage = storage_of(outcome.result)
    sharing = [name for name, tensor in outcome.inputs.items() if storage_of(tensor) == storage]
    got = ", ".join(sharing) or NOTHING
    problem = ""
    if expected == NOTHING and sharing:
        problem = f"it shares its memory with {got}; it is a view"
    elif expected != NOTHING and expected not in sharing:
        problem = f"it shares its memory with {got}, not with {expected}"
    return Check("aliases", expected, got, problem)


def _unchanged(name: str, outcome: Outcome) -> Check:
    now, before = outcome.inputs[name].detach(), outcome.before[name]
    problem = ""
    if now.shape != before.shape:
        problem = f"{name} was changed: its shape was {_shape(before)} and is {_shape(now)}"
    elif not _alike(now, before):
        problem = f"{name} was changed: its elements are others than before"
    return Check("unchanged", text_of(before), text_of(now), problem)


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two results have the same elements, NaN among them."""
    same_shape = one.shape == other.shape
    return same_shape and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def text_of(tensor: torch.Tensor) -> str:
    """A tensor's elements as a nested list, in full precision; of a large one the shape."""
    if tensor.numel() > MOST_SHOWN:
        return f"{_shape(tensor)} elements"
    return json.dumps(tensor.detach().cpu().tolist(), default=str)  # as complex numbers are shown


def _tensor(value: object, text: str, heard: Sequence[warnings.WarningMessage]) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value

    # what torch warns of, such as a .grad that only leaves have, says why
    why = "".join(f"; torch warns: {one_line(warning.message, 250)}" for warning in heard[-1:])
    raise CallError(f"{text} is a {type(value).__name__}, not a tensor{why}")


def _shape(tensor: torch.Tensor) -> str:
    return shape_text(tuple(tensor.shape))

"""What a sweep compares, settled before its first cell, and which cells are measured in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

from runner.cells.cell import Cell
from runner.config.axes import AXES, COMPARED_BY_ITSELF, CellKey, same_but, values_of
from runner.config.schema import DEFAULT_BASELINE, Compare, Report

# of a side's inputs and outputs: what is drawn, the memory where it is used, what is returned ...
COPIES = 3
COPIES_OF_BACKWARD = 5  # ... and what is saved for a backward pass, and its gradients
SPREAD_FROM_S = 1.0  # of timing.max_time_s: who asks for less wants to wait for one process only
SPREAD_OVER = 3  # processes: of two that differ nearly nothing can be claimed


def settled(report: Report, cells: Sequence[Cell], *, accelerated: bool) -> Report:
    """The report with its baseline settled, where the user has given none.

    It is the CPU, where this machine has an accelerator to compare it with (``accelerated``);
    otherwise the default of the first axis in which benchmarks differ, or its first value.
    """
    if report.baseline is not None:
        return report
    for baseline in usual_baselines([cell for cell in cells if cell.job == "benchmark"]):
        if "device" not in baseline or (accelerated and baseline == DEFAULT_BASELINE):
            return replace(report, baseline=baseline)
    return report


def usual_baselines(cells: Sequence[CellKey]) -> Iterator[dict[str, Any]]:
    """Of each axis in which cells, or rows, differ, what the others are usually compared with."""
    for axis in COMPARED_BY_ITSELF:
        values = list(dict.fromkeys(map(attrgetter(axis), cells)))
        if len(values) > 1:
            usual = AXES[axis].usual_baseline
            yield {axis: usual if usual in values else values[0]}


def in_turn(
    cells: Sequence[Cell],
    report: Report,
    can_run: Callable[[Cell], bool],
    *,
    memory_bytes: Mapping[str, int],
) -> list[list[int]]:
    """The cells that are measured together, as positions; each group has its baseline first.

    Cells are compared that differ along the compared axis alone. Those that fit into memory
    together form one group; of those that do not, each forms one with the baseline, where two fit.
    ``memory_bytes`` are those that a group may take of each device, where they are known. A
    baseline may be in several groups, which are in the order of the first cell of each.
    """
    common = same_but(report.axis)
    sides: dict[tuple[object, ...], list[int]] = {}
    for position, cell in enumerate(cells):
        is_side = cell.job == "benchmark" and can_run(cell)
        sides.setdefault(common(cell) if is_side else (position,), []).append(position)

    groups: list[list[int]] = []
    for members in sides.values():
        baselines = [
            member for member in members if str(getattr(cells[member], report.axis)) == report.value
        ]
        if len(members) == 1 or not baselines:
            groups += [[member] for member in members]
            continue
        baseline = baselines[0]
        others = [member for member in members if member != baseline]
        groups += _fitting(cells, baseline, others, memory_bytes)
    return groups


def _fitting(
    cells: Sequence[Cell], baseline: int, others: Sequence[int], memory_bytes: Mapping[str, int]
) -> list[list[int]]:
    """One group of all, or pairs, or single cells: whatever fits."""
    limit = cells[baseline].limit.memory_bytes

    def fits(members: Sequence[int]) -> bool:
        sides = [cells[member] for member in members]
        if limit is None:
            return _fit(sides, memory_bytes)
        return sum(_needed_bytes(sides).values()) <= limit

    if fits([baseline, *others]):
        return [[baseline, *others]]
    pairs = [[baseline, other] for other in others if fits([baseline, other])]
    single = [[other] for other in others if not fits([baseline, other])]
    return [*(pairs or [[baseline]]), *single]


def _needed_bytes(cells: Sequence[Cell]) -> dict[str, int]:
    """What sides take of each device, while they take turns."""
    needed: dict[str, int] = {}
    for cell in cells:
        copies = COPIES if cell.direction == "forward" else COPIES_OF_BACKWARD
        needed[cell.device] = needed.get(cell.device, 0) + copies * cell.tensor_bytes
    return needed


def _fit(cells: Sequence[Cell], memory_bytes: Mapping[str, int]) -> bool:
    needed = _needed_bytes(cells)
    return all(size <= memory_bytes.get(device, size) for device, size in needed.items())


def rounds_of(
    cells: Sequence[Cell],
    report: Report,
    can_run: Callable[[Cell], bool],
    *,
    memory_bytes: Mapping[str, int],
) -> list[list[Cell]]:
    """The calls of each workload that are visited together, the model itself first.

    They differ in the call and along the compared axis alone. ``memory_bytes`` are those that a
    workload may take of each device, where they are known. One that takes more is in none.
    """
    shared = values_of(*(name for name in AXES if name not in ("op", "size", report.axis)))
    groups: dict[tuple[object, ...], list[Cell]] = {}
    for cell in cells:
        if cell.call is not None and cell.job == "benchmark" and can_run(cell):
            groups.setdefault((cell.call.workload, *shared(cell)), []).append(cell)
    ordered = [
        sorted(group, key=lambda cell: not cell.operation.passes) for group in groups.values()
    ]
    return [group for group in ordered if len(group) > 1 and _fit(group, memory_bytes)]


def process_count(group: Sequence[Cell], compare: Compare) -> int:
    """How many processes measure a group, one after another; several cells share their visits."""
    processes = group[0].processes
    if len(group) == 1:
        return processes
    usual = SPREAD_OVER if group[0].timing.max_time_s >= SPREAD_FROM_S else 1
    return max(compare.processes or usual, processes)


def with_partners(numbers: Sequence[int], cells: Sequence[Cell], report: Report) -> list[int]:
    """The positions of cells to be run, with those that have to be measured again beside them.

    A ratio is of one moment: where a side is missing, its whole comparison is measured.
    """
    common = same_but(report.axis)
    incomplete = {common(cells[number]) for number in numbers if cells[number].job == "benchmark"}
    needed = set(numbers)
    for number, cell in enumerate(cells):
        if cell.job == "benchmark" and common(cell) in incomplete:
            needed.add(number)
    return sorted(needed)


def in_words(report: Report, cells: Sequence[Cell]) -> str:
    """What a sweep will compare, before it is known which devices there are."""
    with_one, without = (settled(report, cells, accelerated=has_one) for has_one in (True, False))
    words = [baseline_in_words(with_one), baseline_in_words(without)]
    if words[0] == words[1]:
        return f"compared in turn: {words[0]}"
    return f"compared in turn: {words[0]}; without an accelerator {words[1]}"


def baseline_in_words(report: Report) -> str:
    """The axis that is compared, and its baseline."""
    if report.baseline is None:
        return "nothing"
    return f"{report.axis}, with {report.value} as the baseline"

"""Which sizes to measure next, where a sweep looks for the size from which the other side wins."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig

from runner.analysis.comparison import FORBIDDING, OF_MOMENTS, Speedup, compare, is_disturbed
from runner.analysis.pairs import BUSY, SLOW, Pairs
from runner.cells.compose import Composer, HydraJob
from runner.config.axes import same_but
from runner.config.renamed import refusal
from runner.config.schema import Report
from runner.config.size import LONGEST
from runner.errors import ConfigError
from runner.rows.csv_store import collect, collect_pairs
from runner.rows.flags import merged
from runner.rows.rows import STATUSES, BenchmarkRow, Row, grouped

Outcome = Literal["wins", "loses", "disturbed", "too_large", "no_ratio"]
TRIES = 3  # sizes that are too large, each of which may take until limit.time_s, or disturbed
TOO_LARGE = {"timeout", "out_of_memory", "single_call"}
NUMBER = "{n}"


@dataclass(frozen=True)
class Range:
    """What is searched."""

    low: int  # the ends, as the number that stands in ``size``
    high: int
    rtol: float = 0.05  # relative difference of the sizes on both sides of the crossover at last
    size: str = NUMBER  # with {n} for the number: {n} is n x n, 8x{n}x{n} a batch of 8

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Range:
        """Check the settings of a sweep; ConfigError names the one that is wrong."""
        where = "hydra.sweeper.crossover"
        if not isinstance(settings, Mapping | DictConfig):
            raise ConfigError(f"{where}={settings}: give low, high, rtol, size, such as {EXAMPLE}")
        for name in settings:
            if old := refusal(f"{where}.{name}", "key"):
                raise ConfigError(old)
        try:
            search_range = cls(**settings)
        except TypeError as error:
            advice = f"give low, high, rtol and size, such as {EXAMPLE}"
            raise ConfigError(f"{where}={dict(settings)}: {advice}") from error
        search_range._check(where)
        return search_range

    def _check(self, where: str) -> None:
        low, high, rtol, size = self.low, self.high, self.rtol, self.size
        are_numbers = type(low) is type(high) is int  # and no bool
        if not are_numbers or not 1 <= low < high <= LONGEST:
            raise ConfigError(
                f"{where}: low={low} and high={high} are no sizes from small to large"
            )
        if not isinstance(rtol, int | float) or not 0 < rtol < 1:
            raise ConfigError(f"{where}.rtol={rtol} is out of range; give a share such as 0.05")
        if not isinstance(size, str) or NUMBER not in size:
            problem = f"{where}.size={size} has no place for the number"
            raise ConfigError(f"{problem}; write {NUMBER} there")

    def size_of(self, number: int) -> str:
        """The override that asks for a size."""
        return f"size={self.size.replace(NUMBER, str(number))}"

    @property
    def max_sizes(self) -> int:
        """The most sizes that a search asks for, but those that are too large or disturbed."""
        steps = math.log(self.high / self.low) / math.log1p(self.rtol)
        return 3 + math.ceil(math.log2(max(2.0, steps)))


EXAMPLE = "{low: 16, high: 4096, rtol: 0.05}"


def requested_sizes(outcome_of: Callable[[int], Outcome | None], search_range: Range) -> list[int]:
    """Every size that a search asks for, in order, up to those whose outcome is not known yet.

    >>> requested_sizes({}.get, Range(16, 4096))
    [16, 4096]
    >>> requested_sizes({16: "loses", 4096: "wins", 256: "wins"}.get, Range(16, 4096))
    [16, 4096, 256, 64]
    """
    sizes = [search_range.low, search_range.high]
    outcomes: dict[int, Outcome] = {}
    for size in sizes:  # which grows meanwhile
        outcome = outcome_of(size)
        if outcome is None:
            continue
        outcomes[size] = outcome
        following = _next_size(outcomes, search_range) if len(outcomes) == len(sizes) else None
        if following is not None:
            sizes.append(following)
    return sizes


def _next_size(outcomes: Mapping[int, Outcome], search_range: Range) -> int | None:
    """The size between the last that loses and the next above it; None where that is settled."""
    values = list(outcomes.values())
    if "no_ratio" in values or values.count("disturbed") > TRIES:
        return None
    end = _end_without_outcome(outcomes, search_range)
    if end is not None:
        return end
    bracket = _bracket(outcomes)
    if bracket is None:
        return None

    # Halved by ratio and not by difference, since sizes span several powers of two.
    below, above = bracket
    between = round(math.sqrt(below * above))
    while between in outcomes:
        between += 1
    near = above <= below * (1 + search_range.rtol) or not below < between < above
    return None if near else between


def _end_without_outcome(outcomes: Mapping[int, Outcome], search_range: Range) -> int | None:
    """An end of the range that was not measured yet, or its neighbour where that was disturbed."""
    for end, step in ((search_range.low, 1), (search_range.high, -1)):
        size = end
        while outcomes.get(size) == "disturbed":
            size += step
        if size not in outcomes:
            return size
    return None


def _bracket(outcomes: Mapping[int, Outcome]) -> tuple[int, int] | None:
    """The largest size that loses and the next above it that wins; None where there are no two."""
    sizes_of = grouped(outcomes, outcomes.__getitem__)
    if "loses" not in sizes_of:
        return None  # it wins from the smallest on
    loses = max(sizes_of["loses"])
    wins = [size for size in sizes_of.get("wins", []) if size > loses]
    if wins:
        return loses, min(wins)

    # What wins may be too large to run: then it is looked for below, for a few sizes.
    too_large = sizes_of.get("too_large", [])
    return (loses, min(too_large)) if 0 < len(too_large) < TRIES else None


def outcome_of(comparison: Speedup, sides: Sequence[BenchmarkRow], margin: float) -> Outcome:
    """What a size's comparison says, given its two rows; who is no faster by ``margin`` loses."""
    is_unclear_alone = comparison.paired is None and comparison.verdict == "unclear"
    is_slow = is_unclear_alone and any(map(is_disturbed, sides))
    if is_slow or comparison.reason in (BUSY, SLOW):
        return "disturbed"
    if comparison.speedup is not None:
        return "wins" if comparison.speedup > 1 + margin else "loses"

    flags = merged(*(row.flags for row in sides))
    telling = {*FORBIDDING, *STATUSES} - {"ok"}
    problems = {*flags, *(row.status for row in sides)} & telling
    if problems and problems <= {*OF_MOMENTS}:
        return "disturbed"
    return "too_large" if problems and problems <= TOO_LARGE else "no_ratio"


Overrides = tuple[str, ...]
JobPair = tuple[Overrides, Overrides]
"""A search for one crossover: a baseline's overrides and another's, at the smallest size."""


class CrossoverSearch:
    """All of a sweep's searches, side by side: each round asks for at most one size of each."""

    def __init__(
        self, search_range: Range, report: Report, composer: Composer, grid: Sequence[HydraJob]
    ) -> None:
        """Pair a grid's jobs along the report's axis; ConfigError where there are no two sides.

        The grid's jobs are at the low end of the range; those of another size are left as they are.
        """
        self._range, self._report, self._composer = search_range, report, composer
        self._grid = [job.overrides for job in grid]
        self._in_turn = Pairs([])
        self._given: set[Overrides] = set()
        self._pairs = _pairs(grid, report)
        if not self._pairs:
            one = f"one of them with {report.axis}={report.value}"
            raise ConfigError(
                f"no two cells differ in {report.axis} alone, {one}; give the axis two values, or "
                "compare along another one, such as threads=1,2 'report.baseline={threads: 1}'"
            )

    def initial(self) -> list[HydraJob]:
        """The jobs at both ends of the range."""
        return self._new_jobs([])

    def next(self, root: Path) -> list[HydraJob]:
        """The jobs that the rows in the sweep's folder ask for and that were not given before."""
        collected = collect(root, "benchmark")
        self._in_turn = Pairs(collect_pairs(root, collected.homes)[0])
        return self._new_jobs(collected.rows)

    @property
    def max_further_cells(self) -> int:
        """The most cells that follow the first, if no two searches share any."""
        return 2 * len(self._pairs) * (self._range.max_sizes - 2)

    def _new_jobs(self, rows: Iterable[Row]) -> list[HydraJob]:
        new = [overrides for overrides in self._requested(rows) if overrides not in self._given]
        self._given.update(new)
        return [self._composer.job(overrides) for overrides in new]

    def _requested(self, rows: Iterable[Row]) -> Iterable[Overrides]:
        """The overrides of every job asked for so far, in the order in which they were."""
        row_of = {row.cell: row for row in rows if isinstance(row, BenchmarkRow)}
        sizes_of: dict[JobPair, list[int]] = {}
        for pair in self._pairs:
            outcome_of = partial(self._outcome, pair, row_of)
            sizes_of[pair] = requested_sizes(outcome_of, self._range)
        requested = dict.fromkeys(self._grid)
        for turn in range(1, max(map(len, sizes_of.values()))):
            for pair, sizes in sizes_of.items():
                if turn < len(sizes):
                    requested.update(dict.fromkeys(self._at_size(pair, sizes[turn])))
        return requested

    def _outcome(
        self, pair: JobPair, row_of: Mapping[str, BenchmarkRow], size: int
    ) -> Outcome | None:
        cells = [self._composer.job(overrides).cell for overrides in self._at_size(pair, size)]
        sides = [row_of[cell.identity] for cell in cells if cell.identity in row_of]
        if len(sides) < len(cells):
            return None
        (comparison,) = compare(sides, self._report, pairs=self._in_turn)
        return outcome_of(comparison, sides, self._report.same_within)

    def _at_size(self, pair: JobPair, number: int) -> list[Overrides]:
        size = self._range.size_of(number)
        sides = []
        for overrides in pair:
            sides.append(tuple(size if text.startswith("size=") else text for text in overrides))
        return sides


def _pairs(grid: Sequence[HydraJob], report: Report) -> list[JobPair]:
    """Each baseline's job with each that differs from it along the compared axis alone."""
    shared = same_but(report.axis, "size")
    others: dict[tuple[Any, ...], list[Overrides]] = {}
    bases: dict[tuple[Any, ...], Overrides] = {}
    for job in grid:
        if job.cell.requested_size != grid[0].cell.requested_size:
            continue
        key = (job.cell.job, shared(job.cell))
        if str(getattr(job.cell, report.axis)) == report.value:
            bases[key] = job.overrides
        else:
            others.setdefault(key, []).append(job.overrides)
    pairs: list[JobPair] = []
    for key, base in bases.items():
        pairs += [(base, other) for other in others.get(key, ())]
    return pairs

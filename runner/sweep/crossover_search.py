"""Which sizes to measure next, where a sweep looks for the size from which the other side wins."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from runner.analysis.comparison import FORBIDDING, compare
from runner.cells.cell import Cell
from runner.cells.compose import Composer
from runner.config.axes import same_but
from runner.config.renamed import refusal
from runner.config.schema import Report
from runner.config.size import LONGEST
from runner.errors import ConfigError
from runner.rows.flags import merged
from runner.rows.rows import STATUSES, BenchmarkRow, Row

Outcome = Literal["wins", "loses", "disturbed", "too_large", "no_ratio"]
TRIES = 3  # sizes that turn out too large, each of which may take until limit.time_s, or at which something disturbs
TOO_LARGE = {"timeout", "out_of_memory", "single_call"}
NUMBER = "{n}"


@dataclass(frozen=True)
class Range:
    """What is searched.

    Attributes:
        low, high: the ends, as the number that stands in ``size``.
        rtol: how near to each other, relatively, the sizes on both sides of the crossover are to be in the end.
        size: the size with ``{n}`` where the number goes: ``{n}`` is n x n, ``8x{n}x{n}`` a batch of 8.
    """

    low: int
    high: int
    rtol: float = 0.05
    size: str = NUMBER

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Range:
        """Check the settings of a sweep.

        Raises:
            ConfigError: the message names the setting.
        """
        where = "hydra.sweeper.crossover"
        for name in given:
            if old := refusal(f"{where}.{name}", "key"):
                raise ConfigError(old)
        try:
            found = cls(**given)
        except TypeError as error:
            raise ConfigError(f"{where}={dict(given)}: give low, high, rtol and size, such as {EXAMPLE}") from error
        numbers = all(isinstance(end, int) and not isinstance(end, bool) for end in (found.low, found.high))
        if not numbers or not 1 <= found.low < found.high <= LONGEST:
            raise ConfigError(f"{where}: low={found.low} and high={found.high} are no sizes from small to large")
        if not isinstance(found.rtol, int | float) or not 0 < found.rtol < 1:
            raise ConfigError(f"{where}.rtol={found.rtol} is out of range; give a share such as 0.05")
        if not isinstance(found.size, str) or NUMBER not in found.size:
            raise ConfigError(f"{where}.size={found.size} has no place for the number; write {NUMBER} there")
        return found

    def size_of(self, number: int) -> str:
        """The override that asks for a size."""
        return f"size={self.size.replace(NUMBER, str(number))}"

    @property
    def most(self) -> int:
        """The most sizes that a search asks for, beside those that turn out too large or are disturbed."""
        return 3 + math.ceil(math.log2(max(2.0, math.log(self.high / self.low) / math.log1p(self.rtol))))


EXAMPLE = "{low: 16, high: 4096, rtol: 0.05}"


def asked(outcome_of: Callable[[int], Outcome | None], wanted: Range) -> list[int]:
    """Every size that a search asks for, in order, up to those whose outcome is not known yet.

    >>> asked({}.get, Range(16, 4096))
    [16, 4096]
    >>> asked({16: "loses", 4096: "wins", 256: "wins"}.get, Range(16, 4096))
    [16, 4096, 256, 64]
    """
    sizes = [wanted.low, wanted.high]
    known: dict[int, Outcome] = {}
    for size in sizes:  # which grows meanwhile
        outcome = outcome_of(size)
        if outcome is None:
            continue
        known[size] = outcome
        if len(known) == len(sizes):
            following = _next(known, wanted)
            sizes += [] if following is None else [following]
    return sizes


def _next(known: Mapping[int, Outcome], wanted: Range) -> int | None:
    """The size between the last that does not win and the next above it; None where that is settled.

    Beside a size at which the machine was busy with something else, its neighbour is asked for.
    """
    outcomes = list(known.values())
    if "no_ratio" in outcomes or outcomes.count("disturbed") > TRIES:
        return None
    for end, step in ((wanted.low, 1), (wanted.high, -1)):
        while known.get(end) == "disturbed":
            end += step  # noqa: PLW2901
        if end not in known:
            return end
    loses = max((size for size, outcome in known.items() if outcome == "loses"), default=None)
    if loses is None:
        return None  # it wins from the smallest on
    above = min((size for size, outcome in known.items() if outcome == "wins" and size > loses), default=None)
    if above is None:
        too_large = [size for size, outcome in known.items() if outcome == "too_large"]
        if not 0 < len(too_large) < TRIES:
            return None  # it does not win at the largest
        above = min(too_large)
    between = round(math.sqrt(loses * above))
    while between in known:
        between += 1
    near = above <= loses * (1 + wanted.rtol) or not loses < between < above
    return None if near else between


@dataclass(frozen=True)
class Curve:
    """A search for one crossover: a baseline's job and another's, at the smallest size."""

    base: tuple[str, ...]
    other: tuple[str, ...]


class Bisection:
    """All of a sweep's searches, side by side: each round asks for at most one size of each.

    What has been asked for follows from the rows alone, so that a sweep that is taken up again goes the same way.
    """

    def __init__(self, wanted: Range, report: Report, composer: Composer, jobs: Sequence[Sequence[str]]) -> None:
        """Pair a grid's jobs.

        Args:
            wanted: what is searched.
            report: the axis along which the two sides of a search differ, and its baseline.
            composer: composes the jobs.
            jobs: the grid at the low end of the range; those of another size are left as they are.

        Raises:
            ConfigError: there are not two sides.
        """
        self._wanted, self._report, self.composer = wanted, report, composer
        self._first = [tuple(job) for job in jobs]
        smallest = [
            job
            for job in self._first
            if composer.job(job).cell.requested_size == composer.job(jobs[0]).cell.requested_size
        ]
        others: dict[tuple[Any, ...], list[tuple[str, ...]]] = {}
        bases: dict[tuple[Any, ...], tuple[str, ...]] = {}
        for job in smallest:
            cell = composer.job(job).cell
            if self._side(cell) == report.value:
                bases[self._shared(cell)] = job
            else:
                others.setdefault(self._shared(cell), []).append(job)
        self._curves = [Curve(base, job) for shared, base in bases.items() for job in others.get(shared, ())]
        if not self._curves:
            raise ConfigError(
                f"no two cells differ in {report.axis} alone, one of them with {report.axis}={report.value}; give the "
                "axis two values, or compare along another one, such as threads=1,2 'report.baseline={threads: 1}'"
            )

    @property
    def most(self) -> int:
        """The most cells that the search can ask for beyond the range's ends, if no two searches share any."""
        return 2 * len(self._curves) * (self._wanted.most - 2)

    def jobs(self, rows: Iterable[Row]) -> list[list[str]]:
        """The overrides of every job asked for so far, in the order in which they were."""
        of_cell = {row.cell: row for row in rows if isinstance(row, BenchmarkRow)}
        sizes = [self._asked(curve, of_cell) for curve in self._curves]
        found = dict.fromkeys(self._first)
        for number in range(1, max(map(len, sizes))):
            for curve, of_curve in zip(self._curves, sizes, strict=True):
                if number < len(of_curve):
                    found.update(dict.fromkeys(self._at(job, of_curve[number]) for job in (curve.base, curve.other)))
        return [list(job) for job in found]

    def _asked(self, curve: Curve, rows: Mapping[str, BenchmarkRow]) -> list[int]:
        return asked(lambda number: self._outcome(curve, number, rows), self._wanted)

    def _outcome(self, curve: Curve, number: int, rows: Mapping[str, BenchmarkRow]) -> Outcome | None:
        """What came of a size; None where a side has not been measured there."""
        cells = [self.composer.job(self._at(job, number)).cell for job in (curve.base, curve.other)]
        sides = [rows[cell.identity] for cell in cells if cell.identity in rows]
        if len(sides) < len(cells):
            return None
        (found,) = compare(sides, self._report)
        if found.speedup is None:
            problems = {row.status for row in sides} | set(merged(*(row.flags for row in sides)))
            problems = {problem for problem in problems if problem in FORBIDDING or problem in STATUSES} - {"ok"}
            return (
                "disturbed"
                if problems == {"contended"}
                else "too_large"
                if problems and problems <= TOO_LARGE
                else "no_ratio"
            )
        return "wins" if found.speedup > 1 else "loses"

    def _at(self, job: tuple[str, ...], number: int) -> tuple[str, ...]:
        return tuple(self._wanted.size_of(number) if text.startswith("size=") else text for text in job)

    def _side(self, cell: Cell) -> str:
        return str(getattr(cell, self._report.axis))

    def _shared(self, cell: Cell) -> tuple[Any, ...]:
        return cell.job, same_but(self._report.axis, "size")(cell)

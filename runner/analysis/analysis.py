"""All that a report says, from rows alone; the page, the figures and the terminal show it."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from runner.analysis.bill import bill_answers, charges
from runner.analysis.charge import Charge
from runner.analysis.comparison import Speedup, compare
from runner.analysis.crossover import Crossover, crossovers
from runner.analysis.findings import Finding, findings, headline_of, trust, unanswered
from runner.analysis.pairs import Pairs
from runner.analysis.questions import Answer, Sentence, answers
from runner.analysis.transfer_model import Models, models_of
from runner.cells.comparison import usual_baselines
from runner.config.axes import AXES, OF_GRADIENTS
from runner.config.schema import Report
from runner.rows.flags import merged
from runner.rows.rows import BAD, AutogradRow, BenchmarkRow, PairVisit, Row

MOST_FURTHER = 2  # comparisons beside the one that was asked for
MANY = 20_000  # rows of which others are made only where what was asked has no answer


@dataclass(frozen=True)
class Analysis:
    """A run, read."""

    report: Report  # what is compared with what: as asked, or what the rows allow
    rows: Sequence[Row]  # all of the run's, of every job
    # benchmarks, gradients: those of these jobs
    benchmarks: Sequence[BenchmarkRow]
    gradients: Sequence[AutogradRow]
    models: Models  # what moving data costs, by direction
    speedups: Sequence[Speedup]
    asked: Sequence[Speedup]  # the same, or what was asked where none of it has a ratio
    crossovers: Sequence[Crossover]  # ``crossover.csv``
    headline: Sentence  # what was compared, or measured
    findings: Sequence[Finding]  # the few numbers that are read first
    further: Sequence[tuple[Sentence, Sequence[Finding]]]  # of the run's other comparisons
    answers: Sequence[Answer]  # to the four questions, and for each workload what it pays
    damaged: Sequence[str]  # a line for each file that could not be read
    bill: Sequence[Charge] = ()  # ``bill.csv``


def analyse(
    rows: Sequence[Row],
    damaged: Sequence[str],
    report: Report,
    pairs: Pairs | None = None,
    rounds: Sequence[PairVisit] = (),
) -> Analysis:
    """Compare, look for crossovers, answer. Takes time linear in the rows, but for sorting.

    ``damaged`` has a line for each file that could not be read, ``pairs`` is what was measured in
    turn; None: all rows are of one moment. ``rounds`` are visits to all calls of a workload.
    """
    # the run's own verification counts against the times of what it found wrong
    gradients = [row for row in rows if isinstance(row, AutogradRow)]
    wrong = {_gradient_of(row) for row in gradients if row.verdict in BAD}
    benchmarks = [row for row in rows if isinstance(row, BenchmarkRow)]
    if wrong:
        benchmarks = [_gated(row, wrong) for row in benchmarks]

    # where nothing that was asked has a ratio, what the rows allow takes its place
    models = models_of(rows)
    asked = compare(benchmarks, report, models, pairs)
    wants_others = len(benchmarks) <= MANY or not _has_ratio(asked)
    reports = _others(benchmarks, report) if wants_others else ()
    others = [(other, compare(benchmarks, other, models, pairs)) for other in reports]
    others = [(other, speedups) for other, speedups in others if _has_ratio(speedups)]
    found = [] if _has_ratio(asked) or not asked else [unanswered(asked, benchmarks)]
    speedups = asked
    if others and not _has_ratio(asked):
        report, speedups = others.pop(0)
    crossings = crossovers(speedups, report.same_within)
    bill = charges(benchmarks, speedups, rounds, report, models)
    if _has_ratio(speedups):
        found += findings(speedups, crossings)
    checked = [*benchmarks, *(row for row in rows if not isinstance(row, BenchmarkRow))]
    return Analysis(
        report,
        rows,
        benchmarks,
        gradients,
        models,
        speedups,
        asked,
        crossings,
        headline_of(rows, speedups),
        [*found, *trust(checked, speedups)],
        [(headline_of((), further), findings(further, ())) for _, further in others],
        [*bill_answers(bill), *answers(benchmarks, speedups, crossings, models, report)],
        damaged,
        bill,
    )


def _others(rows: Sequence[BenchmarkRow], report: Report) -> Iterator[Report]:
    """The run's other comparisons, each along one axis in which its times differ."""
    baselines = usual_baselines([row for row in rows if row.median_s is not None])
    others = [baseline for baseline in baselines if report.axis not in baseline]
    return (replace(report, baseline=baseline) for baseline in others[:MOST_FURTHER])


def _has_ratio(speedups: Sequence[Speedup]) -> bool:
    return any(speedup.speedup is not None for speedup in speedups)


_identity = attrgetter("op", "variant", "dtype", "device")


def _gradient_of(row: Row) -> tuple[object, ...]:
    """Whose gradient it is; an older run's rows say nothing of how it was called."""
    how = {name: getattr(row, name) for name in OF_GRADIENTS}
    defaults = (AXES[name].default if value is None else value for name, value in how.items())
    return *_identity(row), *defaults


def _gated(row: BenchmarkRow, wrong: Container[tuple[object, ...]]) -> BenchmarkRow:
    """With the flag of a wrong gradient where the run's own verification says so."""
    if _gradient_of(row) not in wrong:
        return row
    return replace(row, gradient="fail", flags=merged(row.flags, ("wrong_gradient",)))

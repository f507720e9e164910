"""All that a report says, from rows alone; the page, the figures and the terminal show it."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from runner.analysis.bill import Charge, bill_answers, charges
from runner.analysis.comparison import Speedup, compare
from runner.analysis.crossover import Crossover, crossovers
from runner.analysis.findings import Finding, findings
from runner.analysis.pairs import Pairs
from runner.analysis.questions import Answer, answers
from runner.analysis.transfer_model import Models, models_of
from runner.config.axes import AXES, OF_GRADIENTS
from runner.config.schema import Report
from runner.rows.flags import merged
from runner.rows.rows import BAD, AutogradRow, BenchmarkRow, PairVisit, Row


@dataclass(frozen=True)
class Analysis:
    """A run, read."""

    report: Report  # what was compared with what
    rows: Sequence[Row]  # all of the run's, of every job
    # benchmarks, gradients: those of these jobs
    benchmarks: Sequence[BenchmarkRow]
    gradients: Sequence[AutogradRow]
    models: Models  # what moving data costs, by direction
    speedups: Sequence[Speedup]  # ``speedup.csv``
    crossovers: Sequence[Crossover]  # ``crossover.csv``
    findings: Sequence[Finding]  # the few numbers that are read first
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

    models = models_of(rows)
    speedups = compare(benchmarks, report, models, pairs)
    crossings = crossovers(speedups)
    bill = charges(benchmarks, speedups, rounds, report)
    return Analysis(
        report,
        rows,
        benchmarks,
        gradients,
        models,
        speedups,
        crossings,
        findings([*benchmarks, *gradients], speedups, crossings),
        [*bill_answers(bill), *answers(benchmarks, speedups, crossings, models, report)],
        damaged,
        bill,
    )


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

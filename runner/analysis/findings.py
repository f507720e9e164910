"""What a run found, in a few numbers: they are read first, on the page and in the terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from statistics import median
from typing import Any

from runner.analysis.comparison import FORBIDDING, Speedup
from runner.analysis.crossover import Crossover, curve_of
from runner.analysis.questions import Sentence, cells_of, estimate_of, further_axes, named
from runner.config.axes import label
from runner.rows.flags import has_failed_check
from runner.rows.rows import BAD, AutogradRow, BenchmarkRow, Row, TensorRow, grouped
from runner.stats.estimate import Estimate
from runner.stats.sequential import ERROR

MOST_SIDES = 4  # that are compared with the baseline, each with its best and worst
NAMED_AT_MOST = 3
FEWEST_VISITS = 3  # whose median one visit that was interrupted does not decide
WIDEST = ("float64", "complex128", "int64", "bool")  # on the CPU the reference is the call itself
SPEAKING = ("op", "dtype", "device", "impl")  # axes whose values are names
TELLING = ("faster", "slower", "same")  # verdicts
TRUST = (
    (0.9, "trust_yes", "right"),
    (0.5, "trust_in_part", "unclear"),
    (0.0, "trust_hardly", "wrong"),
)
"""The least share of comparisons that have a verdict, or of times without a doubt, of each word."""
DOUBTFUL = {*FORBIDDING} - {"view"}  # flags: that a view moves no data says what its time is


@dataclass(frozen=True)
class Finding:
    """A number and what it is of."""

    tone: str  # faster, slower, unclear, wrong or right
    number: Estimate | int | Sentence  # a ratio with its interval, a count, or a word
    sentence: Sentence  # what follows the number
    notes: tuple[Sentence, ...] = ()  # how it was measured, and how far it can be trusted


def headline_of(rows: Sequence[Row], speedups: Sequence[Speedup]) -> Sentence:
    """What was compared with what; without a comparison, what was measured or verified."""
    if speedups:
        others = dict.fromkeys(speedup.other for speedup in speedups)
        values = {"axis": speedups[0].axis, "others": _listed(others, MOST_SIDES)}
        return Sentence("compared", values | {"baseline": speedups[0].baseline})
    timed = [row for row in rows if isinstance(row, BenchmarkRow) and row.median_s is not None]
    if len(timed) == 1:
        (row,) = timed
        time = Estimate(row.median_s or 0.0, row.ci_low_s, row.ci_high_s)
        return Sentence("one_cell", {"what": _name(row), "time": time}, (row.cell,))
    ops = _listed(dict.fromkeys(row.op for row in timed or rows), NAMED_AT_MOST)
    if timed:
        return Sentence("cells", {"count": len(timed), "ops": ops})
    return Sentence("checks", {"count": len(rows), "ops": ops})


def findings(speedups: Sequence[Speedup], crossings: Iterable[Crossover]) -> list[Finding]:
    """The surest gain and loss of each side that is compared, and a larger one that is unsure."""
    curves = {
        curve_of(crossing): crossing for crossing in crossings if crossing.transfers == "none"
    }
    tell = partial(_told, curves=curves, further=further_axes(speedups))
    found: list[Finding] = []
    for of_side in list(grouped(speedups, lambda speedup: speedup.other).values())[:MOST_SIDES]:
        sides = grouped(of_side, lambda speedup: speedup.verdict)
        sure = [*sides.get("faster", ()), *sides.get("slower", ())]
        if gains := sides.get("faster"):
            # by the interval's near end: the luckiest of many lead by value
            found.append(tell(max(gains, key=lambda speedup: speedup.low or 0.0), "faster"))
        if losses := sides.get("slower"):
            found.append(tell(min(losses, key=lambda speedup: speedup.high or 1.0), "slower"))
        unsure = [speedup for speedup in sides.get("unclear", ()) if _is_nameable(speedup)]
        farthest = max(unsure, key=_distance, default=None)
        if farthest and _distance(farthest) > max(map(_distance, sure), default=0.0):
            found.append(tell(farthest, "unclear"))
    if speedups and all(finding.tone == "unclear" for finding in found):
        found.insert(0, _none(speedups))
    return found


def unanswered(asked: Sequence[Speedup], rows: Iterable[BenchmarkRow]) -> Finding:
    """That what was asked has no ratio, and why: a side that is not there comes before any flag."""
    by_cell = {row.cell: row for row in rows}
    others = [by_cell[speedup.other_cell] for speedup in asked if speedup.other_cell in by_cell]
    missing = [row.reason for row in others if row.status == "unavailable" and row.reason]
    reasons = missing or [speedup.reason or "" for speedup in asked]
    ((reason, _),) = Counter(reasons).most_common(1)
    values = {**headline_of((), asked).values, "why": _without_colon(reason, asked)}
    return Finding("unclear", Sentence("no_answer"), Sentence("unanswered", values))


def _without_colon(reason: str, asked: Sequence[Speedup]) -> str:
    """A reason after a sentence with a colon of its own: the cell that it is of stands behind it.

    What the sentence names, as the only other side, is left out.
    """
    where, _, why = reason.partition(": ")
    if not why or " " in where:
        return reason
    return why if {where} == {speedup.other for speedup in asked} else f"{why} ({where})"


def _is_nameable(speedup: Speedup) -> bool:
    """Whether a ratio without an interval rests on more than one interruption can spoil."""
    return speedup.low is None and (speedup.paired is None or speedup.paired >= FEWEST_VISITS)


def _distance(speedup: Speedup) -> float:
    """How far a ratio is from 1, either way."""
    return abs(math.log(speedup.speedup or 1.0))


def _name(row: Row) -> str:
    return label("benchmark", row, lambda axis: axis != "threads")


def _listed(names: Iterable[str], most: int) -> str:
    shown = list(names)
    return ", ".join([*shown[:most], *(["..."] if len(shown) > most else [])])


def _none(speedups: Sequence[Speedup]) -> Finding:
    # what was not measured has a note of its own, and is not counted below either
    speedups = [speedup for speedup in speedups if speedup.other_s] or speedups
    verdicts = Counter(speedup.verdict for speedup in speedups)
    baseline = f"{speedups[0].axis}={speedups[0].baseline}"
    counts = {"same": verdicts["same"], "unclear": verdicts["unclear"], "none": verdicts[None]}
    values = {"count": len(speedups), "baseline": baseline, **counts}
    return Finding("unclear", 0, Sentence("find_none", values))


def _told(
    speedup: Speedup, tone: str, *, curves: Mapping[Any, Crossover], further: Sequence[str]
) -> Finding:
    """A comparison that stands out: a gain and from which size on, or how many times as long."""
    is_gain = (speedup.speedup or 1.0) >= 1
    key = f"{'perhaps_' if tone == 'unclear' else ''}{'faster' if is_gain else 'slower'}"
    other = speedup.other if speedup.axis in SPEAKING else f"{speedup.axis}={speedup.other}"
    values: dict[str, object] = {"what": named(speedup, further), "other": other}
    curve = curves.get(curve_of(speedup))
    if tone == "faster" and curve is not None and curve.state == "found":
        unit, at, _, _ = curve.location
        values["at"] = Sentence(unit, {"count": at})
        key = "faster_from"
    ratio = estimate_of(speedup)
    if not is_gain:
        low, high = (1 / end if end else None for end in (speedup.high, speedup.low))
        ratio = Estimate(1 / (speedup.speedup or 1.0), low, high)
    sentence = Sentence(f"find_{key}", values, cells_of(speedup))
    return Finding(tone, ratio, sentence, _paired(speedup))


def _paired(speedup: Speedup) -> tuple[Sentence, ...]:
    """What the ratio is of, and the smallest difference that it could have shown."""
    if speedup.paired is None:
        return (Sentence("not_paired"),)
    counts = {"visits": speedup.paired, "processes": speedup.pair_processes}
    paired = Sentence("paired", counts)
    if speedup.smallest_difference is None:
        return paired, Sentence("paired_few")
    return paired, Sentence("could_show", {"least": speedup.smallest_difference})


def trust(rows: Sequence[Row], speedups: Sequence[Speedup]) -> list[Finding]:
    """Whether results are right, and whether the times and verdicts can be trusted."""
    timed = [row for row in rows if isinstance(row, BenchmarkRow) and row.status == "ok"]
    checked = _checked(rows, timed)
    if not timed:
        return checked
    doubts = [DOUBTFUL.intersection(row.flags) for row in timed]
    counts, doubtful = Counter(chain.from_iterable(doubts)), sum(map(bool, doubts))
    values = {"count": len(timed), "doubtful": doubtful}
    flags = _listed((f"{flag}: {n}" for flag, n in counts.most_common()), NAMED_AT_MOST)
    said = [Sentence("doubtful" if doubtful else "no_doubt", values | {"flags": flags})]
    share = 1 - doubtful / len(timed)

    # ratios are of undisturbed visits, so that where there are any, they are what is to be trusted
    view = FORBIDDING["view"]
    asked = [s for s in speedups if s.other_s and not (s.reason or "").endswith(view)]
    if asked:
        with_verdict = [speedup for speedup in asked if speedup.verdict in TELLING]
        told = len(with_verdict)
        # or a verdict and a doubt beside each other would read as a contradiction
        if doubtful and with_verdict and all(speedup.paired for speedup in with_verdict):
            said = [Sentence("doubtful_alone", values | {"flags": flags})]
        said.insert(0, Sentence("told", {"count": len(asked), "told": told}))
        share = told / len(asked)
    key, tone = next(of_share for least, *of_share in TRUST if share >= least)
    notes = *said[1:], *_of_verdicts(speedups)
    return [*checked, Finding(tone, Sentence(key), said[0], notes)]


def _of_verdicts(speedups: Sequence[Speedup]) -> list[Sentence]:
    """What verdicts rest on: visits in turn, in how many processes, and how many may be chance."""
    with_ratio = [speedup for speedup in speedups if speedup.speedup is not None]
    said = []
    seen = [s.smallest_difference for s in with_ratio if s.smallest_difference is not None]
    if seen:
        said.append(Sentence("could_show_all", {"half": median(seen), "most": max(seen)}))
    claims = sum(speedup.verdict in ("faster", "slower") for speedup in with_ratio)
    if claims:
        numbers = {"count": claims, "chance": math.ceil(ERROR * claims)}
        said.append(Sentence(_key_of_chance(claims), numbers | {"of": round(1 / ERROR)}))
    of_one = [speedup for speedup in with_ratio if speedup.pair_processes == 1]
    only_calm = sum((speedup.processes_in_all or 1) > 1 for speedup in of_one)
    for key, count in {"one_process": len(of_one) - only_calm, "one_was_calm": only_calm}.items():
        if count:
            said.append(Sentence(key, {"count": count}))
    not_paired = sum(speedup.paired is None for speedup in with_ratio)
    if not_paired:
        said.append(Sentence("not_in_turn", {"count": not_paired}))
    return said


def _key_of_chance(claims: int) -> str:
    if claims == 1:
        return "chance_of_one"
    return "chance" if ERROR * claims >= 1 else "little_chance"


def _checked(rows: Sequence[Row], timed: Sequence[BenchmarkRow]) -> list[Finding]:
    """How many cells fail a check, or how many were checked and are right."""
    wrong: list[Row] = [row for row in timed if has_failed_check(row.flags)]
    checks = [row for row in rows if isinstance(row, AutogradRow | TensorRow) and row.verdict]
    wrong += [row for row in checks if row.verdict in BAD]
    by_cell = {row.cell: row for row in wrong}
    if by_cell:
        names = [_name(row) for row in by_cell.values()]
        if len({(row.dtype, row.device) for row in rows}) == 1:
            names = [name.replace(f" {rows[0].dtype} {rows[0].device}", "", 1) for name in names]
        named = {"named": _listed(names, NAMED_AT_MOST)}
        sentence = Sentence("find_wrong", named, tuple(by_cell)[:NAMED_AT_MOST])
        return [Finding("wrong", len(by_cell), sentence)]

    found = []
    if checks:
        passed = sum(row.verdict == "pass" for row in checks)
        others = Counter(row.verdict for row in checks if row.verdict != "pass")
        told = ", ".join(f"{verdict}: {count}" for verdict, count in others.most_common())
        notes = (Sentence("checks_others", {"told": told}),) if told else ()
        sentence = Sentence("find_checks", {"count": len(checks)})
        found.append(Finding("right", passed, sentence, notes))
    # what is its own reference is compared with nothing, and no less right for that
    comparable = [row for row in timed if not is_its_own_reference(row)]
    errors = ((row, row.max_relative_error) for row in comparable)
    compared = [row for row, error in errors if error is not None and math.isfinite(error)]
    if not compared:
        return found
    shares = [
        (row.max_relative_error or 0.0) / row.allowed_relative_error
        for row in compared
        if row.allowed_relative_error
    ]
    passed = sum(row.gradient == "pass" for row in timed)
    counts = {"count": len(comparable), "gradients": passed, "worst": max(shares, default=0.0)}
    values = {**counts, "against": _what_is_right(compared)}
    key = "find_right" if passed else "find_values_right"
    return [Finding("right", len(compared), Sentence(key, values)), *found]


def _what_is_right(compared: Sequence[BenchmarkRow]) -> Sentence:
    """What values were compared with: a formula that is wrong is as wrong in float64."""
    named = sum(map(has_reference, compared))
    counts = {"named": named, "own": len(compared) - named}
    if not named:
        return Sentence("by_itself")
    return Sentence("by_both" if counts["own"] else "by_reference", counts)


def has_reference(row: BenchmarkRow) -> bool:
    """Whether its values were compared with another function's; an implementation's always are."""
    return row.reference is not None or row.impl not in (None, "default")


def is_its_own_reference(row: BenchmarkRow) -> bool:
    """Whether its values were compared with the same call's, which says nothing of them."""
    is_widest = row.dtype in WIDEST and row.device == "cpu"
    return is_widest and row.compile == "off" and not has_reference(row)

"""The four questions that a reader has, answered in sentences made from the data, each with the rows behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from runner.analysis.causes import Cause, causes
from runner.analysis.comparison import Speedup
from runner.analysis.crossover import Crossover
from runner.analysis.sentence import Sentence
from runner.analysis.transfer_model import Models
from runner.config.axes import FURTHER
from runner.config.schema import Report
from runner.rows.rows import BenchmarkRow
from runner.stats.estimate import Estimate

NAMED_OPERATIONS = 3  # of those that gain most
MOST_CURVES = 40  # named one by one; the rest is in crossover.csv


@dataclass(frozen=True)
class Answer:
    """A question and what the run says to it.

    Attributes:
        key: gain, lose, size or transfers.
        sentences: the first is the shortest answer.
    """

    key: str
    question: Sentence
    sentences: tuple[Sentence, ...]


def answers(
    rows: Sequence[BenchmarkRow],
    speedups: Sequence[Speedup],
    crossings: Sequence[Crossover],
    models: Models,
    report: Report,
) -> list[Answer]:
    """Which gain most, which lose and why, what the size does, what moving data costs."""
    if not rows:
        return []
    teller = _Teller(rows, speedups, report)
    others = ", ".join(dict.fromkeys(f"{one.axis}={one.other}" for one in speedups)) or f"another {report.axis}"
    found = {
        "gain": teller.gains(),
        "lose": teller.losses(),
        "size": teller.sizes(crossings),
        "transfers": teller.transfers(crossings, models),
    }
    return [Answer(key, Sentence(key, {"others": others}), tuple(said)) for key, said in found.items()]


class _Teller:
    """Makes sentences of one run's comparisons."""

    def __init__(self, rows: Sequence[BenchmarkRow], speedups: Sequence[Speedup], report: Report) -> None:
        self._rows = {row.cell: row for row in rows}
        self._all = speedups
        self._with_ratio = [one for one in speedups if one.speedup is not None]
        self._report = report
        self._baseline = f"{report.axis}={report.value}"
        self._varying = [
            key for key in FURTHER if key != report.axis and len({getattr(one, key) for one in speedups}) > 1
        ]

    def gains(self) -> list[Sentence]:
        if not self._with_ratio:
            return [self._silence()]
        verdicts = Counter(one.verdict for one in self._with_ratio)
        counts = {key: verdicts[key] for key in ("faster", "slower", "same", "unclear")}
        count = {"count": len(self._all), "none": len(self._all) - len(self._with_ratio), "baseline": self._baseline}
        best: dict[str, Speedup] = {}
        for one in self._with_ratio:
            if one.verdict == "faster" and (one.op not in best or _honest(one) > _honest(best[one.op])):
                best[one.op] = one
        ranked = sorted(best.values(), key=_honest, reverse=True)[:NAMED_OPERATIONS]
        said = [self._gain(one) for one in ranked] or [Sentence("none_faster", {"baseline": self._baseline})]
        return [*said, Sentence("counts", counts | count)]

    def losses(self) -> list[Sentence]:
        if not self._with_ratio:
            return [self._silence()]
        said = [self._loss(cause) for cause in causes(self._with_ratio, self._rows)]
        return said or [Sentence("none_slower", {"baseline": self._baseline})]

    def sizes(self, crossings: Iterable[Crossover]) -> list[Sentence]:
        curves = [one for one in crossings if one.transfers == "none" and one.sizes > 1]
        if not curves:
            return [Sentence("one_size") if self._with_ratio else self._silence()]
        states = Counter(one.state for one in curves)
        counts = {state: states[state] for state in ("found", "always", "never", "unresolved")}
        by_cell = {one.other_cell: one for one in self._with_ratio}
        said = [Sentence("curves", {"count": len(curves)} | counts)]
        said += [self._curve(one, by_cell) for one in curves[:MOST_CURVES]]
        more = len(curves) - MOST_CURVES
        return [*said, Sentence("more", {"count": more, "file": "crossover.csv"})] if more > 0 else said

    def transfers(self, crossings: Iterable[Crossover], models: Models) -> list[Sentence]:
        if self._report.axis != "device" and not models:
            return [Sentence("one_device")]
        if not models:
            elsewhere = [row for row in self._rows.values() if row.device != "cpu" and row.median_s is not None]
            return [Sentence("no_transfers" if elsewhere else "no_accelerator")]
        said = []
        for link, model in models.items():
            values: dict[str, object] = {
                "device": link.device,
                "memory": link.memory,
                "latency": model.latency_s,
                "bandwidth": model.bandwidth_bytes_per_s,
            }
            said.append(Sentence("link_to" if link.to_device else "link_from", values))
        moved = [one for one in self._with_ratio if one.transfer_s and one.other_s]
        if moved:
            said += [self._share(max(moved, key=_share)), self._share(min(moved, key=_share))][: len(moved)]
        paying = [one for one in moved if one.break_even_calls is not None]
        if paying:
            ends = [max(paying, key=_break_even), min(paying, key=_break_even)][: len(paying)]
            said += [self._break_even(one) for one in ends]
        wins = Counter((one.transfers, one.state in ("found", "always")) for one in crossings)
        if wins["each_call", True] + wins["each_call", False]:
            others = ", ".join(dict.fromkeys(f"{one.axis}={one.other}" for one in moved))
            values = {"other": others, "wins": wins["each_call", True], "plain": wins["none", True]}
            values["count"] = wins["each_call", True] + wins["each_call", False]
            said.append(Sentence("moved_crossovers", values))
        return said

    def _silence(self) -> Sentence:
        """Why there is nothing to say."""
        if not self._all:
            return Sentence("nothing_to_compare", {"baseline": self._baseline})
        ((reason, _),) = Counter(one.reason or "" for one in self._all).most_common(1)
        cell = next(one.other_cell for one in self._all if (one.reason or "") == reason)
        row = self._rows.get(cell)
        if row is not None and row.status != "ok" and row.reason:
            reason = f"{reason} ({row.reason})"
        return Sentence("no_ratio", {"count": len(self._all), "reason": reason}, (cell,))

    def _gain(self, one: Speedup) -> Sentence:
        values = self._values(one)
        if one.fastest_dtype in (None, one.dtype):
            return Sentence("gains", values, _cells(one))
        fastest = {"fastest": _estimate(one, "fastest"), "fastest_dtype": one.fastest_dtype, "baseline": self._baseline}
        return Sentence("gains_but", values | fastest, _cells(one))

    def _loss(self, cause: Cause) -> Sentence:
        worst = cause.worst
        values = self._values(worst) | dict(cause.evidence)
        values |= {"count": len(cause.speedups), "ops": ", ".join(dict.fromkeys(one.op for one in cause.speedups))}
        values |= {"dtype": worst.dtype, "baseline_dtype": worst.baseline}
        return Sentence(f"lose_{cause.key}", values, _cells(worst))

    def _curve(self, one: Crossover, by_cell: Mapping[str, Speedup]) -> Sentence:
        on_curve = [by_cell[cell] for cell in one.cells.split() if cell in by_cell]
        first, last = on_curve[0], on_curve[-1]
        values: dict[str, object] = {
            "what": " ".join([one.op] * (one.axis != "op") + [one.dtype] * (one.axis != "dtype") + self._how(one)),
            "other": f"{one.axis}={one.other}",
            "first": _estimate(first),
            "last": _estimate(last),
            "smallest": first.size,
            "largest": last.size,
        }
        unit = "side" if one.side is not None or one.side_high is not None else "elements"
        ends = dict(zip(("at", "low", "high"), attrgetter(unit, f"{unit}_low", f"{unit}_high")(one), strict=True))
        values |= {name: Sentence(unit, {"count": end}) for name, end in ends.items() if end is not None}
        key = f"size_{one.state}"
        if one.state == "unresolved" and "high" in values:
            key = "size_by"
        return Sentence(key, values, tuple(one.cells.split()))

    def _share(self, one: Speedup) -> Sentence:
        transfer = Estimate(one.transfer_s or 0.0, one.transfer_low_s, one.transfer_high_s)
        return Sentence("share", self._values(one) | {"transfer": transfer, "times": _share(one)}, _cells(one))

    def _break_even(self, one: Speedup) -> Sentence:
        calls = Estimate(one.break_even_calls or 0.0, one.break_even_low, one.break_even_high)
        return Sentence("break_even", self._values(one) | {"calls": calls}, _cells(one))

    def _values(self, one: Speedup) -> dict[str, object]:
        return {
            "what": " ".join([one.op, one.size, one.dtype, *self._how(one)]),
            "other": f"{one.axis}={one.other}",
            "ratio": _estimate(one),
            "before": one.baseline_s,
            "after": one.other_s,
        }

    def _how(self, one: Speedup | Crossover) -> list[str]:
        return [f"{key}={getattr(one, key)}" for key in self._varying]


def _honest(one: Speedup) -> float:
    """The ratio against the baseline's fastest dtype, where it is known: nobody would use a slower one."""
    return one.fastest_speedup or one.speedup or 0.0


def _share(one: Speedup) -> float:
    return (one.transfer_s or 0.0) / (one.other_s or 1.0)


def _break_even(one: Speedup) -> float:
    return one.break_even_calls or 0.0


def _estimate(one: Speedup, kind: str = "") -> Estimate:
    prefix = f"{kind}_" if kind else ""
    value, low, high = attrgetter(f"{prefix}speedup", f"{prefix}low", f"{prefix}high")(one)
    return Estimate(value, low, high)


def _cells(one: Speedup) -> tuple[str, ...]:
    return tuple(cell for cell in (one.baseline_cell, one.other_cell) if cell is not None)

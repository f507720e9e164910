"""The four questions that a reader has, answered in sentences, each with the rows behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from runner.analysis.causes import Cause, causes
from runner.analysis.comparison import Speedup
from runner.analysis.crossover import Crossover, curve_of
from runner.analysis.transfer_model import Link, Models, TransferModel
from runner.config.axes import FURTHER
from runner.config.schema import Report
from runner.rows.rows import BenchmarkRow, grouped, varying
from runner.stats.estimate import Estimate

NAMED_OPERATIONS = 3  # of those that gain most
MOST_NAMED = 12  # in a sentence: operations, other sides, links to rows
MOST_CURVES = 40  # named one by one; the rest is in crossover.csv
WINNING = ("found", "always")  # states of a curve that wins somewhere


@dataclass(frozen=True)
class Sentence:
    """What the data say, for any language."""

    key: str  # of its template, which is ``say_`` and the key in ``report/language/*.yaml``
    # what the template's fields stand for: text, numbers, numbers with intervals
    values: Mapping[str, object] = field(default_factory=dict)
    cells: tuple[str, ...] = ()  # the rows that it is made from


@dataclass(frozen=True)
class Answer:
    """A question and what the run says to it."""

    key: str  # gain, lose, size or transfers
    question: Sentence
    sentences: tuple[Sentence, ...]  # the first is the shortest answer


def answers(
    rows: Sequence[BenchmarkRow],
    speedups: Sequence[Speedup],
    crossings: Sequence[Crossover],
    models: Models,
    report: Report,
) -> list[Answer]:
    """Which gain most, which lose and why, what the size does, what moving data costs.

    Without a ratio there is no answer to the first three: the findings say why.
    """
    if not rows:
        return []
    writer = _SentenceWriter(rows, speedups, report)
    sentences_of: dict[str, list[Sentence]] = {}
    if any(speedup.speedup is not None for speedup in speedups):
        sentences_of |= {"gain": writer.gains(), "lose": writer.losses()}
        sentences_of["size"] = writer.sizes(crossings)
    if models or (speedups and report.axis == "device"):
        sentences_of["transfers"] = writer.transfers(crossings, models)
    return [
        Answer(key, Sentence(key, {"others": _others(speedups)}), tuple(sentences))
        for key, sentences in sentences_of.items()
    ]


class _SentenceWriter:
    def __init__(
        self, rows: Sequence[BenchmarkRow], speedups: Sequence[Speedup], report: Report
    ) -> None:
        self._rows = {row.cell: row for row in rows}
        self._all = speedups
        self._with_ratio = [speedup for speedup in speedups if speedup.speedup is not None]
        self._report = report
        self._baseline = f"{report.axis}={report.value}"
        self._without = {"baseline": self._baseline, "margin": report.same_within}
        self._further = further_axes(speedups)

    def gains(self) -> list[Sentence]:
        # the operations that gain most, each by its best comparison: by the interval's near end,
        # since the luckiest of many lead by value
        gaining = [speedup for speedup in self._with_ratio if speedup.verdict == "faster"]
        best: dict[str, Speedup] = {}
        for speedup in sorted(gaining, key=lambda s: -(s.low or s.speedup or 0.0)):
            best.setdefault(speedup.op, speedup)
        wins, counts = (Counter(s.op for s in some) for some in (gaining, self._with_ratio))
        sentences = [
            self._gain(speedup, {"wins": wins[op], "of": counts[op]})
            for op, speedup in list(best.items())[:NAMED_OPERATIONS]
        ]

        # how many comparisons came out how
        verdicts = Counter(speedup.verdict for speedup in self._with_ratio)
        came_out = {key: verdicts[key] for key in ("faster", "slower", "same", "unclear")}
        came_out |= {"count": len(self._all), "none": len(self._all) - len(self._with_ratio)}
        last = Sentence("counts", {**came_out, "baseline": self._baseline})
        return [*(sentences or [Sentence("none_faster", self._without)]), last]

    def losses(self) -> list[Sentence]:
        sentences = [self._loss(cause) for cause in causes(self._with_ratio, self._rows)]
        return sentences or [Sentence("none_slower", self._without)]

    def sizes(self, crossings: Iterable[Crossover]) -> list[Sentence]:
        curves = [curve for curve in crossings if curve.transfers == "none" and curve.sizes > 1]
        if not curves:
            several = any(len(sizes) > 1 for sizes in self._sizes_of_curves())
            return [Sentence("no_two_lengths" if several else "one_size")]

        states = Counter(curve.state for curve in curves)
        counts = {state: states[state] for state in ("found", "always", "never", "unresolved")}
        sentences = [Sentence("curves", {"count": len(curves)} | counts)]
        by_cell = {speedup.other_cell: speedup for speedup in self._with_ratio}
        sentences += [self._curve(curve, by_cell) for curve in curves[:MOST_CURVES]]
        more = len(curves) - MOST_CURVES
        if more > 0:
            sentences.append(Sentence("more", {"count": more, "file": "crossover.csv"}))
        return sentences

    def _sizes_of_curves(self) -> list[set[str]]:
        """The sizes of each curve that have a ratio, with an interval or without."""
        curves = grouped((s for s in self._with_ratio if s.axis != "size"), curve_of).values()
        return [{speedup.size for speedup in curve} for curve in curves]

    def transfers(self, crossings: Sequence[Crossover], models: Models) -> list[Sentence]:
        if not models:
            timed = (row.device for row in self._rows.values() if row.median_s is not None)
            is_elsewhere = any(device != "cpu" for device in timed)
            return [Sentence("no_transfers" if is_elsewhere else "no_accelerator")]
        sentences = [_link(link, model) for link, model in models.items()]

        # the dearest and the cheapest transfer, beside the calls that they serve
        moved = [speedup for speedup in self._with_ratio if speedup.transfer_s and speedup.other_s]
        sentences += [self._share(speedup) for speedup in _extremes(moved, _share)]
        paying = [speedup for speedup in moved if speedup.break_even_calls is not None]
        sentences += [self._break_even(speedup) for speedup in _extremes(paying, _break_even)]

        # how many curves still win with a transfer at each call, of those where it is known
        moved_at_each = {curve_of(c) for c in crossings if c.transfers == "each_call"}
        like = [crossing for crossing in crossings if curve_of(crossing) in moved_at_each]
        wins = Counter(crossing.transfers for crossing in like if crossing.state in WINNING)
        if moved_at_each:
            counts = {"wins": wins["each_call"], "count": len(moved_at_each)}
            counts["plain"] = wins["none"]  # without any transfer
            sentences.append(Sentence("moved_crossovers", {"other": _others(moved), **counts}))
        return sentences

    def _gain(self, speedup: Speedup, of_op: Mapping[str, int]) -> Sentence:
        values, cells = {**self._values(speedup), **of_op}, cells_of(speedup)
        if speedup.fastest_dtype in (None, speedup.dtype):
            return Sentence("gains", values, cells)
        values["fastest"] = estimate_of(speedup, "fastest_")
        values |= {"fastest_dtype": speedup.fastest_dtype, "baseline": self._baseline}
        return Sentence("gains_but", values, cells)

    def _loss(self, cause: Cause) -> Sentence:
        worst = cause.worst
        ops = dict.fromkeys(speedup.op for speedup in cause.speedups)
        values = {**self._values(worst), **cause.evidence, "dtype": worst.dtype}
        values |= {"count": len(cause.speedups), "ops": first_of(list(ops), MOST_NAMED)}
        values["baseline_dtype"] = worst.baseline
        return Sentence(f"lose_{cause.key}", values, cells_of(worst))

    def _curve(self, curve: Crossover, by_cell: Mapping[str, Speedup]) -> Sentence:
        cells = tuple(curve.cells.split())
        with_ratio = [by_cell[cell] for cell in cells if cell in by_cell]
        first, last = with_ratio[0], with_ratio[-1]
        values: dict[str, object] = {
            "what": subject_of(curve, self._further),
            "other": f"{curve.axis}={curve.other}",
            "first": estimate_of(first),
            "last": estimate_of(last),
            "smallest": first.size,
            "largest": last.size,
        }

        # where it crosses is itself a sentence, since a side is written otherwise than elements
        unit, *ends = curve.location
        for name, end in zip(("at", "low", "high"), ends, strict=True):
            if end is not None:
                values[name] = Sentence(unit, {"count": end})

        by_upper_end = curve.state == "unresolved" and "high" in values
        key = "size_by" if by_upper_end else f"size_{curve.state}"
        return Sentence(key, values, cells[:MOST_NAMED])

    def _share(self, speedup: Speedup) -> Sentence:
        ends = speedup.transfer_low_s, speedup.transfer_high_s
        transfer = Estimate(speedup.transfer_s or 0.0, *ends)
        values = {**self._values(speedup), "transfer": transfer, "times": _share(speedup)}
        return Sentence("share", values, cells_of(speedup))

    def _break_even(self, speedup: Speedup) -> Sentence:
        calls = Estimate(_break_even(speedup), speedup.break_even_low, speedup.break_even_high)
        return Sentence("break_even", {**self._values(speedup), "calls": calls}, cells_of(speedup))

    def _values(self, speedup: Speedup) -> dict[str, object]:
        what = named(speedup, self._further)
        row = self._rows.get(speedup.other_cell)
        if speedup.axis == "impl" and row is not None and row.gradient is None:
            what = Sentence("without_gradient", {"what": what})
        return {
            "what": what,
            "other": f"{speedup.axis}={speedup.other}",
            "ratio": estimate_of(speedup),
            "before": speedup.baseline_s,
            "after": speedup.other_s,
        }


def further_axes(speedups: Sequence[Speedup]) -> list[str]:
    """Those that tell comparisons apart beside operation, size and dtype, and are not compared."""
    shown = [speedup for speedup in speedups if speedup.speedup is not None]
    compared = {speedup.axis for speedup in shown}
    return [key for key in varying(shown, ("device", *FURTHER)) if key not in compared]


def subject_of(item: Speedup | Crossover, further: Iterable[str]) -> str:
    """What is compared, or a curve of it, without the axis that it is compared along."""
    named = [getattr(item, key) for key in ("op", "size", "dtype") if key != item.axis]
    return " ".join([*filter(None, named), *(f"{key}={getattr(item, key)}" for key in further)])


def named(speedup: Speedup, further: Iterable[str]) -> str | Sentence:
    """What is compared, and which side alone has fresh memory at each call."""
    what = subject_of(speedup, further)
    if speedup.fresh_memory is None:
        return what
    side = f"{speedup.axis}={speedup.fresh_memory}"
    return Sentence("fresh_memory", {"what": what, "side": side})


def first_of(names: Sequence[str], most: int) -> str | Sentence:
    """The first of several names, and how many more there are."""
    named, more = ", ".join(names[:most]), len(names) - most
    return Sentence("named_and_more", {"named": named, "more": more}) if more > 0 else named


def _others(speedups: Iterable[Speedup]) -> str | Sentence:
    """What is compared with the baseline: ``device=cuda, device=mps``."""
    others = dict.fromkeys(f"{speedup.axis}={speedup.other}" for speedup in speedups)
    return first_of(list(others), MOST_NAMED)


def _link(link: Link, model: TransferModel) -> Sentence:
    values: dict[str, object] = {"device": link.device, "memory": link.memory}
    values |= {"latency": model.latency_s, "bandwidth": model.bandwidth_bytes_per_s}
    return Sentence("link_to" if link.to_device else "link_from", values)


def _extremes(speedups: Sequence[Speedup], key: Callable[[Speedup], float]) -> list[Speedup]:
    """The one with the largest value, then that with the least; a single one once."""
    if len(speedups) < 2:
        return list(speedups)
    return [max(speedups, key=key), min(speedups, key=key)]


def _share(speedup: Speedup) -> float:
    return (speedup.transfer_s or 0.0) / (speedup.other_s or 1.0)


def _break_even(speedup: Speedup) -> float:
    return speedup.break_even_calls or 0.0


def estimate_of(speedup: Speedup, prefix: str = "") -> Estimate:
    """A comparison's ratio; of its columns that begin so, such as ``fastest_``."""
    value, low, high = attrgetter(f"{prefix}speedup", f"{prefix}low", f"{prefix}high")(speedup)
    return Estimate(value, low, high)


def cells_of(speedup: Speedup) -> tuple[str, ...]:
    """The cells of both sides."""
    return tuple(cell for cell in (speedup.baseline_cell, speedup.other_cell) if cell is not None)

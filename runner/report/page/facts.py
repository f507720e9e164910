"""What the page says first: what was measured, on what, how surely, and what was not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from operator import attrgetter
from statistics import fmean, median
from typing import Any

from runner.analysis.comparison import is_disturbed
from runner.config.axes import FURTHER, NAMED
from runner.measure.noise_sources import noisy
from runner.report.language import Words, said
from runner.rows.rows import BenchmarkRow, Row
from runner.stats.intervals import rate_high
from runner.units import digits

NAMED_AT_MOST = 8
OWN_GIT = "opsweep's own git"
MANY = 20  # intervals: of fewer there are no 95 of 100


def facts_of(
    rows: Sequence[Row], environment: Mapping[str, Any], words: Words
) -> list[tuple[str, str]]:
    """Pairs of a heading and a sentence."""
    measured = [row for row in rows if isinstance(row, BenchmarkRow)]
    facts = [
        ("fact_what", _what(rows, words)),
        ("fact_machine", _machine(rows, environment, words)),
    ]
    if measured:
        facts += [
            ("fact_sure", _sure(measured, words)),
            ("fact_noise", " ".join(noise_of(environment, words))),
        ]
    facts.append(("fact_not", _not(rows, environment.get("excluded"), words)))
    return [(words[key], text) for key, text in facts if text]


def noise_of(environment: Mapping[str, Any], words: Words) -> list[str]:
    """What can be seen here, and what makes the machine noisy, with what to do about it."""
    lines = environment.get("calibration") or ()
    pairs, alarms = (sum(line.get(key) or 0 for line in lines) for key in ("pairs", "alarms"))
    seen = words["not_calibrated"]
    if pairs:
        high = digits(100 * rate_high(alarms, pairs), 2).replace(".", words["decimal"])
        days = filter(None, (line.get("date") for line in lines))
        text = words["calibrated"].format(pairs=pairs, alarms=alarms, high=high)
        seen = ": ".join((*sorted(days)[-1:], text))
    least = [line["smallest_difference"] for line in lines if line.get("smallest_difference")]
    if least:
        calm = fmean(line.get("calm_share") or 0.0 for line in lines)
        shares = {"least": min(least), "most": max(least), "calm": calm}
        told = {
            name: digits(100 * share, 2).replace(".", words["decimal"])
            for name, share in shares.items()
        }
        seen = f"{seen} {words['calibrated_calm'].format(**told)}"
    found = noisy(environment.get("noise_sources") or {})
    return [seen, *(words[f"noise_{name}"].format(value=found[name]) for name in found)]


def flatten(environment: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as dotted keys with their values as text.

    An environment's ``git`` is this program's own checkout, not what was measured, and says so.
    """
    pairs = []
    for key, value in environment.items():
        name = OWN_GIT if not prefix and key == "git" else f"{prefix}{key}"
        if isinstance(value, Mapping):
            pairs += flatten(value, f"{name}.")
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            for position, item in enumerate(value):
                pairs += flatten(item, f"{name}[{position}].")
        elif value not in (None, [], ""):
            text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            pairs.append((name, text))
    return pairs


def _what(rows: Sequence[Row], words: Words) -> str:
    timed = [row for row in rows if row.job == "benchmark"]
    named = timed or rows  # a gradient is checked at many sizes, which nobody asked for

    values_of = {name: _values(named, name) for name in (*NAMED, *FURTHER)}
    shown = {name: _first(values) for name, values in values_of.items()}
    counts = {"rows": len(named), "ok": sum(row.status == "ok" for row in named)}
    key = "what_timed" if timed else "what"
    text = said(words, key, **counts, **{name: shown[name] for name in NAMED})
    if axes := [f"{name} {shown[name]}" for name in FURTHER if len(values_of[name]) > 1]:
        text += f" {said(words, 'what_axes', axes='; '.join(axes))}"
    others = Counter(row.job for row in rows if timed and row.job != "benchmark")
    checks = [f"{words.get(f'job_{job}', job)}: {count}" for job, count in others.items()]
    return f"{text} {words['what_checks'].format(counted=', '.join(checks))}" if checks else text


def _values(rows: Sequence[Row], axis: str) -> list[str]:
    """Those of an axis; where a row has none it says nothing."""
    values = dict.fromkeys(map(attrgetter(axis), rows))
    return [str(value) for value in values if value is not None]


def _first(values: Sequence[str]) -> str:
    more = f" + {len(values) - NAMED_AT_MOST}" if len(values) > NAMED_AT_MOST else ""
    return ", ".join(values[:NAMED_AT_MOST]) + more


def _machine(rows: Sequence[Row], environment: Mapping[str, Any], words: Words) -> str:
    host, torch = environment.get("host") or {}, environment.get("torch") or {}
    names = list(dict.fromkeys(row.device_name for row in rows if row.device_name))
    parts = [_first(names)]
    if host:
        parts += [words["cores"].format(cores=host.get("cores"), load=host.get("load_1min") or 0)]
        parts += [f"{host.get('system')}"]
    if torch:
        threads = sorted({row.threads for row in rows if row.threads}) or [
            torch.get("threads") or 0
        ]
        numbers = _first(list(map(str, threads)))
        parts += [words["torch"].format(version=torch.get("version"), threads=numbers)]
    if environment.get("started"):
        parts += [str(environment["started"])]
    if names and all(name.startswith("cpu") for name in names):
        parts += [words["no_accelerator"]]
    return "; ".join(filter(None, parts))


def _sure(rows: Sequence[BenchmarkRow], words: Words) -> str:
    """How wide the intervals are, of times that nothing disturbed, and what the others lack."""
    timed = [row for row in rows if row.median_s is not None]
    calm = [row for row in timed if not is_disturbed(row)]
    widths = sorted(
        (row.ci_high_s - row.ci_low_s) / 2 / row.median_s
        for row in calm
        if row.median_s and row.ci_low_s is not None and row.ci_high_s is not None
    )
    counts = {"known": len(widths), "timed": len(timed)}
    facts = [words["sure_none"]]
    if widths:
        quantiles = median(widths), widths[math.ceil(0.95 * len(widths)) - 1], widths[-1]
        texts = [digits(100 * width, 2).replace(".", words["decimal"]) for width in quantiles]
        ends = dict(zip(("half", "most", "widest"), texts, strict=True))
        facts = [said(words, "sure" if len(widths) >= MANY else "sure_few", **counts, **ends)]

    # an interval takes some samples, and one of a busy moment says nothing of a calm one
    lacking = {"sure_short": len(calm) - len(widths), "sure_disturbed": len(timed) - len(calm)}
    facts += [said(words, key, count=count) for key, count in lacking.items() if count]
    return " ".join(facts)


def _not(rows: Sequence[Row], excluded: int | None, words: Words) -> str:
    counts = Counter(row.status for row in rows if row.status != "ok")
    left_out = words["left_out"].format(count=excluded) if excluded else ""
    parts = [f"{words.get(f'status_{key}', key)}: {n}" for key, n in counts.most_common()]
    return ", ".join(filter(None, (*parts, left_out))) or words["not_nothing"]

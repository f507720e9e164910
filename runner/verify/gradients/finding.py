"""One finding of the verifier."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GradientCheck:
    """One gradient under one probe, by one oracle, in the fields of :class:`runner.rows.rows.AutogradRow`."""

    probe: str
    oracle: str
    verdict: str
    argument: str | None = None
    shape: str | None = None
    memory_layout: str | None = None
    max_abs_error: float | None = None
    max_relative_error: float | None = None
    ulp: float | None = None
    worst_index: str | None = None
    got: float | None = None
    expected: float | None = None
    tolerance: float | None = None
    tolerance_source: str | None = None
    reason: str | None = None
    seconds: float | None = None


def overall(checks: list[GradientCheck]) -> str | None:
    """The verdict of several checks: the worst, or else the one that says most; None of no checks."""
    verdicts = {check.verdict for check in checks}
    for verdict in ("fail", "error", "pass", "kink", "inconclusive", "unsupported"):
        if verdict in verdicts:
            return verdict
    return None


def relative(error: float, scale: float) -> float:
    """An error relative to a scale; the error itself where the scale is 0."""
    return error / scale if scale else error

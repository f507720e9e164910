"""What measuring from Python gives: small records that say in a line what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from runner.units import digits, time_text

if TYPE_CHECKING:
    import pandas as pd

    from runner.rows.rows import GradientCheck


@dataclass(frozen=True, repr=False)
class Time:
    """What a call costs: seconds a call.

    Attributes:
        name: of the function.
        median_s: over the samples that nothing disturbed.
        low_s, high_s: the median's 95 % interval; None of too few samples.
        min_s: the least.
        samples: blocks of calls that the median is taken over.
        calls_per_sample: calls in each.
        device: what ran them, by name.
        stop: why there are no more samples: precision, time, samples, allocations or first_call.
        flags: what would mislead, as in ``results.csv``.
    """

    name: str
    median_s: float
    low_s: float | None
    high_s: float | None
    min_s: float
    samples: int
    calls_per_sample: int
    device: str
    stop: str
    flags: tuple[str, ...]

    def __repr__(self) -> str:
        text = f"{self.name}: {time_text(self.median_s)}"
        if self.low_s is not None and self.high_s is not None:
            text += f" ({time_text(self.low_s)} to {time_text(self.high_s)})"
        return f"{text}, {self.samples} samples{_listed(self.flags)}"


@dataclass(frozen=True, repr=False)
class Comparison:
    """One function against another, timed in turn on the same tensors.

    Attributes:
        new, old: what each costs, by its turns.
        speedup: old over new: above 1 the new one is faster.
        low, high: its 95 % interval; None where none can be given.
        verdict: faster, slower, same (within ``margin``) or unclear, of the new one.
        margin: the relative difference that counts.
        visits: to both, that the ratio is from.
        max_relative_error: of the new one's results from the old one's, relative to the largest
            element of these; None where they cannot be compared.
        reason: why the ratio is not claimed, or the results were not compared.
    """

    new: Time
    old: Time
    speedup: float
    low: float | None
    high: float | None
    verdict: str
    margin: float
    visits: int
    max_relative_error: float | None
    reason: str = ""

    def not_slower_than(self, limit: float) -> bool:
        """Whether the new one is surely not slower by more than ``limit``, relative to the old one.

        Where the interval does not tell, it is not sure: take a larger ``max_time_s`` then.
        """
        return self.low is not None and self.low >= 1 - limit

    def same_values(self, tolerance: float) -> bool:
        """Whether the results differ by at most ``tolerance``, relative to the largest element."""
        return self.max_relative_error is not None and self.max_relative_error <= tolerance

    def __repr__(self) -> str:
        ends = "no interval"
        if self.low is not None and self.high is not None:
            ends = f"{digits(self.low)} to {digits(self.high)}"
        text = f"{self.new.name} against {self.old.name}: {self.verdict}, speed-up "
        text += f"{digits(self.speedup)} ({ends}), {time_text(self.new.median_s)} against "
        text += f"{time_text(self.old.median_s)}, {self.visits} visits"
        if self.max_relative_error is not None:
            text += f", values differ by {self.max_relative_error:.2g}"
        return f"{text}; {self.reason}" if self.reason else text


@dataclass(frozen=True, repr=False)
class Gradients:
    """What a function's gradients were found to be.

    Attributes:
        name: of the function.
        verdict: pass, fail, error, inconclusive, kink or unsupported, of all checks together.
        reason: what failed, or could not be done; blank where there is nothing to say.
        checks: each of them, as a row of ``autograd.csv`` has it.
        script: a file of plain torch that shows the smallest failure; blank without one.
    """

    name: str
    verdict: str
    reason: str
    checks: Sequence[GradientCheck]
    script: str = ""

    @property
    def ok(self) -> bool:
        """Whether an oracle has said that they are right, and none that they are not."""
        return self.verdict == "pass"

    def frame(self) -> pd.DataFrame:
        """A row for each check."""
        import pandas as pd

        return pd.DataFrame([asdict(check) for check in self.checks])

    def __repr__(self) -> str:
        text = f"{self.name}: {self.verdict}, {len(self.checks)} checks"
        return f"{text}; {self.reason}" if self.reason else text


def _listed(flags: Sequence[str]) -> str:
    return f"; {', '.join(flags)}" if flags else ""

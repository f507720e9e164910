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
    """What a call costs: seconds a call."""

    name: str  # of the function
    median_s: float  # over the samples that nothing disturbed
    low_s: float | None  # the beginning of the median's 95 % interval; None of too few samples
    high_s: float | None  # and its end
    min_s: float
    samples: int  # blocks of calls that the median is taken over
    calls_per_sample: int
    device: str  # that ran them, by name
    stop: str  # why there are no more: precision, time, samples, allocations or first_call
    flags: tuple[str, ...]  # what would mislead, as in ``results.csv``

    def __repr__(self) -> str:
        text = f"{self.name}: {time_text(self.median_s)}"
        if self.low_s is not None and self.high_s is not None:
            text += f" ({time_text(self.low_s)} to {time_text(self.high_s)})"
        text += f", {self.samples} samples"
        return f"{text}; {', '.join(self.flags)}" if self.flags else text


@dataclass(frozen=True, repr=False)
class Comparison:
    """One function against another, timed in turn on the same tensors."""

    new: Time  # what each costs, by its turns
    old: Time
    speedup: float  # old over new: above 1 the new one is faster
    low: float | None  # the beginning of its 95 % interval; None where none can be given
    high: float | None  # and its end
    verdict: str  # faster, slower, same (within the margin) or unclear, of the new one
    margin: float  # the relative difference that counts
    visits: int  # to both, that the ratio is from
    # of the new one's results from the old one's, relative to the largest element of these; None
    # where they cannot be compared
    max_relative_error: float | None
    reason: str = ""  # why the ratio is not claimed, or the results were not compared

    def not_slower_than(self, limit: float) -> bool:
        """Whether the new one surely takes at most ``1 + limit`` times as long as the old one.

        Where the interval does not tell, it is not sure: take a larger ``max_time_s`` then.
        """
        return self.low is not None and self.low >= 1 / (1 + limit)

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
    """What a function's gradients were found to be."""

    name: str  # of the function
    verdict: str  # pass, fail, error, inconclusive, kink or unsupported, of all checks together
    reason: str  # what failed, or could not be done; blank where there is nothing to say
    checks: Sequence[GradientCheck]  # each, as a row of ``autograd.csv`` has it
    script: str = ""  # a file of plain torch that shows the smallest failure; blank without one

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

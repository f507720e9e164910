"""A pair's visits, looked at as the program does."""

from collections.abc import Sequence

from runner.config.schema import Report
from runner.stats.sequential import LOOKS, PairedRatio, paired_ratio, verdict_of

MARGIN = Report.same_within


def at_the_stop(log_ratios: Sequence[float]) -> PairedRatio:
    """The pair as it is left: at the first look with a clear verdict, or at the end."""
    for look in LOOKS:
        if look >= len(log_ratios):
            break
        ratio = paired_ratio([log_ratios[:look]], MARGIN, is_last=False)
        if verdict_of(ratio.low, ratio.high, MARGIN) != "unclear":
            return ratio
    return paired_ratio([log_ratios], MARGIN)

"""What a row's flags mean, and with which of them no speed-up is claimed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain


@dataclass(frozen=True)
class Flag:
    """A label for what would mislead a reader."""

    why: str  # the clause that follows "no speed-up is claimed, since"
    forbids_ratio: bool = True  # whether a speed-up from such a row would mislead
    fails: bool = False  # whether a check has failed, so that the run ends with exit code 1


FLAGS = {
    "mutates_input": Flag("it changes its input"),
    "view": Flag("a view moves no data"),
    "nonfinite": Flag("its output is not finite"),
    "denormal": Flag("its numbers are denormal, which take far longer"),
    "wrong_values": Flag("its values are wrong", fails=True),
    "unchecked": Flag("its values were compared with nothing"),
    "wrong_gradient": Flag("its gradient is wrong", fails=True),
    "above_peak": Flag("it computes faster than this machine can", False),
    "reused_result": Flag("its result comes from an earlier call"),
    "short_cut": Flag("it does less for these contents than for ordinary ones"),
    "late_work": Flag("it goes on after it has returned"),
    "unrepeatable": Flag("it gives another result when called again"),
    "calls_reference": Flag("it calls what it is compared with"),
    "switched": Flag("it changes switches of the machine when it is called"),
    "replaced_functions": Flag("its module replaces functions of torch or of the clock"),
    "contended": Flag("the machine was busy with something else"),
    "slow_machine": Flag("the machine was slow all the time"),
    "single_call": Flag("it was called only once"),
    "throttled": Flag("the device's clock fell, or its own work slowed the machine"),
    "uneven": Flag("a call takes far longer in the mean than in the median"),
    "multimodal": Flag("its times fall into groups, and the median lies in one of them", False),
    "placement": Flag("its time depends on where in memory its tensors lie", False),
    "slow_memory": Flag("memory was slow, and the call is bound by it", False),
    "first_touch": Flag("most of the time goes to fresh memory for the output", False),
    "reduced_precision": Flag("its products are rounded to fewer digits than its dtype has", False),
    "profiler_differs": Flag("the profiler tells another time than the device's events", False),
    "changed_switches": Flag("its module changes switches of the machine", False),
    "cpu_fallback": Flag("the CPU has no fast kernel for this dtype", False),
}

OF_CONDUCT = (
    *("reused_result", "short_cut", "late_work", "unrepeatable", "calls_reference"),
    *("switched", "replaced_functions"),
)
"""Of what makes a time say nothing, since the call does not do its work."""


def has_failed_check(flags: Iterable[str]) -> bool:
    """Whether one of a row's flags says that a check has failed; a newer release's are unknown."""
    return any(flag in FLAGS and FLAGS[flag].fails for flag in flags)


def merged(*several: Iterable[str]) -> tuple[str, ...]:
    """The flags of several rows, or of one that gets more: each once, in the order of coming."""
    return tuple(dict.fromkeys(chain.from_iterable(several)))

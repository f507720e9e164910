"""Every sentence of the report's answers in English, by key, with fields for what the data say.

A field may name a unit after a colon, so that another language can write numbers and units its own way: ``s``, ``B/s``,
``x`` (a ratio), ``%`` (a share), ``n`` (a count).
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping

from runner.analysis.sentence import Sentence
from runner.stats.estimate import Estimate
from runner.units import digits, time_text

ENGLISH = {
    "gain": "Which operations gain most from {others}?",
    "lose": "Which operations lose with {others}, and why?",
    "size": "How does the size change the speed-up?",
    "transfers": "What does moving data cost?",
    "nothing_to_compare": "This run cannot say: all of its rows have {baseline}, and there is nothing to compare.",
    "no_ratio": "This run cannot say: none of its {count:n} comparisons has a ratio, most often since {reason}.",
    "counts": "Of {count:n} comparisons with {baseline}, {faster:n} are faster, {slower:n} slower, {same:n} the same, "
    "{unclear:n} unclear; {none:n} have no ratio.",
    "none_faster": "None is surely faster than with {baseline}.",
    "gains": "{what} with {other}: {ratio:x} ({before:s} -> {after:s}).",
    "gains_but": "{what} with {other}: {ratio:x} ({before:s} -> {after:s}), but {fastest:x} against {fastest_dtype}, "
    "the fastest dtype with {baseline}.",
    "none_slower": "None is surely slower than with {baseline}.",
    "lose_no_kernel": "No fast kernel for {dtype}: {count:n} of {ops}; worst {what} with {other}, {ratio:x} "
    "({before:s} -> {after:s}), although {dtype} is no wider than {baseline_dtype}.",
    "lose_fallback": "No fast kernel for {dtype}: {count:n} of {ops}; worst {what} with {other}, {ratio:x} "
    "({before:s} -> {after:s}); its row is flagged cpu_fallback.",
    "lose_launch": "Launch-bound: {count:n} of {ops}; worst {what} with {other}, {ratio:x}: launching a call takes "
    "{launch:s}, the call itself {kernel:s}.",
    "lose_overhead": "Overhead-bound: {count:n} of {ops}; worst {what} with {other}, "
    "{ratio:x}: {after:s}, where the smallest size takes {floor:s}.",
    "lose_small": "Only below the size from which {other} wins: {count:n} of {ops}; worst {what}, {ratio:x} "
    "({before:s} -> {after:s}), while {wins_at} wins; the rows show no other cause.",
    "lose_memory": "Memory-bound: {count:n} of {ops}; worst {what} with {other}, {ratio:x}: it reaches {fraction:%} of "
    "the peak memory bandwidth.",
    "lose_compute": "Compute-bound: {count:n} of {ops}; worst {what} with {other}, {ratio:x}: it "
    "reaches {fraction:%} of the peak compute rate.",
    "lose_width": "Wider numbers: {count:n} of {ops}; worst {what} with {other}, {ratio:x} ({before:s} -> {after:s}), "
    "where {dtype} takes {width:n} times the bytes of {baseline_dtype}.",
    "lose_transfers": "Transfer-bound: {count:n} of {ops} win only while their data stay on the device; worst {what} "
    "with {other}: {ratio:x} without transfers, {each:x} with them at each call, which take {transfer:s}.",
    "lose_unexplained": "No cause shows in this run's rows: {count:n} of {ops}; worst {what} with {other}, "
    "{ratio:x} ({before:s} -> {after:s}).",
    "one_size": "This run cannot say: no operation has ratios at two sizes or more.",
    "curves": "Of {count:n} curves along the size, {found:n} pass 1 between two sizes, {always:n} win at every size, "
    "{never:n} do not win at the largest, {unresolved:n} are unresolved.",
    "size_found": "{what} with {other} wins from {at} (95 %: {low} to {high}): {first:x} at {smallest}, {last:x} at "
    "{largest}.",
    "size_always": "{what} with {other} wins at every size measured: {first:x} at {smallest}, {last:x} at {largest}.",
    "size_never": "{what} with {other} does not win at the largest size: {first:x} at {smallest}, {last:x} at "
    "{largest}.",
    "size_unresolved": "{what} with {other}: these intervals do not show where it begins to win; {first:x} at "
    "{smallest}, {last:x} at {largest}.",
    "size_by": "{what} with {other} wins from {high} at the latest; below that it is unresolved: {first:x} at "
    "{smallest}, {last:x} at {largest}.",
    "more": "{count:n} more are in {file}.",
    "one_device": "Nothing is moved: both sides of the comparison are on one device.",
    "no_accelerator": "This run cannot say: nothing in it ran on an accelerator.",
    "no_transfers": "This run cannot say: it has not measured transfers; python -m runner +sweep=transfer does.",
    "link_to": "To {device} from {memory} memory: {latency:s} for each tensor, and {bandwidth:B/s}.",
    "link_from": "From {device} to {memory} memory: {latency:s} for each tensor, and {bandwidth:B/s}.",
    "share": "For {what} moving takes {transfer:s}, {times:x} the {after:s} of the call.",
    "break_even": "{what} pays once its data are used in {calls:n} calls.",
    "moved_crossovers": "With transfers at each call {other} wins somewhere for {wins:n} of {count:n} curves; without, "
    "for {plain:n}.",
    "elements": "{count:n} elements",
    "side": "n = {count:n}",
}


Quantity = Callable[[object, str], str]


def quantity(value: object, unit: str) -> str:
    """A number with its unit in English, and its interval where it has one.

    >>> quantity(Estimate(12.3, 12.0, 12.6), "x"), quantity(0.0021, "s"), quantity(3.2e9, "B/s"), quantity(4096.4, "n")
    ('12.3x (12.0 to 12.6)', '2.100 ms', '3.20 GB/s', '4,096')
    """
    if isinstance(value, Estimate):
        if value.low is None or value.high is None:
            return quantity(value.value, unit)
        low, high = (quantity(end, unit).removesuffix("x") for end in (value.low, value.high))
        return f"{quantity(value.value, unit)} ({low} to {high})"
    if not isinstance(value, int | float):
        return str(value)
    if unit == "s":
        return time_text(value)
    if unit == "B/s":
        return f"{digits(value / 1e9, 3)} GB/s"
    if unit == "x":
        return f"{digits(value, 3)}x"
    if unit == "%":
        return f"{100 * value:.0f} %"
    return f"{value:,.0f}" if value >= 100 or value == round(value) else digits(value, 2)


def say(
    sentence: Sentence, templates: Mapping[str, str] = ENGLISH, numbers: Quantity = quantity
) -> str:
    """A sentence in a language.

    Args:
        sentence: what to say.
        templates: the language's, by key.
        numbers: how the language writes a number (or an estimate) in a unit.
    """
    return _Fields(templates, numbers).vformat(templates[sentence.key], (), sentence.values)


class _Fields(string.Formatter):
    """Fills a template's fields; a field may hold a sentence itself."""

    def __init__(self, templates: Mapping[str, str], numbers: Quantity) -> None:
        self._templates, self._numbers = templates, numbers

    def format_field(self, value: object, spec: str) -> str:
        if isinstance(value, Sentence):
            return say(value, self._templates, self._numbers)
        return self._numbers(value, spec) if spec else str(value)

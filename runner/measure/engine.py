"""The sampling engine: warm up, time short blocks, set aside interrupted ones, stop when sure.

Blocks are short because a block that outlasts a scheduler's slice is as likely as not to contain a
pause: on a loaded machine that, not the operation, is what differs between runs. What differs
between runs on an idle machine is where in memory the tensors lie (Mytkowicz et al., Producing
Wrong Data Without Doing Anything Obviously Wrong, ASPLOS 2009), so that blocks are taken on several
allocations of them. The clock is an argument, so that tests are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from statistics import fmean, median, pstdev
from typing import Any

from runner.calls import Thunk
from runner.config.schema import Timing
from runner.garbage import uncollected
from runner.measure.gate import Gate
from runner.measure.host_clock import Block, Clock
from runner.rows.rows import Sample
from runner.stats.intervals import median_interval, quantile, spread_of

STEADY_WITHIN = 0.05  # two successive windows of warm-up this close count as steady
WARMUP_WINDOW = 5  # blocks in a window of warm-up
LOST_AT_MOST = 0.02  # of a block's time, to waiting for a core or to another than its thread
FEWEST_OF_INTERVAL = 6  # times, of which a median has an interval
FEWEST_CALM = 10  # blocks or places, or half of all, or visits: a median of fewer says little
MIN_CLEAN_SHARE = 0.2  # of blocks: to set more than the others aside would choose, not clean
MOST_WINDOWS = 1_000  # of warm-up, for a clock by which the time is never over
MOST_CALLS = 1_000_000  # in a block
TRIALS = 3  # of a number of calls, before it is believed that they take that long
LOADING_S = 0.2  # a first call of less may have loaded a library, and the next one not
MOST_TRIALS = 12  # where all were interrupted
OVERESTIMATED = 2  # a call that turns out faster by this factor was first seen in a slow moment
LONG_CALL = 5  # a first call of this many times the time allowed is the only one
# the interval is looked at when the samples have grown by this factor: each look is one more chance
# to stop on samples that agree by luck, which takes coverage from it (Chow and Robbins, 1965)
CHECK_EVERY = 2
MOST_ALLOCATIONS = 16  # of its tensors, on which a call is timed
BLOCKS_PER_ALLOCATION = 8
MOST_UNTIMED = 3  # calls before each block, which find the caches as the clock left them
WARM_BLOCKS = 2  # on a new allocation, which pay for its caches and page tables
LONGEST_REALLOCATED_S = 0.005  # a longer call averages over much memory, or computes
PLACEMENT_MATTERS = 1.10  # the slowest tenth of the allocations over the fastest tenth
FEWEST_IN_A_MODE = 0.1  # of the samples
MODES_APART = 1.10  # the modes' medians, one over the other
UNEVEN = 1.5  # times the median: where the mean is more, some calls do the work of many
ASHMAN_D = 4.0  # of two modes; a normal, uniform or exponential distribution stays below 3.5
Reallocate = Callable[[], Thunk] | None  # gives the same call on newly allocated tensors


@dataclass(frozen=True)
class Measurement:
    """What the engine found: seconds a call."""

    # over the allocations' medians where there are several, otherwise over the samples
    median_s: float
    interval: tuple[float, float] | None  # the median's, 95 %; None of too few samples
    min_s: float
    q1_s: float
    q3_s: float
    mean_s: float
    p90_s: float
    p99_s: float
    max_s: float
    cpu_s: float | None  # of the calling thread; None where the clock does not say
    first_call_s: float
    samples: tuple[Sample, ...]  # the undisturbed blocks and those set aside
    calls_per_sample: int
    machine_slowdown: float | None  # over its best, around the samples that count
    as_it_came_s: float | None  # with the samples of slow moments too; None: all count
    timing_s: float
    interrupted: int  # how many of the samples the scheduler did not leave alone
    interruption_source: str  # how that was told: scheduler, switches, or none
    stop: str  # precision, time, samples, allocations or first_call
    flags: tuple[str, ...]  # of :data:`runner.rows.flags.FLAGS`, what the times themselves say


def measure(
    call: Thunk,
    clock: Clock,
    timing: Timing,
    on_first_result: Callable[[Any], None] = lambda result: None,
    reallocate: Reallocate = None,
    *,
    gate: Gate | None = None,
    opening: Opening | None = None,
) -> Measurement:
    """Measure the time of a call.

    ``on_first_result`` is given the first call's result, outside the clock; others are dropped.
    ``gate`` waits for calm moments, and tells them from the others. ``opening`` is what the first
    calls gave, where they have been made.
    """
    start = clock.now()
    with uncollected():
        opening = opening or open_call(call, clock, timing, on_first_result)
        sampled = sample_warm(opening, call, clock, timing, reallocate, gate=gate)
    return measurement(sampled, opening.first_call_s, clock.now() - start)


@dataclass(frozen=True)
class Sampled:
    """The blocks that a measurement is made of, the calls in each, and why there are no more."""

    blocks: list[Block]
    calls: int
    stop: str


@dataclass(frozen=True)
class Opening:
    """What the first few calls gave."""

    first_call_s: float
    call_s: float  # of a warm one, as far as was seen
    calls: int  # in a block
    # all that there is, where there is no time for more; None: the call is warm now
    sampled: Sampled | None = None

    @property
    def untimed(self) -> int:
        """Calls before each block, which are not timed; a long call hardly notices."""
        return 0 if self.call_s > LONGEST_REALLOCATED_S else min(self.calls, MOST_UNTIMED)

    def fitted(self, call_s: float, timing: Timing, most_calls: int) -> Opening:
        """The same, where a call has taken ``call_s`` seconds: itself, unless that is far less.

        Beside programs that keep every core busy the first calls can be slow one and all. A block
        of the few calls that they suggest would be mostly what it costs to begin one.
        """
        if not 0 < call_s * OVERESTIMATED < self.call_s:
            return self
        calls = _calls_in(_block_s(timing), call_s, most_calls)
        return replace(self, call_s=call_s, calls=calls)


def open_call(
    call: Thunk, clock: Clock, timing: Timing, on_first_result: Callable[[Any], None]
) -> Opening:
    """Make the first calls, and warm up unless they have shown that there is no time for it."""
    results: list[Any] = []
    first = clock.time(lambda: results.append(call()), 1)
    on_first_result(results.pop())

    # waiting for a second call would cost too much
    if first.wall_s >= max(LONG_CALL * timing.max_time_s, LOADING_S):
        return Opening(first.wall_s, first.wall_s, 1, Sampled([first], 1, "first_call"))

    # a warm call is worth more than warming up
    second = clock.time(call, 1)
    if second.wall_s >= timing.max_time_s:
        return Opening(first.wall_s, second.wall_s, 1, Sampled([second], 1, "time"))

    calls, call_s = _calls_per_block(call, clock, timing)
    _warm_up(call, clock, timing, calls)
    return Opening(first.wall_s, min(second.wall_s, call_s), calls)


def most_calls_of(clock: Clock) -> int:
    """The most calls that a block of this clock may have."""
    return int(getattr(clock, "most_calls", MOST_CALLS))


def sample_warm(
    opening: Opening,
    call: Thunk,
    clock: Clock,
    timing: Timing,
    reallocate: Reallocate = None,
    *,
    gate: Gate | None = None,
) -> Sampled:
    """Blocks of a warm call; those of its opening where there is no time for more."""
    if opening.sampled is not None:
        return opening.sampled
    gate = gate or Gate(())
    most_calls = most_calls_of(clock)
    source = _blocks(call, reallocate, clock, opening)
    start = clock.now()
    blocks: list[Block] = []
    moments: list[int] = []
    check_at = timing.min_samples

    def sampled(stop: str) -> Sampled:
        gate.look()
        return Sampled(_told_apart(blocks, moments, gate), opening.calls, stop)

    while True:
        moments.append(gate.pass_by())
        block = next(source)
        if block is None:  # each allocation has its blocks
            moments.pop()
            gate.look()
            told = _told_apart(blocks, moments, gate)
            clean = _undisturbed(told)
            if not any(clean) or any(_calm(told, clean)) or gate.lost_s >= gate.patience_s:
                return Sampled(told, opening.calls, "allocations")
            gate.pass_by(now=True)  # and once more on the same, for it was slow meanwhile
            continue
        fitted = opening.fitted(block.wall_s / opening.calls, timing, most_calls)
        if fitted is not opening:  # the blocks so far were too short
            opening, check_at = fitted, timing.min_samples
            source = _blocks(call, reallocate, clock, opening)
            blocks.clear()
            moments.clear()
            continue
        blocks.append(block)
        # several allocations are compared when each has its blocks, and one ever more seldom
        is_due = len(blocks) % BLOCKS_PER_ALLOCATION == 0
        if block.allocation is None:
            is_due = len(blocks) >= check_at
        if is_due:
            if is_precise(_told_apart(blocks, moments, gate), timing):
                return sampled("precision")
            check_at = max(check_at + 1, check_at * CHECK_EVERY)
        if len(blocks) >= timing.max_samples:
            return sampled("samples")
        # what is this call's own doing counts
        lost_s = gate.waited_s if gate.is_own_doing else gate.lost_s
        if clock.now() - start - lost_s >= timing.max_time_s:
            return sampled("time")


def _told_apart(blocks: Sequence[Block], moments: Sequence[int], gate: Gate) -> list[Block]:
    """Blocks with how slow the machine was around each."""
    told = zip(blocks, moments, strict=False)
    return [replace(block, **gate.around(moment)) for block, moment in told]


def measurement(
    sampled: Sampled, first_call_s: float, timing_s: float, *, visited: bool = False
) -> Measurement:
    """The statistics of the undisturbed blocks, or of all where nearly all were disturbed.

    Allocations that were ``visited`` differ by the moment as much as by the memory.
    """
    blocks, calls = sampled.blocks, sampled.calls
    (contended, undisturbed), (is_slow, is_used) = _set_aside(blocks, visited=visited)

    # quartiles are of all times, the median of what may be taken for independent
    used = list(compress(blocks, is_used))
    times = sorted(block.wall_s / calls for block in used)
    observed = sorted(observations((block.allocation, block.wall_s / calls) for block in used))
    cpu = [b.cpu_s / calls for b in used if b.cpu_s is not None]
    slowdowns = [b.machine_slowdown for b in used if b.machine_slowdown is not None]
    as_it_came_s = None
    if is_used != undisturbed:
        all_times = ((b.allocation, b.wall_s / calls) for b in compress(blocks, undisturbed))
        as_it_came_s = median(observations(all_times))

    # what the times themselves say against them
    is_reallocated = blocks[0].allocation is not None and not visited
    flags = {
        "contended": contended,
        "slow_machine": is_slow,
        "single_call": len(blocks) == calls == 1,
        "placement": is_reallocated and _spread(observed) > PLACEMENT_MATTERS,
        "multimodal": _has_modes(times),
        "uneven": not (contended or is_slow) and _is_uneven(times, _worked(blocks, calls)),
    }
    return Measurement(
        median_s=median(observed),
        interval=median_interval(observed),
        **spread_of(times),
        cpu_s=median(cpu) if cpu else None,
        first_call_s=first_call_s,
        samples=tuple(
            Sample(calls, used=used_one, **vars(block))
            for block, used_one in zip(blocks, is_used, strict=True)
        ),
        calls_per_sample=calls,
        machine_slowdown=median(slowdowns) if slowdowns else None,
        as_it_came_s=as_it_came_s,
        timing_s=timing_s,
        interrupted=sum(not had_its_cores(block) for block in blocks),
        interruption_source=_interruption_source(blocks[0]),
        stop=sampled.stop,
        flags=tuple(compress(flags, flags.values())),
    )


def _set_aside(
    blocks: list[Block], *, visited: bool
) -> tuple[tuple[bool, list[bool]], tuple[bool, list[bool]]]:
    """Which blocks nothing disturbed, and which of these are of calm moments.

    Setting aside nearly all would choose among them, so that then none is set aside, which the
    first of each pair says.
    """
    undisturbed = _undisturbed(blocks)
    contended = not any(undisturbed)
    if contended:
        undisturbed = [True] * len(blocks)
    calm = _calm(blocks, undisturbed, visited=visited)
    is_slow = not any(calm)
    return (contended, undisturbed), (is_slow, undisturbed if is_slow else calm)


def observations(timed: Iterable[tuple[int | None, float]]) -> list[float]:
    """What counts as independent: the medians of the allocations, or all times of a single one."""
    by_allocation: dict[int | None, list[float]] = {}
    for allocation, seconds in timed:
        by_allocation.setdefault(allocation, []).append(seconds)
    if None in by_allocation:
        return by_allocation[None]
    return [median(times) for times in by_allocation.values()]


def _block_s(timing: Timing) -> float:
    """Seconds that a block is to take."""
    return min(timing.block_s, timing.max_time_s / timing.min_samples)


def _calls_in(seconds: float, call_s: float, most_calls: int) -> int:
    """How many calls of ``call_s`` seconds take so many."""
    return min(most_calls, max(1, round(seconds / call_s)))


def _calls_per_block(call: Thunk, clock: Clock, timing: Timing) -> tuple[int, float]:
    """Calls that fill a block, and the seconds of one, from ever longer trials."""
    block_s, most = _block_s(timing), most_calls_of(clock)
    end = clock.now() + timing.max_time_s
    calls = 1
    while True:
        trial_s = _shortest_trial(call, clock, calls, block_s)
        call_s = trial_s / calls
        if trial_s >= block_s / 2 or calls >= most or clock.now() >= end:
            return _calls_in(block_s, call_s, most) if call_s > 0 else calls, call_s
        calls = min(most, calls * (4 if trial_s * 8 < block_s else 2))


def _shortest_trial(call: Thunk, clock: Clock, calls: int, enough_s: float) -> float:
    """The shortest of a few, since any may be interrupted; of more where each of these was."""
    shortest, undisturbed = math.inf, 0
    for trial in range(1, MOST_TRIALS + 1):
        block = clock.time(call, calls)
        shortest, undisturbed = min(shortest, block.wall_s), undisturbed + had_its_cores(block)
        too_short = shortest < enough_s / 2  # whether or not it was interrupted
        if too_short or (trial >= TRIALS and undisturbed):
            break
    return shortest


def _warm_up(call: Thunk, clock: Clock, timing: Timing, calls: int) -> None:
    """Run blocks until two windows of them agree, or the time for warming up is over."""
    end = clock.now() + timing.warmup_s
    before: float | None = None
    for _ in range(MOST_WINDOWS):
        window: list[float] = []
        while len(window) < WARMUP_WINDOW and clock.now() < end:
            window.append(clock.time(call, calls).wall_s)
        if not window or clock.now() >= end:
            return
        now = median(window)
        if before is not None and abs(now - before) <= STEADY_WITHIN * abs(before):
            return
        before = now


def _blocks(
    call: Thunk, reallocate: Reallocate, clock: Clock, opening: Opening
) -> Iterator[Block | None]:
    """Blocks without end on the call's own allocation, or some on each of several, it first.

    None where each of these has had its blocks; then come further ones on the same.
    """
    calls, untimed = opening.calls, opening.untimed
    while reallocate is None or opening.call_s > LONGEST_REALLOCATED_S:
        yield clock.time(call, calls, untimed)
    held = [call]  # memory that is freed would be the next allocation again
    is_warm = True
    while True:
        for number in range(MOST_ALLOCATIONS):
            if number == len(held):
                held.append(reallocate())
            for _ in range(0 if is_warm else WARM_BLOCKS):
                clock.time(held[number], calls)
            is_warm = False
            for _ in range(BLOCKS_PER_ALLOCATION):
                yield replace(clock.time(held[number], calls, untimed), allocation=number)
        yield None


def is_precise(blocks: list[Block], timing: Timing) -> bool:
    """Whether the interval is narrow enough, and the later half of the times like the earlier."""
    undisturbed = _undisturbed(blocks)
    used = list(compress(blocks, _calm(blocks, undisturbed)))
    observed = observations((block.allocation, block.wall_s) for block in used)
    interval = median_interval(sorted(observed)) if len(used) >= timing.min_samples else None
    if interval is None:
        return False
    allowed = timing.precision * median(observed)
    half = len(observed) // 2
    drifted = abs(median(observed[half:]) - median(observed[:half]))
    # halves of a steady sample are twice as uncertain
    return (interval[1] - interval[0]) / 2 <= allowed and drifted <= 2 * allowed


def _worked(blocks: Sequence[Block], calls: int) -> list[float]:
    """Seconds of a call in each block of a calm moment, disturbed or not, at least.

    A block that does the work of many is long, and so is hardly ever left alone. What it waited may
    hold the waiting of untimed calls before it, and that of several threads.
    """
    known = [(b.wall_s, b.waiting_s) for b in blocks if b.calm and b.waiting_s is not None]
    return [max(0.0, wall_s - waiting_s) / calls for wall_s, waiting_s in known]


def _is_uneven(times: Sequence[float], worked: Sequence[float]) -> bool:
    """Whether some calls do the work of many, by undisturbed blocks or by what all worked."""
    return any(of and fmean(of) > UNEVEN * median(times) for of in (times, worked))


def _spread(ordered: list[float]) -> float:
    """The largest tenth over the smallest tenth; 1 where a time is not positive."""
    return quantile(ordered, 0.9) / quantile(ordered, 0.1) if ordered[0] > 0 else 1.0


def _has_modes(ordered: list[float]) -> bool:
    """Whether times fall into two groups with next to nothing between them.

    They are cut, on a log scale, where the variance between the two parts is largest (Otsu, IEEE
    Transactions on Systems, Man and Cybernetics 9, 1979), and the parts are modes where Ashman's D
    (The Astronomical Journal 108, 1994) is large.
    """
    fewest = math.ceil(FEWEST_IN_A_MODE * len(ordered))
    if len(ordered) < 2 / FEWEST_IN_A_MODE or ordered[0] <= 0:
        return False
    if ordered[-1] < MODES_APART * ordered[0]:
        return False
    logs = [math.log(seconds) for seconds in ordered]
    cut = _cut(logs)
    if not fewest <= cut <= len(logs) - fewest:
        return False
    lower, upper = logs[:cut], logs[cut:]
    apart = fmean(upper) - fmean(lower)
    width = math.hypot(pstdev(lower), pstdev(upper))
    return apart > math.log(MODES_APART) and math.sqrt(2) * apart > ASHMAN_D * width


def _cut(ordered: list[float]) -> int:
    """How many numbers are below the cut with the largest variance between the two parts."""
    total, below = sum(ordered), 0.0
    largest, cut = -1.0, 0
    for count, value in enumerate(ordered[:-1], start=1):
        below += value
        above_count = len(ordered) - count
        between = (below / count - (total - below) / above_count) ** 2 * count * above_count
        if between > largest:
            largest, cut = between, count
    return cut


def _interruption_source(block: Block) -> str:
    if block.waiting_s is not None:
        return "scheduler"
    return "switches" if block.preemptions is not None else "none"


def _undisturbed(blocks: list[Block]) -> list[bool]:
    """Which blocks the scheduler left alone; none where these are too few to speak for all."""
    clean = [had_its_cores(block) for block in blocks]
    return clean if sum(clean) >= MIN_CLEAN_SHARE * len(clean) else [False] * len(clean)


def _calm(
    blocks: Sequence[Block], undisturbed: Sequence[bool], *, visited: bool = False
) -> list[bool]:
    """Which undisturbed blocks are of calm moments; none where these, or their places, are few.

    The blocks of a place in memory, or of a visit, are one observation.
    """
    calm = [clean and block.calm for block, clean in zip(blocks, undisturbed, strict=True)]
    places = [n if block.allocation is None else block.allocation for n, block in enumerate(blocks)]
    count, of_all = (len(set(compress(places, which))) for which in (calm, undisturbed))
    half = max(math.ceil(of_all / 2), min(of_all, FEWEST_OF_INTERVAL))
    fewest = min(FEWEST_CALM, of_all if visited else half)
    return calm if count >= fewest else [False] * len(calm)


def had_its_cores(block: Block) -> bool:
    """Whether a block waited next to no time; by its switches where nothing says how long."""
    if block.waiting_s is not None:
        return block.waiting_s <= LOST_AT_MOST * block.wall_s
    lost = 0.0 if block.cpu_s is None else block.wall_s - block.cpu_s
    return not block.preemptions and lost <= LOST_AT_MOST * block.wall_s

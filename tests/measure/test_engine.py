"""The sampling engine on a clock of the test's own.

When it stops, what it sets aside, how long its blocks are.
"""

import gc
from random import Random

import pytest

from runner.config.schema import Timing
from runner.measure.engine import Sampled, measure, measurement
from runner.measure.host_clock import Block, HostClock
from tests.support.marks import slow

CALL_S = 1e-4  # of a call, where a test does not say otherwise; a block of 0.0005 s is 5 of them
TIMING = Timing(max_time_s=1.0, warmup_s=0.05)


class FakeClock:
    """A clock that plays a script.

    ``script(number, calls)`` is the block that the clock sees when it times for the number-th time.
    """

    def __init__(self, script, speed=1.0):
        self.script, self.speed = script, speed
        self.seconds, self.asked = 0.0, 0
        self.timed = []

    def now(self):
        self.asked += 1
        assert self.asked < 100_000, "the engine does not end"
        return self.seconds

    def time(self, call, calls, untimed=0):
        assert len(self.timed) < 100_000, "the engine does not end"
        call()
        block = self.script(len(self.timed), calls)
        self.timed.append((calls, block))
        self.seconds += self.speed * block.wall_s
        return block


def run(script, timing=TIMING, **clock):
    """Measure nothing by a scripted clock."""
    return measure(lambda: None, FakeClock(script, **clock), timing)


def constant(number, calls):
    """A machine without noise."""
    return Block(calls * CALL_S)


def noisy(number, calls):
    """A machine that takes once or three times as long, so that no interval is narrow."""
    return Block(calls * CALL_S * (1 if number % 2 else 3))


def interrupted(one_in, **how):
    """A script in which the scheduler makes every so many blocks ten times as long.

    Once their length has settled.
    """

    def script(number, calls):
        wall_s = calls * CALL_S
        clean = Block(wall_s, cpu_s=wall_s, preemptions=0)
        return Block(10 * wall_s, **how) if number > 10 and number % one_in == 0 else clean

    return script


def test_constant_times_stop_on_precision_at_the_fewest_samples():
    measured = run(constant)
    assert measured.stop == "precision"
    assert len(measured.samples) == TIMING.min_samples
    assert (
        measured.median_s
        == measured.min_s
        == measured.q1_s
        == measured.q3_s
        == pytest.approx(CALL_S)
    )
    assert measured.interval == pytest.approx((CALL_S, CALL_S))
    assert "contended" not in measured.flags


def test_precision_is_the_half_width_relative_to_the_median():
    random = Random(1)
    timing = Timing(max_time_s=1e3, precision=0.01)
    measured = run(lambda number, calls: Block(calls * CALL_S * random.gauss(1, 0.1)), timing)
    low, high = measured.interval
    assert measured.stop == "precision"
    assert 0 < (high - low) / 2 <= 0.01 * measured.median_s
    assert len(measured.samples) > 100


def test_noise_stops_on_time():
    measured = run(noisy)
    assert measured.stop == "time"
    sampled_s = sum(sample.wall_s for sample in measured.samples)
    assert TIMING.max_time_s <= sampled_s < TIMING.max_time_s + 0.01
    assert sampled_s < measured.timing_s < sampled_s + 2 * TIMING.warmup_s
    assert CALL_S <= measured.median_s <= 3 * CALL_S
    assert measured.interval == pytest.approx((CALL_S, 3 * CALL_S))


def test_noise_stops_on_samples_at_the_most_samples():
    measured = run(noisy, Timing(max_samples=50))
    assert measured.stop == "samples"
    assert len(measured.samples) == 50


def test_one_sample_is_enough_where_one_is_the_most():
    measured = run(constant, Timing(min_samples=1, max_samples=1))
    assert (measured.stop, len(measured.samples), measured.interval) == ("samples", 1, None)
    assert measured.median_s == pytest.approx(CALL_S)


def test_fewer_than_6_samples_are_never_precise():
    measured = run(constant, Timing(min_samples=2, precision=1.0))
    assert measured.stop == "precision"
    assert len(measured.samples) >= 6


def test_first_call_far_longer_than_the_time_is_the_only_sample():
    clock = FakeClock(lambda number, calls: Block(6.0, 1.5, 7))
    measured = measure(lambda: None, clock, TIMING)
    assert len(clock.timed) == 1
    assert measured.stop == "first_call"
    assert measured.median_s == measured.first_call_s == measured.timing_s == 6.0
    assert measured.interval is None
    assert measured.calls_per_sample == len(measured.samples) == 1
    assert (
        measured.samples[0].wall_s,
        measured.samples[0].cpu_s,
        measured.samples[0].preemptions,
    ) == (6.0, 1.5, 7)


@pytest.mark.parametrize("factor", [1_000, 20_000])  # 0.1 s, and twice the time allowed
def test_slow_first_call_does_not_enter_the_median(factor):
    measured = run(lambda number, calls: Block(calls * CALL_S * (factor if number == 0 else 1)))
    assert measured.first_call_s == pytest.approx(factor * CALL_S)
    assert measured.median_s == measured.q3_s == pytest.approx(CALL_S)
    assert measured.calls_per_sample == 5


def test_first_calls_result_alone_is_looked_at_and_no_call_is_made_for_it():
    clock, made, looked = FakeClock(constant), [], []

    def call():
        made.append(len(made))
        return made[-1]

    measure(call, clock, TIMING, lambda result: looked.append((result, len(clock.timed))))
    assert looked == [(0, 1)]
    assert len(made) == len(clock.timed)


def test_warming_up_ends_when_steady_and_is_no_sample():
    timing = Timing(max_time_s=10.0, warmup_s=5.0)
    measured = run(lambda number, calls: Block(calls * CALL_S * max(1, 5 - number / 10)), timing)
    assert all(sample.wall_s == pytest.approx(sample.calls * CALL_S) for sample in measured.samples)
    assert measured.timing_s < 0.1


def test_warming_up_that_never_gets_steady_ends_in_time():
    timing = Timing(max_samples=8, warmup_s=0.05)
    measured = run(lambda number, calls: Block(calls * CALL_S * 1.2 ** (number // 5)), timing)
    assert len(measured.samples) == 8
    assert measured.timing_s < 0.2


@pytest.mark.parametrize(
    "how",
    [{"preemptions": 1}, {"cpu_s": 0.0}, {"cpu_s": 0.97 * 50 * CALL_S, "preemptions": 0}],
    ids=str,
)
def test_interrupted_blocks_are_set_aside_but_kept_in_the_samples(how):
    measured = run(interrupted(3, **how))
    aside = [sample for sample in measured.samples if not sample.used]
    kept = [sample for sample in measured.samples if sample.used]
    assert measured.stop == "precision"
    assert "contended" not in measured.flags
    assert len(kept) >= TIMING.min_samples
    assert len(measured.samples) // 3 <= len(aside) <= len(measured.samples) // 3 + 1
    assert all(sample.wall_s == pytest.approx(50 * CALL_S) for sample in aside)
    assert all(sample.wall_s == pytest.approx(5 * CALL_S) for sample in kept)
    assert measured.median_s == measured.q3_s == pytest.approx(CALL_S)


def test_samples_are_the_blocks_that_the_clock_saw_in_their_order():
    random = Random(2)
    clock = FakeClock(
        lambda number, calls: Block(
            calls * random.uniform(1, 2) * CALL_S, random.random(), random.randrange(2)
        )
    )
    measured = measure(lambda: None, clock, Timing(max_samples=20))
    seen = [
        (calls, block.wall_s, block.cpu_s, block.preemptions) for calls, block in clock.timed[-20:]
    ]
    assert [(s.calls, s.wall_s, s.cpu_s, s.preemptions) for s in measured.samples] == seen


def test_cpu_time_a_little_below_wall_time_is_no_interruption():
    measured = run(
        lambda number, calls: Block(calls * CALL_S, cpu_s=0.985 * calls * CALL_S, preemptions=0)
    )
    assert all(sample.used for sample in measured.samples)
    assert len(measured.samples) == TIMING.min_samples


def test_all_blocks_are_taken_where_nearly_all_were_interrupted():
    def script(number, calls):
        return (
            Block(calls * CALL_S, preemptions=0)
            if number % 10 == 0
            else Block(calls * 2 * CALL_S, preemptions=1)
        )

    measured = run(script, Timing(max_samples=40))
    assert "contended" in measured.flags
    assert measured.stop == "samples"
    assert len(measured.samples) == 40
    assert all(sample.used for sample in measured.samples)
    assert measured.min_s == pytest.approx(CALL_S)
    assert measured.median_s == pytest.approx(2 * CALL_S)


def test_a_third_of_clean_blocks_is_enough_to_speak_for_all():
    measured = run(
        lambda number, calls: Block(calls * CALL_S, preemptions=0 if number % 3 == 0 else 1)
    )
    assert "contended" not in measured.flags
    assert 0 < sum(sample.used for sample in measured.samples) <= len(measured.samples) // 3 + 1


def test_clock_that_stands_still_ends():
    measured = run(lambda number, calls: Block(0.0, 0.0, 0), speed=0.0)
    assert measured.median_s == 0.0
    assert measured.interval == (0.0, 0.0)
    assert measured.calls_per_sample >= 1


def test_clock_that_runs_backwards_ends():
    measured = run(constant, speed=-1.0)
    assert measured.stop == "precision"
    assert measured.median_s == pytest.approx(CALL_S)


def test_clock_that_runs_backwards_in_blocks_too_ends_on_samples():
    measured = run(
        lambda number, calls: Block(-calls * CALL_S), Timing(max_samples=30, warmup_s=0.0)
    )
    assert measured.stop == "samples"


@pytest.mark.parametrize("call_s", [1e-8, 1e-7, 3e-6, 1e-4, 2e-4])
def test_calls_grow_until_a_block_is_as_long_as_asked(call_s):
    clock = FakeClock(lambda number, calls: Block(calls * call_s))
    measured = measure(lambda: None, clock, TIMING)
    trials = [
        calls
        for calls, _ in clock.timed[
            : [calls for calls, _ in clock.timed].index(measured.calls_per_sample)
        ]
    ]
    assert trials == sorted(trials)
    assert measured.calls_per_sample * call_s == pytest.approx(TIMING.block_s, rel=0.25)
    assert {sample.calls for sample in measured.samples} == {measured.calls_per_sample}
    assert measured.median_s == pytest.approx(call_s)


@pytest.mark.parametrize("call_s", [0.0004, 0.001, 0.05])
def test_call_as_long_as_a_block_is_timed_by_itself(call_s):
    measured = run(lambda number, calls: Block(calls * call_s))
    assert measured.calls_per_sample == 1
    assert measured.median_s == pytest.approx(call_s)


def test_measure_on_the_host_gives_positive_times():
    measured = measure(
        lambda: sum(range(100)),
        HostClock(single_threaded=True),
        Timing(max_time_s=0.05, warmup_s=0.01),
    )
    assert 0 < measured.min_s <= measured.q1_s <= measured.median_s <= measured.q3_s
    assert measured.first_call_s > 0


def test_garbage_collection_is_off_while_measuring_and_on_again_after():
    seen = set()
    measure(lambda: seen.add(gc.isenabled()), FakeClock(constant), TIMING)
    assert seen == {False}
    assert gc.isenabled()


def test_garbage_collection_is_on_again_after_a_call_that_raises():
    def fails():
        raise RuntimeError("no kernel")

    with pytest.raises(RuntimeError, match="no kernel"):
        measure(fails, FakeClock(constant), TIMING)
    assert gc.isenabled()


def test_garbage_collection_stays_off_where_it_was_off():
    gc.disable()
    try:
        run(constant)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_an_interrupted_trial_does_not_shorten_the_blocks():
    pauses = {2: 0.004, 5: 0.004}
    measured = run(lambda number, calls: Block(calls * 1e-7 + pauses.get(number, 0.0)))
    assert 4_000 <= measured.calls_per_sample <= 6_000


@pytest.mark.parametrize("interrupted", [20, 40, 100])
def test_interruptions_of_each_trial_do_not_shorten_the_blocks(interrupted):
    """As beside programs that keep every core busy, where one call after another waits for one."""

    def script(number, calls):
        waiting_s = 0.008 if number < interrupted else 0.0
        return Block(calls * 3e-6 + waiting_s, waiting_s=waiting_s)

    measured = run(script, Timing(max_time_s=1.0, warmup_s=0.2))
    assert measured.calls_per_sample * 3e-6 == pytest.approx(TIMING.block_s, rel=0.5)


def test_interrupted_trials_of_a_long_call_are_believed_after_some():
    measured = run(lambda number, calls: Block(calls * 0.01 + 0.008, waiting_s=0.008))
    assert measured.calls_per_sample == 1


def test_a_steady_call_longer_than_its_budget_runs_twice():
    measured = run(lambda number, calls: Block(calls * 3.0))
    assert (len(measured.samples), measured.stop, measured.timing_s) == (
        1,
        "time",
        pytest.approx(6.0),
    )


def test_a_long_block_that_was_switched_but_never_waited_counts():
    measured = run(lambda number, calls: Block(calls * 0.04, None, preemptions=5, waiting_s=0.0001))
    assert "contended" not in measured.flags
    assert all(sample.used for sample in measured.samples)


def test_a_block_whose_threads_waited_for_a_core_is_set_aside():
    measured = run(
        lambda number, calls: Block(
            calls * CALL_S * (3 if number % 3 == 0 else 1), None, 0, 1e-3 * (number % 3 == 0)
        )
    )
    assert measured.median_s == measured.q3_s == pytest.approx(CALL_S)
    assert 0 < sum(not sample.used for sample in measured.samples) < len(measured.samples) / 2


def by_allocation(seconds_of):
    """Calls that take another time on each allocation, numbered as they are made."""
    made = []

    def reallocate():
        made.append(len(made))
        seconds = seconds_of(made[-1])
        return lambda: seconds

    def script(number, calls):
        return Block(calls * clock.seconds_a_call)

    clock = FakeClock(script)
    plain_time = clock.time

    def time_of_the_call(call, calls, untimed=0):
        def noted():
            clock.seconds_a_call = call() or CALL_S

        return plain_time(noted, calls)

    clock.time = time_of_the_call
    return reallocate, clock, made


def test_a_call_is_timed_on_several_allocations_and_the_median_is_over_these():
    reallocate, clock, made = by_allocation(lambda number: CALL_S * (1 + 0.3 * (number % 2)))
    measured = measure(reallocate(), clock, TIMING, reallocate=reallocate)
    allocations = {sample.allocation for sample in measured.samples}
    assert measured.stop == "allocations"
    assert len(allocations) == len(made) == 16
    assert measured.median_s == pytest.approx(1.15 * CALL_S)
    assert measured.interval == pytest.approx((CALL_S, 1.3 * CALL_S))
    assert "placement" in measured.flags


def test_allocations_that_agree_are_few_and_no_flag():
    reallocate, clock, made = by_allocation(lambda number: CALL_S)
    measured = measure(reallocate(), clock, TIMING, reallocate=reallocate)
    assert measured.stop == "precision"
    assert len(made) == 6
    assert measured.flags == ()


def test_a_long_call_is_timed_where_it_is():
    reallocate, clock, made = by_allocation(lambda number: 0.01)
    measured = measure(reallocate(), clock, TIMING, reallocate=reallocate)
    assert len(made) == 1
    assert {sample.allocation for sample in measured.samples} == {None}


def test_times_that_drift_are_never_precise():
    measured = run(
        lambda number, calls: Block(calls * CALL_S * (1 + number / 2_000)),
        Timing(min_samples=100, max_time_s=0.2),
    )
    assert measured.stop == "time"


def test_two_groups_of_times_are_called_multimodal_and_one_is_not():
    random = Random(3)
    timing = Timing(max_samples=300, precision=1e-6, max_time_s=10.0)

    def flags_of(draw):
        return run(lambda number, calls: Block(calls * CALL_S * draw()), timing).flags

    assert flags_of(lambda: random.gauss(1, 0.02) * random.choice([1, 1, 1.4])) == ("multimodal",)
    assert (
        flags_of(lambda: random.gauss(1, 0.02) * random.choice([1] * 30 + [1.4])) == ()
    )  # outliers are no mode
    for draw in (
        lambda: random.gauss(1, 0.1),
        lambda: 1 + random.expovariate(3),
        lambda: random.uniform(1, 2),
        lambda: random.lognormvariate(0, 0.5),
        lambda: 1 + 0.05 * random.choice([0, 1]),  # two groups that nobody would tell apart
    ):
        assert flags_of(draw) == ()


def test_a_call_of_no_time_is_a_median_of_0():
    measured = run(lambda number, calls: Block(0.0), speed=1.0)
    assert measured.median_s == 0.0
    assert measured.flags == ()


@pytest.mark.parametrize(
    ("block", "how"),
    [
        (Block(1e-3, 1e-3, 0, 0.0), "scheduler"),
        (Block(1e-3, 1e-3, 0), "switches"),
        (Block(1e-3), "none"),
    ],
)
def test_a_measurement_says_how_it_told_interruptions(block, how):
    assert run(lambda number, calls: block).interruption_source == how


def test_cpu_time_stands_beside_wall_time():
    measured = run(lambda number, calls: Block(0.04, 0.02, 9, 0.02))
    assert measured.median_s == pytest.approx(0.04)
    assert measured.cpu_s == pytest.approx(0.02)
    assert measured.flags == ("contended",)


@pytest.mark.parametrize("runs", [300, slow(1_000)])
@pytest.mark.parametrize("noise", [0.01, 0.03])
def test_intervals_hold_the_true_time_though_sampling_stops_where_they_are_narrow(noise, runs):
    random = Random(4)
    held = 0
    for _ in range(runs):
        low, high = run(
            lambda number, calls: Block(calls * CALL_S * random.lognormvariate(0, noise))
        ).interval
        held += low <= CALL_S <= high
    assert held / runs >= 0.925


@pytest.mark.parametrize(("work_s", "flag"), [(64.0, True), (1.0, False)])
def test_long_work_that_is_never_left_alone_is_flagged_and_waiting_is_not(work_s, flag):
    disturbed = Block(work_s + 30.0, waiting_s=30.0)
    blocks = [disturbed if n % 20 == 0 else Block(1.0, waiting_s=0.0) for n in range(100)]
    measured = measurement(Sampled(blocks, 1, "time"), 1.0, 100.0)
    assert (measured.mean_s, measured.interrupted) == (1.0, 5)
    assert ("uneven" in measured.flags) == flag


def test_waiting_that_is_not_all_the_blocks_own_makes_it_not_uneven():
    """As on a machine with more processes than cores: of untimed calls before, or of threads."""
    blocks = [Block(1.0, waiting_s=2.5) for _ in range(57)]
    blocks += [Block(1.0, waiting_s=0.0) for _ in range(15)]
    measured = measurement(Sampled(blocks, 1, "time"), 1.0, 100.0)
    assert (measured.interrupted, measured.flags) == (57, ())


@pytest.mark.parametrize(("work_s", "flag"), [(64.0, True), (4.0, False)])
def test_work_that_comes_once_in_many_blocks_is_flagged(work_s, flag):
    blocks = [Block(work_s if number % 20 == 0 else 1.0) for number in range(100)]
    measured = measurement(Sampled(blocks, 1, "time"), 1.0, 100.0)
    assert measured.median_s == 1.0
    assert measured.mean_s == pytest.approx(0.95 + 0.05 * work_s)
    assert measured.max_s == work_s >= measured.p99_s >= measured.p90_s == 1.0
    assert ("uneven" in measured.flags) == flag

"""Calm moments: what tells of them, how long is waited for them, what is kept for later runs."""

import math
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from runner.measure import gate as gates
from runner.measure import machine_best
from runner.measure.engine import Opening, Sampled, measurement, sample_warm
from runner.measure.gate import Gate
from runner.measure.host_clock import Block, HostClock
from runner.measure.kernels import OF_MACHINE
from runner.measure.sentinel import FEWEST_SECONDS, RELEARN_AFTER_S, Sentinel
from runner.measure.switches import Switches
from runner.measure.visits import Shape, Side, visit_in_turn
from runner.tasks import calm
from runner.tasks.task import WorkerState
from tests.support.factories import QUICK, cell

BEST = (1e-4, 1e-4, 1e-6)


class Told:
    """A sentinel that is told how slow the machine is."""

    calm_within = 1.15

    def __init__(self, slowdowns, reading_s=0.0):
        self._slowdowns, self.reading_s, self.readings = iter(slowdowns), reading_s, 0
        self.rested_s = 1.0

    def read(self):
        self.readings += 1
        self.latest = (next(self._slowdowns),)
        return self.latest

    def slowdown(self, reading):
        return reading[0]


def gate(slowdowns, **patience):
    sentinel = Told(slowdowns)
    return Gate([(sentinel, lambda: None)], **patience), sentinel


def test_a_moment_is_as_slow_as_the_slower_of_the_readings_around_it():
    passed, _ = gate([1.0, 1.5, 1.4, 1.1, 1.0])  # what was calm is looked at once more
    moments = [passed.pass_by() for _ in range(3)]
    passed.look()
    around = [passed.around(moment) for moment in moments]
    assert [told["machine_slowdown"] for told in around] == [1.5, 1.4, 1.1]
    assert [told["calm"] for told in around] == [False, False, True]


def test_a_cell_waits_for_a_calm_moment_as_long_as_it_has_patience():
    said = []
    passed, sentinel = gate([2.0] * 5 + [1.0], patience_s=30.0, on_wait=said.append)
    assert passed.around(passed.pass_by())["calm"]
    assert sentinel.readings == 6
    assert 0 < passed.waited_s < 10
    assert not said  # it took no second

    impatient, sentinel = gate([2.0] * 1000, patience_s=0.1)
    begun = time.monotonic()
    impatient.pass_by()
    assert 0.1 <= impatient.waited_s <= time.monotonic() - begun
    readings = sentinel.readings
    impatient.pass_by()  # nothing is left
    assert sentinel.readings == readings + 1


def test_measuring_in_slow_moments_is_paid_by_patience_as_waiting_is(monkeypatch):
    monkeypatch.setattr(gates, "POLL_S", 0.001)
    passed, _ = gate([1.0] + [2.0, 1.0] * 3 + [1.0] * 3, patience_s=2.5)  # a second between them
    for _ in range(7):
        passed.pass_by()
    assert (passed.slow_s, passed.calm_s) == (3.0, 3.0)
    # of three, no more than there is
    assert 2.5 - passed.waited_s <= passed.set_aside_s <= 2.5 <= passed.lost_s + 1e-9
    spent, sentinel = gate([1.0] + [2.0] * 1000, patience_s=0.5)
    spent.pass_by()
    spent.pass_by()
    assert sentinel.readings == 3  # of which the last is a look whether a rest helps
    assert spent.lost_s == pytest.approx(0.5, abs=0.1)
    spent.pass_by()
    assert sentinel.readings == 4  # nothing is left for waiting
    impatient, _ = gate([1.0, 2.0, 1.0, 1.0])
    for _ in range(3):
        impatient.pass_by()
    assert impatient.set_aside_s == 0


class Clocked(HostClock):
    """Each of its blocks takes a second of the time that passes."""

    def __init__(self):
        super().__init__(single_threaded=True)
        self.seconds = 0.0

    def now(self):
        return self.seconds

    def time(self, call, calls, untimed=0):
        self.seconds += 1.0
        return Block(calls * 1e-4)


@pytest.mark.parametrize(("patience_s", "count"), [(0.0, 20), (8.0, 28), (1000.0, 74)])
def test_a_time_has_its_seconds_of_calm_moments_where_patience_pays_for_slow_ones(
    patience_s, count, monkeypatch
):
    """Of four seconds one is calm before and after; waiting would not help."""
    passed, _ = gate([1.0, *[1.0, 2.0, 2.0, 1.0] * 100], patience_s=patience_s)
    monkeypatch.setattr(Gate, "_wait", lambda self, *, at_least_once: 99)
    timing = replace(QUICK, max_time_s=20.0, min_samples=1000, max_samples=10_000)
    opening = Opening(1e-4, 1e-4, 1)
    sampled = sample_warm(opening, lambda: None, Clocked(), timing, gate=passed)
    assert (sampled.stop, len(sampled.blocks)) == ("time", count)


def test_a_long_wait_is_said_again(monkeypatch):
    monkeypatch.setattr(gates, "SILENT_S", 0.0)
    monkeypatch.setattr(gates, "AGAIN_S", 0.05)
    said = []
    passed, _ = gate([2.0] * 1000, patience_s=0.3, on_wait=said.append)
    passed._next_told_s = 0.0
    passed.pass_by()
    assert 2 <= len(said) <= 6 and set(said) == {2.0}


def test_what_is_slow_only_after_its_own_blocks_is_their_doing_and_kept(monkeypatch):
    monkeypatch.setattr(gates, "POLL_S", 0.001)
    # each time slow after its blocks, and calm when it has waited
    passed, _ = gate([1.0] + [2.0, 1.0] * 20, patience_s=30.0)
    moments = [passed.pass_by() for _ in range(9)]
    assert not passed.is_own_doing
    assert not passed.around(moments[0])["calm"]
    moments += [passed.pass_by() for _ in range(3)]
    assert passed.is_own_doing
    assert passed.around(moments[0]) == {"machine_slowdown": 2.0, "calm": True}
    waited_s = passed.waited_s
    passed.pass_by()
    assert passed.waited_s == waited_s  # it would be slow again

    # where nothing may wait, it is looked at once more
    impatient, _ = gate([1.0] + [2.0, 1.0] * 20)
    for _ in range(12):
        impatient.pass_by()
    assert impatient.is_own_doing
    slow, _ = gate([1.0] + [2.0, 2.0, 1.0] * 20)  # and calm now and then, but not by that
    for _ in range(25):
        slow.pass_by()
    assert not slow.is_own_doing

    # a machine that is slow all the time is calm now and then, but not as soon as it waits
    lucky, _ = gate(([2.0] * 5 + [1.0]) * 60, patience_s=30.0)
    for _ in range(14):
        lucky.pass_by()
    assert not lucky.is_own_doing

    # phases of the machine begin now and then, and do not end because it waits
    phases, _ = gate(([1.0] * 5 + [2.0] * 5) * 20, patience_s=0.1)
    for _ in range(100):
        phases.pass_by()
    assert not phases.is_own_doing


def test_all_readings_together_take_a_share_of_the_time():
    """Though one of them alone would be due."""
    cheap, dear = Told([1.0] * 9, reading_s=0.001), Told([1.0] * 9, reading_s=0.02)
    passed = Gate([(cheap, lambda: None), (dear, lambda: None)])
    for rested_s, readings in ((1.0, 1), (0.41, 1), (0.43, 2)):
        cheap.rested_s = dear.rested_s = rested_s
        passed.pass_by()
        assert (cheap.readings, dear.readings) == (readings, readings)


def test_a_gate_begins_with_what_has_just_been_read_where_that_was_calm():
    sentinel = Told([1.0, 1.3, 2.0], reading_s=0.001)
    cases = ((1.0, 1, 1.0), (0.01, 1, 1.0), (0.03, 2, 1.3), (0.01, 3, 2.0))
    for rested_s, readings, slowdown in cases:
        sentinel.rested_s = rested_s
        passed = Gate([(sentinel, lambda: None)])
        assert passed.around(passed.pass_by())["machine_slowdown"] == slowdown
        assert sentinel.readings == readings


@pytest.mark.parametrize(("rested_s", "readings"), [(0.4, 1), (0.6, 2)])
def test_a_phase_of_a_second_does_not_pass_between_two_gates(rested_s, readings):
    """Though readings are so dear that one in 20 s is all that they may take of the time."""
    sentinel = Told([1.0, 1.0], reading_s=1.0)
    sentinel.read()
    sentinel.rested_s = rested_s
    Gate([(sentinel, lambda: None)]).pass_by()
    assert sentinel.readings == readings


@pytest.mark.parametrize("rested_s", [float("inf"), 600.0])
def test_a_gate_of_two_sentinels_takes_over_no_old_reading_of_one(rested_s):
    fresh, old = Told([1.0, 2.0], reading_s=0.001), Told([1.0, 2.0], reading_s=0.001)
    fresh.read()
    if rested_s == 600.0:
        old.read()
    else:
        old.latest = ()  # it was never read
    fresh.rested_s, old.rested_s = 0.001, rested_s
    passed = Gate([(fresh, lambda: None), (old, lambda: None)])
    passed.pass_by()
    assert old.readings == (2 if rested_s == 600.0 else 1)


def test_nothing_is_known_of_a_moment_without_sentinels():
    assert Gate(()).around(Gate(()).pass_by()) == {"machine_slowdown": None, "calm": True}


class SlowThenCalm(HostClock):
    """Blocks that take three times as long until a moment."""

    def __init__(self, slow_blocks):
        super().__init__(single_threaded=True)
        self.left = slow_blocks

    def time(self, call, calls, untimed=0):
        self.left -= 1
        return Block(calls * (3e-4 if self.left >= 0 else 1e-4))


def test_blocks_of_slow_moments_are_set_aside_where_there_are_enough_calm_ones():
    clock = SlowThenCalm(20)
    passed, _ = gate([2.0] * 21 + [1.0] * 1000)
    timing = replace(QUICK, min_samples=60, precision=0.5)
    opening = Opening(1e-4, 1e-4, 1)
    sampled = sample_warm(opening, lambda: None, clock, timing, gate=passed)
    assert [block.calm for block in sampled.blocks[:23]] == [False] * 21 + [True] * 2
    measured = measurement(sampled, 1e-4, 0.1)
    assert measured.median_s == pytest.approx(1e-4)
    assert "slow_machine" not in measured.flags
    assert [sample.used for sample in measured.samples[19:22]] == [False, False, True]


def test_without_enough_calm_moments_all_blocks_count_and_the_row_says_so():
    passed, _ = gate([2.0] * 1000)
    timing = replace(QUICK, max_samples=30)
    sampled = sample_warm(
        Opening(1e-4, 1e-4, 1), lambda: None, SlowThenCalm(1000), timing, gate=passed
    )
    measured = measurement(sampled, 1e-4, 0.1)
    assert measured.flags == ("slow_machine",)
    assert (measured.median_s, measured.machine_slowdown) == (pytest.approx(3e-4), 2.0)
    assert all(sample.used for sample in measured.samples)


@pytest.mark.parametrize(
    ("patience_s", "count", "flags"), [(5.0, 256, ()), (0.0, 128, ("slow_machine",))]
)
def test_a_short_call_whose_places_are_all_of_a_slow_moment_is_timed_on_them_again(
    patience_s, count, flags
):
    """All of them take a tenth of a second, in which the machine is not looked at."""
    passed, sentinel = gate([2.0] + [1.0] * 10, patience_s=patience_s)
    sentinel.reading_s, sentinel.rested_s, sentinel.latest = 1.0, 0.0, (1.0,)

    def call():
        pass

    sampled = sample_warm(
        Opening(1e-4, 1e-4, 1),
        call,
        SlowThenCalm(128 + 15 * 2),  # new places have two blocks that do not count
        replace(QUICK, max_time_s=60.0, precision=1e-9, min_samples=1000, max_samples=10_000),
        reallocate=lambda: call,
        gate=passed,
    )
    assert sampled.stop == "allocations"
    assert [block.allocation for block in sampled.blocks[-128::8]] == list(range(16))
    assert len(sampled.blocks) == count
    measured = measurement(sampled, 1e-4, 0.1)
    assert measured.flags == flags
    assert measured.median_s == pytest.approx(3e-4 if flags else 1e-4)


def test_visits_of_slow_moments_count_for_no_look():
    asked = []

    def enough(visits):
        asked.append([visit.calm for visit in visits])
        return len(visits) >= 20

    clock = SlowThenCalm(0)
    side = Side(clock, Shape(1e-4, 1, 0, True, 1), 1, 1, lambda contents, memory: lambda: None)
    passed, _ = gate([1.0, 1.0, 2.0, 2.0] * 1000)
    visits = visit_in_turn([side, side], QUICK, enough, budget_s=100.0, seed=0, gate=passed)
    assert list(map(len, asked)) == [10, 20]
    assert all(map(all, asked))
    assert visits.stop == "precision"
    assert len(visits.visits) > 40


def test_a_block_that_was_interrupted_makes_no_reading_slow():
    class Interrupted(HostClock):
        blocks = 0

        def time(self, call, calls, untimed=0, before=lambda: None):
            self.blocks += 1
            call()
            return Block((0.06 if self.blocks % 5 == 0 else 1e-6) * calls)

    clock = Interrupted(single_threaded=True)
    sentinel = Sentinel(torch.device("cpu"), clock, None)
    assert sentinel.read() == pytest.approx((1e-6, 1e-6, 1e-6))


@pytest.mark.parametrize(("around_s", "blocks"), [(0.0, 10), (0.001, 5), (0.01, 3)])
def test_a_device_whose_blocks_wait_for_their_launches_is_read_with_fewer_of_them(around_s, blocks):
    """An accelerator is kept busy meanwhile; a reading that takes long is due too seldom."""

    class Launching(HostClock):
        seconds, count = 0.0, 0

        def now(self):
            return self.seconds

        def time(self, call, calls, untimed=0, before=lambda: None):
            self.seconds, self.count = self.seconds + around_s + calls * 1e-5, self.count + 1
            return Block(calls * 1e-5)

    clock = Launching(single_threaded=True)
    sentinel = Sentinel(torch.device("cpu"), clock, None)
    clock.count = 0
    sentinel.read()
    assert clock.count == 3 * blocks


def test_a_sentinel_is_slow_against_its_known_best():
    clock = HostClock(single_threaded=True)
    sentinel = Sentinel(torch.device("cpu"), clock, BEST)
    assert sentinel.rested_s == math.inf
    begun = time.perf_counter()
    reading = sentinel.read()
    took_s = time.perf_counter() - begun
    assert 0 < sentinel.reading_s <= took_s
    assert 0 <= sentinel.rested_s <= time.perf_counter() - begun
    assert len(reading) == 3
    assert min(reading) > 0
    assert sentinel.slowdown([2 * best for best in sentinel.best]) == pytest.approx(2.0)
    assert all(map(float.__le__, sentinel.best, BEST))


def test_one_lucky_second_is_no_better_best_than_the_known_one():
    sentinel = Sentinel(torch.device("cpu"), HostClock(single_threaded=True), (1.0, 1.0, 1.0))
    sentinel.read()
    assert sentinel.best == (1.0, 1.0, 1.0)
    sentinel.seconds = FEWEST_SECONDS
    assert sentinel.best == sentinel.own_best


def test_kernels_run_as_torch_is_whatever_the_cell_asks_for_that_was_entered():
    """Otherwise a cell with autocast would have the machine look slow, or quick."""
    seen = []

    class Watching(HostClock):
        def time(self, call, calls, untimed=0):
            result = call()
            modes = torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()
            seen.append((result.dtype, result.is_inference(), *modes, state()))
            return super().time(call, calls, untimed)

    state = torch.get_deterministic_debug_mode
    asked = cell("add", autocast="bfloat16", deterministic=True, grad_mode="inference")
    switches = Switches()
    switches.enter(asked, torch.device("cpu"))
    torch.set_default_dtype(torch.float64)
    try:
        Sentinel(torch.device("cpu"), Watching(single_threaded=True), None).read()
        still = torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled(), state()
    finally:
        switches.leave()
    assert set(seen) == {(torch.float32, False, False, False, 0)}
    assert len(seen) > 6
    assert still == (True, True, 2)


def test_a_best_that_nothing_comes_near_for_minutes_is_learned_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    now, far = time.time(), (1e-9, 1e-9, 1e-10)
    machine_best.remember("cpu x", 1, now - 3600, 600, far)
    machine_best.remember("cpu x", 2, now - 3600, 600, far)
    sentinel = Sentinel(torch.device("cpu"), HostClock(single_threaded=True), far)
    reading = sentinel.read()
    assert sentinel.slowdown(reading) > 100
    state = WorkerState(sentinels={("cpu x", 1, OF_MACHINE): sentinel})

    sentinel.seconds = RELEARN_AFTER_S - 1
    calm.keep_best(state)
    assert not sentinel.has_relearned
    assert machine_best.known_best("cpu x", 1) == far
    sentinel.seconds = 2 * RELEARN_AFTER_S
    calm.keep_best(state)
    assert sentinel.has_relearned
    assert sentinel.slowdown(reading) < 100
    assert machine_best.known_best("cpu x", 1) == sentinel.own_best
    assert machine_best.known_best("cpu x", 2) == far


def test_a_row_of_visits_needs_as_many_calm_ones_as_its_ratio():
    blocks = [Block(1e-4, allocation=n // 3, calm=n // 3 < 9) for n in range(60)]
    few = measurement(Sampled(blocks, 1, "time"), 1e-4, 0.1, visited=True)
    assert few.flags == ("slow_machine",)
    enough = [replace(block, calm=block.calm or block.allocation == 9) for block in blocks]
    assert not measurement(Sampled(enough, 1, "time"), 1e-4, 0.1, visited=True).flags
    assert not measurement(Sampled(blocks[:27], 1, "time"), 1e-4, 0.1, visited=True).flags


def test_calm_blocks_in_a_few_places_are_too_few_however_many_they_are():
    """Their median would have no interval, and nothing would say so."""
    blocks = [Block(1e-4, allocation=n // 8, calm=n // 8 < 7) for n in range(128)]
    few = measurement(Sampled(blocks, 1, "allocations"), 1e-4, 0.1)
    assert few.flags == ("slow_machine",) and few.interval is not None
    enough = [replace(block, calm=block.calm or block.allocation == 7) for block in blocks]
    found = measurement(Sampled(enough, 1, "allocations"), 1e-4, 0.1)
    assert not found.flags and found.interval is not None
    assert sum(sample.used for sample in found.samples) == 64

    # nor are five of eight, which are more than half of them
    blocks = [Block(1e-4, allocation=n // 8, calm=n // 8 < 5) for n in range(64)]
    few = measurement(Sampled(blocks, 1, "time"), 1e-4, 0.1)
    assert few.flags == ("slow_machine",) and few.interval is not None


def test_the_best_of_earlier_runs_is_kept_and_forgotten_by_the_week(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert machine_best.known_best("cpu x", 1) is None
    now = time.time()
    machine_best.remember("cpu x", 1, now - 60, 100, BEST)
    machine_best.remember("cpu x", 2, now - 60, 100, (5e-5, 5e-5, 1e-6))
    machine_best.remember("cpu x", 1, now - 60, 200, BEST)  # the same run, later
    assert machine_best.known_best("cpu x", 1) == BEST
    assert len(machine_best.KEPT[OF_MACHINE].path.read_text().splitlines()) == 3

    # an old run that was luckier counts less than what has been seen since
    lucky = (5e-5, 5e-5, 5e-7)
    machine_best.remember("cpu x", 1, now - 5 * machine_best.HALF_LIFE_S, 200, lucky)
    assert machine_best.known_best("cpu x", 1) == BEST
    machine_best.remember("cpu x", 1, now - 1, 600, lucky)
    assert machine_best.known_best("cpu x", 1) == lucky


def test_short_runs_that_all_were_slower_are_believed_together(tmp_path, monkeypatch):
    """As on a virtual machine that was moved: no run is long enough to see it alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    now, slower = time.time(), tuple(1.3 * seconds for seconds in BEST)
    for number in range(3):
        machine_best.remember("cpu x", 1, now - 1000 + number, 120, BEST)
    for number in range(3):
        assert machine_best.known_best("cpu x", 1) == BEST
        assert not machine_best.is_of_latest("cpu x", 1)
        machine_best.remember("cpu x", 1, now - 100 + number, 120, slower)
    assert machine_best.known_best("cpu x", 1) == slower
    assert machine_best.is_of_latest("cpu x", 1)

    # unless one of them came near it
    machine_best.remember("cpu x", 1, now - 50, 120, [1.1 * seconds for seconds in BEST])
    assert machine_best.known_best("cpu x", 1) == BEST
    assert not machine_best.is_of_latest("cpu x", 1)
    assert not machine_best.is_of_latest("cpu x", 2)


@pytest.mark.parametrize("lost", ["waited_s", "slow_s"])
def test_where_much_was_lost_for_nothing_no_cell_waits_until_it_is_calm_again(lost):
    patient = cell(size=8, timing=replace(QUICK, patience_s=3.0))
    task = SimpleNamespace(cell=patient, state=WorkerState(began_s=time.monotonic() - 1000))
    patience_s = task.cell.timing.patience_s
    assert calm._patience_s([task]) == patience_s > 0

    def ended(slowdown, lost_s, calm_s=0.0):
        passed, _ = gate([slowdown], patience_s=60.0)
        passed.look()
        setattr(passed, lost, lost_s)
        passed.calm_s = calm_s
        task.state.gates.append(passed)
        return calm._patience_s([task])

    assert ended(2.0, calm.FUTILE_S / 2) == patience_s
    assert ended(2.0, calm.FUTILE_S / 2) == 0.0
    assert ended(2.0, 0.0) == 0.0
    assert ended(1.0, 0.0) == patience_s
    # a calm moment now and then is not worth so much
    assert ended(1.0, calm.FUTILE_S, calm_s=0.3) == 0.0
    assert ended(1.0, 2.0, calm_s=1.0) == patience_s


@pytest.mark.parametrize("text", ["", "host\nx\n", "\0", "host,device_name\n" + "x" * 1000])
def test_a_damaged_file_holds_no_best(tmp_path, monkeypatch, text):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    machine_best.KEPT[OF_MACHINE].path.parent.mkdir()
    machine_best.KEPT[OF_MACHINE].path.write_text(text)
    assert machine_best.known_best("cpu x", 1) is None

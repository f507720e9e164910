"""The axes cache, layout, fill and compile: what each does to the inputs, the clock and the callable."""

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.calls.bound_operation import BoundOperation
from runner.calls.compiled import NotCompiled, _reason, in_own_dtype
from runner.config.axes import AXES
from runner.config.operation import Operation
from runner.config.schema import Limit
from runner.config.size import parse_size
from runner.measure.cold_clock import UNKNOWN_BYTES, ColdClock, last_level_cache_bytes
from runner.measure.device import Device
from runner.measure.host_clock import Block
from runner.verify.values import check_values
from tests.conftest import Runner
from tests.support.factories import bound, cell, ran

CPU = torch.device("cpu")
FILLS = AXES["fill"].choices


# fill


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_fill_gives_every_dtype_the_same_numbers_but_for_rounding(
    fill: str, dtype: torch.dtype
) -> None:
    single = bound(fill=fill).draw()[0]
    assert torch.equal(bound(dtype=dtype, fill=fill).draw()[0], single.to(dtype))


def test_each_fill_holds_what_it_says() -> None:
    drawn = {fill: bound(fill=fill).draw()[0] for fill in FILLS}
    assert drawn["normal"].min() < -1 and drawn["normal"].max() > 1
    assert 0 <= drawn["uniform"].min() < 0.1 and 0.9 < drawn["uniform"].max() < 1
    assert torch.equal(drawn["integers"], drawn["integers"].round())
    assert set(drawn["integers"].unique().tolist()) == set(range(-9, 10))
    assert not drawn["zeros"].any()
    assert bound(dtype=torch.complex64, fill="integers").draw()[0].imag.eq(0).all()


def test_integers_booleans_and_positions_stay_sensible_in_every_fill() -> None:
    for fill in ("normal", "uniform", "integers"):
        assert bound(dtype=torch.int8, fill=fill).draw()[0].unique().numel() > 10
        assert bound(dtype=torch.bool, fill=fill).draw()[0].unique().numel() == 2
    assert not bound(dtype=torch.uint8, fill="zeros").draw()[0].any()
    fields = {
        "signature": "m n, m p -> m p",
        "inputs": ["input", "index"],
        "index_inputs": {"index": "n"},
    }
    for fill in FILLS:
        index = bound(torch.gather, fill=fill, **fields).draw()[1]
        assert (
            index.dtype is torch.int64
            and index.min() >= 0
            and index.max() < 16
            and index.unique().numel() > 5
        )


# layout


def test_a_transposed_layout_holds_the_same_values_the_other_way_round() -> None:
    plain, transposed = bound().draw()[0], bound(layout="transposed").draw()[0]
    assert torch.equal(plain, transposed)
    assert plain.stride() == (16, 1)
    assert transposed.stride() == (1, 8)
    assert transposed.mT.is_contiguous()


def test_vectors_lie_as_they_do_and_stacks_are_transposed_in_their_last_two_dimensions() -> None:
    fields = {"name": "t", "call": "torch.add", "signature": "b m n, n -> b m n", "size": "2x3x4"}
    op = Operation.from_mapping(fields, "test")
    stack, vector = BoundOperation(
        op, torch.add, op.bind(parse_size("2x3x4")), torch.float32, 0, layout="transposed"
    ).draw()
    assert stack.stride() == (12, 1, 3)
    assert vector.stride() == (1,)


def test_values_are_checked_in_the_layout_and_fill_that_are_timed() -> None:
    seen: list[tuple[tuple[int, ...], bool]] = []

    def watched(x: torch.Tensor) -> torch.Tensor:
        seen.append((x.stride(), bool(x.any())))
        return x.exp()

    assert not check_values(bound(watched, layout="transposed", fill="zeros"), CPU).wrong
    assert seen == [((1, 8), False)] * 2


def test_what_is_right_in_one_layout_alone_is_caught_in_the_other() -> None:
    def careless(x: torch.Tensor) -> torch.Tensor:
        return torch.as_strided(x, x.shape, (x.shape[1], 1))

    assert not check_values(bound(careless, reference=torch.clone), CPU).wrong
    assert check_values(bound(careless, reference=torch.clone, layout="transposed"), CPU).wrong


# cache


class FakeClock:
    """Tells the time of calls from a list, and when they were timed."""

    def __init__(self, blocks: list[Block], log: list[str]) -> None:
        self.blocks, self.log = blocks, log

    def now(self) -> float:
        return 7.0

    def time(self, call: Any, calls: int) -> Block:
        self.log.append(f"time {calls}")
        call()
        return self.blocks.pop(0)


def test_a_cold_clock_flushes_before_each_call_and_adds_up_the_calls_alone() -> None:
    log: list[str] = []
    blocks = [Block(1.0, 0.5, 1, 0.1), Block(2.0, 1.5, 0, 0.2), Block(4.0, 4.0, 2, 0.4)]
    clock = ColdClock(FakeClock(blocks, log), lambda: log.append("flush"))
    assert clock.time(lambda: log.append("call"), 3) == Block(7.0, 6.0, 3, pytest.approx(0.7))
    assert log == ["flush", "time 1", "call"] * 3
    assert clock.now() == 7.0


def test_a_cold_clock_leaves_blank_what_its_clock_cannot_tell() -> None:
    clock = ColdClock(FakeClock([Block(1.0), Block(1.0, 0.5)], []), lambda: None)
    assert clock.time(lambda: None, 2) == Block(2.0)


def test_the_last_level_cache_is_read_once_for_those_who_share_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)

    def cache(core: int, index: int, level: int, size: str, shared: str) -> None:
        folder = tmp_path / f"cpu{core}" / "cache" / f"index{index}"
        folder.mkdir(parents=True)
        for name, text in {"level": level, "size": size, "shared_cpu_list": shared}.items():
            (folder / name).write_text(f"{text}\n")

    for core, shared in ((0, "0-1"), (1, "0-1"), (2, "2-3"), (3, "2-3")):
        cache(core, 0, 1, "48K", str(core))
        cache(core, 2, 2, "2M", str(core))
        cache(core, 3, 3, "32768K", shared)
    assert last_level_cache_bytes(tmp_path) == 2 * 32 * 1024**2
    assert last_level_cache_bytes(tmp_path / "nothing") == UNKNOWN_BYTES


def test_flushing_writes_twice_what_the_cache_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.measure.device.last_level_cache_bytes", lambda: 4096)
    device = Device(CPU)
    device.flush_cache()
    assert device._flushed is not None
    device._flushed.fill_(3)
    device.flush_cache()
    assert device._flushed.nbytes == 8192
    assert not device._flushed.any()


def test_a_cold_cell_is_flushed_before_every_call_and_its_blocks_are_single_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flushes: list[Device] = []

    def counted(device: Device) -> None:
        flushes.append(device)

    monkeypatch.setattr(Device, "flush_cache", counted)
    found = ran("sum", size=64, cache="cold")
    assert (found.status, found.cache, found.calls_per_sample) == ("ok", "cold", 1)
    assert found.samples is not None and len(flushes) > found.samples
    flushes.clear()
    assert ran("sum", size=64).status == "ok"
    assert not flushes


# compile


def test_an_operation_that_cannot_be_compiled_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(function: Any) -> Any:
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found")

    monkeypatch.setattr("runner.calls.compiled._start_compiler", lambda device: None)
    monkeypatch.setattr("runner.calls.compiled._through_compiler", refused)
    found = ran("exp", size=8, compile=True)
    assert found.status == "unsupported"
    assert (
        found.reason is not None
        and "needs a C++ compiler on the CPU; install g++ or clang++" in found.reason
    )
    assert found.median_s is None and found.compile_s is None
    assert "torch.compile cannot compile torch.add here: no way" in _reason(
        bound(), NotCompiled("no way")
    )


def test_what_the_operation_itself_refuses_is_not_laid_to_the_compiler() -> None:
    def refuses(x: torch.Tensor) -> torch.Tensor:
        raise ValueError("not in this shape")

    from runner.calls.compiled import compiled

    with pytest.raises(ValueError, match="not in this shape"):
        compiled(bound(refuses), CPU, lambda b: b.outputs(b.draw()), set())


def test_compiled_values_are_compared_with_those_of_the_callable_as_it_was() -> None:
    wrong = replace(bound(lambda x: x.exp() * 1.01), reference=torch.exp)
    assert check_values(wrong, CPU).wrong
    assert not check_values(
        replace(wrong, reference=None), CPU
    ).wrong  # one that shares its own mistake


def test_a_reference_in_another_dtype_does_not_go_through_the_compiler() -> None:
    mixed = in_own_dtype(replace(bound(lambda x: x * 2), reference=lambda x: x * 3))
    assert mixed.outputs([torch.ones(2)])[0].tolist() == [2, 2]
    assert mixed.outputs([torch.ones(2, dtype=torch.float64)])[0].tolist() == [3, 3]


def test_a_compiled_cell_has_its_compile_time_in_a_column() -> None:
    if not shutil.which(os.environ.get("CXX", "g++")) and not shutil.which("clang++"):
        pytest.skip("torch.compile needs a C++ compiler")
    plain, through = (
        ran("exp", size=64, compile=kind, limit=Limit(time_s=200)) for kind in (False, True)
    )
    assert (plain.status, through.status) == ("ok", "ok"), through.reason
    assert plain.compile_s is None
    assert through.compile_s is not None and through.first_call_s is not None
    assert (
        through.compile_s > 10 * through.first_call_s > 0
    )  # the compiling is over before the first call
    assert (through.checked_size, through.gradient) == ("64x64", "pass")
    assert "wrong" not in " ".join(through.flags)


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
@pytest.mark.parametrize("op", ["matmul", "softmax", "layer_norm", "cat", "gather", "conv2d"])
def test_operations_compile_in_every_direction(op: str, direction: str) -> None:
    found = ran(op, compile=True, direction=direction, limit=Limit(time_s=200))
    assert found.status == "ok", found.reason
    assert found.compile_s is not None and found.compile_s > 0
    assert "wrong" not in " ".join(found.flags)
    assert found.gradient == "pass"


@pytest.mark.slow
def test_a_second_compilation_of_the_same_cell_is_a_whole_one_too(
    runner: Runner, tmp_path: Path
) -> None:
    """Seen by a compiler that writes down its calls, and takes a second longer for each."""
    import pandas as pd

    real = shutil.which(os.environ.get("CXX", "g++"))
    if real is None:
        pytest.skip("torch.compile needs a C++ compiler")
    compiler = tmp_path / "bin" / "g++"
    compiler.parent.mkdir()
    compiler.write_text(
        f'#!/bin/sh\necho "$PWD $@" >> {tmp_path}/calls\nsleep 1\nexec {real} "$@"\n'
    )
    compiler.chmod(0o755)
    command = [
        "-m",
        "op=exp",
        "size=96",
        "seed=1,2",
        "compile=true",
        "timing=minimal",
        "limit.time_s=900",
    ]
    runner(*command, "hydra.sweep.dir=out", env={"CXX": str(compiler)})
    found = pd.read_csv(tmp_path / "out" / "results.csv")
    assert list(found["status"]) == ["ok"] * 2
    folders = set(re.findall(r"opsweep-compile-\w+", (tmp_path / "calls").read_text()))
    assert len(folders) == 2  # a new one for each cell, which is alike but for its numbers
    assert (found["compile_s"] >= 1).all()


@pytest.mark.slow
def test_a_machine_without_a_compiler_gets_a_reason_and_no_time(
    runner: Runner, tmp_path: Path
) -> None:
    import pandas as pd

    runner("op=exp", "compile=true", "timing=minimal", "hydra.run.dir=out", env={"CXX": "/nowhere"})
    found = pd.read_csv(tmp_path / "out" / "results.csv").iloc[0]
    assert found["status"] == "unsupported"
    assert "needs a C++ compiler" in found["reason"]


def test_how_a_cell_is_called_is_part_of_what_it_is() -> None:
    kinds: list[dict[str, Any]] = [
        {},
        {"cache": "cold"},
        {"layout": "transposed"},
        {"fill": "zeros"},
        {"compile": True},
    ]
    assert len({cell(**kind).identity for kind in kinds}) == len(kinds)

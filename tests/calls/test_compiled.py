"""``compile=true``: what is compiled, what is not, and what is said of it."""

import os
import re
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from runner.calls.compiled import NotCompiled, by_its_reference, compiled
from runner.calls.module import ModuleFunction
from runner.config.schema import Limit
from runner.verify.values import check_values
from tests.conftest import Runner
from tests.support.factories import bound, op_file, ran

CPU = torch.device("cpu")


def test_an_operation_that_cannot_be_compiled_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = "InvalidCxxCompiler: No working C++ compiler found"

    def refusing(function: Any, **options: Any) -> Any:
        def refused(*args: Any) -> Any:
            raise RuntimeError(refusal)

        return refused

    monkeypatch.setattr(torch, "compile", refusing)
    found = ran("exp", size=8, compile="default")
    assert found.status == "unsupported"
    assert found.reason is not None
    assert "needs a C++ compiler on the CPU; install g++ or clang++" in found.reason
    assert found.median_s is None and found.compile_s is None
    refusal = "no way"
    with pytest.raises(NotCompiled, match=r"torch.compile cannot compile torch.add here: no way"):
        compiled(bound(), CPU, lambda b: b.outputs(b.draw()), set())


def test_what_the_operation_itself_refuses_is_not_laid_to_the_compiler() -> None:
    def refuses(x: torch.Tensor) -> torch.Tensor:
        raise ValueError("not in this shape")

    with pytest.raises(ValueError, match="not in this shape"):
        compiled(bound(refuses), CPU, lambda b: b.outputs(b.draw()), set())


def test_compiled_values_are_compared_with_those_of_the_callable_as_it_was() -> None:
    wrong = replace(bound(lambda x: x.exp() * 1.01), reference=torch.exp)
    assert check_values(wrong, CPU).wrong
    assert not check_values(
        replace(wrong, reference=None), CPU
    ).wrong  # one that shares its own mistake


def test_a_reference_in_another_dtype_does_not_go_through_the_compiler() -> None:
    mixed = by_its_reference(replace(bound(lambda x: x * 2), reference=lambda x: x * 3), CPU)
    assert mixed.outputs([torch.ones(2)])[0].tolist() == [2, 2]
    assert mixed.outputs([torch.ones(2, dtype=torch.float64)])[0].tolist() == [3, 3]


OF_SCALAR = {"signature": "m n, -> m n"}
OF_PLACED = {"signature": "m n, n -> m n", "inputs": ["x", "y"], "args": ["{y}"]}
OF_MODULE = {"signature": "m n -> m o", "derived_dims": {"o": "4"}}


@pytest.mark.parametrize("fields", [{}, OF_SCALAR, OF_PLACED, OF_MODULE])
def test_what_is_compiled_is_itself_whatever_its_call_is_made_of(fields: dict[str, Any]) -> None:
    layer = ModuleFunction(torch.nn.Linear(16, 4)) if fields is OF_MODULE else None

    def right(*tensors: torch.Tensor, **named: torch.Tensor) -> torch.Tensor:
        return layer(*tensors) if layer else sum([*tensors, *named.values()])  # type: ignore[return-value]

    def timed(*tensors: torch.Tensor, **named: torch.Tensor) -> torch.Tensor:
        return right(*tensors, **named) * 3

    made = replace(bound(timed, **fields), reference=right, module=layer, is_compiled=True)
    mixed = by_its_reference(made, CPU)
    for tensors, factor in ((made.draw(), 3), ([t.double() for t in made.draw()], 1)):
        (got,), (expected,) = mixed.outputs(tensors), replace(made, function=right).outputs(tensors)
        assert torch.equal(got, factor * expected)


@pytest.mark.slow
def test_a_compiled_cell_has_its_compile_time_in_a_column() -> None:
    if not shutil.which(os.environ.get("CXX", "g++")) and not shutil.which("clang++"):
        pytest.skip("torch.compile needs a C++ compiler")
    plain, through = (
        ran("exp", size=64, compile=kind, limit=Limit(time_s=200)) for kind in ("off", "default")
    )
    assert (plain.status, through.status) == ("ok", "ok"), through.reason
    assert plain.compile_s is None
    assert through.compile_s is not None and through.first_call_s is not None
    assert (
        through.compile_s > 10 * through.first_call_s > 0
    )  # the compiling is over before the first call
    assert (through.checked_size, through.gradient) == ("64x64", "pass")
    assert "wrong" not in " ".join(through.flags)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["avg_pool1d", "adaptive_max_pool3d"])
def test_a_gradient_that_the_compiler_has_wrong_is_found(name: str) -> None:
    """Whichever release this is: wrong is what differs from the gradient without the compiler."""
    op = {"size": "2x4x16", **op_file(name)}
    of_call = {key: value for key, value in op.items() if key != "call"}
    plain = bound(getattr(torch.nn.functional, name), **of_call)
    (x,) = plain.draw()

    def gradient(call: Any) -> torch.Tensor:
        leaf = x.detach().requires_grad_()
        result = call(leaf)
        result.backward(torch.arange(result.numel()).reshape(result.shape).to(result))
        return leaf.grad  # type: ignore[return-value]

    def call(t: torch.Tensor) -> torch.Tensor:
        return plain.outputs([t])[0]

    is_wrong = not torch.allclose(gradient(call), gradient(torch.compile(call)), atol=1e-3)
    row = ran(op, compile=True, limit=Limit(time_s=200))
    assert row.status == "ok", row.reason
    assert ("wrong_gradient" in row.flags) == is_wrong, row.reason


COMPILED = ["matmul", "softmax", "layer_norm", "cat", "gather", "conv2d"]
DIRECTIONS = ["forward", "backward", "both"]
EACH_OPERATION = list(zip(COMPILED, 2 * DIRECTIONS, strict=True))
OTHERS = [both for both in product(COMPILED, DIRECTIONS) if both not in EACH_OPERATION]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("op", "direction"),
    [*EACH_OPERATION, *(pytest.param(*both, marks=pytest.mark.exhaustive) for both in OTHERS)],
)
def test_operations_compile_in_every_direction(op: str, direction: str) -> None:
    # beside much else each shape's compilation takes long, and they share a part of the limit
    found = ran(op, compile="default", direction=direction, limit=Limit(time_s=2_000))
    assert found.status == "ok", found.reason
    assert found.compile_s is not None and found.compile_s > 0
    assert "wrong" not in " ".join(found.flags)
    assert found.gradient == "pass"


@pytest.mark.slow
def test_a_second_compilation_of_the_same_cell_is_a_whole_one_too(
    runner: Runner, tmp_path: Path
) -> None:
    """Seen by a compiler that writes down its calls, and takes a second longer for each."""
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
        "limit.build_time_s=3000",
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
    runner("op=exp", "compile=true", "timing=minimal", "hydra.run.dir=out", env={"CXX": "/nowhere"})
    found = pd.read_csv(tmp_path / "out" / "results.csv").iloc[0]
    assert found["status"] == "unsupported"
    assert "needs a C++ compiler" in found["reason"]

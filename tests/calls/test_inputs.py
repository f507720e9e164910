"""Inputs as people have them: dtypes, layouts, structures, makers, modules, and putting back."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from runner.calls.bound_operation import BoundOperation
from runner.calls.direction import inputs_of, make_call, reallocate_for
from runner.calls.layouts import copy_of
from runner.calls.module import ModuleFunction, made_callable
from runner.calls.placement import Pools
from runner.config.domain import Domain
from runner.config.operation import Operation
from runner.config.schema import Timing
from runner.config.size import parse_size
from runner.errors import ConfigError
from tests.support.factories import bound, cell, flags, ran

CPU = torch.device("cpu")
HERE = "tests.calls.test_inputs"
MASKED = {"signature": "m n, m n -> m n", "inputs": ["input", "mask"]}


def made(dimensions: dict[str, Any], dtype: torch.dtype, device: Any, generator: Any) -> Tensor:
    """A ramp, and nothing random."""
    return torch.arange(dimensions["n"], dtype=dtype, device=device)


def too_short(
    dimensions: dict[str, Any], dtype: torch.dtype, device: Any, generator: Any
) -> Tensor:
    """Not what the signature says."""
    return torch.zeros(1, dtype=dtype)


def packed(weight: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """What is slow, and of no interest."""
    packings.append(weight.dtype)
    return weight.to_sparse_csr(), x


packings: list[torch.dtype] = []
lstm = nn.LSTM(8, 8, batch_first=True)
tied = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
tied[1].weight = tied[0].weight


def only_output(x: Tensor) -> Tensor:
    """The first of a network's results."""
    result: Tensor = lstm(x)[0]
    return result


# dtypes


def test_an_input_may_have_a_dtype_of_its_own_in_which_its_reference_gets_it_too() -> None:
    mask = bound(torch.masked_fill, **MASKED, input_dtypes={"mask": "bool"}).draw()[1]
    assert mask.dtype is torch.bool and mask.unique().numel() == 2
    fields = {**MASKED, "name": "masked", "call": "torch.masked_fill", "kwargs": {"value": 0.0}}
    row = ran({**fields, "input_dtypes": {"mask": "bool"}}, size=8)
    assert (row.status, row.gradient) == ("ok", "pass")
    assert not {"unchecked", "wrong_values"} & set(row.flags)
    of_bags = {
        "name": "bags",
        "call": "torch.nn.functional.embedding_bag",
        "signature": "n, v d, b -> b d",
        "inputs": ["input", "weight", "offsets"],
        "index_inputs": {"input": "v", "offsets": "n"},
        "input_dtypes": {"input": "int32", "offsets": "int32"},
        "structure": {"offsets": "offsets"},
        "derived_dims": {"v": "100", "d": "8", "b": "5"},
    }
    assert ran(of_bags, size=40).status == "ok"


def test_constants_name_dtypes_and_stand_before_or_after_the_inputs() -> None:
    cast = bound(torch.Tensor.to, kwargs={"dtype": "torch.bfloat16"})
    assert cast.outputs(cast.draw())[0].dtype is torch.bfloat16
    square = bound(pow, signature="n -> n", size="8", args_after=[2])
    (x,) = square.draw()
    assert torch.equal(square.outputs([x])[0], x * x)
    ones = {"dtype": "{dtype}", "device": "{device}"}
    plain = bound(torch.ones, signature="-> m n", args=["{m}", "{n}"], kwargs=ones)
    assert plain.draw() == []
    assert plain.outputs([])[0].shape == (8, 16)
    fields = {"name": "ones", "call": "torch.ones", "signature": "-> m n", "args": ["{m}", "{n}"]}
    assert ran({**fields, "kwargs": ones}, size="8x16", dtype="float16").size == "8x16"


# layouts


def test_inputs_lie_as_the_file_says_and_so_do_their_copies() -> None:
    layouts = {"a": "channels_last", "b": "expanded", "c": "strided", "d": "transposed"}
    axes = ", ".join(["b c h w"] * 5)
    op = bound(
        signature=f"{axes} -> b c h w", size="2x3x4x5", inputs=list("abcde"), input_layouts=layouts
    )
    tensors = op.draw()
    assert tensors[0].is_contiguous(memory_format=torch.channels_last)
    assert tensors[1].stride()[0] == 0
    assert tensors[2].stride() == (120, 40, 10, 2)
    assert tensors[3].mT.is_contiguous()
    assert tensors[4].is_contiguous()
    pools = Pools(0)
    pools.reserve(tensors)
    for copies in (list(map(copy_of, tensors)), pools.place(tensors, 0)):
        assert [t.stride() for t in copies] == [t.stride() for t in tensors]
        assert all(map(torch.equal, copies, tensors))
        assert all(a.data_ptr() != b.data_ptr() for a, b in zip(copies, tensors, strict=True))


def test_a_layout_needs_the_dimensions_for_it() -> None:
    fields = {
        "name": "t",
        "call": "torch.exp",
        "signature": "n -> n",
        "input_layouts": {"0": "channels_last"},
    }
    op = Operation.from_mapping(fields, "test")
    with pytest.raises(ConfigError, match="0: channels_last: its shape is 8, of 1 dimensions"):
        op.check_formulas(op.bind(parse_size(8)))


# structures and domains


def test_structures_are_what_their_names_say() -> None:
    def drawn(structure: str, dtype: torch.dtype = torch.float64) -> Tensor:
        return bound(
            signature="n n -> n n", size="8", structure={"0": structure}, dtype=dtype
        ).draw()[0]

    assert torch.linalg.cholesky_ex(drawn("positive_definite")).info == 0
    assert torch.linalg.cholesky_ex(drawn("positive_definite", torch.complex128)).info == 0
    assert drawn("sorted").diff(dim=-1).ge(0).all()
    assert torch.equal(drawn("symmetric"), drawn("symmetric").mT)
    assert torch.equal(drawn("permutation").sort(-1).values, torch.arange(8).expand(8, 8))
    assert torch.allclose(drawn("probabilities").sum(-1), torch.ones(8, dtype=torch.float64))
    assert torch.equal(drawn("causal_mask", torch.bool), torch.ones(8, 8).tril().bool())
    assert drawn("causal_mask").exp().sum() == 36
    cholesky = {"name": "c", "call": "torch.linalg.cholesky", "signature": "n n -> n n"}
    found = ran(
        {**cholesky, "structure": {"0": "positive_definite"}, "tolerance": "64 * n"}, size=16
    )
    assert (found.status, "wrong_values" in found.flags) == ("ok", False)


@pytest.mark.parametrize(
    ("domain", "low", "high"),
    [
        ("positive", 1, 10),
        ("nonnegative", 0, 9),
        ("negative", -10, -1),
        ("(2, 5]", 3, 5),
        ("[-1.5, 1.5)", -1, 1),
    ],
)
def test_integers_keep_to_a_domain(domain: str, low: int, high: int) -> None:
    drawn = bound(size="64x64", domain=domain, dtype=torch.int32).draw()[0]
    assert (int(drawn.min()) >= low, int(drawn.max()) <= high) == (True, True)
    assert drawn.unique().numel() > 1


@pytest.mark.parametrize("fill", ["zeros", "integers", "normal"])
@pytest.mark.parametrize("domain", ["positive", "negative", "(1, inf)", "(-inf, -300)"])
def test_no_number_lies_on_an_end_that_is_not_in_its_domain(domain: str, fill: str) -> None:
    drawn = bound(size="64x64", domain=domain, dtype=torch.bfloat16, fill=fill).draw()[0]
    assert bool(Domain.parse(domain).holds(drawn).all())


def test_a_domain_without_an_integer_says_so() -> None:
    with pytest.raises(ConfigError, match="no integer is in the domain from 0 to 1"):
        bound(domain="(0, 1)", dtype=torch.int64).draw()


# makers and preparation


def test_inputs_may_come_from_a_function_of_ones_own_and_are_checked() -> None:
    ramp = bound(signature="n -> n", size="8", inputs_from=f"{HERE}.made").draw()[0]
    assert torch.equal(ramp, torch.arange(8.0))
    with pytest.raises(ValueError, match=r"too_short made \[\(1,\)\]; the signature's inputs are"):
        bound(signature="n -> n", size="8", inputs_from=f"{HERE}.too_short").draw()


def made_sparse(
    dimensions: dict[str, Any], dtype: torch.dtype, device: Any, generator: Any
) -> tuple[Tensor, Tensor]:
    """A matrix of few numbers, and a whole one."""
    lengths = dimensions["m"], dimensions["k"], dimensions["n"]
    few, whole = (torch.randn(shape, generator=generator) for shape in (lengths[:2], lengths[1:]))
    return few.relu().to(dtype).to_sparse_csr(), whole.to(dtype)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_inputs_that_are_made_may_be_sparse(direction: str) -> None:
    fields = {"name": "s", "call": "torch.sparse.mm", "signature": "m k, k n -> m n"}
    fields |= {"inputs_from": f"{HERE}.made_sparse", "tolerance": "8 * k"}
    row = ran(fields, size=8, direction=direction)
    assert (row.status, row.checked) == ("ok", "full"), row.reason
    assert not {"wrong_values", "wrong_gradient", "mutates_input"} & set(row.flags)


def test_what_prepares_the_inputs_runs_outside_the_clock_and_not_at_each_call() -> None:
    fields = {"name": "s", "call": "torch.sparse.mm", "signature": "m k, k n -> m n"}
    packings.clear()
    fifty = {"min_samples": 50, "max_samples": 50, "precision": 1e-9, "max_time_s": 60.0}
    long = Timing(**fifty, warmup_s=0.01, patience_s=0.0)
    own = {**fields, "prepare": f"{HERE}.packed", "tolerance": "64 * k"}
    row = ran(own, size=8, timing=long)
    assert (row.status, row.gradient, "wrong_values" in row.flags) == ("ok", None, False)
    assert row.calls_per_sample is not None and row.samples is not None
    assert len(packings) < row.calls_per_sample * row.samples
    assert torch.float64 in packings
    refused = cell({**fields, "prepare": f"{HERE}.packed"}, size=8, direction="backward")
    assert "has no gradient" in refused.infeasible_reason


# modules


def of_module(loaded: Any, signature: str, size: str, **fields: Any) -> BoundOperation:
    """A module as an operation."""
    plain = bound(signature=signature, size=size, **fields)
    args, _, kwargs = plain.op.constants(plain.dimensions)
    function = made_callable(loaded, args, kwargs, 0)
    assert isinstance(function, ModuleFunction)
    return replace(plain, function=function, module=function)


@pytest.mark.parametrize(
    ("loaded", "signature", "size", "fields", "parameters"),
    [
        (nn.Linear, "n i -> n o", "4x8", {"derived_dims": {"o": "3"}, "args": ["{i}", "{o}"]}, 2),
        (nn.ReLU, "... -> ...", "4x8", {}, 0),
        (tied, "n d -> n d", "4x8", {}, 3),
        (nn.BatchNorm1d(8), "n d -> n d", "4x8", {}, 2),
    ],
)
def test_a_modules_parameters_are_inputs_with_a_gradient(
    loaded: Any, signature: str, size: str, fields: dict[str, Any], parameters: int
) -> None:
    op = of_module(loaded, signature, size, **fields)
    tensors = inputs_of(op, "both", CPU)
    assert len(tensors) == len(op.names) == 1 + parameters
    gradients = make_call("both", op, tensors)()
    assert [g.shape for g in gradients] == [t.shape for t in tensors]
    # the module itself is called, which takes no longer than it takes people
    called = op.call_with(tensors).func  # type: ignore[attr-defined]  # of a partial
    assert isinstance(called, nn.Module) and called is not loaded
    assert torch.equal(called(tensors[0]), op.function(*tensors))


def test_modules_run_in_every_dtype_and_are_compared_in_float64() -> None:
    linear = {
        "name": "l",
        "call": "torch.nn.Linear",
        "signature": "n i -> n i",
        "args": ["{i}", "{i}"],
    }
    linear |= {"tolerance": "8 * i"}
    for dtype in ("float32", "bfloat16"):
        row = ran(linear, size="4x8", dtype=dtype, direction="both")
        assert (row.status, row.flags) == ("ok", row.flags), row.reason
        assert "wrong_values" not in row.flags and row.max_relative_error is not None
        assert row.gradient == "pass"
    network = {"name": "n", "call": f"{HERE}.lstm", "signature": "b t i -> b t i", "size": "2x3x8"}
    given = ran(network, size="2x3x8")
    assert given.status == "failed" and "promises outputs" in str(given.reason)


# what is put back


def test_inputs_that_a_call_changes_are_put_back_before_each_call() -> None:
    fields = {"name": "e", "call": "torch.exp_", "signature": "... n -> ... n"}
    drifting = flags(fields, size=8)
    assert "mutates_input" in drifting and "view" not in drifting
    row = ran({**fields, "restore": [0]}, size=8)
    assert (row.calls_per_sample, row.finite_fraction) == (1, 1.0)
    assert not {"mutates_input", "view", "wrong_values"} & set(row.flags)

    op = bound(torch.exp_, restore=["0"])
    tensors = inputs_of(op, "forward", CPU)
    before = tensors[0].clone()
    call = make_call("forward", op, tensors)
    call()
    assert not torch.equal(tensors[0], before)
    call.restore()  # type: ignore[attr-defined]  # of what restores
    assert torch.equal(tensors[0], before)
    again = reallocate_for(op, tensors, "forward")
    assert again is not None and hasattr(again(), "restore")


def test_a_result_beside_an_input_that_is_handed_on_is_no_view() -> None:
    fields = {"name": "r", "call": f"{HERE}.with_residual", "signature": "n n -> n n, n n"}
    assert "view" not in flags({**fields, "tolerance": "8 * n"}, size=8)
    assert "view" in flags("transpose", size=8)


def with_residual(x: Tensor) -> tuple[Tensor, Tensor]:
    """Work, and an input beside it."""
    return x @ x, x

"""Inputs: the same numbers for every device, dtype and run, filled and laid out as asked."""

from dataclasses import replace

import pytest
import torch

from runner.calls.bound_operation import BoundOperation
from runner.config.axes import AXES
from runner.config.operation import Operation
from runner.config.size import parse_size
from tests.support.factories import bound

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


def test_inputs_are_the_seeds_and_differ_between_positions() -> None:
    two = bound(torch.add, signature="... n, ... n -> ... n")
    first, second = two.draw()
    assert torch.equal(first, two.draw()[0])
    assert not torch.equal(first, second)
    assert not torch.equal(first, replace(two, seed=2).draw()[0])
    assert abs(first.mean().item()) < 0.5
    assert 0.7 < first.std().item() < 1.3


def test_integers_stay_small_and_indices_in_range() -> None:
    for dtype, low in ((torch.int8, -9), (torch.uint8, 0), (torch.int64, -9)):
        drawn = bound(torch.add, dtype, dtypes=["integer"]).draw()[0]
        assert drawn.min() >= low
        assert drawn.max() <= 9
    gather = bound(
        torch.gather,
        signature="m n, m p -> m p",
        inputs=["input", "index"],
        index_inputs={"index": "n"},
    )
    index = gather.draw()[1]
    assert index.dtype is torch.int64
    assert index.min() >= 0 and index.max() < 16


# inputs among constants, and strides


def test_an_input_stands_where_its_name_stands() -> None:
    def called(first, options, last, *, named):
        return first, options, last, named

    op = bound(
        called,
        signature="m n, n, n -> m n",
        inputs=["x", "w", "b"],
        args=["{x}", {"of": ["{w}", "{n}"]}, 3],
        kwargs={"named": "{b}"},
    )
    x, w, b = tensors = op.draw()
    first, options, last, named = op.call_with(tensors)()
    assert first is x and named is b
    assert options["of"][0] is w and options["of"][1] == x.shape[1]
    assert last == 3


def test_a_dimensions_name_stays_a_dimension() -> None:
    given = {"signature": "n -> n", "size": "8", "inputs": ["n"], "args": ["{n}"]}
    op = bound(lambda length, *, n: (length, n), **given)
    (tensor,) = tensors = op.draw()
    length, n = op.call_with(tensors)()
    assert length == tensor.shape[0] and n is tensor


def test_inputs_have_the_strides_that_are_declared() -> None:
    op = bound(
        torch.add,
        signature="m n, m n, m n -> m n",
        inputs=["a", "b", "c"],
        input_strides={"b": [1, 100], "c": [0, 1]},
    )
    a, b, c = op.draw()
    assert (a.stride(), b.stride(), c.stride()) == ((16, 1), (1, 100), (0, 1))
    plain = bound(torch.add, signature="m n, m n, m n -> m n").draw()
    assert torch.equal(b, plain[1])
    assert torch.equal(c, plain[2][:1].expand(8, 16))

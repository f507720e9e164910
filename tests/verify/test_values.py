"""The same numbers for every device, dtype and run, and the values and gradients that are checked from them."""

from dataclasses import replace

import torch

from runner.verify.values import check_values, finite_fraction, relative_error
from tests.support.factories import bound

CPU = torch.device("cpu")


def test_inputs_differ_between_dtypes_by_rounding_alone() -> None:
    single = bound(torch.exp).draw()[0]
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert torch.equal(bound(torch.exp, dtype).draw()[0], single.to(dtype))


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


def test_a_right_operation_passes_and_a_wrong_one_does_not() -> None:
    right = check_values(bound(torch.exp), CPU)
    assert not right.wrong
    assert right.relative_error is not None
    assert 0 < right.relative_error < 1e-6

    def wrong(x: torch.Tensor) -> torch.Tensor:
        return x.exp() * (1 if x.dtype is torch.float64 else 1 + 1e-5)

    assert check_values(bound(wrong), CPU).wrong


def test_an_integer_must_be_equal() -> None:
    def off_by_one(x: torch.Tensor) -> torch.Tensor:
        return x + (x.dtype is not torch.int64)

    assert check_values(bound(off_by_one, torch.int32, dtypes=["integer"]), CPU).wrong
    assert not check_values(bound(torch.neg, torch.int32, dtypes=["integer"]), CPU).wrong


def test_a_value_that_is_not_a_number_is_an_error_unless_it_should_be() -> None:
    nan, one = torch.tensor([float("nan")]), torch.tensor([1.0], dtype=torch.float64)
    assert not relative_error(nan, one) <= 1e300
    assert relative_error(nan, nan.double()) == 0
    assert (
        relative_error(
            torch.tensor([float("inf")]), torch.tensor([float("inf")], dtype=torch.float64)
        )
        == 0
    )
    assert finite_fraction([torch.tensor([1.0, float("inf"), float("nan"), 2.0])]) == 0.5
    assert finite_fraction([]) is None

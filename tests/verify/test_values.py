"""Values are compared with float64, as they are timed."""

import torch

from runner.verify.values import check_values, finite_fraction, relative_error
from tests.support.factories import bound

CPU = torch.device("cpu")


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

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


def narrow_only(x: torch.Tensor) -> torch.Tensor:
    """A kernel that knows half precision alone."""
    if x.dtype is not torch.bfloat16:
        raise RuntimeError(f"expected bfloat16, got {x.dtype}")
    return x.exp()


def test_what_cannot_run_in_float64_is_unchecked_unless_a_reference_says_what_is_right() -> None:
    alone = check_values(bound(narrow_only, torch.bfloat16), CPU)
    assert (alone.compared, alone.wrong, alone.size, alone.allowed) == (False, False, None, None)
    assert "expected bfloat16, got torch.float64" in alone.reason
    assert "write reference:" in alone.reason

    right, wrong = (
        check_values(bound(narrow_only, torch.bfloat16, reference=reference), CPU)
        for reference in (torch.exp, torch.expm1)
    )
    assert right.compared and not right.wrong
    assert wrong.wrong


def test_a_reference_that_has_no_float64_either_is_asked_in_the_inputs_own_dtype() -> None:
    assert not check_values(bound(narrow_only, torch.bfloat16, reference=narrow_only), CPU).wrong
    off = bound(lambda x: x.exp() * 1.1, torch.bfloat16, reference=narrow_only)
    assert check_values(off, CPU).wrong


def test_a_reference_of_other_shapes_says_so_and_accuses_nobody() -> None:
    found = check_values(bound(torch.exp, reference=lambda x: (x.exp(), x)), CPU)
    assert not found.compared and not found.wrong
    assert "the call gives [(8, 16)], the call itself [(8, 16), (8, 16)]" in found.reason

"""Values are compared with float64, as they are timed."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch

from runner.calls.bound_operation import outputs_of
from runner.verify.values import ValueCheck, check_values, finite_fraction, relative_error
from tests.support.factories import bound

CPU = torch.device("cpu")


@dataclass
class Pair:
    """What a function may return."""

    first: Any
    second: Any


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


@pytest.mark.parametrize("scale", [1e-50, 1.0, 1e60, 1e300])
def test_numbers_beyond_float32s_range_are_compared_like_others(scale: float) -> None:
    expected = torch.tensor([1.0, 3.0], dtype=torch.float64) * scale
    assert relative_error(expected * 1.25, expected) == pytest.approx(0.25)
    assert relative_error(torch.zeros(2, dtype=torch.float64), expected) == 1
    assert not relative_error(expected * math.nan, expected) <= 1
    assert relative_error(expected.nextafter(expected * 2), expected) < 1e-15


def test_nothing_of_a_number_that_a_call_returns_is_rounded() -> None:
    (number,) = outputs_of(complex(1e-50, 1 + 1e-12))
    assert number.item() == complex(1e-50, 1 + 1e-12)
    (whole,) = outputs_of(2**40 + 1)
    assert whole.item() == 2**40 + 1


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
    assert "the call gives [(8, 16)], what it is compared with [(8, 16), (8, 16)]" in found.reason


def checked(call: Any, dtype: torch.dtype = torch.float32, **fields: Any) -> ValueCheck:
    """The check of a callable, of a matrix to one of its shape unless it says otherwise."""
    return check_values(bound(call, dtype, **fields), CPU)


def unless_float64(right: Any, wrong: Any) -> Any:
    """A callable that is wrong in all dtypes but the reference's."""
    return lambda *tensors: (right if tensors[0].dtype is torch.float64 else wrong)(*tensors)


TWO = {"signature": "m n, m n -> m n"}
TO_ROWS = {"signature": "m n -> m"}


def test_booleans_and_integers_of_a_floating_operation_are_compared() -> None:
    less = checked(torch.lt, **TWO)
    assert (less.wrong, less.relative_error, less.allowed, less.undecided) == (False, 0, 0, 0)
    assert checked(unless_float64(torch.lt, torch.ge), **TWO).wrong
    shifted = unless_float64(lambda x: x.argmax(-1), lambda x: (x.argmax(-1) + 1) % x.shape[-1])
    assert not checked(lambda x: x.argmax(-1), **TO_ROWS).wrong
    assert checked(shifted, **TO_ROWS).wrong
    counted = unless_float64(lambda x: (x > 0).sum(-1), lambda x: (x > 0).sum(-1) + 1)
    assert checked(counted, **TO_ROWS).wrong


def test_a_position_counts_by_what_it_points_at() -> None:
    last = unless_float64(lambda x: x.argmax(-1), lambda x: x.shape[-1] - 1 - x.flip(-1).argmax(-1))
    assert not checked(last, fill="integers", size="8x64", **TO_ROWS).wrong  # many are equal
    whole = unless_float64(lambda x: x.argmax(), lambda x: x.flatten().flip(0).argmax())
    assert checked(whole, signature="m n ->").wrong


def test_what_rounding_decides_is_counted_and_accuses_nobody() -> None:
    def positive(x: torch.Tensor) -> torch.Tensor:
        return x.sum(-1) > 0

    of_zeros = {"fill": "integers", "size": "64x16", **TO_ROWS}
    loose = checked(unless_float64(positive, lambda x: x.sum(-1) >= 0), **of_zeros)
    zeros = int((bound(positive, **of_zeros).draw()[0].sum(-1) == 0).sum())
    assert (loose.wrong, loose.undecided) == (False, zeros) and zeros
    assert checked(unless_float64(positive, lambda x: x.sum(-1) > 9), **of_zeros).wrong


def test_nested_results_numbers_and_nothing_are_compared() -> None:
    def nested(x: torch.Tensor) -> Any:
        off = 1.0 if x.dtype is torch.float64 else 1.1
        return x + 1, {"inner": [x * off, None]}

    assert len(bound(nested).outputs([torch.ones(2)])) == 2
    assert checked(nested).wrong
    assert not checked(lambda x: float(x.sum()), signature="m n ->", tolerance=64).wrong
    assert checked(
        unless_float64(torch.equal, lambda a, b: a is a), signature="n, n ->", size="8"
    ).wrong


def test_results_of_numpy_and_nested_tensors_are_compared() -> None:
    halves = {"signature": "m n -> h n, h n", "size": "8x16", "derived_dims": {"h": "m / 2"}}
    for call, fields in (
        (lambda x: x.numpy() * 2, {}),
        (lambda x: [x.numpy().sum(), {"of": x.numpy()[0]}], {"signature": "m n -> , n"}),
        (lambda x: [float(x.sum()), [int(x[0, 0] * 1e4)]], {"signature": "m n -> , "}),
        (lambda x: Pair(x + 1, Pair(x * 2, None)), {"signature": "m n -> m n, m n"}),
        (lambda x: torch.nested.nested_tensor(list(x.chunk(2))), halves),
    ):
        assert not checked(call, **fields).wrong
        less = unless_float64(call, lambda x, call=call: call(x * 0.9))
        assert checked(less, **fields).wrong


def test_an_input_that_is_not_a_number_is_not_changed_by_being_so() -> None:
    maker = {"inputs_from": "tests.verify.test_values.not_numbers", "signature": "n -> n"}
    of_vector = {**maker, "size": "16"}
    left = checked(torch.exp, **of_vector)
    assert left.compared and not left.mutated and not left.wrong
    assert checked(torch.Tensor.exp_, **of_vector).mutated


def not_numbers(lengths: Any, dtype: torch.dtype, device: Any, generator: Any) -> torch.Tensor:
    """Numbers, and some that are none."""
    drawn = torch.randn(lengths["n"], generator=generator).to(dtype)
    return drawn.masked_fill(drawn < 0, torch.nan)


def test_what_a_call_leaves_in_its_inputs_is_compared() -> None:
    def step(rate: float) -> Any:
        def stepped(p: torch.Tensor, g: torch.Tensor) -> None:
            p.sub_(g * rate)

        return stepped

    nothing = {"signature": "n, n -> none", "size": "64"}
    assert not checked(lambda p, g: None, **nothing).compared
    right = checked(step(0.1), **nothing)
    assert right.compared and right.mutated and not right.wrong
    assert checked(unless_float64(step(0.1), step(0.2)), **nothing).wrong


def eig_of(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues and vectors, of which some have another phase."""
    values, vectors = torch.linalg.eig(matrix)
    return values, vectors * torch.tensor([1.0, 1.0, -1.0, -1.0] * 4)


def test_factors_may_have_another_sign_and_only_they() -> None:
    flips = torch.tensor([1.0, -1.0] * 8)

    def flipped(x: torch.Tensor) -> Any:
        u, s, v = torch.linalg.svd(x)
        signs = torch.ones(16, dtype=x.dtype) if x.dtype is torch.float64 else flips
        return u * signs, s, signs[:, None] * v

    factors = {"signature": "n n -> n n, n, n n", "size": "16x16", "tolerance": "64 * n"}
    undeclared = checked(flipped, **factors)
    assert not undeclared.compared and not undeclared.wrong
    assert "write compare: up_to_sign" in undeclared.reason
    assert not checked(flipped, compare="up_to_sign", **factors).wrong
    off = unless_float64(torch.linalg.svd, lambda x: torch.linalg.svd(x * 1.01))
    assert checked(off, compare="up_to_sign", **factors).wrong
    # complex values, and their vectors, come in any order; which vector is whose does not
    eig = {"signature": "n n -> n, n n", "size": "16x16", "tolerance": "64 * n"}
    back = unless_float64(torch.linalg.eig, lambda x: tuple(t.flip(-1) for t in eig_of(x)))
    mixed = unless_float64(torch.linalg.eig, lambda x: (eig_of(x)[0], eig_of(x)[1].flip(-1)))
    assert "write compare: up_to_sign" in checked(back, **eig).reason
    assert not checked(back, compare="up_to_sign", **eig).wrong
    found = checked(mixed, compare="up_to_sign", **eig)
    assert found.wrong or not found.compared
    negated = unless_float64(lambda x: (x, x), lambda x: (x * flips, x))
    assert checked(negated, signature="m n -> m n, m n", size="8x16").wrong  # which is no factor


def test_random_results_are_compared_by_their_moments() -> None:
    drop, more = (partial(torch.nn.functional.dropout, p=p) for p in (0.1, 0.5))
    undeclared = checked(drop)
    assert not undeclared.compared and "write random: true" in undeclared.reason
    right = checked(drop, random=True, size="64x64")
    assert right.compared and not right.wrong and right.relative_error is None
    assert checked(unless_float64(drop, more), random=True, size="64x64").wrong
    # of integers other inputs are no reason: those that a call draws are others each time
    orders = checked(lambda x: x + torch.randperm(x.shape[-1]).lt(8), tolerance=0)
    drawn = checked(lambda x: torch.rand_like(x) < x.sigmoid(), size="64x64")
    for found in (orders, drawn):
        assert not found.compared and "write random: true" in found.reason


def test_constants_of_the_dtype_are_no_error_but_another_reference() -> None:
    def masked(x: torch.Tensor) -> torch.Tensor:
        return x.masked_fill(x < 0, torch.finfo(x.dtype).min)

    found = checked(masked)
    assert not found.compared and not found.wrong
    assert "constants depend on the dtype" in found.reason
    assert torch.finfo(torch.float64).bits == 64


def test_a_sparse_result_is_compared_like_any() -> None:
    assert not checked(lambda x: (x * (x > 0)).to_sparse()).wrong
    assert checked(unless_float64(torch.Tensor.to_sparse, lambda x: (2 * x).to_sparse())).wrong


@pytest.mark.parametrize(
    ("got", "expected"),
    [([3.5], [3]), ([1 + 2j], [1.0]), ([True], [2])],
    ids=["a fraction", "an imaginary part", "a count"],
)
def test_a_result_of_another_kind_is_compared_as_it_is(got: list, expected: list) -> None:
    assert relative_error(torch.tensor(got), torch.tensor(expected)) > 0.1
    assert relative_error(torch.tensor(expected).to(torch.float16), torch.tensor(expected)) == 0

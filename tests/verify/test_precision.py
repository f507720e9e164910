"""What rounding does is seen by moving numbers: in every dtype, and at each step."""

from collections.abc import Callable, Sequence

import pytest
import torch

from runner.verify.gradients.precision import Narrowing, Rounding, moved_by_rounding
from runner.verify.gradients.problem import ShapedInputs, effective_eps
from runner.verify.gradients.vectors import perturbed

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex128]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("roundoffs", [0.5, 1, 4])
def test_numbers_move_up_and_down_in_every_dtype(dtype: torch.dtype, roundoffs: float) -> None:
    eps = torch.finfo(dtype).eps
    ones = torch.ones(200, dtype=dtype)
    (moved,) = perturbed([ones], roundoffs * eps, generator())
    change = (moved - ones).real.double() / eps
    assert set(change.sign().tolist()) == {-1.0, 1.0}
    assert change.abs().max() <= max(roundoffs, 1)


def test_what_cancels_on_the_way_is_seen_to_move() -> None:
    x = torch.tensor([1e-4], dtype=torch.float64)

    def at(inputs: list[torch.Tensor], cotangents: list[torch.Tensor]) -> list[torch.Tensor]:
        leaf = inputs[0].requires_grad_()
        return list(torch.autograd.grad((leaf.exp() - 1) / leaf, leaf, cotangents))

    parts = [x], [torch.ones_like(x)]
    gradient = at([x.clone()], parts[1])
    (moved,) = moved_by_rounding(gradient, at, parts, 2.0**-24, generator(), draws=6)
    assert 0.1 < moved.item() < 100  # of a gradient of one half; by moving x alone it is 1e-8


def test_a_step_that_only_selects_leaves_its_gradient_alone() -> None:
    x = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)

    def at(inputs: list[torch.Tensor], cotangents: list[torch.Tensor]) -> list[torch.Tensor]:
        leaf = inputs[0].requires_grad_()
        return list(torch.autograd.grad(leaf.amax(), leaf, cotangents))

    parts = [x], [torch.ones((), dtype=torch.float64)]
    (moved,) = moved_by_rounding(at([x.clone()], parts[1]), at, parts, 1e-16, generator(), draws=6)
    assert moved.max() < 1e-12


def test_a_view_is_not_taken_for_a_step() -> None:
    x = torch.ones(3)
    with Rounding(1e-3, generator()):
        view, step = x[:2].reshape(2, 1).t(), x + 0
    assert torch.equal(view, torch.ones(1, 2))
    assert not torch.equal(step, x)


@pytest.mark.parametrize(
    ("function", "dtype"),
    [
        (lambda x: x.sin(), torch.float64),
        (lambda x: x.round(), torch.float64),  # few digits, but of no dtype
        (lambda x: (4 * x).floor() / 4, torch.float64),
        (lambda x: (x > 0).double(), torch.float64),
        (lambda x: x.float().sin().double(), torch.float32),
        (lambda x: (x.bfloat16() * 3).double(), torch.bfloat16),
        (lambda x: x.half().double().exp() * x, torch.float16),
        (lambda x: x * torch.tensor(0.3), torch.float64),  # a constant in float32 is none
        (lambda x: (x.sin(), x.half())[0], torch.float64),  # no value is made of what is narrow
    ],
)
def test_the_precision_in_which_a_function_computes(function: object, dtype: torch.dtype) -> None:
    x = torch.randn(5, 4, generator=generator(), dtype=torch.float64)
    shaped = ShapedInputs("example", lambda tensors: [function(*tensors)], (x,))  # type: ignore[operator]
    assert effective_eps(shaped) == torch.finfo(dtype).eps


def test_a_function_may_compute_in_less_in_one_dtype_alone() -> None:
    def product(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):  # which leaves float64 as it is
            return [(tensors[0] @ tensors[0].mT).to(tensors[0].dtype)]

    x = torch.randn(5, 4, generator=generator())
    found = [effective_eps(ShapedInputs("x", product, (t,))) for t in (x.double(), x)]
    assert found == [torch.finfo(torch.float64).eps, torch.finfo(torch.bfloat16).eps]


def test_a_function_can_be_made_to_compute_in_what_it_is_given() -> None:
    x = torch.randn(5, generator=generator(), dtype=torch.float64)
    with Narrowing(prevented=True):
        assert torch.equal(x.bfloat16() * 3, x * 3)


def _by_inverse(matrix: torch.Tensor) -> torch.Tensor:
    return torch.linalg.inv(matrix)


def _by_solving(matrix: torch.Tensor) -> torch.Tensor:
    return torch.linalg.solve(matrix, torch.eye(len(matrix), dtype=matrix.dtype))


def _by_factors(matrix: torch.Tensor) -> torch.Tensor:
    factors, pivots = torch.linalg.lu_factor(matrix.mT)
    unit = torch.eye(len(matrix), dtype=matrix.dtype)
    return torch.linalg.lu_solve(factors, pivots, unit, adjoint=True)


@pytest.mark.parametrize("inverse", [_by_inverse, _by_solving, _by_factors])
def test_an_inverse_that_cancels_in_a_product_is_off_in_each_column(
    inverse: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """As in the gradient of a Gaussian's log-likelihood: x nearly lies in what the matrix keeps."""
    x = torch.randn(200, 2, generator=generator())

    def at(inputs: Sequence[torch.Tensor], _: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        (x,) = inputs
        return [inverse(x @ x.mT + torch.eye(len(x), dtype=x.dtype)) @ x]

    exact = at([x.double()], [])
    (moved,) = moved_by_rounding(exact, at, ([x.double()], []), 2.0**-24, generator(), draws=4)
    off = (at([x], [])[0] - exact[0]).abs().max()
    assert 0.3 < moved.max() / off < 8  # a bound, which is seldom reached

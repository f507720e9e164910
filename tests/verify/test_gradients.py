"""The verifier of gradients.

Right functions are left alone, wrong ones are not, and what it says is so.
"""

import itertools
import math
import random
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch

from runner.config.domain import Domain
from runner.errors import ConfigError
from runner.rows.rows import BAD
from runner.verify.gradients.at_size import gradient_is_off
from runner.verify.gradients.finding import GradientCheck, overall
from runner.verify.gradients.shapes import guessed_shapes
from runner.verify.gradients.slopes import HUGE, differentiate
from runner.verify.gradients.verifier import check_gradients, verify
from tests.support.factories import bound
from tests.support.marks import slow
from tests.support.mutants import PAIRS, Pair, made, ours
from tests.support.plain_functions import function_target

CPU = torch.device("cpu")
ONE_OF_EACH_KIND = list({pair.kind: pair for pair in PAIRS}.values())
CHEAP = ("diagonal", "data_pointer", "writes_in_forward", "norm_at_zero")  # of a single input
SOME_KINDS = [pair for pair in PAIRS if pair.name in CHEAP]  # the others take some seconds each


def checks_of(function: object, *inputs: torch.Tensor, **fields: object) -> list[GradientCheck]:
    return verify(function_target(function, inputs, **fields), torch.float64, CPU)  # type: ignore[arg-type]


def judge(pair: Pair) -> tuple[bool, bool]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of variances of a single element
        return ours(pair, pair.right), ours(pair, pair.wrong)


def test_a_gradient_that_vanishes_is_not_wrong_at_a_size_unless_it_is_there() -> None:
    def shifted(x: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        return (x + shift[:, None]).softmax(-1)

    def leaking(x: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        value, slope = shifted(x, shift), 0.01 * shift[:, None]
        return value + (slope - slope.detach() if x.dtype is torch.float32 else 0.0)

    def normed(x: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.layer_norm(x + shift[:, None], x.shape[-1:])

    of_both = {"signature": "m n, m -> m n", "size": "64x500"}
    for function, is_off in ((shifted, False), (normed, False), (leaking, True)):
        assert gradient_is_off(bound(function, **of_both), CPU) is is_off
    of_both["size"] = "8x200000"  # a long sum is known to less
    assert not gradient_is_off(bound(normed, torch.float16, **of_both), CPU)

    def passed_through(x: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        value = (x + shift[:, None]).floor()
        return value + (x - x.detach() if x.dtype is torch.float16 else 0.0)

    assert gradient_is_off(bound(passed_through, torch.float16, **of_both), CPU)


def test_a_gradient_of_hardly_any_size_is_not_wrong_for_the_dtypes_least_steps() -> None:
    """Below 6e-5 the steps of float16 are 6e-8, whatever a number's size."""
    for scale, factor, is_off in ((5e-8, 1, False), (1e-5, 1, False), (1e-5, 2, True)):

        def scaled(x: torch.Tensor, scale: float = scale, factor: int = factor) -> torch.Tensor:
            value: torch.Tensor = x * scale
            further = (factor - 1) * value if x.dtype is torch.float16 else 0.0 * value
            return value + further - further.detach()

        assert gradient_is_off(bound(scaled, torch.float16, size="64x64"), CPU) is is_off


@pytest.mark.parametrize("pair", SOME_KINDS, ids=lambda pair: pair.name)
def test_wrong_gradients_of_some_kinds_are_caught_and_their_right_twins_are_not(pair: Pair) -> None:
    assert judge(pair) == (False, True)


def marked(pair: Pair) -> object:
    """A pair with how seldom it is judged: one of each kind in CI, all of them by name."""
    marks = [] if pair in ONE_OF_EACH_KIND else [pytest.mark.exhaustive]
    return pytest.param(pair, id=pair.name, marks=[pytest.mark.slow, *marks])


@pytest.mark.parametrize("pair", map(marked, (pair for pair in PAIRS if pair not in SOME_KINDS)))
def test_every_wrong_gradient_is_caught_and_no_right_one_is(pair: Pair) -> None:
    assert judge(pair) == (False, True)


def test_differences_know_how_far_they_are_off() -> None:
    for function, exact in (
        (math.sin, math.cos(0.7)),
        (lambda x: math.exp(5 * x), 5 * math.exp(3.5)),
    ):
        slopes = differentiate(
            lambda h, f=function: torch.tensor([f(0.7 + h)], dtype=torch.float64)
        )
        assert abs(slopes.value.item() - exact) <= 4 * slopes.error.item() + 1e-13 * exact
        assert slopes.error.item() < 1e-9 * exact


def test_differences_tell_kinks_jumps_and_infinite_slopes_from_curves() -> None:
    def along(h: float) -> torch.Tensor:
        values = [
            abs(h),
            max(h, 0.0),
            h * h,
            float(h > 0),
            math.copysign(abs(h) ** 0.5, h),
            math.sqrt(max(h, 0.0)),
        ]
        return torch.tensor([*values, math.log(h) if h > 0 else math.nan], dtype=torch.float64)

    slopes = differentiate(along)
    assert slopes.kink.tolist() == [True, True, False, False, False, False, False]
    assert (slopes.left[:2].tolist(), slopes.right[:2].tolist()) == ([-1.0, 0.0], [1.0, 1.0])
    assert slopes.error[2] < 1e-9
    assert (slopes.error[3:] > 0.1).all()
    assert (slopes.error[[3, 6]] == HUGE).all()


def test_coarse_steps_that_agree_by_chance_are_contradicted_by_finer_ones() -> None:
    wave = 2 * math.pi * 256  # all of its waves fit into the four coarsest steps
    slopes = differentiate(
        lambda h: torch.tensor([h + 0.01 * math.sin(wave * h)], dtype=torch.float64)
    )
    assert abs(slopes.value.item() - (1 + 0.01 * wave)) <= 4 * slopes.error.item()


@pytest.mark.slow
def test_a_gradient_wrong_in_low_precision_alone_is_found_there_alone() -> None:
    pair = next(p for p in PAIRS if p.name == "bfloat16_only")
    for dtype, bad in ((torch.float64, set()), (torch.bfloat16, {"float64_reference"})):
        checks = check_gradients(replace(pair.bound(pair.wrong), dtype=dtype), CPU)
        assert {c.oracle for c in checks if c.verdict in BAD} == bad


@pytest.mark.parametrize(
    ("function", "verdict"),
    [
        # the same numbers are drawn in every call
        slow(lambda x: torch.nn.functional.dropout(x, 0.5), "pass"),
        # at zeros how many are drawn, and so the others' slopes, depends on each element's sign
        slow(lambda x: torch.nn.functional.rrelu(x, training=True), "pass"),
        (lambda x: x * random.random(), None),
        (lambda x: x.floor() + 0 * x, "pass"),
        slow(torch.relu, "pass"),
        (lambda x: x.median(-1)[0], "pass"),
        (lambda x: (x - 0.3).log(), "pass"),
        slow(lambda x: 1 / x, "pass"),
        slow(lambda x: x.exp() - x.exp(), "pass"),
        (lambda x: (x.sort(-1)[0], x.argsort(-1), x.view(-1)), "pass"),
        slow(lambda x: x.clone().mul_(2).relu_(), "pass"),
        (torch.Tensor.exp_, "pass"),
        (lambda x: torch.fft.fft(x).abs(), "pass"),
        slow(lambda x: x.float().sin().double(), "pass"),
        slow(lambda x: x.half().double(), "pass"),
        (lambda x: x.round(decimals=3), "pass"),
        # of two points: 1 or -1, whose gradient is all rounding
        slow(lambda x: torch.corrcoef(x[..., :2]), "pass"),
        slow(lambda x: torch.linalg.svdvals(x[..., :3]), "pass"),
        (lambda x: x[:0].exp(), "pass"),
        slow(lambda x: torch.as_strided(x, (2, 4), (4, 1)), "pass"),
        (lambda x: x.detach() + 0 * x.round(), "fail"),
    ],
)
def test_right_functions_of_difficult_kinds_are_left_alone(
    function: object, verdict: str | None
) -> None:
    checks = checks_of(function, torch.randn(3, 4, generator=torch.Generator().manual_seed(1)))
    bad = [c for c in checks if c.verdict in BAD]
    assert bool(bad) == (verdict == "fail"), bad
    assert ("pass" in {c.verdict for c in checks}) == (verdict is not None)


@pytest.mark.parametrize(
    ("every", "size", "expected"),
    [(3, 0.5, "fail"), slow(7, 0.5, "fail"), (2, 1e-15, "inconclusive")],
)
def test_a_gradient_that_a_repeated_call_changes_is_found(
    every: int, size: float, expected: str
) -> None:
    calls = itertools.count(1)
    wavering = made(torch.sin, lambda g, x: g * x.cos() * (1 - size * (next(calls) % every == 0)))
    checks = checks_of(wavering, torch.randn(3, 4, generator=torch.Generator().manual_seed(1)))
    verdicts = {check.verdict for check in checks if check.probe.startswith("repeated")}
    assert expected in verdicts


@pytest.mark.parametrize("seeds", [range(2), slow(range(2, 6))])
def test_the_rounding_of_a_large_output_that_is_kept_for_the_gradient_is_allowed(
    seeds: range,
) -> None:
    x = torch.tensor([[0.5, -3.2, 20.1, 1, 2], *[[1.3, 2.2, -0.4, 3, 4]] * 3])
    target = function_target(lambda x: torch.logsumexp(x, -1), (x,))
    for seed in seeds:
        checks = verify(replace(target, seed=seed), torch.float32, CPU)
        assert not [c for c in checks if c.verdict in BAD]


def test_a_gradient_that_happens_to_be_small_does_not_pass_for_that() -> None:
    checks = checks_of(lambda x: x.abs().sqrt(), torch.zeros(3))
    assert {c.verdict for c in checks if c.probe == "example"} == {"inconclusive"}


def test_properties_of_nothing_but_nan_are_no_pass() -> None:
    checks = checks_of(lambda x: (x - x.amax()).sqrt() / 0 * x, -torch.rand(4) - 1)
    assert "pass" not in {c.verdict for c in checks if c.oracle == "finite_differences"}
    assert overall(checks) == "inconclusive"


def test_a_gradient_that_depends_on_which_others_are_asked_for_is_named() -> None:
    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(a, b)
            return a * b

        @staticmethod
        def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            a, b = ctx.saved_tensors
            return cotangents[0] * b, cotangents[0] * a * (1.0 if ctx.needs_input_grad[0] else 1.1)

    checks = checks_of(Product.apply, torch.randn(3), torch.randn(3), names=("a", "b"))
    (found,) = [c for c in checks if c.verdict in BAD and c.probe.startswith("subsets")]
    assert found.argument == "b"
    assert "the gradient of input b differs" in (found.reason or "")


def test_a_kink_has_its_own_verdict() -> None:
    checks = checks_of(torch.abs, torch.zeros(3))
    assert {c.verdict for c in checks if c.probe == "example"} == {"kink"}


def test_what_cannot_be_differentiated_twice_is_not_supported_rather_than_wrong() -> None:
    once = made(torch.sin, lambda g, x: g * x.cos(), once=True)
    checks = checks_of(once, torch.randn(3))
    assert [c.verdict for c in checks if c.probe == "second order"] == ["unsupported"]
    assert overall(checks) == "pass"


def test_a_domain_is_declared_or_found_out() -> None:
    inside = checks_of(torch.log, torch.rand(3) + 1)
    assert {c.verdict for c in inside if c.probe in ("fresh", "scale 30")} == {"pass"}
    declared = checks_of(torch.acos, torch.rand(3) / 2, domains=[Domain.parse("[-1, 1]")])
    assert {c.verdict for c in declared if c.probe in ("fresh", "scale 30")} == {"pass"}


@pytest.mark.slow
def test_positive_definite_examples_are_redrawn_as_such() -> None:
    z = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def factor(a: torch.Tensor) -> torch.Tensor:
        return torch.linalg.cholesky_ex(
            (a + a.mH) / 2
        ).L  # without an error where there is no factor

    for right in (True, False):
        function = factor if right else lambda a: factor(a) + 1e-6 * (a.detach() - a)
        checks = checks_of(function, z @ z.mT + torch.eye(3))
        assert any(c.verdict in BAD for c in checks) != right
        verdicts = {
            c.verdict
            for c in checks
            if c.probe in ("fresh", "odd") and c.oracle == "finite_differences"
        }
        assert verdicts == {"pass" if right else "fail"}


def test_integers_are_drawn_from_the_lowest_of_many() -> None:
    x, targets = (
        torch.randn(4, 6),
        torch.randint(1, 5, (4, 6), generator=torch.Generator().manual_seed(0)),
    )
    guesses = list(guessed_shapes(function_target(lambda x, t: x * t, [x, targets]).example, 0))
    drawn = [f.inputs[1] for f in guesses if f.name != "ones"]
    assert min(int(t.min()) for t in drawn) == 1
    assert max(int(t.max()) for t in drawn) > 1


@pytest.mark.slow
def test_equal_indices_have_no_gradient_where_their_order_decides() -> None:
    class Gather(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(index)
            return x.gather(0, index)

        @staticmethod
        def backward(
            ctx: Any, g: torch.Tensor
        ) -> tuple[torch.Tensor, None]:  # of equal indices one alone counts
            return torch.zeros_like(g).scatter(0, ctx.saved_tensors[0], g), None

    x, index = torch.randn(5), torch.tensor([4, 0, 2, 1, 3])
    written = checks_of(lambda x, i, y: x.scatter(0, i, y), x, index, torch.randn(5))
    assert overall(written) == "pass"
    assert any("order" in (c.reason or "") for c in written if c.probe == "duplicate indices")
    read = checks_of(Gather.apply, x, index)
    assert {c.verdict for c in read if c.probe == "duplicate indices"} == {"fail"}


@pytest.mark.parametrize(
    ("function", "count"),
    [(torch.clamp, 3), slow(torch.nn.functional.pairwise_distance, 2), (torch.linalg.svdvals, 1)],
)
def test_where_there_is_no_derivative_any_of_the_slopes_around_is_right(
    function: object, count: int
) -> None:
    bad = [
        c
        for c in checks_of(function, *(torch.zeros(3, 3) for _ in range(count)))
        if c.verdict in BAD
    ]
    assert not bad


def test_a_forward_mode_that_says_nothing_is_no_oracle() -> None:
    class Silent(torch.autograd.Function):
        @staticmethod
        def forward(x: torch.Tensor) -> torch.Tensor:
            return 2 * x

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None: ...

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
            return 2 * g

        @staticmethod
        def jvp(ctx: Any, g: torch.Tensor) -> torch.Tensor:
            return g * math.nan

    checks = checks_of(Silent.apply, torch.randn(3))
    assert {c.verdict for c in checks if c.oracle == "forward_mode"} == {"inconclusive"}
    assert overall(checks) == "pass"


def test_domains_are_read_and_kept_to() -> None:
    z = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 30
    for text in (
        "positive",
        "negative",
        "nonnegative",
        "(-1, 1]",
        "[2, inf)",
        "(-inf, -3)",
        "real",
    ):
        domain = Domain.parse(text)
        assert domain.holds(domain.fold(z)).all(), text
    for text in ("positiv", "[1, 0]", "1, 2", ""):
        with pytest.raises(ConfigError, match="is no domain"):
            Domain.parse(text)

"""``job=autograd`` of operations: what torch.library says of a registered operator."""

import torch

from runner.tasks.autograd import by_opcheck
from tests.support import factories

CPU = torch.device("cpu")


@torch.library.custom_op("opsweep_tests::doubled", mutates_args=())
def doubled(x: torch.Tensor) -> torch.Tensor:
    """A right operator but for its missing gradient."""
    return x * 2


@doubled.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("opsweep_tests::overwriting", mutates_args=())
def overwriting(x: torch.Tensor) -> torch.Tensor:
    """Changes its input, which its schema says it does not."""
    x.mul_(2)
    return x.clone()


@overwriting.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("opsweep_tests::summed", mutates_args=())
def summed(x: torch.Tensor) -> torch.Tensor:
    """Its values are right; what it says of its result's shape, without computing it, is not."""
    return x.sum(-1)


@summed.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def test_a_registered_operators_findings_are_checks() -> None:
    right, overwrites, misshapes = (
        {check.probe: check.verdict for check in by_opcheck(factories.bound(op, size="2x3"), CPU)}
        for op in (doubled, overwriting, summed)
    )
    assert (right["test_schema"], right["test_faketensor"]) == ("pass", "pass")
    assert overwrites["test_schema"] == "fail"
    assert misshapes["test_faketensor"] == "fail"


def test_of_any_other_function_opcheck_says_nothing() -> None:
    assert by_opcheck(factories.bound(torch.sin), CPU) == []

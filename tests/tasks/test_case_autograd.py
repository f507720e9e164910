"""``job=autograd`` of a case: its formula's derivative accuses a wrong backward function."""

import pytest
import torch

from tests.support.factories import case_rows

SINE = {"name": "sine", "expression": "sin(x**2 + 1)", "values": {"x": [3.0, 10.0, 0.0]}}


class Wrong(torch.autograd.Function):
    """A sine whose gradient is off by 1e-9."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, cotangent):
        (x,) = ctx.saved_tensors
        return cotangent * x.cos() * (1 + 1e-9)


def test_a_wrong_backward_inside_a_formula_fails_its_derivative(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def verdicts() -> dict[tuple[str, str | None], str | None]:
        found = [row for row in case_rows(SINE) if row.probe == "example"]
        exact = ("analytic", "autograd_grad")
        return {(row.oracle, row.argument): row.verdict for row in found if row.oracle in exact}

    assert set(verdicts().values()) == {"pass"}
    monkeypatch.setattr(torch, "sin", Wrong.apply)
    assert verdicts() == {
        ("analytic", None): "pass",
        ("analytic", "x"): "fail",
        ("autograd_grad", "x"): "pass",
    }

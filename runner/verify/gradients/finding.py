"""What comparisons find: the worst element of a gradient, and the verdict of several checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from runner.rows.rows import BAD, GradientCheck
from runner.verify.gradients.vectors import index_text

AnyCheck = TypeVar("AnyCheck", bound=GradientCheck)
NO_ORACLE = ("invariant", "autograd_grad")  # what is compared with itself


def overall(checks: Sequence[GradientCheck]) -> str | None:
    """The verdict of several checks: the worst, or else what says most; None of no checks.

    Properties of every right gradient hold for many a wrong one too, that of NaN among them: it
    passes where an oracle says so.
    """
    verdicts = {check.verdict for check in checks}
    if all(c.oracle in NO_ORACLE for c in checks if c.verdict == "pass") and "pass" in verdicts:
        verdicts = verdicts - {"pass"} or {"inconclusive"}
    for verdict in ("fail", "error", "pass", "kink", "inconclusive", "unsupported"):
        if verdict in verdicts:
            return verdict
    return None


def verdict_with_reason(checks: Sequence[GradientCheck]) -> tuple[str | None, str]:
    """The verdict of several checks, and why, where one of them says more than that."""
    verdict = overall(checks)
    reasons = [check.reason for check in checks if check.verdict == verdict and check.reason]
    says_more = verdict in BAD or len(checks) == 1  # a single check says why there are no others
    return verdict, reasons[0] if reasons and says_more else ""


def badness(check: GradientCheck) -> tuple[bool, float]:
    """How bad a check is beside others: failures first, then by their share of what is allowed."""
    return check.verdict in BAD, (check.max_relative_error or 0.0) / (check.tolerance or 1e-300)


def relative(error: float, scale: float) -> float:
    """An error relative to a scale; the error itself where the scale is 0."""
    return error / scale if scale else error


class Worst:
    """The element of a gradient with the largest error, against another gradient of its shape.

    Where that is not finite there is no error: other oracles say whether it should be.

    Attributes:
        index: where it is, as ``3,1``.
        error: absolute; infinite where ``got`` is not finite.
    """

    def __init__(self, got: Tensor, expected: Tensor) -> None:
        errors = (got - expected).abs().masked_fill(~expected.isfinite(), 0.0).to(torch.float64)
        errors = errors.nan_to_num(float("inf"), float("inf")).flatten()
        element = int(errors.argmax())
        self.index, self.error = index_text(element, got), errors[element].item()
        self.got, self.expected = got.flatten()[element].item(), expected.flatten()[element].item()

    def put_into(self, check: AnyCheck, allowed: float, scale: float) -> AnyCheck:
        """A check with these numbers, relative to a scale; its verdict is left as it is."""
        return replace(
            check,
            max_abs_error=self.error,
            max_relative_error=relative(self.error, scale),
            worst_index=self.index,
            got=self.got.real,
            expected=self.expected.real,
            tolerance=relative(allowed, scale),
            tolerance_source="conditioning",
        )

"""Over PyTorch's own operators, whose gradients are right.

How many are accused, and what that takes.

    python tests/benchmarks/operator_database.py [full] [name ...]

Each operator of torch.testing's database with a float64 backward pass, two samples each, on the
CPU, first by this verifier and then by gradcheck in its fast mode, both on one thread. Every
operator that is accused is printed with the cause, found out by hand, and with the first reasons
that were given.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils._pytree import tree_flatten, tree_unflatten

sys.path.insert(0, str(Path(__file__).parents[2]))

from runner.calls.bound_operation import outputs_of
from runner.config.domain import Domain
from runner.rows.rows import BAD
from runner.verify.gradients.verifier import verify
from tests.support.plain_functions import function_target

SAMPLES = 2
REASONS = 2  # that are printed of each operator, unless operators are named
QUICK = (
    "full" not in sys.argv
)  # what stands beside a benchmark; everything takes some ten times as long
NAMES = [name for name in sys.argv[1:] if name != "full"]
Function = Callable[..., list[torch.Tensor]]


CAUSES = {
    "off in PyTorch: the backward pass has 1/6 in float32": ["nn_functional_hardsigmoid"],
    "off in PyTorch: an element that was overwritten keeps its gradient": ["as_strided_scatter"],
    "off in PyTorch: NaN for a target of 0 or less, where full=True has a finite value": [
        "nn_functional_poisson_nll_loss"
    ],
    "off in PyTorch: what a large cotangent gives is not linear in it, by 1e-9 to 1e-8": [
        "matrix_exp"
    ],
    "off in PyTorch: its second and third output have no derivative": ["native_group_norm"],
    "off in PyTorch: second derivatives, of a gradient that the forward pass keeps": [
        "nn_functional_linear_cross_entropy_chunked"
    ],
    "off in PyTorch: second derivatives are NaN where both inputs are masked": ["masked_logaddexp"],
    "off in PyTorch: backward() cannot be called twice, since .grad cannot be added to": ["sgn"],
    "off in PyTorch: NaN at 0 (of all inputs), where the function is a norm": [
        "hypot",
        "masked_std",
    ],
    "off in PyTorch: an element equal to what is not included (include_self=False) gets half": [
        "scatter_reduce_amin",
        "scatter_reduce_amax",
        "index_reduce_amin",
        "index_reduce_amax",
    ],
    "off in PyTorch: 0 at 0, where the function with lambd <= 0 is the identity": [
        "nn_functional_softshrink",
        "nn_functional_hardshrink",
    ],
    "off in PyTorch: 0 for both inputs where they are equal": ["nextafter"],
    "by convention: what is drawn at random is a constant": ["normal"],
    "by convention: zeros are not stored and have no gradient": ["to_sparse"],
    "by convention: it reads memory by strides, and its gradient is that of the memory": [
        "as_strided",
        "as_strided_copy",
    ],
    "no gradient: indices are equal, which write one element; too few of them to show that their "
    "order decides": ["nn_functional_max_unpool1d"],
    "no gradient: singular matrices or equal singular values, of too many elements to try each": [
        *(
            "lu",
            "linalg_lu",
            "linalg_lu_factor_ex",
            "qr",
            "linalg_qr",
            "linalg_eig",
            "linalg_svdvals",
        ),
        *("svd_lowrank", "pca_lowrank"),
    ],
    "our draws: not reflectors as geqrf gives them, which the backward pass undoes": [
        "linalg_householder_product",
        "ormqr",
    ],
    "our tolerance: rounding at scale 1000 is 1.6 times what is allowed": ["lu_solve"],
    "our differences: poles that lie closer than the steps taken at scale 1000": ["lgamma"],
}
"""Why each operator is accused, found out one by one; most only with ``full``."""
CAUSE = {name: cause for cause, names in CAUSES.items() for name in names}


def declared_domains(op: Any) -> tuple[Domain | None, ...]:
    """The intervals that the database declares for an elementwise operator's two inputs.

    Each is [low, high).
    """
    ranges = [getattr(op, f"{side}_make_tensor_kwargs", None) or {} for side in ("lhs", "rhs")]
    ends = [getattr(op, "domain", None), *((r.get("low"), r.get("high")) for r in ranges)]
    unary, left, right = (
        None
        if pair is None or pair == (None, None)
        else Domain(*_open(*pair), with_low=pair[0] is not None)
        for pair in ends
    )
    return (unary or left, right)


def _open(low: float | None, high: float | None) -> tuple[float, float]:
    return -math.inf if low is None else low, math.inf if high is None else high


def samples(op: Any) -> Iterator[tuple[Function, list[torch.Tensor]]]:
    """An operator's sample calls, each as a function of its tensors alone."""
    for sample in islice(op.sample_inputs("cpu", torch.float64, requires_grad=True), SAMPLES):
        leaves, spec = tree_flatten((sample.input, sample.args, sample.kwargs))
        positions = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]

        def function(
            *tensors: torch.Tensor,
            leaves: Any = leaves,
            spec: Any = spec,
            positions: Any = positions,
            sample: Any = sample,
        ) -> list[torch.Tensor]:
            filled = list(leaves)
            for position, tensor in zip(positions, tensors, strict=True):
                filled[position] = tensor
            first, args, kwargs = tree_unflatten(filled, spec)
            result = op.gradcheck_wrapper(op.op, first, *args, **kwargs)
            return outputs_of(sample.output_process_fn_grad(result))

        yield function, [leaves[i] for i in positions]


def accused(op: Any, function: Function, tensors: list[torch.Tensor]) -> list[str]:
    """What this verifier has against a function."""
    domains = (*declared_domains(op), *(None for _ in tensors))[: len(tensors)]
    target = function_target(
        function, tensors, requires_grad=[t.requires_grad for t in tensors], domains=domains
    )
    checks = verify(target, torch.float64, torch.device("cpu"), quick=QUICK)
    COUNT.update(check.verdict for check in checks)
    return [f"{c.probe} by {c.oracle}: {c.reason}" for c in checks if c.verdict in BAD]


def accused_by_gradcheck(_: Any, function: Function, tensors: list[torch.Tensor]) -> list[str]:
    """What gradcheck has against it."""
    torch.autograd.gradcheck(
        lambda *t: tuple(o for o in function(*t) if o.requires_grad), tensors, fast_mode=True
    )
    return []


COUNT: Counter[str] = Counter()


def main() -> None:
    """Print accusations, counts and seconds for both."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    chosen = [
        op
        for op in op_db
        if op.supports_autograd and op.supported_backward_dtypes("cpu") & {torch.float64}
    ]
    chosen = [op for op in chosen if not NAMES or op.name in NAMES]
    cases = []
    for op in chosen:
        try:
            cases += [
                (op, function, tensors)
                for function, tensors in samples(op)
                if any(t.requires_grad for t in tensors)
            ]
        except Exception as error:  # some samples need what is not installed
            print(f"no samples of {op.formatted_name}: {error}"[:120])
    print(f"{len(chosen)} operators, {len(cases)} samples")
    for name, judge in (("this verifier", accused), ("gradcheck fast", accused_by_gradcheck)):
        bad: dict[str, list[str]] = {}
        slowest: list[tuple[float, str]] = []
        begun = time.process_time()  # whatever else the machine does
        for op, function, tensors in cases:
            start = time.process_time()
            try:
                reasons = judge(op, function, tensors)
            except NotImplementedError:  # sparse tensors, for one
                continue
            except Exception as error:
                reasons = [f"{type(error).__name__}: {str(error).strip()[:160]}"]
            slowest.append((time.process_time() - start, op.formatted_name))
            if reasons:
                bad.setdefault(op.formatted_name, []).extend(reasons)
        seconds = time.process_time() - begun
        print(
            f"{name}: {len(bad)} of {len(chosen)} operators accused, {seconds:.1f} s of CPU time "
            f"in all"
        )
        for formatted, reasons in bad.items():
            cause = CAUSE.get(formatted, "UNEXPLAINED") if judge is accused else "it says"
            print(f"  {formatted}: {cause}")
            for reason in list(dict.fromkeys(reasons))[: None if NAMES else REASONS]:
                print(f"    {reason}"[:200].replace("\n", " "))
        print(
            "  slowest: "
            + ", ".join(f"{n} {s:.2f} s" for s, n in sorted(slowest, reverse=True)[:5])
        )
    print(f"verdicts of this verifier: {dict(COUNT)}")


if __name__ == "__main__":
    main()

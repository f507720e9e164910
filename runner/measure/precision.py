"""Products of float32 in fewer digits: which switches allow it, and which operation uses them.

A switch allows, it does not say what happens: with ``medium``, a CPU without matrix instructions
for bfloat16 still computes in float32. So the operation is asked: it runs with the switches as they
are and with all of them off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from runner.measure.process_state import Switch

# TF32 differs by some 2^-12 of the largest element, another order of summation by 2^-20
REDUCED_DIFFERENCE = 2.0**-14
DENORMAL = 1e-310
ROUNDOFF = {"tf32": 2.0**-11, "bf16": 2.0**-9}  # of 11 and 8 bits, rounded to nearest


def allowed_products(device: torch.device) -> str | None:
    """The roughest that float32 products may be rounded to: bf16, tf32, or None for neither."""
    allowed = {switch.get() for switch in _switches(device)}
    return next((name for name in ("bf16", "tf32") if name in allowed), None)


def uses_reduced_precision(run: Callable[[], list[torch.Tensor]], device: torch.device) -> bool:
    """Whether a result depends on the switches by more than the order of a summation explains."""
    if allowed_products(device) is None:
        return False
    with torch.no_grad():
        as_set, again = run(), run()
        with full_precision(device):
            full = run()
    # it differs from itself, and so tells nothing
    if _difference(as_set, again) > REDUCED_DIFFERENCE:
        return False
    return _difference(as_set, full) > REDUCED_DIFFERENCE


def coarser(device: torch.device) -> float:
    """How many times larger the error of a product is that is rounded as the switches allow."""
    kind = allowed_products(device)
    return ROUNDOFF[kind] / 2.0**-24 if kind else 1.0


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Have float32 products computed in float32, and put the switches back."""
    switches = _switches(device)
    before = [switch.get() for switch in switches]
    try:
        for switch in switches:
            switch.put("ieee")
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.put(value)


def _difference(left: list[torch.Tensor], right: list[torch.Tensor]) -> float:
    differences = [0.0]
    for a, b in zip(left, right, strict=True):
        if (a.is_floating_point() or a.is_complex()) and a.numel():
            scale = b.abs().nan_to_num(0.0, 0.0, 0.0).max().item()
            apart = (a - b).abs().nan_to_num(0.0, 0.0, 0.0).max().item()
            differences.append(apart / scale if scale else apart)
    return max(differences)


def _switches(device: torch.device) -> list[Switch]:
    backends: Any = torch.backends
    if not hasattr(backends.mkldnn, "fp32_precision"):  # before PyTorch 2.9
        products = [_legacy_products()]
        return [*products, _legacy_cudnn()] if device.type == "cuda" else products
    on_cpu = (backends.mkldnn.matmul, backends.mkldnn.conv)
    on_cuda = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
    chosen = {"cpu": on_cpu, "cuda": on_cuda}.get(device.type, on_cpu + on_cuda)
    name = "fp32_precision"
    return [Switch(partial(getattr, b, name), partial(setattr, b, name)) for b in chosen]


def _legacy_products() -> Switch:
    names = {"highest": "ieee", "high": "tf32", "medium": "bf16"}
    values = {name: value for value, name in names.items()}
    return Switch(
        lambda: names[torch.get_float32_matmul_precision()],
        lambda name: torch.set_float32_matmul_precision(values[name]),
    )


def _legacy_cudnn() -> Switch:
    def put(name: str) -> None:
        torch.backends.cudnn.allow_tf32 = name == "tf32"

    return Switch(lambda: "tf32" if torch.backends.cudnn.allow_tf32 else "ieee", put)


def precision_modes() -> dict[str, Any]:
    """The switches that change what a float32 product means."""
    modes: dict[str, Callable[[], Any]] = {
        "float32_matmul_precision": torch.get_float32_matmul_precision,
        "cuda_matmul_allow_tf32": lambda: torch.backends.cuda.matmul.allow_tf32,
        "cudnn_allow_tf32": lambda: torch.backends.cudnn.allow_tf32,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled,
        "flush_denormal": flushes_denormals,
    }
    # where the old and the new way of setting them were mixed, PyTorch raises
    return {name: Switch(read, None).read() for name, read in modes.items()}


def flushes_denormals() -> bool:
    """Whether the CPU takes denormal numbers for 0 (``torch.set_flush_denormal``)."""
    return DENORMAL * 0.5 == 0.0  # Python's floats are computed by the same unit

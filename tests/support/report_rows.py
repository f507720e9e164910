"""A run's rows as a benchmark would leave them, with numbers that are known."""

from __future__ import annotations

from runner.analysis.pairs import elements_of
from runner.rows.rows import BenchmarkRow
from tests.support.factories import row

SIZES = ("64x64", "256x256", "1024x1024", "64x256x256")
DTYPES = ("float32", "bfloat16", "float16")
OPS = {"matmul": 2e-9, "add": 1e-10, "transpose": 1e-10}


def rows() -> list[BenchmarkRow]:
    """Two devices, three operations and dtypes, four sizes; some are missing or flagged."""
    return [
        _row(op, size, dtype, device)
        for op in OPS
        for size in SIZES
        for dtype in DTYPES
        for device in ("cpu", "gpu")
    ]


def _row(op: str, size: str, dtype: str, device: str) -> BenchmarkRow:
    elements = elements_of(size) or 0
    launch, rate = (2e-6, 1.0) if device == "cpu" else (2e-5, 20.0)
    seconds = launch + OPS[op] * elements / rate * (1.0 if dtype == "float32" else 0.6)
    names = {"cell": f"c{op}{size}{dtype}{device}", "op": op, "size": size, "dtype": dtype}
    warm = {"cache": "warm", "layout": "contiguous", "fill": "normal"}
    known = {**names, **warm, "compile": "off", "graph": False}
    if (op, dtype, device, size) == ("matmul", "float16", "cpu", "64x256x256"):
        late = "stopped after limit.time_s=30 s"
        return row(device, None, **known, status="timeout", reason=late)
    flags = ("view",) if op == "transpose" else ()
    if (op, size, device) == ("add", "256x256", "cpu"):
        flags = ("contended",)
    product = op == "matmul"
    flop, moved = 2 * elements * 100, elements * 12
    computes = product and size != "64x64"
    return row(
        device,
        seconds,
        **known,
        device_name="cpu AMD EPYC" if device == "cpu" else "gpu:0 Imagined <b>1000</b>",
        ci_low_s=seconds * 0.98,
        ci_high_s=seconds * 1.03,
        flop=flop if product else None,
        bytes=moved,
        flop_per_s=flop / seconds if product else None,
        bytes_per_s=moved / seconds,
        fraction_of_peak=flop / seconds / 1e13 if computes else moved / seconds / 1e12,
        bound="compute" if computes else "memory",
        max_relative_error=1e-7,
        allowed_relative_error=4e-6,
        gradient="pass",
        flags=flags,
    )

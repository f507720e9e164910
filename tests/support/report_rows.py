"""A run's rows as a benchmark would leave them, with numbers that are known: two devices, three dtypes, four sizes."""

from __future__ import annotations

from runner.analysis.comparison import elements_of
from runner.rows.rows import BenchmarkRow

SIZES = ("64x64", "256x256", "1024x1024", "64x256x256")
DTYPES = ("float32", "bfloat16", "float16")
OPS = {"matmul": 2e-9, "add": 1e-10, "transpose": 1e-10}


def rows() -> list[BenchmarkRow]:
    """36 rows on each device; some are missing, flagged or wrong, as in a real run."""
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
    flop, moved = 2 * elements * 100, elements * 12
    known = {
        "cell": f"c{op}{size}{dtype}{device}",
        "job": "benchmark",
        "op": op,
        "size": size,
        "dtype": dtype,
    }
    same = {
        "threads": 2,
        "cache": "warm",
        "layout": "contiguous",
        "fill": "normal",
        "compile": False,
        "graph": False,
    }
    if (op, dtype, device, size) == ("matmul", "float16", "cpu", "64x256x256"):
        return BenchmarkRow(
            **known,
            **same,
            device=device,
            status="timeout",
            reason="stopped after limit.time_s=30 s",
        )
    flags = ("view",) if op == "transpose" else ()
    if (op, size, device) == ("add", "256x256", "cpu"):
        flags = ("contended",)
    return BenchmarkRow(
        **known,
        **same,
        device=device,
        device_name="cpu AMD EPYC" if device == "cpu" else "gpu:0 Imagined <b>1000</b>",
        median_s=seconds,
        ci_low_s=seconds * 0.98,
        ci_high_s=seconds * 1.03,
        flop=flop if op == "matmul" else None,
        bytes=moved,
        flop_per_s=flop / seconds if op == "matmul" else None,
        bytes_per_s=moved / seconds,
        fraction_of_peak=(flop / seconds) / 1e13
        if op == "matmul" and size != "64x64"
        else (moved / seconds) / 1e12,
        bound="compute" if op == "matmul" and size != "64x64" else "memory",
        max_relative_error=1e-7,
        allowed_relative_error=4e-6,
        gradient="pass",
        flags=flags,
    )

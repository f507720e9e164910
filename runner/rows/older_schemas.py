"""The columns of older releases' rows, so that their runs can still be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_ROW_1 = "cell job op size dtype device device_name threads direction seed variant status reason seconds"
_BENCHMARK_1 = (
    "median_s ci_low_s ci_high_s min_s q1_s q3_s first_call_s samples preempted_samples calls_per_sample timing_s stop "
    "flop bytes flop_per_s bytes_per_s peak_memory_bytes finite_fraction max_relative_error allowed_relative_error "
    "checked_size gradient beside flags"
)
_AUTOGRAD_1 = "oracle argument shape max_abs_error max_relative_error got expected tolerance checked_size verdict"
OLD_COLUMNS: Mapping[int, Mapping[str, str]] = {
    1: {"BenchmarkRow": f"{_ROW_1} {_BENCHMARK_1}", "AutogradRow": f"{_ROW_1} {_AUTOGRAD_1}"}
}
"""By schema and kind of row. A column that a later schema drops or renames has to be dealt with in the reader."""


def schema_of(header: Sequence[str], now: Sequence[str], row_type: str, version: int) -> int | None:
    """Which schema a file's header is of; None where it is none's.

    Args:
        header: the file's first line.
        now: this release's columns.
        row_type: the kind of row, by its class's name.
        version: this release's schema.
    """
    *columns, schema, checksum = header if len(header) > 1 else ["", ""]
    if (schema, checksum) != ("schema", "checksum"):
        return None
    if columns == list(now):
        return version
    older = (old for old, kinds in OLD_COLUMNS.items() if kinds.get(row_type, "").split() == columns)
    return next(older, None)

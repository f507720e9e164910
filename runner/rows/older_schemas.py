"""The columns of older releases' rows, so that their runs can still be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_ROW_1 = (
    "cell job op size dtype device device_name threads direction seed variant status reason seconds"
)
_ROW_2 = "cell job op size dtype device device_name threads direction seed node variant status reason seconds"
_COLUMNS: Mapping[int, Mapping[str, str]] = {
    1: {
        "results.csv": f"{_ROW_1} median_s ci_low_s ci_high_s min_s q1_s q3_s first_call_s samples preempted_samples "
        "calls_per_sample timing_s stop flop bytes flop_per_s bytes_per_s peak_memory_bytes finite_fraction "
        "max_relative_error allowed_relative_error checked_size gradient beside flags",
        "autograd.csv": f"{_ROW_1} oracle argument shape max_abs_error max_relative_error got expected tolerance "
        "checked_size verdict",
    },
    2: {
        "results.csv": f"{_ROW_2} cache layout fill compile graph median_s ci_low_s ci_high_s min_s q1_s q3_s "
        "first_call_s compile_s cpu_s launch_s launch_low_s launch_high_s wall_s samples processes preempted_samples "
        "interruptions calls_per_sample timing_s stop flop bytes inputs input_bytes outputs output_bytes flop_per_s "
        "bytes_per_s fraction_of_roof roof peak_memory_bytes finite_fraction max_relative_error "
        "allowed_relative_error checked checked_size gradient clock_before_hz clock_after_hz power_before_w "
        "power_after_w beside flags",
        "autograd.csv": f"{_ROW_2} case probe oracle argument shape layout max_abs_error max_relative_error ulp "
        "worst_index got expected tolerance tolerance_source checked_size verdict got_values expected_values "
        "derivation",
        "tensors.csv": f"{_ROW_2} case expression check expected got verdict",
        "transfers.csv": f"{_ROW_2} to_device memory latency_s latency_low_s latency_high_s bandwidth_bytes_per_s "
        "bandwidth_low_bytes_per_s bandwidth_high_bytes_per_s off sizes smallest_bytes largest_bytes points",
        "roofs.csv": f"{_ROW_2} flop_per_s flop_by bytes_per_s bytes_by kept flags",
    },
}
"""By schema and file, as they were; :data:`runner.config.renamed.RENAMED` says what they are called now."""


def schema_of(header: Sequence[str], now: Sequence[str], file: str, version: int) -> int | None:
    """Which schema a file's header is of; None where it is none's.

    Args:
        header: the file's first line.
        now: this release's columns.
        file: the name that a run gives such a file.
        version: this release's schema.
    """
    *columns, schema, checksum = header if len(header) > 1 else ["", ""]
    if (schema, checksum) != ("schema", "checksum"):
        return None
    if columns == list(now):
        return version
    older = (old for old, files in _COLUMNS.items() if files.get(file, "").split() == columns)
    return next(older, None)

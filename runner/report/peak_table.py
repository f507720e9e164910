"""The table of the machine's own peaks."""

from __future__ import annotations

from collections.abc import Sequence

from runner.report.tables import Table
from runner.rows.rows import RoofRow
from runner.units import digits


def roof_table(rows: Sequence[RoofRow]) -> Table:
    """A line for each dtype, device and number of threads: both peaks, and what reached them."""
    lines: list[tuple[str, ...]] = [
        (
            row.dtype,
            row.device,
            str(row.threads or ""),
            _billions(row, row.flop_per_s),
            row.flop_by or "",
            _billions(row, row.bytes_per_s),
            row.bytes_by or "",
            row.flags or "",
        )
        for row in rows
    ]
    header = ("dtype", "device", "threads", "GFLOP/s", "by", "GB/s", "by", "flags")
    return Table("Roofs", header, lines, 3)


def _billions(row: RoofRow, value: float | None) -> str:
    if value is not None:
        return digits(value / 1e9)
    return "-" if row.status == "unavailable" else row.status

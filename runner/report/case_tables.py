"""The tables of cases: what tensor code gave, and how the gradients of formulas were derived."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from runner.report.tables import Table
from runner.rows.rows import AutogradRow, TensorRow


def tensors_table(rows: Sequence[TensorRow]) -> Table:
    """A line for each case and device: its code, what was checked, and how that came out.

    A device that is not there has no line; it is said once, beside the table.
    """
    groups: dict[tuple[str, str], list[TensorRow]] = {}
    for row in rows:
        if row.status == "unavailable":
            continue
        groups.setdefault((row.case or row.op, row.device), []).append(row)
    lines: list[tuple[str, ...]] = []
    for (case, device), checks in groups.items():
        verdicts = Counter(row.verdict or row.status for row in checks)
        checked = dict.fromkeys(row.check for row in checks if row.check)
        counted = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
        code = next((row.expression for row in checks if row.expression), "")
        lines.append((case, device, code, " ".join(checked), counted))
    return Table("Tensors", ("case", "device", "code", "checked", "verdicts"), lines, 4)


def derivations_table(rows: Sequence[AutogradRow]) -> Table | None:
    """SymPy's derivative of each formula beside what autograd gave, at the declared inputs; None without formulas."""
    lines: list[tuple[str, ...]] = [
        (row.case or row.op, row.dtype, row.device, row.derivation, row.expected_values or "", row.got_values or "",
         row.verdict or row.status)
        for row in rows
        if row.derivation and row.probe == "example"
    ]  # fmt: skip
    header = ("case", "dtype", "device", "derivative", "exact", "autograd", "verdict")
    return Table("Derivations", header, lines, 6) if lines else None

"""``docs/hardware.md``, made of what stages have left: what ran where, and what it showed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from runner.hardware.record import Found, read_found, table_of
from runner.hardware.stages import stages
from runner.report.markdown import as_text
from runner.rows.rows import grouped

HEAD = """\
# Hardware

What `python -m runner.hardware` has shown, machine by machine; made of `outputs/hardware/` by
`python -m runner.hardware --page`. [Accelerators](accelerators.md) says how it is measured.
"""
NONE = """
**No stage has run on real hardware yet.** A simulated device is marked as one.
"""
TABLE = "| stage | step | checked | passed | s | ended |\n| --- | --- | --- | --- | --- | --- |\n"
FIGURES = "| stage | step | figure | |\n| --- | --- | --- | --- |\n"


def page_of(out: Path) -> str:
    """The page of all machines below a folder, the real ones first."""
    folders = sorted(path for path in out.glob("*") if path.is_dir()) if out.is_dir() else []
    machines = [
        list(chain.from_iterable(read_found(table_of(folder, stage)) for stage in stages()))
        for folder in folders
    ]
    ordered = sorted(filter(None, machines), key=lambda found: found[0].simulated)
    has_real = any(found[0].simulated == "no" for found in ordered)
    return "".join([HEAD, "" if has_real else NONE, *map(_machine, ordered)])


def _machine(found: Sequence[Found]) -> str:
    first = found[0]
    simulated = (
        " (simulated: its times say nothing of hardware)" if first.simulated == "yes" else ""
    )
    device, _, rest = as_text(first.machine).partition("; ")
    lines = [f"\n## {device}{simulated}\n\n{rest}\n\n{TABLE}"]
    for (stage, step), of_step in grouped(found, lambda line: (line.stage, line.step)).items():
        checked = [line for line in of_step if line.passed]
        passed = sum(line.passed == "yes" for line in checked)
        last = of_step[-1]
        lines.append(
            f"| {stage} | {step} | {len(checked)} | {passed} | {last.seconds} | {last.at} |\n"
        )
    failed = [line for line in found if line.passed == "no"]
    lines += ["\nWhat failed:\n\n"] if failed else ["\nNothing failed.\n"]
    for line in failed:
        of = f"{line.stage}, {line.step}: {line.check}: {line.got}; expected: {line.expected}"
        lines.append(f"- {as_text(of)}\n")
    figures = [line for line in found if not line.passed]
    rows = (f"| {f.stage} | {f.step} | {as_text(f.check)} | {as_text(f.got)} |\n" for f in figures)
    return "".join([*lines, f"\n{FIGURES}" if figures else "", *rows])

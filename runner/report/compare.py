"""``job=compare``: two runs side by side, their differences first, and an exit code for a gate."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from runner.analysis.changes import Change, Summary, changes, summary_of
from runner.analysis.pairs import Pairs
from runner.config.schema import Compare, Report
from runner.errors import ConfigError, printable
from runner.files import write_atomically
from runner.report.conclude import Run, exit_code, load_run
from runner.report.language import ENGLISH, FindingText, Words, first_of, ratio_text, words_of
from runner.report.markdown import note_lines, table_lines
from runner.report.page.facts import flatten
from runner.report.page.listing import change_listing
from runner.report.page.page import page_of
from runner.report.summary import shown_path
from runner.report.tables import changes_table, print_table
from runner.rows.csv_store import write_records
from runner.rows.rows import BenchmarkRow
from runner.units import counted

SLOWER, UNCLEAR = 3, 4  # exit codes
IN_TURN = "ab.csv"  # the table of sides that were timed in turn, in one run
ENOUGH = 0.9  # of the cells, which have to be able to show what the gate is for
ALWAYS_SHOWN = (0.05, 0.1, 0.3)  # relative differences
NAMED_AT_MOST = 10
OF_ONE_RUN = re.compile(
    r"(started|command|folder|id|report|cells|excluded|resumed|nodes|host\.load_1min|"
    r"host\.cpu_frequency_khz|packages\.(hydra-core|omegaconf|pandas))\b"
)
"""What of ``environment.json`` no two runs have in common, or times do not depend on."""


@dataclass(frozen=True)
class Comparison:
    """Two sides, read and compared."""

    changes: Sequence[Change]  # a line of ``compare.csv`` for each cell
    summary: Summary  # what they say together
    environments: Sequence[str]  # a line for each thing that is not the same in both environments
    across: bool  # whether the sides were measured on different machines
    slower_than: float  # what the gate allows
    more_instructions: float  # what it allows of counted instructions
    failed: bool  # whether a cell or a check of the later side failed
    last: Run  # the last run of the later side
    file: str  # the name of the table

    @property
    def slower(self) -> list[Change]:
        """The cells that are surely slower than the gate allows."""
        return [change for change in self.changes if change.is_slower]

    @property
    def wrong(self) -> list[Change]:
        """The cells that fail now and did not before."""
        return [change for change in self.changes if change.became_wrong]

    @property
    def more(self) -> list[Change]:
        """The cells whose calls have more instructions than the gate allows."""
        return [change for change in self.changes if change.has_more_instructions]

    @property
    def failing(self) -> list[Change]:
        """All these cells, each once."""
        return list(dict.fromkeys([*self.slower, *self.wrong, *self.more]))

    @property
    def can_see(self) -> bool:
        """Whether enough of the cells could have shown what the gate is for."""
        return self.summary.could_show[self.slower_than] >= ENOUGH


def compare_runs(
    table: Path,
    later: Sequence[str],
    earlier: Sequence[str],
    report: Report,
    settings: Compare,
    *,
    quiet: bool = False,
) -> int:
    """Compare runs, write a table with its Markdown and its page, and print it.

    Args:
        table: the file; of ``ab.csv`` both sides took turns in one run, and neither is to fail.
        later: the folders of that side's runs.
        earlier: those of the other side.
        report: what counts as the same, and the language of the files.
        settings: what the gate allows.
        quiet: whether the table is not printed.

    Returns:
        the exit code: 3 where something became slower or wrong or has more instructions, 1 where
        something fails as it did before, ``compare.unclear_exit`` where too few cells could have
        shown what is asked, or 0.

    Raises:
        ConfigError: a folder cannot be compared; nothing was written.
        OSError: a file cannot be written.
    """
    found = comparison_of(later, earlier, report, settings, table.name)
    words = words_of(report.language or "en")
    sides = f"{' + '.join(later)} / {' + '.join(earlier)}"
    notes = _notes(found, words)
    into = table.parent
    into.mkdir(parents=True, exist_ok=True)
    if table.exists():
        raise ConfigError(f"{into} already holds a comparison; choose another with hydra.run.dir=")
    write_records(table, found.changes, durable=True)
    lines = [f"# {printable(sides)}", "", *note_lines(notes, words)]
    lines += table_lines(changes_table(found.changes), words)
    write_atomically(table.with_suffix(".md"), "\n".join(lines))
    write_atomically(table.with_suffix(".html"), _page(sides, found, notes, words))

    # the terminal speaks English, whatever the language of the files
    if not quiet:
        print_table(changes_table(found.changes))
    for note in _notes(found, ENGLISH):
        print(printable(note))
    print(f"{counted(len(found.changes), 'cell')} in {shown_path(table)}", flush=True)
    if found.failing:
        return SLOWER
    if found.failed:
        return 1
    return 0 if found.can_see else settings.unclear_exit


def comparison_of(
    later: Sequence[str], earlier: Sequence[str], report: Report, settings: Compare, file: str
) -> Comparison:
    """Read and compare two sides, whose table is to have this name.

    Raises:
        ConfigError: a folder holds no rows to compare, or rows of another machine.
    """
    before, after = [_loaded(folder) for folder in earlier], [_loaded(folder) for folder in later]
    across = len({_machine(run) for run in (*before, *after)}) > 1
    if across and not report.compare_across_nodes:
        machines = ", ".join(dict.fromkeys(_machine(run) for run in (*before, *after)))
        remedy = "report.compare_across_nodes=true compares them all the same"
        raise ConfigError(f"the runs are of different machines ({machines}); {remedy}")
    found = changes(
        [_benchmarks(run) for run in before],
        [_benchmarks(run) for run in after],
        margin=report.same_within,
        slower_than=settings.slower_than,
        more_instructions=settings.more_instructions,
        pairs=Pairs(after[-1].pairs) if file == IN_TURN else None,
    )
    summary = summary_of(found, (*ALWAYS_SHOWN, settings.slower_than))
    if not summary.both:
        sides = " and ".join([*later, *earlier])
        raise ConfigError(f"{sides} have no cell in common; compare runs of the same command")
    rows = chain.from_iterable(map(_benchmarks, [*after, *(before if file == IN_TURN else [])]))
    return Comparison(
        found,
        summary,
        environment_changes(before[-1].environment, after[-1].environment),
        across,
        settings.slower_than,
        settings.more_instructions,
        failed=exit_code(list(rows), strict=False) != 0,
        last=after[-1],
        file=file,
    )


def _loaded(folder: str) -> Run:
    run = load_run(Path(folder))
    if run.damaged:
        more = f" (and {len(run.damaged) - 1} more)" if len(run.damaged) > 1 else ""
        raise ConfigError(f"{run.damaged[0]}{more}; what is damaged is not compared")
    if not run.rows_of_job["benchmark"]:
        raise ConfigError(f"{folder} holds no times to compare; give the folder of a benchmark")
    return run


def _benchmarks(run: Run) -> list[BenchmarkRow]:
    return [row for row in run.rows_of_job["benchmark"] if isinstance(row, BenchmarkRow)]


def _machine(run: Run) -> str:
    return str((run.environment.get("host") or {}).get("name") or "a machine that is not named")


def environment_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What two environments differ in, ``torch.version 2.12.0 to 2.13.0``."""
    old, new = dict(flatten(before)), dict(flatten(after))
    names = dict.fromkeys([*old, *new])
    return [
        f"{name} {old.get(name, 'blank')} to {new.get(name, 'blank')}"
        for name in names
        if old.get(name) != new.get(name) and not OF_ONE_RUN.match(name)
    ]


def _notes(found: Comparison, words: Words) -> list[str]:
    """What a reader has to know, in sentences, the most important first."""
    summary = found.summary
    numbers = {"limit": f"{100 * found.slower_than:g}", "both": summary.both}
    numbers["more"] = f"{100 * found.more_instructions:g}"
    numbers["where"] = words["compare_across"] if found.across else ""
    notes = []

    def note(key: str, **more: object) -> None:
        notes.append(words[f"compare_{key}"].format(**numbers, **more))

    # what the gate says, the first of which is the page's, and what was compared
    if found.slower:
        note("slower", cells=_named(found.slower, words))
    if found.wrong:
        note("wrong", cells=_named(found.wrong, words))
    if found.more:
        note("more_instructions", cells=_named(found.more, words))
    if not found.slower and found.can_see:
        note("nothing")
    if not found.can_see:
        note("blind")
    if found.environments:
        note("environments", differences="; ".join(found.environments))

    # what the verdicts are, and what they could have been
    counts = [f"{words[f'verdict_{name}']}: {n}" for name, n in summary.verdicts.items()]
    not_compared = summary.both - sum(summary.verdicts.values())
    counts += [f"{words['compare_none']}: {not_compared}"] if not_compared else []
    note("verdicts", counts=", ".join(counts))
    if summary.geometric_mean is not None:
        note("mean", ratio=ratio_text(summary.geometric_mean, words))
    shares = [f"{100 * least:g} %: {share:.0%}" for least, share in summary.could_show.items()]
    note("could_show", shares=", ".join(shares))

    # what is not on both sides
    for side, other in (("before", "after_cell"), ("after", "before_cell")):
        lone = [change for change in found.changes if getattr(change, other) is None]
        if lone:
            note(f"only_{side}", cells=_named(lone, words))
    return notes


def _named(found: Sequence[Change], words: Words) -> str:
    return ", ".join(first_of([change.label for change in found], NAMED_AT_MOST, words))


def _findings(found: Comparison, notes: Sequence[str], words: Words) -> list[FindingText]:
    """What the gate says, and the mean of all changes, as the page's large numbers."""
    failing = found.failing
    tone = "right" if found.can_see else "unclear"
    tone = "wrong" if failing else tone
    cells = [change.after_cell for change in failing[:NAMED_AT_MOST] if change.after_cell]
    findings = [FindingText(tone, str(len(failing)), "", notes[0], cells)]
    if found.summary.geometric_mean is not None:
        ratio = ratio_text(found.summary.geometric_mean, words)
        where = words["compare_across"] if found.across else ""
        findings.append(FindingText("", ratio, "", words["compare_mean_of"].format(where=where)))
    return findings


def _page(sides: str, found: Comparison, notes: Sequence[str], words: Words) -> str:
    return page_of(
        rows=_benchmarks(found.last),
        environment=found.last.environment,
        found=[(sides, _findings(found, notes, words))],
        notes=notes[1:],
        listings=[change_listing(found.changes, words, found.file)],
        words={**words, "notes": words["compare_notes"]},
    )

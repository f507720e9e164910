"""``job=compare``: two runs side by side, their differences first, and an exit code for a gate."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import eq
from pathlib import Path

from runner.analysis.changes import ENOUGH, Change, Runs, Summary, changes, key_of, summary_of
from runner.analysis.check_changes import newly_wrong
from runner.analysis.operation_changes import OperationChange
from runner.analysis.pairs import Pairs
from runner.config.axes import AXES
from runner.config.schema import Compare, Report
from runner.errors import ConfigError, printable
from runner.files import beside, write_atomically
from runner.report.conclude import SLOWER, Run, effective_report, exit_code, load_run
from runner.report.environments import EnvironmentChange, environment_changes, mixed_in
from runner.report.language import ENGLISH, FindingText, Words, first_of, ratio_text, words_of
from runner.report.markdown import note_lines, table_lines
from runner.report.page.listing import change_listing, operation_listing
from runner.report.page.page import page_of
from runner.report.summary import shown_path
from runner.report.tables import by_importance, changes_table, operations_table, print_table
from runner.rows.csv_store import write_records
from runner.rows.environment_file import every_environment
from runner.rows.rows import BenchmarkRow, Row
from runner.units import counted, digits

BEFORE = "a"  # the folder of the earlier of these sides, in that of the later one
TAKEN_UP = ("language", "same_within")  # of the report's settings, what a run was made with
ALWAYS_SHOWN = (0.05, 0.1, 0.3)  # relative differences
NAMED_AT_MOST = 10
LONGEST_COMMENT = 60_000  # characters of the Markdown; GitHub takes 65,536
LINES_OF_COMMENT = (100, 50, 20, 5)  # the most of them that are not longer


@dataclass(frozen=True)
class Comparison:
    """Two sides, read and compared."""

    changes: Sequence[Change]  # a line of ``compare.csv`` for each cell
    ordered: Sequence[Change]  # the same, what fails the gate first
    operations: Sequence[OperationChange]  # of which several cells tell, what fails comes first
    summary: Summary  # what they say together
    checks: Sequence[str]  # those of gradients and tensors that fail now and did not before
    environments: Sequence[EnvironmentChange]  # what is not the same, the most important first
    mixed: Mapping[str, Sequence[str]]  # by the runs of a side, in what they are not of one
    # each run that lacks cells: how many it has, and how many it was to have
    cut_short: Sequence[tuple[str, int, int]]
    across: bool  # whether the sides were measured on different machines
    slower_than: float  # what the gate allows
    more_instructions: float  # what it allows of counted instructions
    counts_instructions: bool  # whether a run of either side was to count them
    in_turn: bool  # whether the sides took turns in one run
    language: str  # of the files
    failed: bool  # whether a cell or a check of the later side failed
    last: Run  # the last run of the later side
    file: str  # the name of the table

    @property
    def slower(self) -> list[Change]:
        """The cells that are surely slower than the gate allows."""
        return [change for change in self.ordered if change.is_slower]

    @property
    def slower_operations(self) -> list[OperationChange]:
        """The operations that are surely slower than the gate allows, over all their cells."""
        return [operation for operation in self.operations if operation.is_slower]

    @property
    def wrong(self) -> list[Change]:
        """The cells that fail now and did not before."""
        return [change for change in self.ordered if change.became_wrong]

    @property
    def more(self) -> list[Change]:
        """The cells whose calls have more instructions than the gate allows."""
        return [change for change in self.ordered if change.has_more_instructions]

    @property
    def is_slower(self) -> bool:
        """Whether a cell or an operation is surely slower than the gate allows."""
        return bool(self.slower or self.slower_operations)

    @property
    def fails(self) -> bool:
        """Whether the gate finds anything."""
        return any((self.is_slower, self.wrong, self.checks, self.more))

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
    explicit: Collection[str] = (),
    quiet: bool = False,
) -> int:
    """Compare runs, write a table with its Markdown and its page, and print it.

    Args:
        table: the file; of ``ab.csv`` both sides took turns in one run.
        later: the folders of that side's runs.
        earlier: those of the other side.
        report: what counts as the same, and the language of the files.
        settings: what the gate allows.
        explicit: the keys of ``report`` that the user gave; of the others some are the later run's.
        quiet: whether the table is not printed.

    Returns:
        the exit code: 3 where something became slower or wrong or has more instructions, 1 where
        something fails as it did before, ``compare.unclear_exit`` where too few cells could have
        shown what is asked, or 0.

    Raises:
        ConfigError: a folder cannot be compared; nothing was written.
        OSError: a file cannot be written.
    """
    found = comparison_of(later, earlier, report, settings, file=table.name, explicit=explicit)
    _write(table, f"{' + '.join(later)} / {' + '.join(earlier)}", found)

    # the terminal speaks English, whatever the language of the files
    first, rest = _first_notes(found, ENGLISH), _all_notes(found, ENGLISH)
    for note in first:
        print(printable(note))
    if not quiet:
        print_table(changes_table(found.ordered))
        if found.operations:
            print_table(operations_table(found.operations), titled=True)
    for note in rest[len(first) :]:
        print(printable(note))
    print(f"{counted(len(found.changes), 'cell')} in {shown_path(table)}", flush=True)
    if found.fails:
        return SLOWER
    if found.failed:
        return 1
    return 0 if found.can_see else settings.unclear_exit


def _write(table: Path, sides: str, found: Comparison) -> None:
    """Write the tables, the Markdown and the page, in the language of the files."""
    words = words_of(found.language)
    notes = _all_notes(found, words)
    into = table.parent
    into.mkdir(parents=True, exist_ok=True)
    if table.exists():
        raise ConfigError(f"{into} already holds a comparison; choose another with hydra.run.dir=")
    write_records(table, found.changes, durable=True)
    if found.operations:
        write_records(into / beside(table.name, "operations"), found.operations, durable=True)
    if found.environments:
        write_records(into / beside(table.name, "environments"), found.environments, durable=True)
    write_atomically(table.with_suffix(".md"), _comment(sides, found, notes, words))
    write_atomically(table.with_suffix(".html"), _page(sides, found, words))


def comparison_of(
    later: Sequence[str],
    earlier: Sequence[str],
    report: Report,
    settings: Compare,
    *,
    file: str,
    explicit: Collection[str] = (),
) -> Comparison:
    """Read and compare two sides, whose table is to have this name.

    Raises:
        ConfigError: a folder holds no rows to compare, or rows of another machine; or the gate
            could never pass.
    """
    _refuse_repeated([*later, *earlier])
    before, after = [_loaded(folder) for folder in earlier], [_loaded(folder) for folder in later]
    report = _taken_up(report, after[-1], explicit)
    settings.check_gate(report)
    old, new = ([_benchmarks(run) for run in side] for side in (before, after))
    in_turn = _are_sides_of_one_run(later, earlier)
    found = changes(
        old,
        new,
        margin=report.same_within,
        slower_than=settings.slower_than,
        more_instructions=settings.more_instructions,
        pairs=Pairs(after[-1].pairs) if in_turn else None,
    )
    lacking = _cut_short(later, after)
    differences = (*ALWAYS_SHOWN, settings.slower_than)
    summary = summary_of(found, differences, settings.slower_than, is_cut_short=bool(lacking))
    if not summary.both:
        none = (
            f"{' and '.join([*later, *earlier])} have no cell in common: {_what_differs(old, new)}"
        )
        raise ConfigError(f"{none}; compare runs of the same command")
    across = _are_across_machines(before, after, report)
    was, now = (_all_rows(side) for side in (before, after))
    environments = [_environments(side) for side in (before, after)]
    mixed = dict(zip(map(" + ".join, (earlier, later)), map(mixed_in, environments), strict=True))
    return Comparison(
        found.cells,
        by_importance(found.cells),
        sorted(found.operations, key=lambda of: (not of.is_slower, of.speedup)),
        summary,
        newly_wrong(was, now),
        environment_changes(*environments),
        mixed,
        [*lacking, *_cut_short(earlier, before)],
        across,
        settings.slower_than,
        settings.more_instructions,
        any(map(_counts_instructions, (*before, *after))),
        in_turn,
        report.language or "en",
        failed=exit_code(now, strict=False) != 0,
        last=after[-1],
        file=file,
    )


def _taken_up(report: Report, last: Run, explicit: Collection[str]) -> Report:
    """The settings, with some of those that the run was made with where the user gave none."""
    stored = last.environment["report"]
    return effective_report(report, {k: stored[k] for k in TAKEN_UP if k in stored}, explicit)


def _are_sides_of_one_run(later: Sequence[str], earlier: Sequence[str]) -> bool:
    """Whether they took turns in one run, whose visits tell more than its rows."""
    (now, *more), (was, *others) = later, earlier
    return not (more or others) and os.path.realpath(was) == os.path.realpath(Path(now, BEFORE))


def _all_rows(side: Sequence[Run]) -> list[Row]:
    of_jobs = (run.rows_of_job.values() for run in side)
    return list(chain.from_iterable(chain.from_iterable(of_jobs)))


def _environments(side: Sequence[Run]) -> list[dict[str, object]]:
    """All that a side was measured with, on all of its machines."""
    return list(chain.from_iterable(every_environment(dict(run.environment)) for run in side))


def _cut_short(folders: Sequence[str], side: Sequence[Run]) -> list[tuple[str, int, int]]:
    """The runs that have fewer cells than they were to have."""
    counts = [
        (folder, len({row.cell for row in _all_rows([run])}), run.environment.get("cells") or 0)
        for folder, run in zip(folders, side, strict=True)
    ]
    return [(folder, count, cells) for folder, count, cells in counts if count < cells]


def _counts_instructions(run: Run) -> bool:
    asked = "counts=instructions" in " ".join(run.environment.get("command") or ())
    return asked or any(row.instructions for row in _benchmarks(run))


def _refuse_repeated(folders: Sequence[str]) -> None:
    """Refuse a folder that is given twice, whose rows would vary by nothing."""
    for folder, count in Counter(os.path.realpath(folder) for folder in folders).items():
        if count > 1:
            raise ConfigError(f"{folder} is given twice; give each run once, on one of the sides")


def _what_differs(before: Runs, after: Runs) -> str:
    """In which columns a later cell differs from the earlier one that is most like it."""
    one, names = key_of(after[0][0]), [*AXES, "variant"]
    keys = map(key_of, chain.from_iterable(before))
    like = max(keys, key=lambda key: sum(map(eq, key, one)))
    differing = {n: (old, new) for n, old, new in zip(names, like, one, strict=True) if old != new}
    always = {name for name, axis in AXES.items() if axis.default is not None}
    if blank := [name for name in differing if name in always and None in differing[name]]:
        return f"their schemas differ, as one is of a release without {', '.join(blank)}"
    said = [f"{n} {old} and {new}" for n, (old, new) in differing.items() if n != "variant"]
    said += ["the op file or the timing"] if "variant" in differing else []
    return f"the nearest ones differ in {', '.join(said)}"


def _loaded(folder: str) -> Run:
    run = load_run(Path(folder))
    if run.damaged:
        more = f" (and {len(run.damaged) - 1} more)" if len(run.damaged) > 1 else ""
        raise ConfigError(f"{run.damaged[0]}{more}; what is damaged is not compared")
    if not run.rows_of_job["benchmark"]:
        what = "job=compare takes runs of benchmarks, and compares their checks of gradients too"
        raise ConfigError(f"{folder} holds no times to compare; {what}")
    return run


def _benchmarks(run: Run) -> list[BenchmarkRow]:
    return [row for row in run.rows_of_job["benchmark"] if isinstance(row, BenchmarkRow)]


def _are_across_machines(before: Sequence[Run], after: Sequence[Run], report: Report) -> bool:
    """Whether cells ran on other machines than before; ConfigError unless that was asked for."""
    machines = _machines(before, after)
    if len(machines) > 1 and not report.compare_across_nodes:
        remedy = "report.compare_across_nodes=true compares them all the same"
        raise ConfigError(f"the runs are of different machines ({', '.join(machines)}); {remedy}")
    return len(machines) > 1


def _machines(before: Sequence[Run], after: Sequence[Run]) -> list[str]:
    """Those of the cells that did not run on the same ones on both sides; none where all did.

    Rows and environments of an older release have no more of a machine than its name.
    """
    is_named = all(run.environment.get("node") for run in (*before, *after))
    of_cell: list[dict[object, set[str]]] = [{}, {}]
    for machines, side in zip(of_cell, (before, after), strict=True):
        for run in side:
            host = (run.environment.get("host") or {}).get("name") or "a machine that is not named"
            of_run = run.environment["node"] if is_named else host
            for row in _benchmarks(run):
                node = (row.node if is_named else None) or of_run
                machines.setdefault(key_of(row), set()).add(str(node))
    old, new = of_cell
    differing = [old[key] | new[key] for key in old.keys() & new.keys() if old[key] != new[key]]
    return sorted(set(chain.from_iterable(differing)))


@dataclass(frozen=True)
class Note:
    """What the gate says of some cells, or operations."""

    tone: str
    text: str
    count: int = 0  # how many of them
    cells: Sequence[Change] = ()


def _gate_notes(found: Comparison, words: Words) -> list[Note]:
    """What the gate says, the most important first."""
    notes = []
    if operations := found.slower_operations:
        of_cells = words["compare_of_cells"]
        said = [
            f"{of.label} ({ratio_text(of.speedup, words)}{of_cells.format(**vars(of))})"
            for of in operations
        ]
        named = ", ".join(first_of(said, NAMED_AT_MOST, words))
        text = _said(found, words, "slower_operations", operations=named)
        notes.append(Note("wrong", text, len(operations)))
    kinds = {"slower": found.slower, "wrong": found.wrong, "more_instructions": found.more}
    for key, cells in kinds.items():
        labels = [change.label for change in cells] + (key == "wrong") * [*found.checks]
        if labels:
            named = ", ".join(first_of(labels, NAMED_AT_MOST, words))
            text = _said(found, words, key, cells=named)
            notes.append(Note("wrong", text, len(labels), cells))
    if lost := {change: why for change in found.ordered if (why := change.lost)}:
        labels = [f"{change.label} ({why})" for change, why in lost.items()]
        named = ", ".join(first_of(labels, NAMED_AT_MOST, words))
        notes.append(Note("unclear", _said(found, words, "lost", cells=named), len(lost), [*lost]))
    for run, count, of in found.cut_short:
        text = _said(found, words, "cut_short", run=run, count=count, cells=of)
        notes.append(Note("unclear", text, of - count))

    # whether there is anything slower, or why that is not known
    if not found.can_see:
        rest = words["compare_else"] if found.is_slower else ""
        advice = words[f"compare_blind_{_why_blind(found)}"]
        notes.append(Note("unclear", _said(found, words, "blind", rest=rest, advice=advice)))
    elif not found.is_slower:
        said = [_said(found, words, "nothing"), *_named_from(found, words)]
        notes.append(Note("right", "; ".join(said)))
    return notes


def _why_blind(found: Comparison) -> str:
    """Why too few cells could have shown a difference, by which there is something to do."""
    if found.summary.compared < ENOUGH:
        return "missing"
    if found.in_turn:
        return "ab"
    return "runs" if any(change.low for change in found.changes) else "few"


def _named_from(found: Comparison, words: Words) -> list[str]:
    """From which slowdown on cells are named, where that is known."""
    if found.summary.named_from is None:
        return []
    least = digits(100 * found.summary.named_from, 2).replace(".", words["decimal"])
    return [_said(found, words, "named_from", least=least)]


def _all_notes(found: Comparison, words: Words) -> list[str]:
    of_gate = [note.text for note in _gate_notes(found, words)]
    return [*_first_notes(found, words), *of_gate, *_notes(found, words)]


def _first_notes(found: Comparison, words: Words) -> list[str]:
    """What the sides differ in beside their times, which comes before all that this explains."""
    notes = []
    for runs, differences in found.mixed.items():
        if named := "; ".join(first_of(differences, NAMED_AT_MOST, words)):
            notes.append(_said(found, words, "mixed", runs=runs, differences=named))
    if found.environments:
        changed = list(map(str, found.environments))
        named = "; ".join(first_of(changed, NAMED_AT_MOST, words))
        notes.append(_said(found, words, "environments", differences=named))
    return notes


def _notes(found: Comparison, words: Words) -> list[str]:
    """What else a reader has to know, in sentences."""
    summary, notes = found.summary, list[str]()

    # what the verdicts are, and what they could have been
    counts = [f"{words[f'verdict_{name}']}: {n}" for name, n in summary.verdicts.items()]
    not_compared = summary.both - sum(summary.verdicts.values())
    counts += [f"{words['compare_none']}: {not_compared}"] if not_compared else []
    notes.append(_said(found, words, "verdicts", counts=", ".join(counts)))
    if summary.geometric_mean is not None:
        notes.append(_said(found, words, "mean", ratio=ratio_text(summary.geometric_mean, words)))
    shares = {least: math.floor(1_000 * share) / 10 for least, share in summary.could_show.items()}
    texts = [f"{100 * least:g} %: {share:g} %" for least, share in shares.items()]
    said = "; ".join(texts).replace(".", words["decimal"])
    notes.append(_said(found, words, "could_show", shares=said))
    if summary.left_out:
        notes.append(_said(found, words, "left_out", count=summary.left_out))
    if found.is_slower or not found.can_see:
        notes += _named_from(found, words)
    if found.counts_instructions:
        counted_twice = sum(change.instructions_ratio is not None for change in found.changes)
        notes.append(_said(found, words, "counted", count=counted_twice))

    # what is not on both sides
    for side, other in (("before", "after_cell"), ("after", "before_cell")):
        lone = [change for change in found.changes if getattr(change, other) is None]
        if lone:
            labels = [change.label for change in lone]
            named = ", ".join(first_of(labels, NAMED_AT_MOST, words))
            notes.append(_said(found, words, f"only_{side}", cells=named))
    return notes


def _said(found: Comparison, words: Words, key: str, **values: object) -> str:
    """A sentence; each says where the sides were measured on different machines."""
    numbers = {"limit": f"{100 * found.slower_than:g}", "both": found.summary.both}
    numbers["more"] = f"{100 * found.more_instructions:g}"
    where = words["compare_across"] if found.across else ""
    return words[f"compare_{key}"].format(**numbers, where=where, **values)


def _findings(found: Comparison, words: Words) -> list[FindingText]:
    """What the gate says, and the mean of all changes, as the page's large numbers."""
    findings = []
    for note in _gate_notes(found, words):
        cells = [change.after_cell for change in note.cells[:NAMED_AT_MOST] if change.after_cell]
        findings.append(FindingText(note.tone, str(note.count), "", note.text, cells))
    if found.summary.geometric_mean is not None:
        ratio = ratio_text(found.summary.geometric_mean, words)
        findings.append(FindingText("", ratio, "", _said(found, words, "mean_of")))
    return findings


def _comment(sides: str, found: Comparison, notes: Sequence[str], words: Words) -> str:
    """The Markdown, with so many lines of the table that a pull request takes it."""
    words = {**words, "notes": words["compare_notes"]}
    for most in LINES_OF_COMMENT:
        lines = [f"# {printable(sides)}", "", *note_lines(notes, words)]
        if found.operations:
            lines += table_lines(operations_table(found.operations, most), words)
        lines += table_lines(changes_table(found.ordered, most), words)
        if len(text := "\n".join(lines)) <= LONGEST_COMMENT:
            break
    return text


def _page(sides: str, found: Comparison, words: Words) -> str:
    listings = [change_listing(found.ordered, words, found.file)]
    if found.operations:
        file = beside(found.file, "operations")
        listings.insert(0, operation_listing(found.operations, words, file))
    return page_of(
        rows=_benchmarks(found.last),
        environment=found.last.environment,
        found=[(sides, _findings(found, words))],
        first_facts=[(words["environment"], note) for note in _first_notes(found, words)],
        notes=_notes(found, words),
        listings=listings,
        words={**words, "notes": words["compare_notes"]},
    )

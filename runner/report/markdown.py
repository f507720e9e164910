"""``report.md``: the report for readers of text, with links to the figures and the page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from runner.analysis.analysis import Analysis
from runner.errors import printable
from runner.report.language import Words, finding_text, sentence_text
from runner.report.tables import Table

LONGEST_SHOWN = 2_000  # characters of a note or an entry


def markdown_of(
    analysis: Analysis,
    tables: Sequence[Table],
    notes: Sequence[str],
    figures: Mapping[str, str],
    words: Words,
) -> str:
    """The file's text, with tables as the terminal shows them and figures by the names of files."""
    count = words["md_rows"].format(rows=len(analysis.rows))
    lines = [f"# {words['title']}", "", count, words["page_link"], "", *note_lines(notes, words)]
    if analysis.findings:
        lines += [f"## {words['findings']}", ""]
        for finding in analysis.findings:
            _, number, interval, text, _ = finding_text(finding, words)
            shown = f" ({interval})" if interval else ""
            lines.append(f"- **{number}**{shown} {_plain(text)}")
        lines.append("")
    for answer in analysis.answers:
        sentences = [f"- {_plain(sentence_text(s, words))}" for s in answer.sentences]
        lines += [f"## {_plain(sentence_text(answer.question, words))}", "", *sentences, ""]
    if figures:
        lines += [f"## {words['figures']}", ""]
        lines += [f"![{_plain(title)}](figures/{key}.png)\n" for key, title in figures.items()]
    for table in tables:
        lines += table_lines(table, words)
    return "\n".join(lines)


def note_lines(notes: Sequence[str], words: Words) -> list[str]:
    """A section of sentences; nothing where there are none."""
    return [f"## {words['notes']}", "", *(f"- {_plain(n)}" for n in notes), ""] if notes else []


def table_lines(table: Table, words: Words) -> list[str]:
    """A section of a table."""
    header = [_plain(_translated(head, words)) for head in table.header]
    lines = [f"## {_translated(table.title, words)}", "", "| " + " | ".join(header) + " |"]
    lines += ["|" + " --- |" * len(header)]
    english = words["language"] == "en"  # in which the entries are as the terminal shows them
    for line in table.lines:
        entries = line if english else [_translated(entry, words) for entry in line]
        lines += ["| " + " | ".join(map(_plain, entries)) + " |"]
    if table.more:
        lines += ["", words["more_lines"].format(more=table.more)]
    return [*lines, ""]


def _plain(text: str) -> str:
    """Foreign text as Markdown that shows it: no tags, links, code, or lines of its own."""
    return re.sub(r"([\\`<\[|])", r"\\\1", printable(text, LONGEST_SHOWN))


def _translated(text: str, words: Words) -> str:
    """A table's heading, state or status; names, numbers and flags are the same everywhere."""
    if text.endswith(" ms"):
        return f"{text.removesuffix(' ms')} {words['prefix_m']}{words['unit_s']}"
    key = text.replace(" ", "_").replace("-", "_").lower()
    for kind in ("table", "state", "status", "moved"):
        if f"{kind}_{key}" in words:
            return words[f"{kind}_{key}"]
    return text

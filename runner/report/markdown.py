"""``report.md``: the report for readers of text, with links to the figures and the page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from runner.analysis.analysis import Analysis
from runner.errors import printable
from runner.report.language import Words, finding_text, said, sentence_text
from runner.report.tables import Table, translated

LONGEST_SHOWN = 2_000  # characters of a note or an entry
ACTING = re.compile(r"[\\`<\[|*~&]|(?<![^\W_])_|_(?![^\W_])")  # within a word, _ is only itself


def markdown_of(
    analysis: Analysis,
    tables: Sequence[Table],
    notes: Sequence[str],
    figures: Mapping[str, str],
    words: Words,
) -> str:
    """The file's text, with tables as the terminal shows them and figures by the names of files."""
    count = words["md_rows"].format(rows=len(analysis.rows))
    lines = [f"# {words['title']}", "", count, words["page_link"], ""]
    for headline, found in [(analysis.headline, analysis.findings), *analysis.further]:
        texts = [finding_text(finding, words) for finding in found]
        items = [f"- **{t.number}**{as_text(str(t).removeprefix(t.number))}" for t in texts]
        lines += [f"## {as_text(sentence_text(headline, words))}", "", *items, ""]
    lines += note_lines(notes, words)
    for answer in analysis.answers:
        sentences = [f"- {as_text(sentence_text(s, words))}" for s in answer.sentences]
        lines += [f"## {as_text(sentence_text(answer.question, words))}", "", *sentences, ""]
    if figures:
        lines += [f"## {words['figures']}", ""]
        lines += [f"![{as_text(title)}](figures/{key}.png)\n" for key, title in figures.items()]
    for table in tables:
        lines += table_lines(table, words)
    return "\n".join(lines)


def note_lines(notes: Sequence[str], words: Words) -> list[str]:
    """A section of sentences; nothing where there are none."""
    return [f"## {words['notes']}", "", *(f"- {as_text(n)}" for n in notes), ""] if notes else []


def table_lines(table: Table, words: Words) -> list[str]:
    """A section of a table."""
    header = [as_text(translated(head, words)) for head in table.header]
    lines = [f"## {translated(table.title, words)}", ""]
    if table.common:
        names = (f"{translated(head, words)}={value}" for head, value in table.common)
        lines += [as_text(", ".join(names)), ""]
    lines.append("| " + " | ".join(header) + " |")
    lines += ["|" + " --- |" * len(header)]
    english = words["language"] == "en"  # in which the entries are as the terminal shows them
    for line in table.lines:
        entries = line if english else [translated(entry, words) for entry in line]
        lines += ["| " + " | ".join(map(as_text, entries)) + " |"]
    if table.more:
        lines += ["", said(words, "more_lines", more=table.more)]
    return [*lines, ""]


def as_text(text: str) -> str:
    """Foreign text as Markdown that shows it: no tags, links, code, emphasis, own lines."""
    return ACTING.sub(r"\\\g<0>", printable(text, LONGEST_SHOWN))

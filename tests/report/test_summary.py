"""Ratios are claimed only where both sides can be trusted.

The tables fit the reader's terminal.
"""

import io
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from runner.analysis.comparison import compare
from runner.config.schema import Report
from runner.report.language import ENGLISH
from runner.report.summary import (
    how_exact_others_are,
    show,
    what_is_missing,
    what_is_not_known,
    what_is_wrong,
    what_was_not_compared,
    which_gradients_fail,
)
from runner.report.tables import Table, autograd_table, print_table
from runner.rows.rows import AutogradRow, BenchmarkRow
from tests.support.factories import case_rows, row

pytestmark = pytest.mark.usefixtures("_without_pictures")
DEVICES = Report()


@pytest.mark.parametrize(
    ("other_s", "spread", "verdict"),
    [
        (0.5, 0.01, "faster"),
        (2.0, 0.01, "slower"),
        (1.0, 0.001, "same"),
        (1.0, 0.2, "unclear"),
        (0.99, 0.02, "unclear"),
    ],
)
def test_the_verdict_follows_from_the_interval(other_s: float, spread: float, verdict: str) -> None:
    (found,) = compare([row("cpu", 1.0, spread), row("gpu", other_s, spread)], DEVICES)
    assert found.verdict == verdict
    assert found.speedup == pytest.approx(1 / other_s)
    assert found.low is not None and found.high is not None
    assert found.low < 1 / other_s < found.high


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"flags": "view"}, "device=gpu: a view moves no data"),
        ({"flags": "single_call nonfinite"}, "device=gpu: its output is not finite"),
        ({"flags": "contended"}, "device=gpu: the machine was busy with something else"),
        ({"flags": "wrong_values"}, "device=gpu: its values are wrong"),
        ({"flags": "wrong_gradient"}, "device=gpu: its gradient is wrong"),
        ({"flags": "single_call"}, "device=gpu: it was called only once"),
        ({"status": "unavailable", "median_s": None}, "device=gpu: unavailable"),
    ],
)
def test_no_ratio_is_claimed_from_numbers_that_mislead(
    fields: dict[str, object], reason: str
) -> None:
    (found,) = compare([row("cpu", 1.0), replace(row("gpu", 0.5), **fields)], DEVICES)  # type: ignore[arg-type]
    assert (found.speedup, found.low, found.verdict, found.reason) == (None, None, None, reason)


def test_an_operation_that_is_far_less_exact_than_its_baseline_is_named_and_no_other() -> None:
    errors = {"softmax": 2.9e-3, "mine": 2.8e-2, "yours": 3.5e-3}
    rows = [
        replace(row(), cell=op, op=op, max_relative_error=error, allowed_relative_error=3.1e-2)
        for op, error in errors.items()
    ]
    report = Report(baseline={"op": "softmax"})
    (note,) = how_exact_others_are(rows, compare(rows, report))
    assert "(mine 8x8 float32 cpu)" in note and "those of softmax are off by 0.0029" in note


def test_operations_that_are_compared_in_time_alone_are_named_with_what_compares_values() -> None:
    rows = [replace(row(), cell=op, op=op, checked="full") for op in ("softmax", "twice")]
    speedups = compare(rows, Report(baseline={"op": "softmax"}))
    (note,) = what_was_not_compared(rows, speedups)
    assert note.startswith("twice and softmax: each one's values were compared with the function")
    assert "reference: in an op file" in note
    rows[1] = replace(rows[1], reference="torch.softmax")
    assert what_was_not_compared(rows, speedups) == []
    assert what_was_not_compared(rows, compare(rows, DEVICES)) == []


def test_a_wrong_gradient_has_one_line_with_its_simplest_check() -> None:
    values = {"x": [0.5, -1.0, 2.0]}
    rows = case_rows({"name": "f", "function": "tests.support.asked.flipped", "values": values})
    failed = [r for r in rows if r.verdict == "fail"]
    (note,) = which_gradients_fail(rows)
    assert note.startswith(f"{len(failed)} of {len(rows)} checks of the gradient fail")
    assert "the simplest" in note and "is off by" in note and "wrong_gradient.py" in note


def test_what_was_disturbed_is_measured_again_by_what_a_single_run_or_a_sweep_takes() -> None:
    busy = row(flags=("contended",))
    (alone,) = what_is_wrong([busy], ENGLISH)
    assert "resume=" not in alone and "; the same command measures it again" in alone
    (of_two,) = what_is_wrong([busy, row("gpu")], ENGLISH)
    assert of_two.endswith("; resume= with retry=[contended] measures them again")


def test_verdicts_that_no_check_could_give_have_a_line_each_with_the_first_reason() -> None:
    def check(verdict: str, reason: str, probe: str) -> AutogradRow:
        known = {"verdict": verdict, "reason": reason, "probe": probe, "argument": "0"}
        return AutogradRow("a", "autograd", "f", "3x5", "float64", "cpu", shape="3x5", **known)

    rows = [check("pass", "", "ones"), check("inconclusive", "too steep", "scale 1000")]
    rows += [check("inconclusive", "another", "zeros"), check("unsupported", "no double", "ones")]
    assert what_is_not_known(rows) == [
        "2 inconclusive (f 3x5 float64 cpu), scale 1000, 3x5: too steep",
        "1 unsupported (f 3x5 float64 cpu), ones, 3x5: no double",
    ]


def test_a_case_has_no_columns_of_axes_that_operations_alone_have() -> None:
    known = {"verdict": "pass", "compile": "off"}
    case = AutogradRow("a", "autograd", "f", "3", "float64", "cpu", verdict="pass", case="f")
    add = AutogradRow("b", "autograd", "add", "3", "float64", "cpu", **known)
    table = autograd_table([case, add])
    assert table.header == ("operation", "dtype", "device", "error", "allowed", "verdicts")
    table = autograd_table([case, add, replace(add, cell="c", compile="default")])
    assert [line[3] for line in table.lines] == ["", "off", "default"]


def test_what_a_lesson_is_for_comes_before_the_summary_on_the_page(tmp_path: Path) -> None:
    known = {"derivation": "d/dx x**2 = 2*x", "probe": "example", "argument": "x"}
    rows = [AutogradRow("a", "autograd", "f", "3", "float64", "cpu", verdict="pass", **known)]
    show(tmp_path, rows, [], DEVICES, {"excluded": 2})
    page = (tmp_path / "report.html").read_text()
    assert "d/dx x**2 = 2*x" in page
    assert -1 < page.find('id="table-derivations"') < page.find('id="summary"')
    assert "left out by exclude: 2" in (tmp_path / "report.md").read_text()


def test_a_missing_baseline_is_said_to_be_missing() -> None:
    (found,) = compare([row("gpu", 0.5)], DEVICES)
    assert (found.speedup, found.reason) == (None, "device=cpu was not measured")


def test_any_axis_can_be_compared() -> None:
    slow, fast = row("cpu", 1.0), row("cpu", 0.25, dtype="bfloat16")
    (found,) = compare([slow, fast], Report(baseline={"dtype": "float32"}))
    assert (found.axis, found.baseline, found.other, found.speedup) == (
        "dtype",
        "float32",
        "bfloat16",
        4.0,
    )
    one = replace(row("cpu", 2.0), threads=1)
    (found,) = compare([one, slow], Report(baseline={"threads": 1}))
    assert (found.baseline, found.other, found.speedup) == ("1", "2", 2.0)


def test_the_report_is_written_and_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        row("cpu", 0.001),
        row("gpu", 0.0001),
        row("cpu", None, op="mul", status="timeout", reason="too long"),
    ]
    show(tmp_path, rows, [], DEVICES)
    shown = capsys.readouterr().out
    common, header, *lines = shown.splitlines()
    assert common == "Times, size=8x8, dtype=float32"
    assert header.split() == ["operation", "device", "time", "ms", "speed-up", "verdict", "flags"]
    assert lines[0].split() == ["add", "cpu", "1.000", "baseline"]
    assert lines[1].split() == ["add", "gpu", "0.1000", "10.0x", "±1.4%", "faster"]
    assert lines[2].split() == ["mul", "cpu", "timeout", "baseline"]
    assert "1 timeout (mul 8x8 float32 cpu): too long" in shown
    saved = pd.read_csv(tmp_path / "speedup.csv").iloc[0]
    assert saved["speedup"] == pytest.approx(10)
    assert saved["low"] < 10 < saved["high"]
    page = (tmp_path / "report.md").read_text()
    assert page.index("1 timeout (mul 8x8 float32 cpu): too long") < page.index(
        "| operation | device | time, ms | speed-up | verdict | flags |"
    )


def test_what_did_not_run_is_counted_by_status_and_reason() -> None:
    rows = [row("gpu", None, status="unavailable", reason="no accelerator")] * 3 + [row("cpu", 1.0)]
    rows += [row("cpu", None, status="crashed", reason="SIGSEGV")]
    assert what_is_missing(rows) == [
        "3 unavailable: no accelerator",
        "1 crashed (add 8x8 float32 cpu): SIGSEGV",
    ]


def test_reasons_that_differ_in_numbers_alone_are_one_line() -> None:
    reasons = [f"tried to allocate {8 << n} bytes for {n}x{n}, at 0x7f{n:04x}" for n in range(20)]
    reasons += [f"no kernel for float{bits}" for bits in (16, 64)]
    rows = [row("gpu", None, status="unsupported", reason=reason) for reason in reasons]
    assert what_is_missing(rows) == [
        "20 unsupported: tried to allocate 8 bytes for 0x0, at 0x7f0000; "
        "in the others its numbers differ",
        "1 unsupported (add 8x8 float32 gpu): no kernel for float16",
        "1 unsupported (add 8x8 float32 gpu): no kernel for float64",
    ]


def test_of_many_reasons_the_commonest_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reasons = ["no room", *(f"no {chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(500))]
    cells = [(f"c{n}", reason) for n, reason in enumerate([*reasons, "no room"])]
    rows = [row("cpu", None, cell=c, status="unsupported", reason=reason) for c, reason in cells]
    show(tmp_path, rows, [], Report())
    for text in (capsys.readouterr().out, (tmp_path / "report.md").read_text()):
        told = [line for line in text.splitlines() if "unsupported" in line and ": no " in line]
        assert len(told) == 20
        assert told[0].endswith("2 unsupported (add 8x8 float32 cpu, add 8x8 float32 cpu): no room")
        assert "and 481 more" in text


class Terminal(io.StringIO):
    """A terminal that remembers what was printed."""

    def isatty(self) -> bool:
        return True


def terminal_of(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """One of 80 columns, in colour, which is what is printed to from now."""
    monkeypatch.setattr("sys.stdout", terminal := Terminal())
    for name, value in {"COLUMNS": "80", "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return terminal


def plain(text: str) -> list[str]:
    """The lines of what a terminal was sent, without its colours."""
    return [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", text).splitlines()]


def block_sweep() -> list[BenchmarkRow]:
    """A run with long names, flags, and a side that timed out."""
    rows = [
        row("cpu", 0.001 * n, op=op, size=f"{n}x{n}")
        for op in ("add", "scaled_dot")
        for n in (64, 128)
    ]
    rows += [
        row("gpu", 0.1 / n, op=op, size=f"{n}x{n}", flags=("multimodal",))
        for op in ("add", "scaled_dot")
        for n in (1, 64)
    ]
    late = {"status": "timeout", "reason": "too long"}
    return [*rows, row("gpu", None, op="add", size="128x128", **late)]


def test_on_a_terminal_of_80_columns_all_fits_and_is_coloured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = terminal_of(monkeypatch)
    show(tmp_path, block_sweep(), [], DEVICES)
    coloured = terminal.getvalue()
    lines = plain(coloured)
    assert max(map(len, lines[: lines.index(f"9 rows in {tmp_path}")])) <= 80
    assert lines[0] == "Times, dtype=float32"
    assert re.search(r"\x1b\[32m *41.0x ±1.4%", coloured)  # green, since it is surely faster
    assert re.search(r"\x1b\[33m *timeout", coloured)
    assert re.search(r"\x1b\[1mdevice: gpu against cpu", coloured)
    assert re.search(r"\x1b\[32m41.0×.*as fast: add 64x64 float32 with gpu", coloured)
    legend = "multimodal: its times fall into groups, and the median lies in one of them"
    assert legend in lines


def test_a_table_that_does_not_fit_has_a_block_for_each_line_and_no_cut_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = terminal_of(monkeypatch)
    flags = ("contended", "placement")
    long = [f"{name}_" + "long_" * 10 for name in ("a", "b")]
    rows = [row("cpu", 1e-3, op=op, size=f"{'12x' * 5}8", flags=flags) for op in long]
    rows.append(row("gpu", 1e-4, op=long[0], size="4x4", flags=flags))
    show(tmp_path, rows, [], DEVICES)
    lines = plain(terminal.getvalue())
    assert lines[:4] == [
        "Times, dtype=float32",
        f"{long[0]} 12x12x12x12x12x8 cpu",
        "    time ms (1.000); verdict baseline; flags contended placement",
        f"{long[1]} 12x12x12x12x12x8 cpu",
    ]


def test_the_names_of_a_block_that_are_too_long_are_wrapped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = terminal_of(monkeypatch)
    formula = "d/db = " + " + ".join(f"exp(a{n}*b)" for n in range(12))
    head = ("case", "derivative", "exact", "verdict")
    print_table(Table("Derivations", head, [("lesson", formula, "[1.5, 2.5]", "pass")], 2))
    lines = plain(terminal.getvalue())
    assert max(map(len, lines)) <= 80
    assert " ".join(line.strip() for line in lines[:-1]) == f"lesson; {formula}"


def test_a_note_is_wrapped_between_words_on_a_terminal_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row("cpu", 1e-3, op="add", flags=("contended", "slow_machine"))]
    show(tmp_path, rows, [], DEVICES)
    piped = capsys.readouterr().out.splitlines()
    notes = [line for line in piped if line.startswith(("1 contended", "1 slow_machine"))]
    assert min(map(len, notes)) > 80

    terminal = terminal_of(monkeypatch)
    show(tmp_path, rows, [], DEVICES)
    lines = plain(terminal.getvalue())
    assert max(map(len, lines[: lines.index(f"1 row in {tmp_path}")])) <= 80
    said = " ".join(line.strip() for line in lines)
    assert all(" ".join(note.split()) in said for note in notes)


def test_of_several_tables_each_has_its_title(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    timed = [row(f"{n}", 1e-3, op=f"{n}", size=f"{n}", dtype=f"{n}") for n in (1, 2)]
    show(tmp_path, timed, [], DEVICES)
    assert "Times" not in capsys.readouterr().out
    checks = [
        AutogradRow(f"{n}", "autograd", f"{n}", f"{n}", f"{n}", f"{n}", 1, "ok", verdict="pass")
        for n in (1, 2)
    ]
    show(tmp_path, [*timed, *checks], [], DEVICES)
    lines = capsys.readouterr().out.splitlines()
    assert {"Times", "Gradients"} <= set(lines)


def test_it_says_when_it_begins_to_print(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []
    show(
        tmp_path, [row()], [], DEVICES, before_printing=lambda: shown.append(capsys.readouterr()[0])
    )
    assert shown == [""]
    assert capsys.readouterr().out


def test_no_colour_where_it_is_not_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    show(tmp_path, block_sweep(), [], DEVICES)
    assert not re.search(r"\x1b\[[\d;]*3\dm", terminal.getvalue())


def test_what_is_piped_has_no_colours_and_a_finding_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        row(device, time, size=size, flags=("multimodal", "placement", "first_touch"))
        for size in ("8x8", "64x64")
        for device, time in (("cpu", 1.0), ("gpu", 0.5))
    ]
    show(tmp_path, [replace(one, cell=f"{one.size}{one.device}") for one in rows], [], DEVICES)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    *_, headline, gain, trust, last = shown.splitlines()
    assert (headline, last) == ("device: gpu against cpu", f"4 rows in {tmp_path}")
    assert gain.startswith("  2.00× (1.97 to 2.03) as fast: add 8x8 float32 with gpu")
    assert trust.startswith(
        "  Trustworthy: 2 of 2 comparisons have a verdict [4 times without a doubt"
    )


def test_quietly_only_what_was_found_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show(tmp_path, block_sweep(), [], DEVICES, quiet=True)
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.splitlines()[0] == "device: gpu against cpu"
    assert "timeout" not in shown.out


def test_another_baseline_replaces_the_page_with_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row("cpu", 1.0), row("cpu", 0.5, dtype="bfloat16", cell="other")]
    for baseline in ("float32", "float32", "bfloat16"):
        show(tmp_path, rows, [], Report(baseline={"dtype": baseline}))
        said = capsys.readouterr().err
        assert ("'report.baseline={dtype: float32}' makes it again" in said) == (
            baseline == "bfloat16"
        )


def test_the_fastest_of_each_size_is_one_that_nothing_speaks_against(tmp_path: Path) -> None:
    rows = [
        row("cpu", seconds, threads=threads, dtype=dtype, flags=flags)
        for threads, dtype, seconds, flags in (
            (1, "float32", 4.0, ()),
            (2, "float32", 3.0, ()),
            (1, "bfloat16", 2.0, ("wrong_values",)),
            (2, "bfloat16", 2.5, ()),
        )
    ]
    show(tmp_path, rows, [], Report(baseline={"dtype": "float32"}))
    page = (tmp_path / "report.md").read_text()
    assert "| add | 8x8 | bfloat16 | 2 | 2500 | 3 / 4 |" in page


def test_many_lines_are_cut_on_the_screen_and_in_the_page_with_their_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show(
        tmp_path,
        [replace(row("cpu", 1.0, seed=seed), cell=f"c{seed}") for seed in range(2_100)],
        [],
        DEVICES,
    )
    assert "... and 1,900 lines more in the CSV" in capsys.readouterr().out
    page = (tmp_path / "report.md").read_text()
    assert page.count("| add |") == 2_000
    assert "... and 100 lines more in the CSV" in page


def test_every_table_of_a_report_has_an_end(tmp_path: Path) -> None:
    names = [f"op{number}" for number in range(2_100)]
    checks = [
        AutogradRow(op, "autograd", op, "3", "float64", "cpu", verdict="pass") for op in names
    ]
    show(tmp_path, checks, [], Report())
    page = (tmp_path / "report.md").read_text()
    assert page.count("| op") == 2_000 + 1  # and the head
    assert "... and 100 lines more in the CSV" in page

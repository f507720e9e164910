"""The exit code of a run, which its rows settle."""

from pathlib import Path

import pytest

from runner.config.schema import Report
from runner.report.conclude import conclude
from runner.rows.csv_store import write_rows
from tests.support.factories import row

pytestmark = pytest.mark.usefixtures("_without_pictures")
BUSY, SLOW = ("contended",), ("view", "slow_machine")


@pytest.mark.parametrize(
    ("flags", "strict", "code"),
    [
        ([BUSY, SLOW], True, 4),
        ([BUSY, SLOW], False, 0),
        ([BUSY, ("view",)], True, 4),
        ([BUSY, *[()] * 9], True, 0),
        ([*[BUSY] * 2, *[()] * 9], True, 4),
        ([BUSY, (*BUSY, "wrong_values")], True, 1),
    ],
)
def test_a_strict_run_of_which_too_many_times_were_disturbed_does_not_pass(
    flags: list[tuple[str, ...]],
    strict: bool,
    code: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [
        row(cell=f"c{n:015x}", size=f"{n}x{n}", flags=each) for n, each in enumerate(flags, start=1)
    ]
    write_rows(tmp_path / "results.csv", rows)
    assert conclude(tmp_path, Report(), strict=strict) == code
    assert ("strict=true: something disturbed" in capsys.readouterr().err) == (code == 4)
    given = conclude(tmp_path, Report(), strict=strict, unclear_exit=125)
    assert given == (125 if code == 4 else code)

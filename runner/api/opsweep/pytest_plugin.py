"""The fixture ``opsweep``: functions are timed, compared and checked in one's own tests.

    def test_the_new_one_is_not_slower(opsweep):
        x = torch.randn(256, 256)
        assert opsweep.compare(new, old, x).not_slower_than(0.05)

What was found stands in a table after the tests, and with ``--opsweep-json=FILE`` in a file. Tests
that do not use the fixture notice nothing of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import opsweep as package

if TYPE_CHECKING:
    from opsweep.records import Comparison, Gradients, Time

KEY = "opsweep"  # of the properties of a test's report, which reach this process from all others


@dataclass(frozen=True)
class Recorder:
    """What a test measures with; each finding is noted for the table, and returned.

    Attributes:
        note: is given the name of what was done, and its finding.
    """

    note: Callable[[str, Any], None]

    def time(self, *arguments: Any, **settings: Any) -> Time:
        """:func:`opsweep.time`."""
        return self._noted("time", arguments, settings)  # type: ignore[no-any-return]

    def compare(self, *arguments: Any, **settings: Any) -> Comparison:
        """:func:`opsweep.compare`."""
        return self._noted("compare", arguments, settings)  # type: ignore[no-any-return]

    def check_gradients(self, *arguments: Any) -> Gradients:
        """:func:`opsweep.check_gradients`."""
        return self._noted("check_gradients", arguments, {})  # type: ignore[no-any-return]

    def _noted(self, name: str, arguments: tuple[Any, ...], settings: dict[str, Any]) -> Any:
        found = getattr(package, name)(*arguments, **settings)
        self.note(name, found)
        return found


@pytest.fixture
def opsweep(request: pytest.FixtureRequest) -> Recorder:
    """Times, compares and checks functions of tensors, and notes what it finds."""

    def note(name: str, found: Any) -> None:
        entry = {"did": name, "text": repr(found), **asdict(found)}
        # text, which every way of reporting tests can carry
        request.node.user_properties.append((KEY, json.dumps(entry, default=str)))

    return Recorder(note)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option for CI."""
    group = parser.getgroup("opsweep")
    advice = "write what the opsweep fixture has found to this file, a list of JSON objects"
    group.addoption("--opsweep-json", metavar="FILE", help=advice)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """The table, and the file, of all tests that have used the fixture."""
    found = list(_found(terminalreporter))
    file = config.getoption("--opsweep-json")
    if file:
        Path(file).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if found:
        terminalreporter.section("opsweep")
        for entry in found:
            terminalreporter.line(f"{entry['outcome']:<7} {entry['test']}: {entry['text']}")


def _found(terminalreporter: pytest.TerminalReporter) -> Iterator[dict[str, Any]]:
    """What each test has found, in the order in which tests have ended."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") != "call":
                continue
            said = {"test": report.nodeid, "outcome": report.outcome}
            for key, text in report.user_properties:
                if key == KEY:
                    yield {**said, **json.loads(text)}

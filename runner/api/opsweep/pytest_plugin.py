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
from dataclasses import asdict, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import opsweep as package

KEY = "opsweep"


class Recorder:
    """The functions of :mod:`opsweep`; what each finds is noted with the test, and returned."""

    def __init__(self, properties: list[tuple[str, object]]) -> None:
        self._properties = properties  # of the test's report, which reach pytest's own process

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(self._noted, getattr(package, name))

    def _noted(self, function: Callable[..., Any], *given: object, **named: object) -> object:
        found = function(*given, **named)
        if is_dataclass(found) and not isinstance(found, type):
            entry = {"did": function.__name__, "text": repr(found), **asdict(found)}
            self._properties.append((KEY, json.dumps(entry, default=str)))
        return found


@pytest.fixture
def opsweep(request: pytest.FixtureRequest) -> Recorder:
    """Times, compares and checks functions of tensors, and notes what it finds."""
    return Recorder(request.node.user_properties)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option for CI."""
    group = parser.getgroup("opsweep")
    advice = "write what the opsweep fixture has found to this file, a list of JSON objects"
    group.addoption("--opsweep-json", metavar="FILE", help=advice)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a file that could not be written, before tests take their time."""
    file = config.getoption("--opsweep-json")
    if file and (Path(file).is_dir() or not Path(file).parent.is_dir()):
        raise pytest.UsageError(f"--opsweep-json={file} is no file in a folder that there is")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """The table, and the file, of all tests that have used the fixture."""
    found = list(_found(terminalreporter))
    if found:
        terminalreporter.section("opsweep")
        for entry in found:
            terminalreporter.line(f"{entry['outcome']:<7} {entry['test']}: {entry['text']}")
    file = config.getoption("--opsweep-json")
    if file:  # after the table, which a full disk does not keep from being shown
        Path(file).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


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

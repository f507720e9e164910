"""What a sweep shows while it is at work."""

import io
from threading import Event

import pytest

from runner.execute import progress


class Told(io.StringIO):
    """A stream that says when something was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = Event()

    def write(self, text: str) -> int:
        """As any stream does."""
        count = super().write(text)
        self.written.set()
        return count


def test_what_takes_long_is_announced_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = Told()
    monkeypatch.setattr("sys.stderr", stderr)
    with progress.announced("composing the cells"):
        pass
    monkeypatch.setattr(progress, "LONGEST_SILENCE_S", 0.0)
    with progress.announced("reading what has run"):
        assert stderr.written.wait(60)
    assert stderr.getvalue().startswith("reading what has run ...")

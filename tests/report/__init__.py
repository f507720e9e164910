"""Tests of ``runner/report/``: how it is shown."""

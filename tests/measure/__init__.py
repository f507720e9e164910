"""Tests of ``runner/measure/``: times."""

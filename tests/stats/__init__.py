"""Tests of ``runner/stats/``: the statistics."""

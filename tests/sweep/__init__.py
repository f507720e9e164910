"""Tests of ``runner/sweep/``: sweeps."""

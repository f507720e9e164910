"""Tests of ``runner/rows/``: what a run leaves."""

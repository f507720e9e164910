"""Tests of ``runner/analysis/``: what rows say."""

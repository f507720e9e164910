"""Tests of ``runner/verify/``: values and gradients."""

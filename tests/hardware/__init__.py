"""Tests of :mod:`runner.hardware`."""

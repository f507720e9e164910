"""Tests of ``runner/cli/``: the command line."""

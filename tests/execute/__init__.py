"""Tests of ``runner/execute/``: the session and its worker."""

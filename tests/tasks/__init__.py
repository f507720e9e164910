"""Tests of ``runner/tasks/``: the jobs."""

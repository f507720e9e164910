"""Tests of ``runner/calls/``: callables and their inputs."""

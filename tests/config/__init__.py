"""Tests of ``runner/config/``: the configuration."""

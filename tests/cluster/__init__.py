"""Tests of ``runner/cluster/``: other machines."""

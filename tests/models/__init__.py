"""Tests of ``runner/models/``: ready models, and the workloads of them."""

"""Tests of ``runner/api/``: what people import."""

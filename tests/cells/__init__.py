"""Tests of ``runner/cells/``: cells and grids."""

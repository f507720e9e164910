"""Whole runs, from the command line or from an installed package."""

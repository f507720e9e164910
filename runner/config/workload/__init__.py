"""Workloads: the concrete calls that a model makes, and how often."""

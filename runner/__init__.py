"""opsweep: what a tensor operation costs here, where another device wins, and if it is right."""

__version__ = "0.1.0"

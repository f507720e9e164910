"""From Python: the package that people import, which the build puts at the top as ``opsweep``."""

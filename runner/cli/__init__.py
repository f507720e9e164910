"""The command line in, an exit code out."""

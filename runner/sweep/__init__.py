"""What to run, in which order, and again."""

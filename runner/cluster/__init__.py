"""A sweep on more machines than this one: cells in chunks, chunks as jobs of Ray or Slurm, rows back to here."""

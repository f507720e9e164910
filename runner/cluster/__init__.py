"""A sweep on other machines: cells in chunks, chunks as jobs of Ray or Slurm, rows back to here."""

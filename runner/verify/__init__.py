"""Are values and gradients right: what is tried, what it is compared with, and the verdicts."""

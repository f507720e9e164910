"""What rows say: ratios, crossovers, causes and answers. Rows in, findings out; no torch."""

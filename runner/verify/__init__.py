"""Are gradients right: points and probes (what is tried), oracles (what it is compared with), and their verdicts."""

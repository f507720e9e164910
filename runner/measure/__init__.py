"""Times: clocks, the engine, what would mislead about them."""

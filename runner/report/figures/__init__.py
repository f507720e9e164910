"""Pictures of a run: what is drawn, and the two libraries that draw it."""

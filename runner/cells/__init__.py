"""One frozen combination, and the grids of them."""

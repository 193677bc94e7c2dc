"""Fixed points of the dynamics, and what happens near them."""

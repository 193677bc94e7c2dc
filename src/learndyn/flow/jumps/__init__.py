"""Learning in steps: which plateaus gradient flow from a small start visits, and when."""

"""Faults in the formulas for where learning ends and how it gets there."""

"""Numerical tools that know nothing of learning."""

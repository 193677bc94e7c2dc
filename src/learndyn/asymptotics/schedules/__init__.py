"""Optimal learning-rate schedules."""

"""Committees of any size in a few order parameters."""

"""Gaussian integrals as functions of covariances; nothing here knows of a problem."""

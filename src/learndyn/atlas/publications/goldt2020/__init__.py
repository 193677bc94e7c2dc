"""Goldt, Advani, Saxe, Krzakala & Zdeborová 2020: every figure of the paper."""

from learndyn.atlas.publications.goldt2020 import final_errors, trajectories

ENTRIES = (*trajectories.ENTRIES, *final_errors.ENTRIES)

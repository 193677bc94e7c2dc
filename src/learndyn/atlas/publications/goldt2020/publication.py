"""The publication that both files belong to."""

from learndyn.atlas._entry import Publication

GOLDT = Publication(
    "goldt2020",
    "Goldt, Advani, Saxe, Krzakala & Zdeborová, J. Stat. Mech. 124010 (2020), arXiv 1906.08632",
)

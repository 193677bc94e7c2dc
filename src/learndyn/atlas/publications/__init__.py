"""One file for each publication, with settings and published numbers as data."""

from learndyn.atlas.publications import (
    benarous2021,
    goldt2020,
)

ALL = (
    goldt2020,
    benarous2021,
)
"""All publications, in the order of the list."""

"""One file for each publication, with settings and published numbers as data."""

from learndyn.atlas.publications import (
    goldt2020,
    goldt2020prx,
)

ALL = (
    goldt2020,
    goldt2020prx,
)
"""All publications, in the order of the list."""

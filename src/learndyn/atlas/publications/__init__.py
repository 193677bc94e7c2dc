"""One file for each publication, with settings and published numbers as data."""

from learndyn.atlas.publications import (
    goldt2020,
    yoshida2019,
)

ALL = (
    goldt2020,
    yoshida2019,
)
"""All publications, in the order of the list."""

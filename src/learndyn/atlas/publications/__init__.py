"""One file for each publication, with settings and published numbers as data."""

from learndyn.atlas.publications import (
    goldt2020,
    safran2018,
)

ALL = (
    goldt2020,
    safran2018,
)
"""All publications, in the order of the list."""

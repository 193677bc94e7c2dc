"""One file for each publication, with settings and published numbers as data."""

from learndyn.atlas.publications import (
    arnaboldi2023b,
    goldt2020,
)

ALL = (
    goldt2020,
    arnaboldi2023b,
)
"""All publications, in the order of the list."""

"""One file for each publication, with settings and published numbers as data."""

from learndyn.atlas.publications import (
    arnaboldi2024,
    goldt2020,
)

ALL = (
    goldt2020,
    arnaboldi2024,
)
"""All publications, in the order of the list."""

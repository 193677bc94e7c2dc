"""One file for each publication, with settings and published numbers as data."""

from learndyn.atlas.publications import (
    bocchi2026,
    goldt2020,
)

ALL = (
    goldt2020,
    bocchi2026,
)
"""All publications, in the order of the list."""

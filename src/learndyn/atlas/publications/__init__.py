"""One file for each publication, with settings and published numbers as data."""

from learndyn.atlas.publications import (
    asanuma2021,
    biehl1993,
    goldt2020,
    lee2021,
    mori2025,
    straat2018,
    yoshida2019,
)

ALL = (
    goldt2020,
    yoshida2019,
    lee2021,
    asanuma2021,
    mori2025,
    straat2018,
    biehl1993,
)
"""All publications, in the order of the list."""

"""One file for each publication, with settings and published numbers as data."""

from learndyn.atlas.publications import goldt2020, saadsolla1995pre

ALL = (goldt2020, saadsolla1995pre)
"""All publications, in the order of the list."""

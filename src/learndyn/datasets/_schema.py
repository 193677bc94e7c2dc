"""The version of the schema, and its hidden units. Nothing here needs JAX."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray

SCHEMA_VERSION = 2
"""Version of the variables, coordinates and attributes that datasets have. Version 1 had no
coordinates of hidden units. Files of learndyn 0.1 have no version, which counts as 0. All are
read."""

UNITS = {
    "student": "number of the student unit",
    "student_": "number of the second student unit",
    "teacher": "number of the teacher unit",
    "teacher_": "number of the second teacher unit",
    "group": "number of the group of directions",
}
"""Dimensions that count hidden units, from 1 as in the papers, and groups of directions, with their
long names."""


def number_units(dataset: "xarray.Dataset") -> "xarray.Dataset":
    """`dataset` with its hidden units counted from 1 wherever they have no coordinate yet."""
    missing = {dim: text for dim, text in UNITS.items() if dim in dataset.dims}
    return dataset.assign_coords(
        {
            dim: (dim, np.arange(1, dataset.sizes[dim] + 1), {"long_name": text})
            for dim, text in missing.items()
            if dim not in dataset.coords
        }
    )

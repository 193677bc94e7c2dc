"""A claim, its verdict, and the three functions that settle it."""

from collections.abc import Callable
from typing import Any

import xarray as xr

from learndyn.testing import Claim as Claim
from learndyn.testing import Verdict as Verdict
from learndyn.testing import from_attributes as from_attributes
from learndyn.testing import to_attributes as to_attributes

Measure = Callable[[], xr.Dataset]
Judge = Callable[[xr.Dataset], Verdict]
Draw = Callable[[xr.Dataset], Any]

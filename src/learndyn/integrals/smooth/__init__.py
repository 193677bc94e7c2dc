"""Gaussian averages of networks of any smooth units, from averages over one and two fields.

`pairs` has what two fields at a time give (G, <H>, <F>, eg); `products` has <s_i s_j>, which
depends on all fields; `rules` the lattices of both, in levels that grow finer.
"""

from learndyn.integrals.smooth import pairs as pairs
from learndyn.integrals.smooth import products as products
from learndyn.integrals.smooth.rules import LEVELS as LEVELS
from learndyn.integrals.smooth.rules import Exact as Exact
from learndyn.integrals.smooth.rules import Lattices as Lattices
from learndyn.integrals.smooth.rules import Rules as Rules
from learndyn.integrals.smooth.rules import Series as Series
from learndyn.integrals.smooth.rules import made as made
from learndyn.integrals.smooth.rules import series as series
from learndyn.integrals.smooth.rules import stacked as stacked
from learndyn.integrals.smooth.rules import stacked_series as stacked_series
from learndyn.integrals.smooth.units import Units as Units

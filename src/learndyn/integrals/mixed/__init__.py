"""Gaussian averages of networks some of whose units have kinks, or whose teacher jumps.

`pairs` has what two fields at a time give (G, <H>, <F>, eg), of any such units; `products` has
<s_i s_k> of smooth students of a piecewise linear teacher.
"""

from learndyn.integrals.mixed.pairs import PairSums as PairSums
from learndyn.integrals.mixed.pairs import error_averages as error_averages
from learndyn.integrals.mixed.pairs import second_moments as second_moments
from learndyn.integrals.mixed.products import SmoothStudents as SmoothStudents
from learndyn.integrals.mixed.products import crossing as crossing
from learndyn.integrals.mixed.products import error_products as error_products
from learndyn.integrals.mixed.products import missed as missed
from learndyn.integrals.mixed.products import widening as widening

"""Numbers of other papers and programs into this library's scaling, and back."""

from learndyn.conventions._convention import Convention as Convention
from learndyn.conventions._nn2pp import from_nn2pp as from_nn2pp
from learndyn.conventions._papers import from_biehl_schwarze as from_biehl_schwarze
from learndyn.conventions._papers import from_saad_solla as from_saad_solla
from learndyn.conventions._papers import from_statphys as from_statphys
from learndyn.conventions._torch import from_torch as from_torch

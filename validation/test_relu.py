"""ReLU committees: the ODE in closed form, which the literature could only simulate."""

import pytest
from validation.lab import Lab
from validation.lab.compiling import FOR_LEVEL, FOR_ODES
from validation.measure.figures import learning_curve
from validation.measure.learning_curves import (
    CONTROL,
    RULE,
    RUNS,
    Curve,
    decided_at,
    level_of,
    runs_at,
    settle_curve,
)
from validation.measure.sharing import Savings

import learndyn as ld
from learndyn.claims import Claim


@pytest.mark.parametrize("k", [2, 3])
def test_learning_curve(lab: Lab, k: int) -> None:
    lab.skip_in_quick(k == 2)
    scale, level = 784**-0.25, level_of(lab, k == 3)
    weights = ld.init_weights(lab.key("relu"), n=784, k=k, m=2, scale=scale)
    curve = Curve(
        ld.Problem(ld.ReLU(), ld.ReLU(), noise=0.1),
        ld.SGD(lr=0.2),
        ld.overlaps(weights),
        n=784,
        times=decided_at((0.5, 1.0, 2.0, 5.0, 10.0), level, lab.profile),
        runs=runs_at(level, RUNS[lab.profile]),
        horizon=lab.pick(30.0, 200.0, 200.0),
        level=level,
        saves=Savings(
            fill_times=True, fill_grid=True, xla_runs=FOR_LEVEL[level], xla_theory=FOR_ODES
        ),
    )
    claim = Claim(
        id=f"relu-k{k}",
        family="relu",
        statement=f"SGD of a ReLU committee with {k} units, learning from 2, follows the ODE",
        source="Goldt et al. 2020, section 2 (there by experiment); ReLU averages in closed form",
        setting=f"ReLU, n = 784, m = 2, k = {k}, lr = 0.2, noise 0.1, second layers 1; student "
        "weights of variance 1/sqrt(n); " + curve.ensemble,
        rule=RULE,
        control=CONTROL,
    )
    settle_curve(lab, claim, curve, learning_curve)

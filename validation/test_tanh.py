"""A network without closed forms: tanh with biases, averages by quasi-Monte Carlo."""

from validation.lab import Lab
from validation.lab.compiling import FOR_CHAINS, FOR_SGD
from validation.measure.figures import learning_curve
from validation.measure.learning_curves import RULE, RUNS, Curve, decided_at, settle_curve
from validation.measure.sharing import Savings

import learndyn as ld
from learndyn.averages import QuasiMonteCarlo
from learndyn.claims import Claim


def test_learning_curve(lab: Lab) -> None:
    claim = Claim(
        id="tanh-biases",
        family="other networks",
        statement="A tanh network with trained biases and second layer follows the ODE, with "
        "averages by quasi-Monte Carlo",
        source="Biehl & Schwarze 1995, Goldt et al. 2020, Eq. (9), for any activation",
        setting="tanh, n = 500, k = m = 2, lr = 0.5, lr_second = lr_bias = 0.25, noise 0.1; "
        "teacher biases (0.8, 0.4), student biases start at 0",
        rule=RULE,
        control="The ODE with biases that learn at half their rate.",
    )
    state = ld.overlaps(ld.init_weights(lab.key("tanh"), n=500, k=2, m=2))
    start = ld.Overlaps(state.Q, state.R, state.T, b=[0.0, 0.0], b_teacher=[0.8, 0.4])
    curve = Curve(
        ld.Problem(ld.Tanh(), ld.Tanh(), noise=0.1),
        ld.SGD(lr=0.5, lr_second=0.25, lr_bias=0.25),
        start,
        n=500,
        times=decided_at((0.5, 1.0, 2.0, 5.0, 10.0), "sgd", lab.profile),
        runs=RUNS[lab.profile],
        horizon=lab.pick(30.0, 100.0, 100.0),
        averages=QuasiMonteCarlo(points=8192),
        wrong_rule=ld.SGD(lr=0.5, lr_second=0.25, lr_bias=0.125),
        # Not the times of the runs: by nodes, eg at one more costs more than compiling.
        saves=Savings(fill_grid=True, xla_runs=FOR_SGD, xla_theory=FOR_CHAINS),
    )
    settle_curve(lab, claim, curve, learning_curve)

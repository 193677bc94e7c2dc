"""The public calls as users write them: `nox -s typecheck` finds none of them ill-typed, and
`test_public_calls.py` runs them."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import learndyn as ld
from learndyn import flow, rules

KEY, TS = jax.random.key(0), jnp.linspace(0.0, 1.0, 3)
START = ld.Overlaps(Q=[[0.3, 0.05], [0.05, 0.25]], R=[[0.1], [0.02]], T=[[1.0]])


def sign_of_error(problem, sample, layers):
    g, dg, error = problem.signals(sample.lam, sample.y, layers)
    return ld.Modulation(c=layers.v * dg * jnp.sign(error), dv=g * jnp.sign(error))


class SignOfError(rules.AbstractRule):
    """A rule without fields of its own takes the arguments of `AbstractRule`."""

    def modulation(self, problem, sample, layers):
        return sign_of_error(problem, sample, layers)


class PartOfError(rules.AbstractRule):
    """A rule with a field and an `__init__` of its own."""

    part: jax.Array

    def __init__(self, part: float, lr: float, **keywords):
        super().__init__(lr, **keywords)
        self.part = jnp.asarray(part)

    def modulation(self, problem, sample, layers):
        c, dv = problem.gradient(sample.lam, sample.y, layers)
        return ld.Modulation(self.part * c, self.part * dv)


def every_rule() -> list[rules.AbstractRule]:
    """Each rule with its rates given by position, by name and as a schedule."""
    return [
        ld.SGD(0.2),
        ld.SGD(lr=0.2, lr_second=0.1, weight_decay=0.01, batch_size=4, momentum=0.5),
        ld.SGD(lr=lambda alpha: 0.5 / (1 + alpha), momentum=ld.SlowMomentum(gamma=2.0)),
        ld.SGD(lr=rules.InverseTimeRate(0.3, 0.1), spherical=True),
        ld.LocalRule(sign_of_error, lr=0.2, draws=1),
        SignOfError(lr=0.2, weight_decay=0.1),
        PartOfError(0.5, lr=0.2, batch_size=2),
        rules.Hebb(0.2, weight_decay=0.1),
        rules.Perceptron(lr=0.2),
        rules.AdaTron(lr=0.2, lr_second=None, lr_bias=None, spherical=False),
        rules.FeedbackAlignment([1.0, -0.7], lr=0.2, lr_second=0.1),
        rules.FeedbackAlignment(np.array([1.0, -0.7]), 0.2),
        rules.NodePerturbation(scale=0.1, law="sign", lr=0.2),
        rules.Clipped(0.5, lr=0.2, per="batch", batch_size=4),
        rules.Clipped(0.5, rule=rules.Hebb(lr=0.2)),
        rules.Dropout(0.8, lr=0.2),
        rules.InputNoise(std=0.1, lr=0.2),
        rules.NaturalGradient(damping=1e-3, lr=0.2),
        rules.RewardPerceptron(episode=3, reward=1.0, penalty=0.1, lr=0.2),
        rules.WeightPerturbation(lr=0.2),
    ]


def every_problem() -> list[ld.Problem]:
    return [
        ld.Problem(),
        ld.Problem(student=ld.Tanh(), teacher=ld.ReLU(), loss=ld.Squared(), noise=0.1),
        ld.Problem(jnp.tanh, lambda x: x**3),
        ld.Problem(ld.Linear(), ld.Sign(flip=0.1), ld.Hinge()),
        ld.Problem(teacher=ld.MultiIndex(lambda rho, zeta: rho[0] * rho[-1] + zeta)),
        ld.Problem(loss=lambda phi, y: jnp.abs(phi - y)),
    ]


def levels(folder: Path) -> float:
    """The four levels from the same start, compared, stored, continued and drawn."""
    problem, rule = ld.Problem(noise=0.1), ld.SGD(lr=0.2)
    weights = ld.init_weights(KEY, n=100, k=2, m=1)
    start = ld.overlaps(weights)
    theory = ld.solve_ode(problem, rule, start, TS, rtol=1e-6)
    chain = ld.simulate_chain(problem, rule, start, TS, n=100, key=KEY)
    sgd = ld.simulate_sgd(problem, rule, weights, TS, key=KEY, inputs=ld.Gaussian())
    langevin = ld.simulate_langevin(problem, rule, start, TS, n=100, key=KEY, dt=0.1)
    scatter = ld.fluctuations(problem, rule, start, TS)
    verdict = ld.compare(theory, ld.to_dataset(chain), fluctuations=scatter)
    print(verdict.attrs["verdict"], langevin.eg[-1], scatter.constant, sgd.ok)

    later = ld.continue_run(sgd, jnp.linspace(1.0, 2.0, 3), key=KEY)
    dataset = ld.to_dataset(later, seed=0)
    ld.save(dataset, folder / "run.nc")
    stored = ld.load(folder / "run.nc")
    print(ld.problem_of(stored).noise, ld.rule_of(stored).lr)
    ld.plot.learning_curve(dataset)
    net, eg = ld.student(problem, weights), ld.generalisation_error(problem, start)
    print(theory.problem.noise, sgd.weights.w.shape, chain.n + 1)
    return float(net(jnp.ones(100)) + theory.at(-1).Q[0, 0] + eg)


def sweeps() -> np.ndarray:
    rates = {"lr": np.linspace(0.1, 0.5, 3), "noise": [0.0, 0.1]}
    solved = ld.sweep(ld.solve_ode, ld.Problem(), ld.SGD(lr=0.2), START, TS, over=rates)
    seeds = ld.sweep(
        ld.simulate_chain, ld.Problem(), ld.SGD(lr=0.2), START, TS, seeds=2, n=50, key=KEY
    )
    return solved.eg.sel(noise=0.1, alpha=1.0).values + seeds.eg.mean("seed").values[-1]


def tasks() -> jax.Array:
    both = [
        ld.Task(ld.Problem(), v_teacher=[1.0, 0.0], until=0.5),
        ld.Task(ld.Problem(noise=0.1), v_teacher=[0.0, 1.0], head=1),
    ]
    start = ld.Overlaps(0.1 * jnp.eye(2), jnp.full((2, 2), 0.05), jnp.eye(2))
    rule = ld.SGD(lr=0.2, lr_second=0.1)
    run = ld.learn("ode", both, rule, start, TS, heads=[[1.0, 1.0], [1.0, 1.0]])
    one, drift = [ld.Task(ld.Problem(), [1.0, 1.0])], ld.Drift(rate=0.1)
    drifting = ld.learn("ode", one, rule, start, TS, drift=drift)
    return run.eg_tasks[-1] + drifting.eg[-1]


def structured_inputs() -> float:
    problem, rule = ld.Problem(), ld.SGD(lr=0.2)
    spectrum = ld.Spectrum(eigenvalues=[0.5, 1.5], shares=[0.5, 0.5])
    parts = jnp.stack([0.5 * START.Q, 0.5 * START.Q])
    start = ld.GroupedOverlaps(parts, jnp.zeros((2, 2, 1)), jnp.full((2, 1, 1), 0.5), spectrum)
    run = ld.solve_ode(problem, rule, start, TS)

    weights = ld.init_weights(KEY, n=20, k=2, m=1)
    omega = jnp.diag(jnp.linspace(0.5, 1.5, 20))
    inputs = ld.Structured(omega)
    grouped = ld.overlaps(weights, inputs=inputs, groups=2)
    manifold = ld.HiddenManifold(jnp.tanh, latent=jax.random.normal(KEY, (20, 10)))
    sgd = ld.simulate_sgd(problem, rule, weights, TS, key=KEY, inputs=manifold)
    return float(run.Q_groups[-1, 0, 0, 0] + grouped.Q[0, 0, 0] + sgd.eg[-1])


def flows() -> float:
    data = flow.Data(np.eye(3), np.array([1.0, 0.5, 0.2]))
    network = flow.LinearNetwork((0.1 * jnp.ones((2, 3)), 0.1 * jnp.ones((1, 2))))
    moved = flow.gradient_flow(flow.DiagonalNetwork(jnp.full(3, 0.1), jnp.zeros(3)), data, TS)
    steps = flow.gradient_descent(network, flow.Data(np.eye(3), np.ones((3, 1))), 10, lr=0.1)
    jumps = flow.diagonal_jumps(data)
    kernel = flow.ntk(flow.LinearNeuron(0.5, jnp.ones(3)), jnp.eye(3))
    return float(moved.loss[-1] + steps.loss[-1] + jumps.times[0] + kernel[0, 0])


def theories() -> float:
    end = ld.asymptotics.eg_specialised(m=2, l=3, lr=0.05, noise=1.0)
    rest = ld.asymptotics.plateau(2, 0.5)
    point = ld.asymptotics.fixed_point(
        ld.Problem(noise=0.1), ld.SGD(lr=0.2), ld.asymptotics.specialised_state(2)
    )
    critical = ld.asymptotics.critical_lr(
        ld.Problem(), ld.SGD(lr=0.1), ld.asymptotics.specialised_state(2)
    )
    own = ld.conventions.from_saad_solla(lr=1.0)
    print(own)
    return float(end + rest.eg + point.eg + critical)

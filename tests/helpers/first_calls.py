"""The first call of public functions in a process, each inside jit: `first_calls.py GROUP`.

What is looked at, imported or remembered at a first call must not be a traced number. Afterwards
each is called again outside of jit: both must agree.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

import learndyn as ld

jax.config.update("jax_enable_x64", True)

Q, R, T = ([[0.5, 0.1], [0.1, 0.4]], [[0.2, 0.0], [0.1, 0.3]], [[1.0, 0.0], [0.0, 1.0]])
TS = jnp.array([0.0, 0.5])
KEY = jax.random.key(0)


def start(x):
    return ld.Overlaps(Q, R, T, v=jnp.array([0.8, 0.6]) * x)


def weights(x):
    w = np.random.default_rng(0).normal(size=(4, 12))
    return ld.Weights(w[:2] * x, w[2:])


def problem(x):
    return ld.Problem(ld.Tanh(), lambda y: jnp.tanh(y) + 0.1 * y, noise=0.1 * x)


def erf_problem(x):
    return ld.Problem(noise=0.1 * x)


def rule(x):
    return ld.SGD(lr=0.4 * x)


GROUPS = {
    "overlaps": {
        "overlaps": lambda x: ld.overlaps(weights(x)).Q,
    },
    "states": {
        "init_weights": lambda x: x * ld.init_weights(KEY, 12, 2, 2).w,
        "weights_from_overlaps": lambda x: ld.weights_from_overlaps(KEY, start(x), 12).w,
        "field_overlaps": lambda x: ld.field_overlaps(weights(x), ld.Structured(jnp.ones(12))).Q,
        "student": lambda x: ld.student(erf_problem(x), weights(x))(jnp.ones(12)),
        "teacher": lambda x: ld.teacher(erf_problem(x), weights(x))(jnp.ones(12)),
    },
    "theory": {
        "ode_term": lambda x: (lambda flow: flow(0.0, flow.pack(start(x)), None))(
            ld.ode_term(problem(x), rule(x), start(x)).vector_field
        ),
        "generalisation_error": lambda x: ld.generalisation_error(problem(x), start(x)),
        "solve_ode": lambda x: ld.solve_ode(erf_problem(x), rule(x), start(x), TS).eg,
        "fluctuations": lambda x: ld.fluctuations(erf_problem(x), rule(x), start(x), TS).covariance,
    },
    "experiments": {
        "simulate_chain": lambda x: (
            ld.simulate_chain(problem(x), rule(x), start(x), TS, n=12, key=KEY).Q
        ),
        "simulate_sgd": lambda x: ld.simulate_sgd(problem(x), rule(x), weights(x), TS, key=KEY).Q,
        "simulate_langevin": lambda x: (
            ld.simulate_langevin(erf_problem(x), rule(x), start(x), TS, n=12, key=KEY, dt=0.25).Q
        ),
    },
    "asymptotics": {
        "eg_linear": lambda x: ld.asymptotics.eg_linear(0.3 * x, 0.1, k=2),
        "critical_lr_linear": lambda x: x * ld.asymptotics.critical_lr_linear(k=2),
        "eg_relu": lambda x: ld.asymptotics.eg_relu(1, 0.3 * x, 0.1),
        "ridge": lambda x: ld.asymptotics.ridge(0.3 * x, 0.1, 0.2).q,
        "specialised_state": lambda x: x * ld.asymptotics.specialised_state(2, 1).Q,
        "eg_specialised": lambda x: ld.asymptotics.eg_specialised(2, 1, 0.05 * x, 1.0),
        "eg_zero_error_small_lr": lambda x: ld.asymptotics.eg_zero_error_small_lr(
            erf_problem(x), rule(x), ld.asymptotics.specialised_state(2, 0)
        ),
    },
}


def main(group):
    calls = GROUPS[group]
    inside = {name: jax.jit(call)(1.0) for name, call in calls.items()}
    for name, call in calls.items():
        np.testing.assert_allclose(inside[name], call(1.0), rtol=1e-7, atol=1e-9, err_msg=name)
        assert np.isfinite(inside[name]).all(), name
    print(f"{len(calls)} first calls")


if __name__ == "__main__":
    main(sys.argv[1])

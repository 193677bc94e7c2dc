"""What the levels of description are called; apart from the levels, since figures need no JAX."""

TITLES = {
    "ode": "ODE",
    "sgd": "SGD",
    "chain": "overlap chain",
    "langevin": "Langevin",
    "fluctuations": "ODE",
}
"""Names for people, by the attribute `level` of a dataset. Fluctuations hold their ODE."""

THEORIES = ("ode", "fluctuations")
"""The levels at which nothing is random."""

"""Names of activations, losses and rules on the command line, without JAX: `--help` lists them.

A name is what the class declares as its `name`. A test compares these lists with the classes of
`learndyn.problems` and `learndyn.rules`, so that none can be forgotten.
"""

from typing import Literal

StudentUnit = Literal["erf", "relu", "leaky-relu", "linear", "quadratic", "tanh"]
"""Activations of a student. Sign is not among them: its derivative vanishes, so nothing learns."""

TeacherUnit = Literal[StudentUnit, "sign"]
"""Activations of a teacher."""

Rule = Literal[
    "sgd",
    "feedback-alignment",
    "hebb",
    "perceptron",
    "adatron",
    "node-perturbation",
    "weight-perturbation",
    "clipped",
    "dropout",
    "input-noise",
    "reward-perceptron",
    "natural-gradient",
]
"""Learning rules."""

Loss = Literal["squared", "logistic", "hinge", "perceptron", "hebb", "adatron"]
"""Losses of one sample."""

"""Every public name says what its parameters are and shows an example, and the examples run."""

import doctest
import enum
import importlib
import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld

ROOMS = [
    "asymptotics",
    "atlas",
    "averages",
    "conventions",
    "flow",
    "inputs",
    "plot",
    "rules",
    "testing",
]
REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def public():
    """{full name: object} of what the reference documents, each object once."""
    text = "\n".join(page.read_text() for page in sorted(REFERENCE.glob("*.md")))
    found = {}
    for name in re.findall(r"^\.\. auto(?:class|function):: (\S+)$", text, re.M):
        room, _, short = name.rpartition(".")
        thing = getattr(importlib.import_module(room), short)
        if all(thing is not other for other in found.values()):
            found[name.removeprefix("learndyn.")] = thing
    return found


PUBLIC = public()


def docstrings(name):
    """The docstring of a name and, of a class, those of its public functions."""
    thing = PUBLIC[name]
    yield name, inspect.cleandoc(thing.__doc__ or "")
    if inspect.isclass(thing):
        for member, function in vars(thing).items():
            is_number = isinstance(function, int | float)  # a default, with Python's own docstring
            if not (member.startswith("_") or is_number) and getattr(function, "__doc__", None):
                yield f"{name}.{member}", inspect.cleandoc(function.__doc__)


def described(doc):
    """The names that the sections Args and Attributes explain."""
    sections = re.findall(r"^(?:Args|Attributes):\n((?:    .*\n|\n(?=    ))+)", doc + "\n", re.M)
    lines = re.findall(r"^    (\w+(?:, \w+)*): ", "".join(sections), re.M)
    return {name for line in lines for name in line.split(", ")}


def parameters(thing):
    inherited = inspect.isclass(thing) and issubclass(thing, enum.Enum | Warning)
    return set() if inherited else set(inspect.signature(thing).parameters)


DEAR = [
    "datasets.Derived",
    "asymptotics.eg_specialised",
    "asymptotics.critical_lr_specialised",
    "asymptotics.specialised_state",
    "asymptotics.symmetric_state",
    "flow.preconditioner",
    "plot.overlap_trajectories",
    "plot.save",
    "Erf",
    "simulate_sgd",
    "plot.learning_curve",
    "conventions.from_nn2pp",
    "asymptotics.ridge_curve",
    "asymptotics.eg_linear_finite_n",
    "asymptotics.eg_denoising",
    "asymptotics.eg_relu",
    "asymptotics.reduced_flow",
    "flow.gradient_descent",
    "rules.AbstractRule",
    "averages.ClosedForm",
    "averages.averages_error",
    "averages.choose_averages",
    "AbstractLoss",
    "Images",
    "rules.NodePerturbation",
    "rules.WeightPerturbation",
    "rules.NaturalGradient",
    "rules.AdaTron",
    "rules.Perceptron",
    "rules.Clipped",
    "rules.Hebb",
    "rules.Dropout",
    "rules.InputNoise",
    "rules.RewardPerceptron",
    "Fluctuations",
    "LocalRule",
    "TrainingSet",
    "asymptotics.plateau",
    "asymptotics.Plateau",
    "conventions.from_saad_solla",
    "averages.NodeAverages",
    "flow.ImplicitBias",
    "ode_term",
    "flow.Scale",
    "flow.Rescale",
    "flow.speeds",
    "flow.Speeds",
    "asymptotics.EscapeTimes",
    "asymptotics.FixedPoint",
    "asymptotics.Linearisation",
    "asymptotics.OptimalSchedule",
    "asymptotics.ReducedTrajectory",
    "asymptotics.Response",
    "asymptotics.Stability",
    "asymptotics.critical_lr",
    "asymptotics.eg_linear_curve",
    "asymptotics.eg_response",
    "asymptotics.eg_zero_error_small_lr",
    "asymptotics.escape_time",
    "asymptotics.fixed_point",
    "asymptotics.linearise",
    "asymptotics.locally_optimal_lr",
    "asymptotics.locally_optimal_schedule",
    "asymptotics.optimal_schedule",
    "asymptotics.perturb",
    "asymptotics.ridge_finite_n",
    "asymptotics.solve_reduced",
    "asymptotics.stability",
    "atlas.Outcome",
    "atlas.Row",
    "atlas.drawn_start",
    "atlas.reproduce",
    "averages.FieldAverages",
    "averages.QuasiMonteCarlo",
    "averages.choose_nodes",
    "compare",
    "flow.AtLoss",
    "flow.AtPlateau",
    "flow.GeneralLinear",
    "flow.LeavesPlateau",
    "flow.Run",
    "flow.Translation",
    "flow.after_step",
    "flow.alternating",
    "flow.dwell_times",
    "flow.gradient_flow",
    "flow.greedy_low_rank",
    "flow.implicit_bias",
    "flow.inertial_charge",
    "flow.jump_times",
    "flow.linear_modes",
    "flow.linear_neuron",
    "flow.linear_neuron_data",
    "flow.modular_data",
    "flow.modular_neurons",
    "flow.ntk",
    "fluctuations",
    "inputs.digits",
    "open_sweep",
    "plot.animate",
    "plot.coefficients",
    "plot.flow_overview",
    "plot.frequency_powers",
    "plot.kernel_distances",
    "plot.loss_curve",
    "plot.minima_manifold",
    "plot.neuron_directions",
    "plot.overlap_insets",
    "plot.overview",
    "rules.FeedbackAlignment",
    "simulate_chain",
    "simulate_langevin",
    "sweep",
    "testing.Agreement",
    "testing.assert_concentrates",
    "testing.assert_matches_ode",
    "weights_from_overlaps",
]
"""Names whose examples compile for more than a second or two, or share a program with one that
does: they run at night."""


def test_the_reference_is_not_small():
    assert len(PUBLIC) > 190
    assert set(DEAR) <= set(PUBLIC)


def test_every_parameter_is_described():
    missing = {
        name: sorted(parameters(thing) - described(inspect.cleandoc(thing.__doc__)))
        for name, thing in PUBLIC.items()
    }
    assert {name: names for name, names in missing.items() if names} == {}


def test_every_name_has_an_example_whose_outcome_is_shown():
    parse = doctest.DocTestParser().get_examples
    examples = {name: parse(inspect.cleandoc(thing.__doc__)) for name, thing in PUBLIC.items()}
    assert [name for name, found in examples.items() if not any(e.want for e in found)] == []


@pytest.mark.nightly(by_day=[name for name in PUBLIC if name not in DEAR])
@pytest.mark.parametrize("name", PUBLIC)
def test_the_example_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rooms = {room: getattr(ld, room) for room in ROOMS}
    for place, doc in docstrings(name):
        names = {"jax": jax, "jnp": jnp, "np": np, "ld": ld} | rooms
        test = doctest.DocTestParser().get_doctest(doc, names, place, None, 0)
        said = []
        doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=said.append)
        assert not said, "".join(said)

"""Every learning rule through datasets, files, stores, sweeps and runs that go on."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from rule_table import CASES, NODES, ONE, PROBLEM, TWO, WEDGE, normalised, run

import learndyn as ld
from learndyn import rules
from learndyn.problems import to_json

WHOLE, FIRST, THEN = [0.0, 1.6, 2.6, 3.0], [0.0, 0.4, 1.0, 1.6], [1.6, 2.0, 2.6, 3.0]
SHARED = np.array([0, 2, 3])
"""Rows of THEN that WHOLE has too. All times are whole steps of the Langevin level, dt = 0.2."""

CLOSE = {"sgd": 0.0, "chain": 1e-12, "langevin": 1e-10, "ode": 1e-9}
"""How far a run that goes on may be from one that did not stop: SGD agrees in every bit, the
simulations of overlaps to round-off, and the ODE to less than its tolerance of 1e-8."""
pytestmark = pytest.mark.filterwarnings(
    "ignore:the error of the Gaussian averages:RuntimeWarning",
    "ignore:the step dt:RuntimeWarning",
    "ignore:the Gaussian averages have not converged:RuntimeWarning",
)

RUNS = [
    pytest.param(level, name, id=f"{level}-{name}")
    for level in CLOSE
    for name, case in CASES.items()
    if level not in case.without
]


@pytest.mark.nightly
@pytest.mark.parametrize(("level", "name"), RUNS)
def test_every_rule_goes_on_from_a_file(level, name, tmp_path):
    rule, problem, at, _ = CASES[name]
    go = lambda ts: run(level, rule, problem, at, ts)
    whole, part = go(WHOLE), go(FIRST)
    # Weights are not in datasets, so that SGD goes on from the run itself.
    stored = part if level == "sgd" else ld.load(ld.save(part, tmp_path / "part.nc"))
    options = {"noise_nodes": NODES} if level == "langevin" else {}
    more = ld.continue_run(stored, THEN, **options)
    assert more.rule == rule
    # A rule that jumps or bends does so at each node in turn, and so does the drift; then a solve
    # is off by up to a hundred times its tolerance, which it says.
    by_nodes = level == "ode" and "averages_error_drift" in whole.stats
    most = 100 * float(whole.stats["rtol"]) if by_nodes else CLOSE[level]
    close = {"rtol": most, "atol": most}
    for quantity in ("Q", "R", "v", "eg"):
        found, expected = (np.asarray(getattr(x, quantity)) for x in (more, whole))
        np.testing.assert_allclose(found[SHARED], expected[1:], **close)
    assert np.abs(whole.R[-1] - at.R).max() > 0.01


@pytest.mark.parametrize("name", CASES)
def test_every_rule_is_read_back(name):
    rule = CASES[name].rule
    found = ld.rule_of(xr.Dataset(attrs={"rule": to_json(rule)}))
    assert type(found) is type(rule)
    assert found == rule


# What a user writes


def doubled(problem, sample, layers):
    return ld.Modulation(2.0 * sample.lam, 0.0 * sample.lam)


class Scaled:
    """A function with a number that no dataset holds."""

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, problem, sample, layers):
        return ld.Modulation(self.scale * sample.lam, 0.0 * sample.lam)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda problem, sample, layers: doubled(problem, sample, layers), "nothing imported"),
        (functools.partial(doubled), "an object of the class 'functools.partial'"),
        (Scaled(3.0), "an object of the class .*Scaled.*known="),
    ],
    ids=["lambda", "partial", "object"],
)
def test_functions_that_no_name_leads_to_are_asked_for(function, words):
    rule = ld.LocalRule(function, lr=0.1)
    stored = xr.Dataset(attrs={"rule": to_json(rule)})
    with pytest.raises(ValueError, match=words):
        ld.rule_of(stored)
    with pytest.raises(ValueError, match=words):
        ld.continue_run(_run_of(rule), [1.0, 2.0])
    assert ld.rule_of(stored, known=[function]) == rule


def _run_of(rule):
    """The dataset of a run of one unit that never ran."""
    row = {"Q": jnp.ones((2, 1, 1)), "R": jnp.zeros((2, 1, 1)), "T": jnp.ones((1, 1))}
    layers = {"v": jnp.ones((2, 1)), "v_teacher": jnp.ones(1)}
    return ld.to_dataset(row | layers, PROBLEM, rule, level="ode", ts=[0.0, 1.0])


@pytest.mark.nightly
def test_a_function_without_a_name_goes_on_where_it_is_given():
    function = lambda problem, sample, layers: doubled(problem, sample, layers)
    rule = ld.LocalRule(function, lr=0.1)
    part = run("ode", rule, ts=FIRST)
    more = ld.continue_run(ld.to_dataset(part), THEN, known=[function])
    np.testing.assert_allclose(more.R, ld.continue_run(part, THEN).R, rtol=1e-12)


# Sweeps


def told(problem, rule, start, ts, offset=0.0):
    """A level that is cheap: what rule and problem it was given."""
    own = {name: getattr(rule, name) for name in ("limit", "keep") if hasattr(rule, name)}
    number = sum(own.values()) if own else jnp.asarray(-1.0)
    return {"rate": jnp.sum(rule.lr), "own": number, "offset": jnp.asarray(offset)}


SEVERAL = [rules.Dropout(0.8, 0.5), ld.LocalRule(normalised, 0.5, needs_overlaps=True)]


def test_rules_are_a_coordinate_of_a_sweep(tmp_path):
    store, over = tmp_path / "rules.zarr", {"lr": [0.1, 0.2]}
    sweep = functools.partial(ld.sweep, told, PROBLEM, start=TWO, ts=[0.0], over=over)
    assert sweep(rule=SEVERAL, store=store).own.dims == ("lr", "rule")
    more = sweep(rule=[*SEVERAL, ld.SGD(0.7)], store=store)  # the store goes on
    assert list(more.rule.values) == ["Dropout", "normalised", "SGD"]
    np.testing.assert_array_equal(more.own[0], [0.8, -1.0, -1.0])
    np.testing.assert_array_equal(more.rate, np.tile([[0.1], [0.2]], 3))
    assert ld.rule_of(more.sel(rule="Dropout", lr=0.2)) == rules.Dropout(0.8, 0.2)
    own = ld.rule_of(more.sel(rule="normalised", lr=0.1))
    assert own.function == SEVERAL[1].function
    with pytest.raises(ValueError, match=r"the rules \['Dropout', .*dataset.sel\(rule='Dropout'\)"):
        ld.rule_of(more)
    other = [rules.Dropout(0.9, 0.5), *SEVERAL[1:]]  # another one of the same name is refused
    with pytest.raises(ValueError, match=r"rule: .*stored"):
        sweep(rule=other, store=store)


def test_labels_of_rules():
    label = lambda some: list(_told(some).rule.values)
    assert label({"a": ld.SGD(0.1), "b": ld.SGD(0.1)}) == ["a", "b"]
    assert label([ld.SGD(0.1), ld.SGD(0.2)]) == ["SGD(lr=0.1)", "SGD(lr=0.2)"]
    assert label([ld.SGD(0.1), ld.SGD(0.1)]) == ["SGD(lr=0.1) (0)", "SGD(lr=0.1) (1)"]


def _told(some, **keywords):
    return ld.sweep(told, PROBLEM, some, TWO, [0.0], **keywords)


def test_what_rules_cannot_share_is_not_swept():
    with pytest.raises(ValueError, match=r"All rules have .*'lr'"):
        _told(SEVERAL, over={"keep": [0.5]})
    with pytest.raises(ValueError, match="a list or dict in place of the rule"):
        _told(SEVERAL[0], over={"rule": SEVERAL})
    clipped = [rules.Clipped(0.5, 0.1), rules.Clipped(0.7, 0.1)]
    with pytest.raises(ValueError, match="the dimension of the rules"):
        _told(clipped, over={"rule": [ld.SGD(0.1)]})
    inner = _told(clipped[0], over={"rule": [ld.SGD(0.1), ld.SGD(0.2)]})  # that of the rule itself
    assert float(ld.rule_of(inner.isel(rule=1)).rule.lr) == 0.2


def test_values_without_a_number_are_read_back():
    """Labels count vectors, and name what is no number; the values are in an attribute."""
    feedback = rules.FeedbackAlignment([1.0, 1.0], 0.5)
    over = {"feedback": [[1.0, -0.7], [0.3, 0.2]], "spherical": [True, False]}
    swept = _told(feedback, over=over)
    one = ld.rule_of(swept.isel(feedback=1, spherical=0))
    np.testing.assert_array_equal(one.feedback, [0.3, 0.2])
    assert one.spherical is True
    student = _told(feedback, over={"student": [ld.LeakyReLU(0.3), ld.Erf()]})
    assert ld.problem_of(student.isel(student_activation=0)).student == ld.LeakyReLU(0.3)
    rates = _told(feedback, over={"lr": [[0.1, 0.2], [0.3, 0.4]]})
    np.testing.assert_array_equal(ld.rule_of(rates.isel(lr=1)).lr, [0.3, 0.4])


def test_values_that_go_together_are_read_back():
    swept = _told(SEVERAL[0], zip={"lr": [0.1, 0.3], "noise": [0.0, 0.2]})
    assert ld.rule_of(swept.isel(point=1)) == rules.Dropout(0.8, 0.3)
    assert float(ld.problem_of(swept.isel(point=0)).noise) == 0.0
    with pytest.raises(ValueError, match=r"dataset.isel\({'point': 0}\)"):
        ld.rule_of(swept)


GRID = {  # a parameter of each rule's own
    "node finite": {"scale": [0.2, 0.3]},
    "clipped": {"limit": [0.4, 0.5]},
    "dropout": {"keep": [0.7, 0.8]},
    "input noise": {"std": [0.2, 0.5]},
    "penalty": {"penalty": [0.01, 0.05]},
    "natural": {"damping": [0.2, 0.1]},
    "feedback": {"feedback": [[1.0, 0.7], [1.0, -0.7]]},
}


DEAR = ("node finite", "own draws")
"""Nodes in four and five dimensions, which take the way of the other users' rules."""


@pytest.mark.nightly
@pytest.mark.parametrize("name", [name for name in CASES if name not in DEAR])
def test_every_rule_is_swept_and_its_store_goes_on(name, tmp_path):
    """A grid over rates and the rule's own number, in two parts: each run is as one alone."""
    rule, problem, at, _ = CASES[name]
    grid, ts = GRID.get(name, {}), [0.0, 1.0]
    most = jnp.max(rule.lr) * np.array([1.0, 0.5])
    sweep = functools.partial(ld.sweep, ld.solve_ode, problem, rule, at, ts)
    for count in (1, 2):
        over = {"lr": list(map(float, most[:count])), **grid}
        found = sweep(over=over, store=tmp_path / "some.zarr", workers=1)
    assert found.done.all()
    last = found.isel(dict.fromkeys(grid, -1))
    for lr in most.tolist():
        one = last.sel(lr=lr)
        alone = run("ode", ld.rule_of(one), problem, at, ts)
        np.testing.assert_allclose(one.R, alone.R, rtol=_allowed(one))
    one = last.sel(lr=float(most[0]))
    np.testing.assert_allclose(one.R, run("ode", rule, problem, at, ts).R, rtol=_allowed(one))


def _allowed(one):
    """1e-7, or what a run's own tolerance allows: in a sweep the numbers of a rule are traced, so
    that a rule with kinks may jump, and is solved more coarsely."""
    own = 100 * float(one.rtol)
    return own if own > 1e-6 else 1e-7


@pytest.mark.nightly
def test_rules_are_swept_at_every_level(tmp_path):
    classifiers = {name: CASES[name].rule for name in ("hebb", "perceptron", "penalty")}
    given = {"n": 40, "key": jax.random.key(0), "seeds": 2}
    found = ld.sweep(ld.simulate_chain, WEDGE, classifiers, ONE, [0.0, 1.0], **given)
    assert found.eg.dims == ("rule", "seed", "alpha")
    alone = ld.sweep(ld.simulate_chain, WEDGE, classifiers["penalty"], ONE, [0.0, 1.0], **given)
    np.testing.assert_allclose(found.R.sel(rule="penalty"), alone.R, rtol=1e-12)
    axes = ld.plot.learning_curve(found, by="rule")
    assert {text.get_text() for text in axes.texts} >= {f"rule = {name}" for name in classifiers}
    ld.save(found, tmp_path / "found.nc")
    assert json.loads(ld.load(tmp_path / "found.nc").attrs["rule"]).keys() == classifiers.keys()


def test_figures_name_the_rule():
    from learndyn.plot._setting import setting_of

    title = lambda some: setting_of([xr.Dataset(attrs={"rule": json.dumps(some)})])
    described = {x: json.loads(to_json(CASES[x].rule)) for x in ("sgd", "dropout", "own jumps")}
    assert not title(described["sgd"]).startswith("SGD")
    assert title(described["dropout"]).startswith("Dropout, ")
    assert title(described["dropout"]).endswith("keep = 0.8")
    assert title(described["own jumps"]).startswith("jumping, ")
    assert title(described) == ""  # nothing that all three share

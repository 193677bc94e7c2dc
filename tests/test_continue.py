"""Runs that go on from where they ended, from trajectories and from files."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn.datasets import key_of, provenance
from learndyn.dynamics._trajectory import Given

PROBLEM, RULE = ld.Problem(noise=0.1), ld.SGD(lr=0.2)
BATCHES = ld.SGD(lr=0.2, lr_second=0.1, batch_size=3)
MOMENTUM = ld.SGD(lr=0.02, lr_second=0.1, momentum=0.9)
WEIGHTS = ld.init_weights(jax.random.key(0), n=50, k=2, m=2)
START = ld.overlaps(WEIGHTS)
# As many times in each, so that all runs of a level are one program.
WHOLE, FIRST, THEN = [0.0, 1.5, 2.5, 3.0], [0.0, 0.5, 1.0, 1.5], [1.5, 2.0, 2.5, 3.0]
KEY = jax.random.key(1)


def steady(x):
    return jnp.tanh(x)


class Decay(eqx.Module):
    scale: jax.Array

    def __call__(self, alpha):
        return self.scale / (1 + alpha)


def shared(values):
    """Rows of THEN that WHOLE has too."""
    return values[..., [0, 2, 3], :, :] if values.ndim > 2 else values[..., [0, 2, 3]]


def sgd(ts, rule=RULE, **options):
    return ld.simulate_sgd(PROBLEM, rule, WEIGHTS, ts, key=KEY, **options)


def chain(ts, rule=RULE):
    return ld.simulate_chain(PROBLEM, rule, START, ts, n=50, key=KEY)


def langevin(ts):
    return ld.simulate_langevin(PROBLEM, RULE, START, ts, n=50, key=KEY, dt=0.01)


@pytest.mark.parametrize("rule", [RULE, BATCHES, MOMENTUM], ids=["plain", "batches", "momentum"])
def test_sgd_goes_on_bit_for_bit(rule):
    whole, more = sgd(WHOLE, rule), ld.continue_run(sgd(FIRST, rule), THEN)
    for name in ("Q", "R", "eg", "alpha"):
        np.testing.assert_array_equal(shared(getattr(more, name)), getattr(whole, name)[1:])
    np.testing.assert_array_equal(more.weights.w, whole.weights.w)


def test_sgd_on_a_training_set_goes_on_bit_for_bit():
    inputs = ld.TrainingSet(p=20)
    whole, part = sgd(WHOLE, inputs=inputs), sgd(FIRST, inputs=inputs)
    with pytest.raises(ValueError, match="drew its inputs from TrainingSet"):
        ld.continue_run(part, THEN)
    more = ld.continue_run(part, THEN, inputs=inputs)
    np.testing.assert_array_equal(shared(more.Q), whole.Q[1:])


@pytest.mark.nightly(by_day=["trajectory-batches", "dataset-batches"])
@pytest.mark.parametrize("rule", [RULE, BATCHES], ids=["plain", "batches"])
@pytest.mark.parametrize("form", [lambda run: run, ld.to_dataset], ids=["trajectory", "dataset"])
def test_the_chain_goes_on_with_the_same_numbers(rule, form):
    whole, more = chain(WHOLE, rule), ld.continue_run(form(chain(FIRST, rule)), THEN)
    np.testing.assert_allclose(shared(more.Q), whole.Q[1:], rtol=1e-12)
    np.testing.assert_allclose(shared(more.R), whole.R[1:], rtol=1e-12, atol=1e-14)


@pytest.mark.nightly
@pytest.mark.parametrize("form", [lambda run: run, ld.to_dataset], ids=["trajectory", "dataset"])
def test_langevin_goes_on_with_the_same_numbers(form):
    whole, more = langevin(WHOLE), ld.continue_run(form(langevin(FIRST)), THEN, dt=0.01)
    np.testing.assert_allclose(shared(more.Q), whole.Q[1:], rtol=1e-10)


@pytest.mark.nightly
def test_langevin_off_its_grid_uses_no_number_twice():
    # The last step, from 1.50 to 1.503, is shortened; the next number is that of the step at 1.51.
    part = ld.simulate_langevin(
        PROBLEM, RULE, START, [0.0, 0.5, 1.0, 1.503], n=50, key=KEY, dt=0.01
    )
    after = ld.continue_run(part, [1.503, 1.513, 1.7, 2.0], dt=0.01)
    aligned = ld.simulate_langevin(
        PROBLEM, RULE, part.at(-1), [1.51, 1.52, 1.7, 2.0], n=50, key=KEY, dt=0.01
    )
    np.testing.assert_allclose(after.Q[1], aligned.Q[1], rtol=1e-9)


@pytest.mark.parametrize("form", [lambda run: run, ld.to_dataset], ids=["trajectory", "dataset"])
def test_the_ode_goes_on_to_its_tolerance(form):
    solve = lambda ts: ld.solve_ode(PROBLEM, RULE, START, ts)
    more = ld.continue_run(form(solve(FIRST)), THEN)
    np.testing.assert_allclose(shared(more.eg), solve(WHOLE).eg[1:], rtol=1e-8)


def test_what_a_run_knows_of_its_options_is_kept():
    whole, part = (sgd(ts, input_dtype=jnp.float32) for ts in (WHOLE, FIRST))
    np.testing.assert_array_equal(shared(ld.continue_run(part, THEN).Q), whole.Q[1:])
    rough = ld.solve_ode(PROBLEM, RULE, START, FIRST, rtol=1e-4, atol=1e-6)
    for run in (rough, ld.to_dataset(rough)):
        more = ld.continue_run(run, THEN)
        assert (float(more.stats["rtol"]), float(more.stats["atol"])) == (1e-4, 1e-6)


@pytest.mark.nightly
def test_it_goes_on_within_jit():
    part = chain(FIRST)
    more = jax.jit(lambda ts: ld.continue_run(part, ts).Q)(jnp.array(THEN))
    np.testing.assert_allclose(shared(more), chain(WHOLE).Q[1:], rtol=1e-12)


def test_another_key_goes_on_at_random():
    more = ld.continue_run(chain(FIRST), THEN, key=jax.random.key(7))
    assert np.abs(shared(more.Q) - chain(WHOLE).Q[1:]).max() > 1e-3
    np.testing.assert_allclose(more.Q[0], chain(WHOLE).Q[1], rtol=1e-12)


def test_a_batch_goes_on():
    keys = jax.random.split(KEY, 2)
    run = lambda ts: jax.vmap(lambda key: ld.simulate_sgd(PROBLEM, RULE, WEIGHTS, ts, key=key))
    more = eqx.filter_vmap(lambda part: ld.continue_run(part, THEN))(run(FIRST)(keys))
    np.testing.assert_allclose(shared(more.Q), run(WHOLE)(keys).Q[:, 1:], rtol=1e-12)


def test_what_cannot_go_on_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"ts must begin where the run ended, at alpha = 1\.5"):
        ld.continue_run(chain(FIRST), WHOLE)
    with pytest.raises(ValueError, match="weights, which a dataset does not hold"):
        ld.continue_run(ld.to_dataset(sgd(FIRST)), THEN)
    with pytest.raises(ValueError, match="keep_weights=False"):
        ld.continue_run(sgd(FIRST, keep_weights=False), THEN)
    with pytest.raises(ValueError, match="goes on from its velocity"):
        ld.continue_run(chain(FIRST, MOMENTUM), THEN)
    keyless = ld.to_dataset(chain(FIRST))
    del keyless.attrs["key"]
    with pytest.raises(ValueError, match="does not know its random key"):
        ld.continue_run(keyless, THEN)
    by_hand = dataclasses.replace(chain(FIRST), level="", given=None)
    with pytest.raises(ValueError, match="only a run of one of the levels"):
        ld.continue_run(by_hand, THEN)
    with pytest.raises(ValueError, match=r"got a batch of shape \(1,\)"):
        ld.continue_run(jax.tree.map(lambda x: x[None], chain(FIRST)), THEN)
    for wrong in (START, WEIGHTS, "run.nc", THEN):
        with pytest.raises(ValueError, match="takes a trajectory or a dataset, then ts"):
            ld.continue_run(wrong, THEN)
    for of, word in ((ld.problem_of, "run.problem"), (ld.rule_of, "run.rule")):
        with pytest.raises(ValueError, match=word):
            of(chain(FIRST))
    with pytest.raises(ValueError, match="takes the number of a saved time"):
        chain(FIRST).at(0.5)
    with pytest.raises(ValueError, match="velocity must be that of a run of the same rule"):
        sgd(FIRST, velocity=sgd(FIRST, MOMENTUM).velocity)


def test_the_limit_of_constant_momentum_goes_on():
    # In the limit it is a rate; only slow momentum has velocities.
    run = ld.solve_ode(PROBLEM, MOMENTUM, START, FIRST)
    assert ld.continue_run(run, THEN).ok
    slow = ld.SGD(lr=0.1, momentum=ld.SlowMomentum(1.0))
    with pytest.raises(ValueError, match="goes on from its velocity"):
        ld.continue_run(dataclasses.replace(run, given=Given.of(PROBLEM, slow)), THEN)


@pytest.mark.parametrize(
    ("problem", "rule"),
    [
        (PROBLEM, MOMENTUM),
        (ld.Problem(student=jnp.tanh, teacher=steady), ld.SGD(lr=Decay(jnp.array(0.1)))),
        (
            ld.Problem(student=ld.LeakyReLU(0.3), teacher=ld.Sign(0.2), loss=ld.Logistic()),
            ld.rules.FeedbackAlignment(feedback=[1.0, -2.0], lr=0.1),
        ),
        (ld.Problem(), ld.SGD(lr=ld.rules.PiecewiseRate([0.0, 1.0], [0.2, 0.1]))),
        (ld.Problem(), ld.SGD(lr=0.1, momentum=ld.SlowMomentum(2.0), batch_size=4)),
    ],
)
def test_problems_and_rules_are_read_back(problem, rule, tmp_path):
    run = ld.Trajectory(
        alpha=jnp.zeros(1),
        **{name: jnp.zeros((1, 2, 2)) for name in "QR"},
        T=jnp.zeros((2, 2)),
        v=jnp.zeros((1, 2)),
        v_teacher=jnp.zeros(2),
        b=None,
        b_teacher=None,
        eg=jnp.zeros(1),
        result=jnp.zeros((), int),
        stats={},
    )
    path = ld.save(ld.to_dataset(run, problem, rule), tmp_path / "run.nc")
    found = ld.problem_of(ld.load(path)), ld.rule_of(ld.load(path))
    assert eqx.tree_equal(found, (problem, rule))


def test_functions_without_a_name_are_asked_for():
    square = lambda x: x**2
    origin = provenance(ld.Problem(student=square, teacher=square), RULE)
    dataset = ld.to_dataset(chain(FIRST)).assign_attrs(origin)
    with pytest.raises(ValueError, match="known="):
        ld.problem_of(dataset)
    assert ld.problem_of(dataset, known=[square]).student.fn is square


def test_what_is_read_back_must_be_what_was_stored():
    dataset = ld.to_dataset(chain(FIRST))
    dataset.attrs["rule"] = dataset.attrs["rule"].replace('"lr": 0.2', '"lr": "traced"')
    with pytest.raises(ValueError, match="a number was being traced"):
        ld.continue_run(dataset, THEN)
    dataset.attrs["rule"] = dataset.attrs["rule"].replace('"traced"', '0.2, "rate": 0.3')
    with pytest.raises(ValueError, match="cannot be read back"):
        ld.rule_of(dataset)
    del dataset.attrs["problem"]
    with pytest.raises(ValueError, match="no attribute 'problem'"):
        ld.problem_of(dataset)


def test_a_run_of_a_sweep_has_its_own_numbers():
    over = {"lr": [0.1, 0.3], "noise": [0.0, 0.2]}
    swept = ld.sweep(ld.solve_ode, PROBLEM, RULE, START, FIRST, over=over)
    one = swept.isel(lr=1, noise=0)
    assert float(ld.rule_of(one).lr) == 0.3
    assert float(ld.problem_of(one).noise) == 0.0
    with pytest.raises(ValueError, match="choose one first"):
        ld.rule_of(swept)
    more = ld.continue_run(one, THEN)
    whole = ld.solve_ode(ld.Problem(), ld.SGD(lr=0.3), START, WHOLE)
    np.testing.assert_allclose(shared(more.eg), whole.eg[1:], rtol=1e-8)


def test_a_sweep_over_activations_has_their_names_alone():
    swept = ld.to_dataset(chain(FIRST)).assign_attrs(swept="student_activation")
    with pytest.raises(ValueError, match="names alone"):
        ld.problem_of(swept.assign_coords(student_activation="Erf"))


def test_keys_in_attributes():
    for key in (jax.random.key(7), jax.random.fold_in(jax.random.key(0), 3)):
        assert key_of(provenance(key=key)) == key
    assert key_of({}) is None


@pytest.mark.parametrize("state", [WEIGHTS, START], ids=["weights", "overlaps"])
def test_states_are_saved_bit_for_bit(state, tmp_path):
    path = ld.save(state, tmp_path / "deep" / "state.npz")
    found = ld.read_state(path)
    assert type(found) is type(state)
    assert eqx.tree_equal(found, state)
    assert [file.name for file in path.parent.iterdir()] == ["state.npz"]


def test_states_and_datasets_have_their_own_endings(tmp_path):
    with pytest.raises(ValueError, match=r"a state's path must end in \.npz"):
        ld.save(START, tmp_path / "state.nc")
    with pytest.raises(ValueError, match="read_state"):
        ld.load(ld.save(START, tmp_path / "state.npz"))
    loaded = ld.load(ld.save(chain(FIRST), tmp_path / "run.nc"))
    np.testing.assert_array_equal(loaded["Q"], chain(FIRST).Q)

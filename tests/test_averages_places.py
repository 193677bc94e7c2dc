"""Where functions of one field jump, which nodes keep a problem's symmetries, which there are, and
which are for rare events: small numbers by hand."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import learndyn as ld
from learndyn.averages import BodyCentred, GaussHermite, QuasiMonteCarlo, Trapezoid
from learndyn.averages import _fallback as fallback
from learndyn.averages import _places as places
from learndyn.averages import _rare as rare
from learndyn.averages._quadrature import _product
from learndyn.averages._symmetry import Symmetry, _agree, _arrangements, _classes, is_closed
from learndyn.problems import Layers
from learndyn.rules import Modulation

RULE = ld.SGD(0.1)
STATE = ld.Overlaps([[0.9, 0.2], [0.2, 0.6]], [[0.3], [-0.1]], [[1.4]], [0.7, -1.3], [1.1])


def same(found, wanted, rtol=1e-12):
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=1e-14)


# Places


def test_places_of_labels_are_spread_by_noise():
    """Eight standard deviations of the noise over |v*| g', about a place 0.5 of slope 0.25."""
    known = places.Places((), (), (), (), (1.5,), (2.0,), steepness=((0.5, 0.25),))
    problem = ld.Problem(ld.Linear(), ld.Tanh(), ld.Logistic(), noise=0.3)
    layers = Layers(jnp.ones(1), jnp.array([-1.2]), None, jnp.array([0.7]))
    half = 8 * 0.3 / (1.2 * 0.25)
    same(known.of_labels(problem, layers), [0.8, -0.2 - half, -0.2 + half])
    same(known.of_clean_output(layers), [1.3])
    plain = layers._replace(b_teacher=None)
    same(known.of_clean_output(plain), [2.0])


def test_places_where_labels_change_their_sign():
    """y = sign(tanh(x - 0.4)) has the slope 1 there; a slope of 0 spreads nothing."""
    shifted = lambda x: jnp.tanh(2 * (x - 0.4))
    noisy = ld.Problem(ld.Linear(), shifted, ld.Logistic(), noise=0.3)
    found = places.places(noisy, RULE)
    same(found.in_label, [0.4], rtol=1e-9)
    assert found.steepness
    same(found.steepness, [(0.4, 2.0)] * len(found.steepness), rtol=1e-9)
    same(found.in_output, [0.0])
    quiet = ld.Problem(ld.Linear(), shifted, ld.Logistic())
    assert places.places(quiet, None).steepness == ()
    assert places._steepness(noisy, ()) == ()
    flat = ld.Problem(ld.Linear(), lambda x: (x - 0.4) ** 2, ld.Logistic(), noise=0.3)
    assert places._steepness(flat, (0.4,)) == ()


def test_places_of_a_declared_loss_are_on_both_sides():
    hinge = places.places(ld.Problem(ld.Erf(), ld.Sign(), ld.Hinge()), RULE)
    assert hinge.in_output == (-1.0, 0.0, 1.0)
    assert (hinge.in_label, hinge.in_clean, hinge.in_residual) == ((0.0,), (0.0,), ())
    relu = places.places(ld.Problem(ld.ReLU(), ld.Erf()), RULE)
    assert (relu.in_student, relu.in_output, relu.in_label) == ((0.0,), (), ())


def test_places_of_a_rule_that_learns_signs():
    def rule(problem, sample, layers):
        edge = jnp.where(sample.y > 0, 0.5 * sample.y, 1.25 * sample.y)
        return Modulation(jnp.where(sample.lam > edge, 1.0, 0.0), jnp.abs(sample.lam - 2.0))

    problem = ld.Problem(ld.Linear(), ld.Sign(), ld.Perceptron())
    found = places.places(problem, ld.LocalRule(rule, 0.1))
    same(found.in_field, [-1.25, 0.5, 2.0], rtol=1e-9)
    assert found.in_output == (0.0,)


@pytest.mark.parametrize(
    ("f", "signs", "label", "clean", "uses"),
    [
        (lambda rho, zeta: jnp.abs(rho[0] - 0.6), False, [0.6], [0.6], False),
        (lambda rho, zeta: rho[0] - 0.6, True, [0.6], [0.6], False),
        (
            lambda rho, zeta: jnp.abs(rho[0] - 0.6 * zeta),
            False,
            0.6 * np.array([-5.0, -1.3, -0.4, 0.7, 1.9, 5.0]),
            None,
            True,
        ),
    ],
    ids=["kink", "sign", "moved by noise"],
)
def test_places_of_an_index(f, signs, label, clean, uses):
    """Where labels move with the noise, at six values of it, and their mean at all others."""
    found = places._of_multi_index(ld.MultiIndex(f), signs)
    same(np.sort(found[0]), np.sort(label), rtol=1e-9)
    if clean is not None:
        same(found[1], clean, rtol=1e-9)
    else:  # a sum over noises 1/16 apart
        np.testing.assert_allclose(np.diff(np.unique(np.round(found[1], 9))), 0.6 / 16, rtol=1e-6)
    assert found[2] is uses


def test_an_index_that_jumps_in_its_noise_has_no_places():
    jumps = ld.MultiIndex(lambda rho, zeta: rho.reshape(()) * jnp.sign(zeta - 0.2))
    known, clean, uses = places._of_multi_index(jumps, False)
    assert (len(known), math.isnan(known[0]), clean, uses) == (1, True, (), True)
    assert places.places(ld.Problem(ld.Linear(), jumps), RULE) is None


def test_places_that_are_one():
    assert places._distinct([0.5, -1.0, 0.5 + 1e-10, 0.5 + 2e-9]) == (-1.0, 0.5, 0.5 + 2e-9)
    assert places._is_among(0.5, [0.2, 0.5 - 1e-10])
    assert not places._is_among(0.5, [0.2, 0.5 - 2e-9])


# Symmetries


def test_images_of_nodes():
    """Two students, classes of one and of two teachers, a number of each unit for the rule."""
    symmetry = Symmetry(2, ((0,), (1, 2)), flips=((-1, 1, -1),), draws=2)
    assert symmetry.m == 3
    images = symmetry.images(7)
    z = np.arange(1.0, 8.0)
    found = {tuple(z[positions] * signs) for positions, signs in images}
    plain = [(1, 2, 3, 4, 5, 6, 7), (1, 2, 3, 5, 4, 6, 7)]
    plain += [(2, 1, 3, 4, 5, 7, 6), (2, 1, 3, 5, 4, 7, 6)]
    signs = np.array([-1, -1, 1, 1, 1, -1, -1])
    assert found == {*plain, *(tuple(signs * x) for x in plain)}
    # Numbers that are not one for each unit stay.
    odd = Symmetry(2, ((0,),), draws=1).images(4)
    assert {tuple(z[:4][positions]) for positions, _ in odd} == {(1, 2, 3, 4), (2, 1, 3, 4)}
    two = Symmetry(2, ((0,),), draws=4).images(7)  # two of each unit
    assert {tuple(z[at]) for at, _ in two} == {(1, 2, 3, 4, 5, 6, 7), (2, 1, 3, 5, 4, 7, 6)}
    # Both samples of a node alike
    twice = Symmetry(2, ((0,),), copies=2).images(6)
    assert {tuple(z[:6][at]) for at, _ in twice} == {(1, 2, 3, 4, 5, 6), (2, 1, 3, 5, 4, 6)}


def test_arrangements_of_units():
    assert [len(_arrangements(units)) for units in ((4,), (4, 7), (4, 7, 9))] == [1, 2, 6]
    assert len(_arrangements(())) == 1
    assert _arrangements((1, 2, 3, 4)) == [
        *((1, 2, 3, 4), (2, 3, 4, 1)),
        *((3, 4, 1, 2), (4, 1, 2, 3)),
    ]


def test_fields_of_an_index_that_may_be_exchanged():
    index = ld.MultiIndex(lambda rho, zeta: rho[0] * rho[2] + rho[1] + zeta)
    problem = ld.Problem(ld.Linear(), index)
    assert _classes(problem, 3) == ((0, 2), (1,))
    assert _classes(ld.Problem(), 3) == ((0, 1, 2),)
    found = []

    def traced(scale):
        index = ld.MultiIndex(eqx.Partial(lambda scale, rho, zeta: scale * rho[0], scale))
        found.append(_classes(ld.Problem(ld.Linear(), index), 2))

    jax.eval_shape(traced, jnp.ones(()))
    assert found == [((0, 1),)]
    x = jnp.array([0.3, -2.0])
    assert _agree(jnp.sin, (x,), (-x,), -1)
    assert not _agree(jnp.sin, (x,), (-x,))
    assert not _agree(jnp.sin, (x,), (x * (1 + 1e-8),))


def test_nodes_that_are_closed():
    symmetry = Symmetry(1, ((0,),), flips=((-1, -1, 1),))
    z = np.array([[[0.3, 0.5], [-0.3, -0.5]]])
    assert is_closed(z, np.array([0.5, 0.5]), symmetry)
    assert not is_closed(z, np.array([0.4, 0.6]), symmetry)


# Nodes


def test_lattices_and_their_neighbours():
    assert (Trapezoid(10).coarser().points, Trapezoid(10).finer().points) == (8, 14)
    assert Trapezoid(4).coarser().points == 4
    assert (GaussHermite(9).coarser().order, GaussHermite(9).finer().order) == (7, 12)
    assert GaussHermite(2).coarser().order == 2
    finer, coarser = BodyCentred(0.8, 5.0).finer(), BodyCentred(0.8, 5.0).coarser()
    same([finer.spacing, finer.reach], [0.68, 5.5])
    same([coarser.spacing, coarser.reach], [0.8 / 0.85, 4.5])
    x, w = Trapezoid(5).nodes(1)
    same(x[0, :, 0], [-8.5, -4.25, 0.0, 4.25, 8.5])
    same(w[2] / w[1], np.exp(4.25**2 / 2))


def test_body_centred_lattices():
    """Corners and centres of squares of side 1 within 1.2 of 0, in two dimensions."""
    z, weight = BodyCentred(1.0, 1.2).nodes(2)
    found = {tuple(x) for x in z[0]}
    corners = {(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)}
    assert found == corners | {(a, b) for a in (-0.5, 0.5) for b in (-0.5, 0.5)}
    total = 1 + 4 * np.exp(-0.5) + 4 * np.exp(-0.25)
    same(weight, np.exp(-np.sum(z[0] ** 2, axis=1) / 2) / total)


def test_products_of_nodes_leave_out_what_weighs_nothing():
    """With weights 1, 1e-10 and 2 in two directions the product 1e-20 is below 1e-18 of 4."""
    z, weight = _product(np.array([-1.0, 0.5, 2.0]), np.array([1.0, 1e-10, 2.0]), 2)
    assert z.shape == (1, 8, 2)
    assert (0.5, 0.5) not in {tuple(x) for x in z[0]}
    same(weight.sum(), 1.0)
    at = {tuple(x): w for x, w in zip(z[0], weight, strict=True)}
    same(at[2.0, -1.0], 2 / 9, rtol=1e-9)
    same(at[2.0, 2.0], 4 / 9, rtol=1e-9)


@pytest.mark.parametrize(
    "make",
    [
        lambda: BodyCentred(0.0, 1.0),
        lambda: BodyCentred(1.0, 1.0),
        lambda: BodyCentred(1.0, math.inf),
        lambda: QuasiMonteCarlo(1, 2),
        lambda: QuasiMonteCarlo(12, 2),
        lambda: QuasiMonteCarlo(8, 1),
        lambda: ld.averages.MonteCarlo(0, 2),
        lambda: ld.averages.MonteCarlo(5, 1),
        lambda: Trapezoid(3).nodes(1),
        lambda: GaussHermite(1).nodes(1),
        lambda: GaussHermite(301).nodes(1),
        lambda: GaussHermite(171).nodes(3),  # five million and more
    ],
    ids=range(12),
)
def test_nodes_out_of_bounds(make):
    with pytest.raises(ValueError, match=r"needs|must be"):
        make()


def test_nodes_within_bounds():
    BodyCentred(0.5, 0.6)
    assert QuasiMonteCarlo(2, 2).nodes(1)[0].shape == (2, 2, 1)
    z, weight = ld.averages.MonteCarlo(1, 2).nodes(3)
    assert (z.shape, weight.tolist()) == ((2, 1, 3), [1.0])
    assert (Trapezoid(4).nodes(1)[1].size, GaussHermite(2).nodes(1)[1].size) == (4, 2)


class Few(GaussHermite):
    """Points that become fewer one by one, and finer ones that are too many."""

    def nodes(self, dims):
        if self.order > 6:
            raise ValueError("too many")
        return np.zeros((1, self.order, dims)), np.ones(self.order)

    def coarser(self):
        return Few(self.order - 1)

    def finer(self):
        return Few(self.order + 1)


def test_finer_nodes_that_are_too_many_are_replaced_by_coarser_ones():
    """Before 4 nodes come 3 and 3, after them 6; before 6 nodes 3, 4 and 5, after them none."""
    sizes = lambda found: [len(weight) for _, weight in found]
    assert sizes(fallback._neighbours(GaussHermite(4), 1)) == [3, 3, 6]
    assert sizes(fallback._neighbours(Few(6), 2)) == [3, 4, 5]
    assert fallback._neighbours(QuasiMonteCarlo(8), 2) == (None, None, None)


def test_the_widest_field():
    same(fallback.reach_of(STATE), 1.4**0.5)
    same(fallback.reach_of(ld.Overlaps([[1.9]], [[0.0]], [[1.4]])), 1.9**0.5)
    found = []
    jax.eval_shape(
        lambda q: found.append(fallback.reach_of(ld.Overlaps(q, [[0.0]], [[1.0]]))), jnp.eye(1)
    )
    assert found == [None]


def test_default_nodes():
    jumps = ld.Problem(ld.Tanh(), ld.MultiIndex(lambda rho, zeta: jnp.sign(rho[0] + 0.3)))
    assert fallback._default_nodes(jumps, 1) == QuasiMonteCarlo(8192, symmetric=True)
    assert fallback._default_nodes(ld.Problem(), 1) == QuasiMonteCarlo(4096, symmetric=True)
    assert fallback._lattice(ld.Problem(ld.Tanh(), ld.Tanh()), 1, 2, None) == Trapezoid(128)
    assert fallback._lattice(ld.Problem(ld.Tanh(), ld.Tanh()), 2, 6, None) is None


def test_no_nodes_for_rules_that_move_along_weights():
    natural = ld.rules.NaturalGradient(lr=0.1)
    with pytest.raises(ValueError, match="no averages over nodes"):
        fallback.node_averages(ld.Problem(), 1, 1, rule=natural, biases=False)


# Rare events


def test_labels_that_are_rare():
    """Among -1, 0 (eight times) and 5, the last has most of the variance."""
    y = np.array([0.0] * 8 + [-1.0, 5.0])
    assert rare._rare_event(y)(y).tolist() == [False] * 9 + [True]
    assert not rare._rare_event(np.ones(4))(np.ones(4)).any()


def test_two_strata_of_nodes():
    event = lambda z: z[:, 0] > 0
    rough, fine = (
        np.array([[-1.0], [-2.0], [3.0]]),
        np.array([[1.0], [-4.0], [-5.0], [-6.0], [2.0]]),
    )
    z, weight = rare._stratified(rough, fine, event)
    assert z[:, 0].tolist() == [-1.0, -2.0, 1.0, 2.0]
    same(weight, [0.3, 0.3, 0.2, 0.2])  # the event has two of five
    padded, weights = rare._padded([(z, weight), (rough, np.array([0.2, 0.3, 0.5]))])
    assert padded[..., 0].tolist() == [[-1.0, -2.0, 1.0, 2.0], [-1.0, -2.0, 3.0, -1.0]]
    same(weights, [[0.3, 0.3, 0.2, 0.2], [0.2, 0.3, 0.5, 0.0]])
    images = [(np.arange(1), np.ones(1)), (np.arange(1), -np.ones(1))]
    z, weight = rare._with_images((rough[None], np.array([[0.2, 0.3, 0.5]])), images)
    assert z[0, :, 0].tolist() == [-1.0, -2.0, 3.0, 1.0, 2.0, -3.0]
    same(weight, [[0.1, 0.15, 0.25] * 2])
    assert [rare._power(x) for x in (3, 16, 40, 50)] == [16, 16, 32, 64]


def test_labels_of_rare_events_are_at_the_teacher_s_fields():
    label = ld.MultiIndex(lambda rho, zeta: rho[0] - 2 * rho[1] + 5 * zeta)
    teacher = rare.Teacher(np.diag([4.0, 0.25]), np.array([0.3, -0.2]))
    at = rare._labels(label, Symmetry(1, ((0,), (1,))), teacher)
    z = np.array([[9.0, 0.5, -1.0, 0.7], [8.0, 1.5, 2.0, -0.4]])
    same(at(z), 2 * z[:, 1] + 0.3 - 2 * (0.5 * z[:, 2] - 0.2) + 5 * z[:, 3])
    same(at(z[:, :3]), 2 * z[:, 1] + 0.3 - 2 * (0.5 * z[:, 2] - 0.2))
    state = ld.Overlaps(STATE.Q, STATE.R, STATE.T, b=[0.1, 0.2], b_teacher=[0.3])
    found = rare.teacher_of(state)
    same(found.T, [[1.4]])
    same(found.b, [0.3])
    assert rare.teacher_of(STATE).b is None


def test_nodes_of_a_rare_label(monkeypatch):
    """A field beyond 2 has the probability 0.023; elsewhere the label is -0.4."""
    for name, size in {"_PILOT": 2**12, "_LARGEST": 2**13, "_SHARE": 256}.items():
        monkeypatch.setattr(rare, name, size)
    label = ld.MultiIndex(lambda rho, zeta: jnp.where(rho[0] > 2.0, 3.0, -0.4))
    sizes = 2, Symmetry(1, ((0,),), flips=((-1, 1, 1),)), rare.Teacher(np.eye(1), None)
    usual, (z, weight) = rare._label_nodes(label, *sizes)
    assert usual == pytest.approx(-0.4, rel=1e-12)
    assert z.shape[0] == weight.shape[0] == 4
    met = z[..., 1] > 2.0
    same(weight.sum(axis=1), 1.0)
    # Sobol nodes know it to a few of those that meet it.
    chance = 1 - scipy.special.ndtr(2.0)
    np.testing.assert_allclose((weight * met).sum(axis=1), chance, rtol=0.05)
    # As many in the event as outside of it
    assert 0.4 < met.mean() < 0.6
    assert len(np.unique(z[:, 0, 0])) == 4
    # Labels that are one or the other with like chances have no rare event.
    signs = rare._label_nodes(ld.MultiIndex(lambda rho, zeta: jnp.sign(rho[0])), *sizes)
    assert (signs.usual, signs.nodes) == (pytest.approx(0.0, abs=1e-3), None)
    constant = rare._label_nodes(ld.MultiIndex(lambda rho, zeta: 1.0 + 0 * rho[0]), *sizes)
    assert (constant.usual, constant.nodes) == (1.0, None)

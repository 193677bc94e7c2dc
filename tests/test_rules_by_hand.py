"""What each rule makes of one sample, and of known averages: in NumPy, by hand, without a run."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

import learndyn as ld
from learndyn import rules
from learndyn.problems import Layers
from learndyn.rules import ErrorSignal, FieldAverages, Modulation, Sample, Seen

PROBLEM = ld.Problem(ld.Quadratic(), ld.Linear())
LAYERS = Layers(jnp.array([0.8, -0.5, 1.3]), jnp.zeros(0), None, None)
V, LAM, Y = np.array(LAYERS.v), np.array([0.4, -0.7, 1.1]), 0.6
SAMPLE = Sample(jnp.asarray(LAM), jnp.asarray(Y), size=jnp.asarray(1.5))
# A fit to x**2 has the slopes 2 x: c = v 2 x (phi - y) and dv = x**2 (phi - y).
ERROR = V @ LAM**2 - Y
C, DV = V * 2 * LAM * ERROR, LAM**2 * ERROR


@pytest.fixture
def signal(rng):
    """Averages of an error signal of three units and two teachers, any numbers."""
    root = rng.normal(size=(3, 3))
    return FieldAverages(
        *(jnp.asarray(x) for x in (rng.normal(size=(3, 5)), root @ root.T)),
        *(jnp.asarray(rng.normal(size=3)) for _ in range(2)),
    )


def same(found, wanted, rtol=1e-12):
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=1e-14)


# Of one sample


@pytest.mark.parametrize(
    ("limit", "factor"), [(0.9 * 1.5**0.5, 0.9), (1.1 * 1.5**0.5, 1.0)], ids=["clipped", "short"]
)
def test_a_gradient_is_clipped_at_its_true_norm(limit, factor):
    """|F| |x| / sqrt n with |x|**2 / n = 1.5; the second layer's is not clipped."""
    limit = limit * np.linalg.norm(C)
    found = rules.Clipped(limit, 0.1).modulation(PROBLEM, SAMPLE, LAYERS)
    same(found.c, factor * C)
    same(found.dv, DV)


def test_a_batch_is_clipped_at_the_norm_of_its_mean():
    """sum_b |F_b|**2 |x_b|**2/n / B**2 = (1.5 |F|**2 + 0.7 |2 F|**2) / 4 = 1.075 |F|**2."""
    # Twice the error at the same fields
    both = Sample(
        jnp.stack([SAMPLE.lam] * 2), jnp.array([Y, Y - ERROR]), size=jnp.array([1.5, 0.7])
    )
    norm = 1.075**0.5 * np.linalg.norm(C)
    for limit, factor in ((0.9 * norm, 0.9), (1.1 * norm, 1.0)):
        rule = rules.Clipped(limit, 0.1, per="batch", batch_size=2)
        assert rule.is_episode
        found = rule.modulations(PROBLEM, both, LAYERS)
        same(found.c, factor * np.stack([C, 2 * C]))
        same(found.dv, np.stack([DV, 2 * DV]))


def test_nothing_is_clipped_where_there_is_no_gradient():
    still = SAMPLE._replace(y=jnp.asarray(Y + ERROR))
    same(rules.Clipped(0.3, 0.1).modulation(PROBLEM, still, LAYERS).c, 0 * C)


def test_units_stay_with_the_probability_keep():
    """The quantiles 0.655, 0.758 and 0.274 of the draws, at keep = 0.7: the second unit leaves."""
    sample = SAMPLE._replace(draws=jnp.array([0.4, 0.7, -0.6]))
    found = rules.Dropout(0.7, 0.1).modulation(PROBLEM, sample, LAYERS)
    stays = np.array([1.0, 0.0, 1.0])
    error = (stays * V) @ LAM**2 - Y
    same(found.c, stays * V * 2 * LAM * error)
    same(found.dv, stays * LAM**2 * error)
    assert rules.Dropout(0.7, 0.1).draws_of(3) == 3
    same(rules.Dropout(0.7, 0.1).tested_layer(LAYERS.v), 0.7 * V)


def test_weights_perturbed_along_all_directions():
    """F = c + |c| P xi: F . c = |c|**2, and what is orthogonal to c is |c| times that of xi."""
    draws = np.array([0.3, -1.2, 0.9])
    rule = rules.WeightPerturbation(0.1)
    unit = C / np.linalg.norm(C)
    across = np.linalg.norm(C) * (draws - (draws @ unit) * unit)
    for share in (1.0, 0.1):  # of the error
        sample = SAMPLE._replace(draws=jnp.asarray(draws), y=jnp.asarray(Y + (1 - share) * ERROR))
        found = rule.modulation(PROBLEM, sample, LAYERS)
        same(found.c, share * (C + across))
        same(found.dv, share * DV)
    quiet = rule.modulation(PROBLEM, SAMPLE._replace(draws=jnp.zeros(3)), LAYERS)
    same(quiet.c, C)
    still = SAMPLE._replace(y=jnp.asarray(Y + ERROR), draws=jnp.asarray(draws))
    assert not np.any(rule.modulation(PROBLEM, still, LAYERS).c)
    assert rule.draws_of(3) == 3


def test_the_time_of_weight_perturbation_is_slower_by_n():
    rule = rules.WeightPerturbation(0.6, lr_second=0.3, momentum=0.4)
    assert rule.steps_per_time(7) == 49
    rates, beta = rule.step_rates(0.0, 5)
    same([rates.w, rates.v, beta], [0.12, 0.06, 0.4])
    assert rates.b is None


@pytest.mark.parametrize("law", ["normal", "sign"])
def test_perturbed_nodes_at_small_scale(law):
    """F_i = xi_i sum_j xi_j c_j."""
    draws = np.array([0.3, -1.2, 0.9])
    xi = draws if law == "normal" else np.sign(draws)
    sample = SAMPLE._replace(draws=jnp.asarray(draws))
    rule = rules.NodePerturbation(law=law, lr=0.1)
    found = rule.modulation(PROBLEM, sample, LAYERS)
    same(found.c, xi * (xi @ C))
    same(found.dv, DV)
    assert rule.draws_of(3) == 3
    assert rule.is_unbiased
    assert rule.follows(PROBLEM)
    finite = rules.NodePerturbation(0.2, law, lr=0.1)
    assert not finite.is_unbiased
    assert not finite.follows(PROBLEM)


@pytest.mark.parametrize("last", [-0.9, 0.9])
def test_rewards_are_for_episodes_in_which_all_is_right(last):
    """Linear units: S v_i sign(phi) of each decision, S = 1.2 or -0.3."""
    problem = ld.Problem(ld.Linear(), ld.Sign(), ld.Perceptron())
    rule = rules.RewardPerceptron(2, 1.2, 0.3, lr=0.1)
    lam = np.array([[-0.9, 0.2, 0.3], [0.1, 0.5, last]])
    phi = lam @ V
    y = [np.sign(phi[0]), 1.0]  # the last decision is right for last = 0.9 alone
    assert (phi[0] < 0, phi[1] > 0) == (True, last > 0)
    found = rule.modulations(problem, Sample(jnp.asarray(lam), jnp.array(y)), LAYERS)
    s = 1.2 if last > 0 else -0.3
    same(found.c, -s * np.outer(np.sign(phi), V))
    same(found.dv, -s * np.sign(phi)[:, None] * lam)


def test_rewards_need_signs_as_labels():
    samples = Sample(SAMPLE.lam[None], SAMPLE.y[None])
    with pytest.raises(ValueError, match="labels that are signs"):
        rules.RewardPerceptron(1).modulations(PROBLEM, samples, LAYERS)


def test_an_episode_may_be_told_as_a_batch():
    assert rules.RewardPerceptron(batch_size=4).batch_size == 4
    assert rules.RewardPerceptron(4, batch_size=4).batch_size == 4
    rule = rules.RewardPerceptron(4)
    same([rule.reward, rule.penalty, rule.lr], [1.0, 0.0, 1.0])
    assert not rule.follows(PROBLEM)
    same(rules.RewardPerceptron(4, -1.5, -0.5).penalty, -0.5)


@pytest.mark.parametrize(
    ("rule", "slope"),
    [(rules.Hebb, lambda phi, y: -y), (rules.Perceptron, lambda phi, y: -y * (y * phi < 0))]
    + [(rules.AdaTron, lambda phi, y: phi * (y * phi < 0))],
    ids=["hebb", "perceptron", "adatron"],
)
@pytest.mark.parametrize("y", [-1.0, 1.0])
def test_classifiers_follow_their_own_losses(rule, slope, y):
    problem = ld.Problem(ld.Quadratic(), ld.Sign(), ld.Logistic())
    found = rule(0.1).modulation(problem, SAMPLE._replace(y=jnp.asarray(y)), LAYERS)
    same(found.c, V * 2 * LAM * slope(V @ LAM**2, y))
    same(found.dv, LAM**2 * slope(V @ LAM**2, y))
    assert not rule(0.1).follows(problem)


def test_feedback_in_place_of_the_second_layer():
    rule = rules.FeedbackAlignment([0.3, 1.7, -0.4], 0.1)
    found = rule.modulation(PROBLEM, SAMPLE, LAYERS)
    same(found.c, np.array([0.3, 1.7, -0.4]) * 2 * LAM * ERROR)
    same(found.dv, DV)


def test_a_rule_on_longer_inputs():
    """Clipped where |F|**2 size = 0.81 times the limit's square, and 1.21 for inputs 1.5 times as
    long as they are told."""
    limit = np.linalg.norm(C) / 0.9 * 1.5**0.5
    inside = rules.Clipped(limit, 0.2, lr_second=0.1, weight_decay=0.3)
    rule = rules.Sized(inside, jnp.asarray(1.21 / 0.81))
    same(inside.modulation(PROBLEM, SAMPLE, LAYERS).c, C)
    same(rule.modulation(PROBLEM, SAMPLE, LAYERS).c, C / 1.1)
    assert not rule.has_closed_form
    same([rule.lr, rule.lr_second, rule.weight_decay], [0.2, 0.1, 0.3])


def test_a_rule_around_a_rule_is_told_by_the_one_inside():
    noisy = rules.Clipped(0.5, rule=rules.InputNoise(0.7, 0.2, lr_bias=0.4))
    same([noisy.input_noise, noisy.lr, noisy.lr_bias], [0.7, 0.2, 0.4])
    assert not noisy.needs_overlaps
    assert noisy.draws_of(4) == 0
    quiet = rules.Clipped(0.5, 0.3, rule=rules.Dropout(0.6, 0.2, lr_bias=0.4))
    assert quiet.draws_of(4) == 4
    same(quiet.tested_layer(LAYERS.v), 0.6 * V)
    assert (float(quiet.lr), quiet.lr_bias, quiet.input_noise) == (0.3, None, None)
    assert [name for name, _, _ in quiet.own_numbers] == ["limit", "keep"]
    reading = ld.LocalRule(lambda p, s, layers: (s.overlaps.Q[0], s.lam), 0.2, needs_overlaps=True)
    assert rules.Clipped(0.5, rule=reading).needs_overlaps
    episodes = ld.LocalRule(lambda p, s, layers: (s.lam, s.lam), 0.2, episode=True, batch_size=2)
    assert rules.Sized(episodes, jnp.asarray(2.0)).is_episode
    assert not rules.Sized(ld.SGD(0.2), jnp.asarray(2.0)).is_episode


def test_every_sample_of_a_batch_sees_the_same_overlaps():
    def divided(problem, sample, layers):
        return Modulation(sample.lam / jnp.diagonal(sample.overlaps.Q), sample.y * sample.lam)

    rule = ld.LocalRule(divided, 0.1, needs_overlaps=True)
    lam, y, Q = np.array([[0.4, -0.7, 1.1], [0.2, 0.5, -0.3]]), np.array([0.6, -2.0]), [2, 3, 5]
    seen = Seen(jnp.diag(jnp.array(Q, float)), jnp.zeros((3, 1)))
    found = rule.modulations(
        PROBLEM, Sample(jnp.asarray(lam), jnp.asarray(y), None, None, seen), LAYERS
    )
    same(found.c, lam / Q)
    same(found.dv, y[:, None] * lam)


# Natural gradient, in coordinates of all weights

N = 5
SPAN = np.array([[0.7, 0.2, -0.3, 0.5, 0.1], [-0.2, 0.6, 0.4, 0.3, -0.8]])  # w_i / sqrt n
V2 = np.array([0.8, -1.3])


def fisher(damping):
    """v_i v_j <g'_i g'_j x x^T> of erf units, in 2 n dimensions: g'_i g'_j is a Gaussian in x, with
    the precision 1 + u_i u_i^T + u_j u_j^T."""
    blocks = np.empty((2, N, 2, N))
    for i, j in itertools.product(range(2), repeat=2):
        precision = np.eye(N) + np.outer(SPAN[i], SPAN[i]) + np.outer(SPAN[j], SPAN[j])
        tilted = np.linalg.inv(precision) / np.sqrt(np.linalg.det(precision))
        blocks[i, :, j] = V2[i] * V2[j] * 2 / np.pi * tilted
    return blocks.reshape(2 * N, 2 * N) + damping * np.eye(2 * N)


@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_natural_gradient_of_one_sample(damping):
    x, y = np.array([0.3, -1.2, 0.8, 0.5, 2.0]), 0.4
    lam = SPAN @ x
    error = V2 @ scipy.special.erf(lam / 2**0.5) - y
    c = V2 * np.sqrt(2 / np.pi) * np.exp(-(lam**2) / 2) * error
    wanted = np.linalg.solve(fisher(damping), np.outer(c, x).ravel()).reshape(2, N)
    seen = Seen(jnp.asarray(SPAN @ SPAN.T), jnp.zeros((2, 1)))
    sample = Sample(jnp.asarray(lam), jnp.asarray(y), overlaps=seen)
    layers = Layers(jnp.asarray(V2), jnp.zeros(0), None, None)
    found = rules.NaturalGradient(damping, lr=0.1).modulation(ld.Problem(), sample, layers)
    same(np.outer(found.c, x) + found.dw @ SPAN, wanted, rtol=1e-10)
    same(found.dv, scipy.special.erf(lam / 2**0.5) * error)


def test_natural_gradient_of_averages(signal):
    """M^-1 <c x>, where <c_i x> = sum_a G_ia u_a with the vectors u of students and teachers."""
    u = np.concatenate([SPAN, [[0.4, 0.1, 0.9, -0.2, 0.3], [0.2, -0.5, 0.3, 0.7, 0.6]]])
    g, phi = V2[:, None] * np.asarray(signal.G[:2, :4]), np.asarray(signal.Phi[:2, :2])
    given = FieldAverages(signal.G[:2, :4], signal.Phi[:2, :2], signal.h[:2], signal.f[:2])
    layers = Layers(jnp.asarray(V2), jnp.zeros(0), None, None)
    seen = Seen(jnp.asarray(SPAN @ SPAN.T), jnp.asarray(SPAN @ u[2:].T))
    rule = rules.NaturalGradient(0.3, lr=0.1)
    found = rule.closed_form_of(ErrorSignal(lambda v: given, layers, seen))
    wanted = np.linalg.solve(fisher(0.3), (g @ u).ravel()).reshape(2, N)
    same(found.G @ u, wanted, rtol=1e-10)
    # Outside the span of all vectors M is A times 1.
    slopes = 2 / np.pi / np.sqrt(np.linalg.det(np.eye(2) + SPAN @ SPAN.T))
    slopes = np.array([[2 / np.pi / (1 + 2 * SPAN[0] @ SPAN[0]) ** 0.5, slopes], [0, 0]])
    slopes[1] = slopes[0, 1], 2 / np.pi / (1 + 2 * SPAN[1] @ SPAN[1]) ** 0.5
    outside = np.linalg.inv(np.outer(V2, V2) * slopes + 0.3 * np.eye(2))
    same(found.Phi, outside @ (np.outer(V2, V2) * phi) @ outside, rtol=1e-10)
    same(found.h, given.h)
    same(found.f, V2 * given.f)


def test_where_natural_gradient_has_a_closed_form():
    rule = rules.NaturalGradient(lr=0.1)
    assert rule.damping == 0.0
    assert rule.follows(ld.Problem())
    assert not rule.follows(ld.Problem(ld.Tanh()))
    assert rule.needs_other_layers
    biased = LAYERS._replace(b=jnp.zeros(3))
    sample = SAMPLE._replace(overlaps=Seen(jnp.eye(3), jnp.zeros((3, 1))))
    for problem, layers in ((ld.Problem(), biased), (PROBLEM, LAYERS)):
        with pytest.raises(ValueError, match="erf units without biases") as caught:
            rule.modulation(problem, sample, layers)
        assert ("with biases" in str(caught.value)) == (layers is biased)


# Of averages


def test_averages_with_weights_of_units(signal):
    fields = jnp.arange(15.0).reshape(3, 5)
    for given in (signal, signal._replace(fields=fields)):
        found = given.weighted(LAYERS.v)
        same(found.G, V[:, None] * np.asarray(given.G))
        same(found.Phi, np.outer(V, V) * np.asarray(given.Phi))
        same(found.h, given.h)
        same(found.f, V * np.asarray(given.f))
    same(found.fields, V[:, None] * np.asarray(fields))
    assert signal.weighted(LAYERS.v).fields is None


def test_averages_of_a_group_of_directions(signal):
    root = np.arange(25.0).reshape(5, 5) % 7
    c = jnp.asarray(root @ root.T)
    found = signal.of_group(jnp.asarray(0.6), jnp.asarray(0.2), c)
    same(found.G, 0.6 * np.asarray(signal.G))
    same(found.Phi, 0.12 * np.asarray(signal.Phi))
    same(found.h, signal.h)
    same(found.f, signal.f)
    same(found.with_fields(0 * c), 0.6 * np.asarray(signal.G) @ c)
    same(signal.with_fields(c), np.asarray(signal.G) @ c)


@pytest.mark.parametrize(("batch", "limit"), [(1, 0.7), (3, 0.4), (3, 200.0)])
def test_averages_of_clipped_linear_units(signal, batch, limit):
    """x is chi-square; <h x>/B and <h**2 x>/B with h = min(1, sqrt(edge / x)), by quadrature."""
    variance = 1.3 * V @ V  # of F = v Delta
    linear = signal._replace(Phi=jnp.full((3, 3), 1.3))
    edge = (limit * batch) ** 2 / variance
    law = scipy.stats.chi2(batch)
    ends = [0.0, min(edge, 60.0), 200.0]
    mean = lambda power: sum(
        scipy.integrate.quad(
            lambda x: min(1.0, (edge / x) ** (power / 2)) * x * law.pdf(x), a, b, epsabs=1e-13
        )[0]
        for a, b in itertools.pairwise(ends)
    )
    keywords = {"per": "batch", "batch_size": batch} if batch > 1 else {"batch_size": 5}
    found = rules.Clipped(limit, 0.1, **keywords).closed_form(linear, LAYERS)
    gain, power = mean(1) / batch, mean(2) / batch
    same(found.G, gain * V[:, None] * np.asarray(signal.G), rtol=1e-9)
    same(found.Phi, power * 1.3 * np.outer(V, V), rtol=1e-9)
    same(found.h, signal.h)
    same(found.f, gain * V * np.asarray(signal.f), rtol=1e-9)


def test_averages_of_clipped_units_without_an_error(signal):
    """Nothing is clipped where Delta = 0."""
    still = signal._replace(Phi=jnp.zeros((3, 3)))
    found = rules.Clipped(1e-3, 0.1).closed_form(still, LAYERS)
    same(found.G, V[:, None] * np.asarray(signal.G))
    assert not np.any(found.Phi)


def test_where_clipping_has_a_closed_form():
    clipped = rules.Clipped(0.3, 0.1)
    assert clipped.follows(ld.Problem(ld.Linear(), ld.Linear()))
    assert not clipped.follows(ld.Problem(ld.Linear(), ld.Quadratic()))
    assert not clipped.follows(ld.Problem(ld.Quadratic(), ld.Linear()))
    absolute = ld.Problem(ld.Linear(), ld.Linear(), lambda phi, y: jnp.abs(phi - y))
    assert not clipped.follows(absolute)
    feedback = rules.Clipped(0.3, rule=rules.FeedbackAlignment([0.5], 0.1))
    assert not feedback.follows(ld.Problem(ld.Linear(), ld.Linear()))


@pytest.mark.parametrize("law", ["normal", "sign"])
def test_averages_of_perturbed_nodes(signal, law):
    """<xi_i xi_i' (xi . c)**2> over signs, all of them, and by Isserlis' theorem."""
    c = np.outer(V, V) * np.asarray(signal.Phi)
    wanted = 2 * c + np.trace(c) * np.eye(3)
    if law == "sign":
        signs = np.array(list(itertools.product([-1, 1], repeat=3)))
        wanted = np.einsum("ni,nj,na,nb,ab->ij", signs, signs, signs, signs, c) / 8
    rule = rules.NodePerturbation(law=law, lr=0.1)
    found = rule.closed_form(signal, LAYERS)
    assert not np.any(rule.closed_form(signal, LAYERS._replace(v=jnp.zeros(3))).Phi)
    same(found.Phi, wanted)
    same(found.G, V[:, None] * np.asarray(signal.G))


def test_averages_of_perturbed_weights(signal):
    found = rules.WeightPerturbation(0.1).closed_form(signal, LAYERS)
    same(found.Phi, np.eye(3) * np.trace(np.outer(V, V) * np.asarray(signal.Phi)))
    same(found.G, V[:, None] * np.asarray(signal.G))
    same(found.f, V * np.asarray(signal.f))


@pytest.mark.parametrize(
    ("rule", "weights"),
    [
        (ld.SGD(0.1), V),
        (rules.Hebb(0.1), V),
        (rules.InputNoise(0.4, 0.1), V),
        (rules.RewardPerceptron(2), V),
        (rules.FeedbackAlignment([0.3, 1.7, -0.4], 0.1), np.array([0.3, 1.7, -0.4])),
    ],
    ids=["sgd", "hebb", "noise", "reward", "feedback"],
)
def test_averages_of_rules_that_propagate_the_error(signal, rule, weights):
    found = rule.closed_form(signal, LAYERS)
    same(found.G, weights[:, None] * np.asarray(signal.G))
    same(found.Phi, np.outer(weights, weights) * np.asarray(signal.Phi))


def test_a_rule_has_no_closed_form_unless_it_says_so(signal):
    rule = ld.LocalRule(lambda p, s, layers: (s.lam, s.lam), 0.1)
    assert rule.closed_form(signal, LAYERS) is None
    assert not rule.has_closed_form
    assert not rule.follows(PROBLEM)
    assert rule.wedge_averages(ld.Problem(ld.Linear(), ld.Sign(), ld.Perceptron())) is None
    layers = ErrorSignal(lambda v: signal.weighted(v), LAYERS, Seen(jnp.eye(3), jnp.eye(3)))
    twice = ld.SGD(0.1).closed_form_of(layers)
    same(twice.Phi, np.outer(V, V) ** 2 * np.asarray(signal.Phi))


def test_averages_over_masks_of_dropout(rng):
    """Over all eight masks m of three units: F_i = m_i v_i g'_i (sum_a m_a v_a g_a - y), with any
    numbers in place of the moments of g', g and y."""
    keep, k = 0.7, 3
    slopes, mixed = rng.normal(size=(k, 5, k + 1)), rng.normal(size=(k, k, k + 1, k + 1))
    mixed = mixed + mixed.transpose(1, 0, 2, 3)
    mixed = mixed + mixed.transpose(0, 1, 3, 2)
    signal_h, signal_f = rng.normal(size=(2, k, k + 1))

    def at(v):
        one = jnp.append(v, 1.0)
        phi = jnp.einsum("ijab,a,b->ij", mixed, one, one)
        return FieldAverages(slopes @ one, phi, signal_h @ one, signal_f @ one)

    wanted = [0.0] * 4
    for mask in itertools.product([0.0, 1.0], repeat=k):
        m = np.array(mask)
        chance = keep ** m.sum() * (1 - keep) ** (k - m.sum())
        one, own = np.append(m * V, 1.0), m * V
        phi = np.einsum("ijab,a,b->ij", mixed, one, one)
        parts = own[:, None] * (slopes @ one), np.outer(own, own) * phi
        parts = (*parts, m * (signal_h @ one), own * (signal_f @ one))
        wanted = [x + chance * part for x, part in zip(wanted, parts, strict=True)]
    given = ErrorSignal(at, LAYERS, Seen(jnp.eye(3), jnp.eye(3)))
    found = rules.Dropout(keep, 0.1).closed_form_of(given)
    for ours, theirs in zip(found[:4], wanted, strict=True):
        same(ours, theirs)


def test_averages_of_rewards():
    """c = -sign(phi) S of one of three decisions, over the angle of both fields: <c f> and <c**2>
    by the fractions of the circle where signs agree."""
    reward, penalty, turned = 1.2, 0.3, 0.1
    s, r, t = 0.7, -0.4, 1.5
    rule = rules.RewardPerceptron(3, reward, penalty)
    problem = ld.Problem(ld.Linear(), ld.Sign(), ld.Perceptron())
    given = [jnp.asarray(x) for x in (s, r, t, 1 - 2 * turned)]
    found = rule.wedge_averages(problem)(*given)
    q = s + r**2 / t
    agree = 0.5 + np.arcsin(r / np.sqrt(q * t)) / np.pi
    right = agree * (1 - turned) + (1 - agree) * turned
    others = right**2
    # sign(phi) S = sign(phi) ((reward + penalty) others [right] - penalty); sign(phi) [right] is
    # (sign(phi) + y) / 2, and <y | rho> = (1 - 2 turned) sign(rho).
    gain = (reward + penalty) * others
    peak = lambda variance: 2 / np.sqrt(2 * np.pi * variance)  # <d sign(u) / du>
    same(found.student, -(gain / 2 - penalty) * peak(q), rtol=1e-10)
    same(found.teacher, -gain / 2 * (1 - 2 * turned) * peak(t), rtol=1e-10)
    same(found.square, reward**2 * right**3 + penalty**2 * (1 - right**3), rtol=1e-10)
    nothing = rule.wedge_averages(problem)(*(jnp.asarray(x) for x in (0.0, 0.0, t, 0.8)))
    assert nothing.student == 0.0

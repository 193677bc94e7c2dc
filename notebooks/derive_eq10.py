# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The asymptotic error of an over-parameterised committee, derived
#
# Goldt et al. (J. Stat. Mech. 2020, 124010) state in Eq. (10) that a student with $K = M + L$
# erf units, trained by online SGD on labels with noise of variance $\sigma^2$, ends at
#
# $$\epsilon_g^* = \frac{\sigma^2\eta}{2\pi} f(M, L, \eta) + O(\sigma^4),$$
#
# where $f$ "is a lengthy rational function". This notebook derives $f$ exactly and compares it
# with the coefficients that ship as `learndyn.asymptotics.eg_specialised`. Nothing here is
# numerical but the last cell.
#
# The idea: without noise the student ends specialised, $Q = \mathrm{diag}(1_M, 0_L)$,
# $R = (1; 0)$. Noise moves it a little. By symmetry the overlaps stay within eight numbers: for
# specialised units $s$, their teachers $t$ and superfluous units $x$,
#
# | | same index | other index |
# |---|---|---|
# | $s \cdot s$ | Q | C |
# | $s \cdot t$ | R | S |
# | $x \cdot s$ | D | D |
# | $x \cdot t$ | U | U |
# | $x \cdot x$ | E | F |
#
# To first order in $\sigma^2$ their displacement solves a linear system.

# %%
import functools

import sympy as sp

M, L = sp.symbols("M L", positive=True)
x = sp.Symbol("x", positive=True)  # eta / pi
NAMES = ["Q", "C", "R", "S", "D", "U", "E", "F"]
AT_FIXED_POINT = {"Q": 1, "R": 1} | dict.fromkeys("CSDUEF", 0)

# %% [markdown]
# ## Sums over units
#
# A field is a pair (kind, index). Fields `s` and `t` share their index (unit and its teacher),
# `x` has its own. Sums over all units fall into classes: those whose index is already in use,
# and one fresh index that stands for all others and is counted that often.

# %%
GROUP = {"s": "pairs", "t": "pairs", "x": "superfluous"}
SIZE = {"pairs": M, "superfluous": L}
WEIGHT = {"s": 1, "x": 1, "t": -1}  # phi - phi* = sum of WEIGHT g(field)


def overlap(a, b):
    """The name of the overlap of two fields, or its fixed value."""
    kinds = "".join(sorted(a[0] + b[0]))
    same, other = {
        "ss": ("Q", "C"),
        "st": ("R", "S"),
        "tt": (1, 0),
        "sx": ("D", "D"),
        "tx": ("U", "U"),
        "xx": ("E", "F"),
    }[kinds]
    return same if a[1] == b[1] else other


def indices_of(*fields):
    used = {"pairs": (), "superfluous": ()}
    for kind, index in fields:
        group = GROUP[kind]
        if index not in used[group]:
            used[group] = (*used[group], index)
    return used


def classes(used):
    """Every class of fields given the indices in use: (field, how many, indices then in use)."""
    for kind, group in GROUP.items():
        for index in used[group]:
            yield (kind, index), sp.Integer(1), used
        fresh = len(used[group])
        with_fresh = used | {group: (*used[group], fresh)}
        yield (kind, fresh), SIZE[group] - fresh, with_fresh


# %% [markdown]
# ## The averages and their derivatives
#
# $I_3 = \langle g'(i)\, a\, g(c) \rangle$, $I_4 = \langle g'(i) g'(k) g(a) g(b) \rangle$ and
# $J_2 = \langle g'(i) g'(k) \rangle$ of Saad & Solla (1995), for $g(x) = \mathrm{erf}(x/\sqrt2)$.

# %%
ii, kk, cc, aa, bb, ik, ia, ic, ac, ib, ka, kb, ab = sp.symbols(
    "ii kk cc aa bb ik ia ic ac ib ka kb ab"
)

I2_ARGUMENTS = (aa, ab, bb)
I2 = 2 / sp.pi * sp.asin(ab / sp.sqrt((1 + aa) * (1 + bb)))

I3_ARGUMENTS = (ii, ia, ic, ac, cc)
I3 = 2 / sp.pi * (ac * (1 + ii) - ia * ic) / ((1 + ii) * sp.sqrt((1 + ii) * (1 + cc) - ic**2))

I4_ARGUMENTS = (ii, ik, kk, ia, ib, ka, kb, aa, ab, bb)
lambda4 = (1 + ii) * (1 + kk) - ik**2
lambda0 = lambda4 * ab - ka * kb * (1 + ii) - ia * ib * (1 + kk) + ik * (ia * kb + ib * ka)
lambda1 = lambda4 * (1 + aa) - ka**2 * (1 + ii) - ia**2 * (1 + kk) + 2 * ik * ia * ka
lambda2 = lambda4 * (1 + bb) - kb**2 * (1 + ii) - ib**2 * (1 + kk) + 2 * ik * ib * kb
I4 = 4 / sp.pi**2 * sp.asin(lambda0 / sp.sqrt(lambda1 * lambda2)) / sp.sqrt(lambda4)
J2 = 2 / sp.pi / sp.sqrt(lambda4)


def gradient_of(average, arguments):
    """A function: overlaps (names or values) -> the derivatives at the fixed point, cached."""
    derivatives = [sp.diff(average, argument) for argument in arguments]

    @functools.cache
    def at(values):
        point = dict(zip(arguments, values, strict=True))
        return [sp.nsimplify(derivative.subs(point)) for derivative in derivatives]

    def gradient(names, factor, total):
        values = at(tuple(AT_FIXED_POINT.get(name, name) for name in names))
        for name, value in zip(names, values, strict=True):
            if name in NAMES:
                total[name] += factor * value

    return gradient


gradient_2 = gradient_of(I2, I2_ARGUMENTS)
gradient_3 = gradient_of(I3, I3_ARGUMENTS)
gradient_4 = gradient_of(I4, I4_ARGUMENTS)


def pull(i, a):
    """Gradient of <c_i a>."""
    total = dict.fromkeys(NAMES, sp.Integer(0))
    for c, count, _ in classes(indices_of(i, a)):
        names = [overlap(*pair) for pair in ((i, i), (i, a), (i, c), (a, c), (c, c))]
        gradient_3(names, count * WEIGHT[c[0]], total)
    return total


def product(i, k):
    """Gradient of <c_i c_k> without noise."""
    total = dict.fromkeys(NAMES, sp.Integer(0))
    for a, count_a, used in classes(indices_of(i, k)):
        for b, count_b, _ in classes(used):
            pairs = ((i, i), (i, k), (k, k), (i, a), (i, b), (k, a), (k, b), (a, a), (a, b), (b, b))
            factor = count_a * count_b * WEIGHT[a[0]] * WEIGHT[b[0]]
            gradient_4([overlap(*pair) for pair in pairs], factor, total)
    return total


# %% [markdown]
# ## The linear system
#
# $\dot Q_{ii'}/\eta = -\langle c_i \lambda_{i'} + c_{i'} \lambda_i\rangle
# + \eta \langle c_i c_{i'}\rangle$ and $\dot R_{ij}/\eta = -\langle c_i \rho_j\rangle$, linearised;
# everything times $\pi$, with $x = \eta/\pi$. The push of the noise is $x J_2$.

# %%
s0, s1, t0, t1, x0, x1 = ("s", 0), ("s", 1), ("t", 0), ("t", 1), ("x", 0), ("x", 1)
PLACES = {"Q": (s0, s0), "C": (s0, s1), "R": (s0, t0), "S": (s0, t1)}
PLACES |= {"D": (s0, x0), "U": (x0, t0), "E": (x0, x0), "F": (x0, x1)}


def row(name):
    """The derivatives of one overlap's velocity, and its noise."""
    i, k = PLACES[name]
    first = pull(i, k)
    if k[0] == "t":
        return {n: -first[n] * sp.pi for n in NAMES}, sp.Integer(0)
    second, noise = pull(k, i), product(i, k)
    point = {ii: AT_FIXED_POINT[overlap(i, i)], kk: AT_FIXED_POINT[overlap(k, k)]}
    point[ik] = AT_FIXED_POINT[overlap(i, k)]
    linear = {n: -(first[n] + second[n]) * sp.pi + x * noise[n] * sp.pi**2 for n in NAMES}
    return linear, x * J2.subs(point) * sp.pi


rows, push = {}, {}
for name in NAMES:
    rows[name], push[name] = row(name)

jacobian = sp.Matrix([[sp.expand(rows[a][b]) for b in NAMES] for a in NAMES])
push = sp.Matrix([push[name] for name in NAMES])

# %% [markdown]
# Superfluous units enter through their sum alone: the columns of E and F are proportional, so
# only $G = E + (L-1)F$ matters. And the deviations' own overlaps,
# $p = Q - 2R$, $c = C - 2S$, $d = D - U$, $G$, obey equations without $R$, $S$, $U$: only four
# unknowns are left. (The student's mean displacement, and a trained second layer, therefore do
# not matter at this order: the same four equations give Eq. (15) with $\eta v^{*2}/Z$ for
# $\eta$.)

# %%
index = {name: i for i, name in enumerate(NAMES)}
# Rows: which combination of velocities; the combination of unknowns is the same one.
combinations = sp.zeros(4, 8)
for i, terms in enumerate(
    [{"Q": 1, "R": -2}, {"C": 1, "S": -2}, {"D": 1, "U": -1}, {"E": 1, "F": L - 1}]
):
    for name, factor in terms.items():
        combinations[i, index[name]] = factor

expanded = (combinations * jacobian).applyfunc(sp.expand)
# jacobian rows in terms of the four combinations: read off the columns of Q, C, D, E ...
system = expanded[:, [index[name] for name in "QCDE"]]
# ... and check that nothing else is left.
rest = (expanded - system * combinations).applyfunc(lambda e: sp.simplify(sp.expand(e)))
assert rest == sp.zeros(4, 8)
rhs = -(combinations * push)
system

# %% [markdown]
# ## The error
#
# $\epsilon_g = \frac12 \sum_{ab} u_a u_b I_2(a, b)$ depends on the same four combinations.

# %%
gradient = dict.fromkeys(NAMES, sp.Integer(0))
for a, count_a, used in classes(indices_of()):
    for b, count_b, _ in classes(used):
        factor = sp.Rational(1, 2) * count_a * count_b * WEIGHT[a[0]] * WEIGHT[b[0]]
        gradient_2([overlap(*pair) for pair in ((a, a), (a, b), (b, b))], factor, gradient)
error = sp.Matrix([[sp.expand(gradient[name] * sp.pi) for name in "QCDE"]])
full = sp.Matrix([[gradient[name] * sp.pi for name in NAMES]])
assert (full - error * combinations).applyfunc(lambda e: sp.simplify(sp.expand(e))).is_zero_matrix
error

# %% [markdown]
# ## Solve it
#
# Over the polynomials in $x, M, L$ with coefficients in $\mathbb{Q}(\sqrt2, \sqrt3, \sqrt5)$, so
# that the answer is exact and in lowest terms.

# %%
from sympy.polys.matrices import DomainMatrix

FIELD = sp.QQ.algebraic_field(sp.sqrt(2), sp.sqrt(3), sp.sqrt(5))
DOMAIN = FIELD[x, M, L]


def over_domain(matrix):
    entries = [[DOMAIN.from_sympy(sp.expand(entry)) for entry in row] for row in matrix.tolist()]
    return DomainMatrix(entries, matrix.shape, DOMAIN)


solution, denominator = over_domain(system).solve_den(over_domain(rhs))
numerator = (over_domain(error) * solution).to_list()[0][0]
common = numerator.gcd(denominator)
numerator, denominator = numerator.exquo(common), denominator.exquo(common)
# eg / sigma**2 = numerator / (pi denominator) * pi = lr / (2 pi) f, so f = 2 numerator / (x den).
numerator = (2 * numerator).exquo(DOMAIN.ring.from_expr(x))


def table(polynomial):
    """{(power of x, power of M, power of L): exact coefficient}."""
    return {
        powers: sp.expand(FIELD.to_sympy(coefficient))
        for powers, coefficient in sorted(polynomial.terms())
    }


exact = {"NUMERATOR": table(numerator), "DENOMINATOR": table(denominator)}
for name, terms in exact.items():
    print(f"{name} = {{")
    for powers, value in terms.items():
        print(f"    {powers}: {sp.N(value, 17)},")
    print("}")

# %% [markdown]
# The exact coefficients, for whoever wants them:

# %%
for name, terms in exact.items():
    for powers, value in terms.items():
        print(name, powers, sp.nsimplify(sp.radsimp(value)))

# %% [markdown]
# ## Checks
#
# For $\eta \to 0$ this is Eq. (11), $f \to L + M/\sqrt3$; and the shipped coefficients are these.

# %%
small = {
    name: sum(value * M**m * L**l for (power, m, l), value in terms.items() if power == 0)
    for name, terms in exact.items()
}
assert sp.simplify(small["NUMERATOR"] - (L + M / sp.sqrt(3)) * small["DENOMINATOR"]) == 0

# %%
from learndyn.asymptotics.closed_forms import _erf_committee

for name, terms in exact.items():
    shipped = getattr(_erf_committee, name)
    assert shipped.keys() == terms.keys()
    for powers, value in terms.items():
        assert abs(shipped[powers] - float(sp.N(value, 30))) <= 1e-15 * abs(shipped[powers])
print("the shipped coefficients are these")

"""Scalings of papers and programs: their own updates against ours after conversion."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

import learndyn as ld
from learndyn import conventions

N, STEPS = 12, 3
G = lambda x: erf(x / math.sqrt(2.0))
DG = lambda x: math.sqrt(2.0 / math.pi) * np.exp(-0.5 * x**2)


@pytest.fixture
def case(rng):
    """Weights of order one for two student and two teacher units, and one input."""
    return rng.normal(size=(2, N)), rng.normal(size=(2, N)), rng.normal(size=N)


def our_steps(paper, w, w_teacher, x, **layers):
    """The run after three steps on the same sample, which leaves nothing to chance."""
    start = ld.Weights(w, w_teacher, **layers)
    ts, key = jnp.array([0.0, STEPS / N]), jax.random.key(0)
    inputs = ld.Images(x[None])
    return ld.simulate_sgd(paper.problem, paper.rule, start, ts, key=key, inputs=inputs)


@pytest.mark.parametrize("name", ["from_saad_solla", "from_biehl_schwarze"])
def test_steps_on_weights_of_length_one(name, case):
    """J_i += (eta / N) delta_i xi with fields J_i . xi."""
    paper = getattr(conventions, name)(lr=0.7, n=N)
    (j, b), x = (one / math.sqrt(N) for one in case[:2]), case[2]
    run = our_steps(paper, paper.ours("w", j), paper.ours("w", b), x)
    for _ in range(STEPS):
        fields = j @ x
        delta = DG(fields) * (G(b @ x).sum() - G(fields).sum())
        j = j + 0.7 / N * delta[:, None] * x
    np.testing.assert_allclose(paper.theirs("w", run.weights.w), j, rtol=1e-12)
    error = 0.5 * (G(j @ x).sum() - G(b @ x).sum()) ** 2
    assert float(paper.theirs("eg", run.eg[-1])) == pytest.approx(error, rel=1e-10)
    np.testing.assert_allclose(paper.theirs("overlaps", run.Q[-1]), j @ j.T, rtol=1e-12)
    assert float(paper.theirs("time", run.alpha[-1])) == STEPS / N


def test_the_plateau_of_saad_and_solla():
    paper = conventions.from_saad_solla(lr=0.01)
    k = 3
    plateau = ld.Overlaps(
        jnp.full((k, k), 1.0 / (2 * k - 1)),
        jnp.full((k, k), 1.0 / math.sqrt(k * (2 * k - 1))),
        jnp.eye(k),
    )
    eg = float(paper.theirs("eg", ld.generalisation_error(paper.problem, plateau)))
    assert eg == pytest.approx(k / math.pi * (math.pi / 6 - k * math.asin(1 / (2 * k))), rel=1e-12)
    assert eg == pytest.approx(0.020297, abs=5e-7)


def test_the_critical_rate_of_biehl_and_schwarze():
    critical = math.sqrt(5.0) * math.pi / math.sqrt(3.0)
    assert critical == pytest.approx(4.055779, abs=5e-7)
    paper = conventions.from_biehl_schwarze(lr=critical)
    ours = ld.asymptotics.critical_lr_specialised(1)
    assert float(paper.rule.lr) == pytest.approx(float(ours), rel=1e-12)


def test_steps_of_statphys(case):
    """w <- w - tau (Gamma a sigma'(Upsilon) x / sqrt d + lambda w / d), a = 1 / sqrt k."""
    paper = conventions.from_statphys(0.7, reg_param=0.4, k=2, activation=ld.Erf())
    w, w_teacher, x = case
    second = {"v": paper.ours("v", np.ones(2)), "v_teacher": paper.ours("v", np.ones(2))}
    run = our_steps(paper, w, w_teacher, x, **second)
    a = 1.0 / math.sqrt(2.0)
    for _ in range(STEPS):
        fields = w @ x / math.sqrt(N)
        gamma = a * (G(fields).sum() - G(w_teacher @ x / math.sqrt(N)).sum())
        gradient = gamma * a * DG(fields)[:, None] * x / math.sqrt(N)
        w = w - 0.7 * (gradient + 0.4 * w / N)
    np.testing.assert_allclose(run.weights.w, w, rtol=1e-12)


def ridge_means(rng, runs, steps, n, lr, decay, variance):
    """Means and standard errors of m and q after SGD on w of a linear unit, as statphys has it."""
    w_teacher = np.ones(n)
    w = np.zeros((runs, n))
    for _ in range(steps):
        x = rng.normal(size=(runs, n))
        noise = math.sqrt(variance) * rng.normal(size=runs)
        gamma = (w * x).sum(1) / math.sqrt(n) - x @ w_teacher / math.sqrt(n) - noise
        w = w - lr * (gamma[:, None] * x / math.sqrt(n) + decay * w / n)
    m, q = w @ w_teacher / n, (w**2).sum(1) / n
    return (m.mean(), q.mean()), (m.std() / math.sqrt(runs), q.std() / math.sqrt(runs))


def test_numbers_of_statphys(rng):
    paper = conventions.from_statphys(0.8, eta_noise=0.1, reg_param=0.5)
    rule, noise = paper.rule, paper.problem.noise
    end = ld.asymptotics.ridge(rule.lr, rule.weight_decay, noise)
    assert float(end.m) == pytest.approx(2 / 3, rel=1e-12)
    assert float(end.q) == pytest.approx(0.521212, abs=5e-7)
    n, steps = 20, 100
    exact = ld.asymptotics.ridge_finite_n(steps, n, rule.lr, rule.weight_decay, noise, q_start=0.0)
    found, errors = ridge_means(rng, 4000, steps, n, 0.8, 0.5, 0.1)
    for mean, error, expected in zip(found, errors, (exact.m, exact.q), strict=True):
        assert abs(mean - float(expected)) < 5 * error < 0.02


def torch_loss(parameters, x, y, scaled):
    """`MSELoss(reduction="sum")` of two equal samples, on layers as PyTorch has them."""
    fields = parameters["weight"] @ x / (math.sqrt(N) if scaled else 1.0) + parameters["bias"]
    output = parameters["second"] @ jax.lax.erf(fields / math.sqrt(2.0))
    return 2.0 * (output - y) ** 2


@pytest.mark.parametrize("scaled", [False, True])
def test_steps_of_torch(scaled, case):
    """Momentum, decay of the first layer, biases, both layers and a batch, by jax.grad."""
    lr, decay, momentum = 0.004, 0.3, 0.6
    paper = conventions.from_torch(
        lr, N, reduction="sum", scaled=scaled, second=True, bias=True, weight_decay=decay,
        momentum=momentum, batch_size=2,
    )  # fmt: skip
    w, w_teacher, x = case
    v, b = np.array([0.8, -0.5]), np.array([0.3, -0.2])
    own = {"v": v, "v_teacher": np.ones(2), "b": b, "b_teacher": np.zeros(2)}
    run = our_steps(paper, w, w_teacher, x, **own)
    theirs = {"weight": paper.theirs("w", w), "second": v, "bias": b}
    y = G(w_teacher @ x / math.sqrt(N)).sum()
    velocity = dict.fromkeys(theirs, 0.0)
    gradient_of = jax.grad(torch_loss)
    for _ in range(STEPS):
        gradient = gradient_of({k: jnp.asarray(z) for k, z in theirs.items()}, x, y, scaled)
        gradient["weight"] = gradient["weight"] + decay * theirs["weight"]
        velocity = {k: momentum * velocity[k] + gradient[k] for k in theirs}
        theirs = {k: theirs[k] - lr * velocity[k] for k in theirs}
    np.testing.assert_allclose(paper.theirs("w", run.weights.w), theirs["weight"], rtol=1e-10)
    np.testing.assert_allclose(run.weights.v, theirs["second"], rtol=1e-10)
    np.testing.assert_allclose(run.weights.b, theirs["bias"], rtol=1e-10)
    mse = float(torch_loss(theirs, x, y, scaled)) / 2.0
    assert float(paper.theirs("eg", run.eg[-1])) == pytest.approx(mse, rel=1e-9)
    assert float(paper.theirs("time", run.alpha[-1])) == pytest.approx(STEPS)
    assert float(paper.theirs("lr_second", paper.rule.lr_second)) == pytest.approx(lr)


def test_numbers_of_torch(rng):
    paper = conventions.from_torch(lr=0.001, n=784)
    assert float(paper.rule.lr) == pytest.approx(1.568, rel=1e-12)
    assert float(paper.theirs("lr", 1.568)) == pytest.approx(0.001, rel=1e-12)
    assert float(conventions.from_torch(0.001, 784, loss="half mse").rule.lr) == 0.784
    default = rng.uniform(-1.0, 1.0, size=(200, 784)) / math.sqrt(784)
    w = paper.ours("w", default)
    assert np.mean(np.sum(w**2, axis=1) / 784) == pytest.approx(1 / 3, rel=0.01)


def test_torch_learns_a_noisy_linear_unit_as_predicted(rng):
    """`MSELoss` of many runs of W <- W - lr 2 (W x - y) x against the exact mean at finite n."""
    lr, n, steps, runs, noise = 0.01, 20, 80, 4000, 0.3
    paper = conventions.from_torch(lr, n)
    target = np.ones(n) / math.sqrt(n)
    w = np.zeros((runs, n))
    for _ in range(steps):
        x = rng.normal(size=(runs, n))
        error = ((w - target) * x).sum(1) - noise * rng.normal(size=runs)
        w = w - lr * 2.0 * error[:, None] * x
    mse = ((w - target) ** 2).sum(1)
    exact = ld.asymptotics.eg_linear_finite_n(steps, 0.5, n, paper.rule.lr, noise, k=1)
    expected = float(paper.theirs("eg", exact))
    assert abs(mse.mean() - expected) < 5 * mse.std() / math.sqrt(runs) < 0.05 * expected


class TestNn2pp:
    HEADER = (
        "# This is scm++\n"
        "# g1=erf, g2=erf, N={n}, M=2, K=2, steps/N=0.25, seed=0\n"
        "# lr=0.5, lr2=0.5, sigma=0.2, wd=0.1, mini-batch size=3\n"
        "# initial weights have std dev 1\n"
        "# steps / N, eg, et, eg_frac, et_frac, diff\n"
    )
    END = "# CPU time used: 0 s\n# Wall clock time passed: 0 s\n"

    def log(self, path, case, header=HEADER, quiet=False):
        """A run of nn2pp's update on one sample, written as its `status` writes it."""
        w, w_teacher, x = case
        rows = []
        for step in range(STEPS + 1):
            fields, rho = w @ x / math.sqrt(N), w_teacher @ x / math.sqrt(N)
            error = G(rho).sum() - G(fields).sum()
            q, r = w @ w.T / N, w @ w_teacher.T / N
            t = w_teacher @ w_teacher.T / N
            eg = ld.generalisation_error(ld.Problem(), ld.Overlaps(q, r, t))
            row = [step / N, float(eg), *[math.nan] * 3, 0.0]
            row += [] if quiet else [*q[np.triu_indices(2)], *r.ravel(), 1.0, 1.0, 1.0, 1.0]
            rows.append(", ".join(f"{value:.17g}" for value in row))
            w = w - 0.1 / N * w + 0.5 / math.sqrt(N) * (DG(fields) * error)[:, None] * x
        path.write_text(header.format(n=N) + "\n".join(rows) + "\n" + self.END)
        np.savetxt(path.with_name(f"{path.stem}_T0.dat"), t, delimiter=",")
        return path

    def test_a_log_is_read_and_goes_on_here(self, tmp_path, case):
        path = self.log(tmp_path / "run.dat", case)
        run = conventions.from_nn2pp(path)
        assert float(run.rule.lr) == 0.5
        assert float(run.rule.weight_decay) == pytest.approx(0.2, rel=1e-15)
        assert (run.rule.lr_second, run.rule.batch_size) == (None, 3)
        assert float(run.problem.noise) == 0.2
        assert float(run.theirs("weight_decay", run.rule.weight_decay)) == pytest.approx(0.1)
        assert (run.data.attrs["level"], run.data.attrs["n"]) == ("sgd", N)
        np.testing.assert_allclose(run.data.alpha, np.arange(STEPS + 1) / N)
        start = ld.overlaps_at(run.data, 0.0)
        np.testing.assert_allclose(start.Q, case[0] @ case[0].T / N, rtol=1e-12)
        np.testing.assert_allclose(start.R, case[0] @ case[1].T / N, rtol=1e-12)
        assert ld.problem_of(run.data) == run.problem

    def test_its_steps_are_ours(self, tmp_path, case):
        quiet = self.HEADER.replace("sigma=0.2", "sigma=0").replace("size=3", "size=1")
        run = conventions.from_nn2pp(self.log(tmp_path / "run.dat", case, quiet))
        found = our_steps(run, *case)
        np.testing.assert_allclose(found.Q[-1], run.data.Q[-1], rtol=1e-12)
        np.testing.assert_allclose(found.R[-1], run.data.R[-1], rtol=1e-12)

    def test_a_log_of_the_ode(self, tmp_path):
        path = tmp_path / "ode.dat"
        path.write_text(
            "# This is scm++ ODE integrator for two-layer NN\n"
            "# g1=g2=lin, M=1, K=1, steps/N=1000, seed=0\n"
            "# lr=0.5, lr2=0.25, sigma=0, wd=0, dt 0.01, initial overlap=1e-09\n"
            "# training both layers (second layer has uniform weights)\n"
            "# steps / N, eg, et, diff\n"
            "0, 0.5, nan, nan, nan, nan, 1, 0.5, 1, 1\n"
        )
        run = conventions.from_nn2pp(path)
        assert float(run.rule.lr_second) == 0.25
        assert isinstance(run.problem.teacher, ld.Linear)
        assert run.data.attrs["level"] == "ode"
        assert "T" not in run.data

    def test_a_quiet_log_has_errors_alone(self, tmp_path, case):
        data = conventions.from_nn2pp(self.log(tmp_path / "q.dat", case, quiet=True)).data
        assert list(data.data_vars) == ["eg"]

    @pytest.mark.parametrize(
        ("name", "header", "says"),
        [
            ("a.dat", "# nothing\n", "must begin with the header"),
            ("a_class_b.dat", HEADER, "no counterpart"),
            ("a.dat", HEADER.replace("g2=erf", "g2=sgn"), "activation 'sgn'"),
            ("a.dat", HEADER + "# training both layers\n", "decay on both layers"),
            ("a.dat", HEADER.replace("K=2", "K=3"), "columns for K = 3"),
        ],
    )
    def test_what_cannot_be_read_says_why(self, tmp_path, case, name, header, says):
        with pytest.raises(ValueError, match=says):
            conventions.from_nn2pp(self.log(tmp_path / name, case, header))

    def test_a_file_that_is_not_there(self):
        with pytest.raises(FileNotFoundError, match="no such file"):
            conventions.from_nn2pp("nothing.dat")


class TestConversion:
    def test_there_and_back(self, rng):
        paper = conventions.from_torch(0.01, 50, weight_decay=0.1)
        value = rng.uniform(0.1, 2.0, size=3)
        for name in ("time", "eg", "noise", "lr", "lr_second", "weight_decay", "w", "overlaps"):
            np.testing.assert_allclose(paper.theirs(name, paper.ours(name, value)), value)
        noisy = conventions.from_saad_solla(0.1, noise_variance=0.04)
        assert float(noisy.problem.noise) == pytest.approx(0.2)
        assert noisy.ours("noise", 0.04) == pytest.approx(0.2)
        assert noisy.theirs("noise", 0.2) == pytest.approx(0.04)

    def test_a_dataset_with_their_numbers(self):
        paper = conventions.from_torch(0.01, 50)
        ds = ld.to_dataset(
            {"eg": np.array([[1.0, 0.5]]), "Q": np.ones((1, 2, 1, 1))},
            ts=[0.0, 2.0],
            over={"lr": [0.2]},
        )
        found = paper.dataset(ds)
        np.testing.assert_allclose(found.alpha, [0.0, 100.0])
        np.testing.assert_allclose(found.eg, [[2.0, 1.0]])
        np.testing.assert_allclose(found.lr, [0.002])
        np.testing.assert_array_equal(found.Q, ds.Q)
        assert "PyTorch" in found.eg.attrs["long_name"]
        np.testing.assert_array_equal(ds.alpha, [0.0, 2.0])

    def test_unknown_quantities_are_listed(self):
        with pytest.raises(ValueError, match="one of time, eg"):
            conventions.from_torch(0.01, 50).ours("loss", 1.0)

    @pytest.mark.parametrize(
        ("make", "says"),
        [
            (lambda: conventions.from_saad_solla(0.1, noise_variance=-1.0), "variance >= 0"),
            (lambda: conventions.from_saad_solla(0.1, n=0), "n must be an input"),
            (lambda: conventions.from_statphys(0.1, eta_noise=math.nan), "eta_noise must be"),
            (lambda: conventions.from_statphys(0.1, k=0), "number of units"),
            (lambda: conventions.from_torch(0.1, 0), "n must be"),
            (lambda: conventions.from_torch(-0.1, 10), "lr must be"),
            (lambda: conventions.from_torch(0.1, 10, loss="l1"), "loss must be"),
            (lambda: conventions.from_torch(0.1, 10, momentum=1.0), "momentum"),
        ],
    )
    def test_bad_values(self, make, says):
        with pytest.raises(ValueError, match=says):
            make()

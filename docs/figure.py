"""Draws docs/assets/sgd-and-theory.svg, and one for dark pages: `python docs/figure.py`."""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

import learndyn as ld

jax.config.update("jax_enable_x64", True)

SIZE, FONT = (5.2, 3.7), 11.5
"""Inches, points: on a phone, where the figure is 366 pixels wide, its text then has 11 pixels."""

LOOKS = {
    "": {"ink": "#1f1f1f", 2: "#0072B2", 3: "#007A5A", 5: "#D55E00"},
    "-dark": {"ink": "#ced6dd", 2: "#56B4E9", 3: "#2FC79C", 5: "#FF9144"},
}
"""Colours for a light and a dark page; the ground of both figures is transparent."""


def runs_of(k):
    """Theory and one run of SGD for a student of `k` units.

    Each of its first three units begins a little nearer to one teacher unit: from random weights
    the time at which a run leaves its plateau is a matter of luck, whatever n, and no curve can
    say it.
    """
    problem, rule = ld.Problem(ld.Erf(), ld.Erf(), noise=0.01), ld.SGD(lr=0.5)
    ts = jnp.linspace(0.0, 300.0, 151)
    start = ld.Overlaps(Q=jnp.eye(k), R=0.2 * jnp.eye(k, 3), T=jnp.eye(3))
    weights = ld.weights_from_overlaps(jax.random.key(2), start, n=784)
    sgd = ld.simulate_sgd(problem, rule, weights, ts, key=jax.random.key(1))
    return ld.solve_ode(problem, rule, start, ts), sgd


def draw(runs, look, path):
    ink = look["ink"]
    names = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    sizes = ("font.size", "axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize")
    settings = dict.fromkeys(names, ink) | dict.fromkeys(sizes, FONT) | {"svg.hashsalt": path.stem}
    with ld.plot.style(), plt.rc_context(settings):
        figure, ax = plt.subplots(figsize=SIZE, layout="constrained")
        for k, (theory, sgd) in runs.items():
            ax.plot(theory.alpha, theory.eg, color=look[k])
            ax.plot(sgd.alpha[::5], sgd.eg[::5], "x", color=look[k], ms=5)
            place = {"xytext": (6, 0), "textcoords": "offset points", "va": "center"}
            ax.annotate(f"k = {k}", (300, float(theory.eg[-1])), color=look[k], **place)
        ax.plot([], [], color=ink, label="theory: the ODE, n → ∞")
        ax.plot([], [], "x", color=ink, label="one run of SGD, n = 784")
        # Room for the legend above the curves.
        ax.set(yscale="log", ylim=(1.5e-5, 12.0))
        ax.set(xlabel=r"$\alpha$ = steps / $n$", ylabel="generalisation error")
        ax.legend(frameon=False, loc="upper right")
        figure.savefig(path, transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    runs = {k: runs_of(k) for k in (2, 3, 5)}
    for name, look in LOOKS.items():
        draw(runs, look, Path(__file__).parent / "assets" / f"sgd-and-theory{name}.svg")

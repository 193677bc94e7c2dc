"""What `learndyn flow` does: a run, its theory, two or three files and a figure."""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learndyn import flow
from learndyn._progress import is_shown
from learndyn.cli._runs import elapsed_time, plain_warnings
from learndyn.cli._settings import can_draw, output_path
from learndyn.cli.flow.report import report
from learndyn.cli.flow.settings import Problem, problem_of
from learndyn.datasets import save, to_dataset


class Found(NamedTuple):
    """Datasets: of the run, of jumps, and of a closed form; None where there is none."""

    run: Any
    jumps: Any
    theory: Any


class FlowCommand:
    """What the options of `learndyn flow` ask for, from their check to the files."""

    def __init__(self, options: Any):
        self.options = options
        output = options.output
        self.png = can_draw(output)
        self.path = output_path(output, "flow", self.png, ["jumps", "theory"])
        self.problem = problem_of(options)
        self.ts = _times(options.flow, self.problem)

    def run(self) -> tuple[Found, int]:
        """Solve it and say what came out. Returns: the datasets, and how many runs failed."""
        progress = {"auto": None, "on": True, "off": False}[self.options.output.progress]
        with plain_warnings("flow"), elapsed_time("flow", is_shown(progress)):
            run = jax.block_until_ready(_solved(self.problem, self.options.flow, self.ts))
        problem = self.problem
        over = None if problem.deltas is None else {"delta": problem.deltas}
        dataset = to_dataset(run, over=over, seed=self.options.seed.seed)
        dataset = dataset.assign(_labelled(problem.data))
        theory, note = _closed_form(problem, self.ts, dataset)
        jumps = None if problem.jumps is None else to_dataset(problem.jumps)
        if jumps is not None:
            jumps = jumps.assign(predicted=("jump", problem.times, _PREDICTED))
        options = json.dumps(dataclasses.asdict(self.options), default=str)
        found = Found(*(
            None if one is None else one.assign_attrs(network=problem.kind, options=options)
            for one in (dataset, jumps, theory)
        ))  # fmt: skip
        return found, report(found.run, found.jumps, found.theory, note)

    def write(self, found: Found) -> list[Path]:
        """The files: OUTPUT.nc, OUTPUT-jumps.nc or OUTPUT-theory.nc, and the figure."""
        paths = [save(found.run, self.path)]
        for name, dataset in (("jumps", found.jumps), ("theory", found.theory)):
            if dataset is not None:
                paths.append(save(dataset, self.path.with_stem(f"{self.path.stem}-{name}")))
        if self.png:
            paths.append(self._draw(found))
        return paths

    def _draw(self, found: Found) -> Path:
        import learndyn.plot as plot

        problem = self.problem
        axes = plot.flow_overview(
            found.run,
            found.jumps,
            theory=found.theory,
            times=problem.times,
            directions=problem.directions,
            rates=(float(problem.lr[0]), float(problem.lr[1]))
            if problem.kind == "neuron"
            else (1.0, 1.0),
        )
        return plot.save(axes, self.path.with_suffix(".png"))


_PREDICTED = {"long_name": "predicted time of the jump in this run"}


def _times(options: Any, problem: Problem) -> np.ndarray:
    if options.points < 2:
        raise ValueError(f"--points must be at least 2, for 0 and t-max; got {options.points}.")
    end = problem.end if options.t_max is None else options.t_max
    if end is None:
        raise ValueError(f"--t-max must be given, for no time is predicted: {problem.note}.")
    if not 0 < end < np.inf:
        raise ValueError(f"--t-max must be > 0; got {end:g}.")
    return np.linspace(0.0, end, options.points)


def _labelled(data: Any) -> dict[str, Any]:
    """What was learned, as variables of the run's dataset; --data reads x and y from there."""
    if isinstance(data, flow.Moments):
        arrays = {"sxx": (("input", "input_"), data.sxx), "syx": (("output", "input"), data.syx)}
    else:
        outputs = ("output",) if data.y.ndim > 1 else ()
        # The inputs of modular addition are two encodings.
        arrays = {"x": (("sample", "entry"), data.x), "y": (("sample", *outputs), data.y)}
    return {
        name: (dims, np.asarray(array), {"long_name": _DATA[name]})
        for name, (dims, array) in arrays.items()
    }


_DATA = {
    "x": "inputs of the samples",
    "y": "labels of the samples",
    "sxx": "second moments of the inputs",
    "syx": "second moments of labels and inputs",
}


def _solved(problem: Problem, options: Any, ts: np.ndarray) -> flow.Run:
    keywords = {"lr": problem.lr.tolist(), "rtol": options.rtol, "max_steps": options.max_steps}
    solve = lambda start: flow.gradient_flow(start, problem.data, ts, **keywords)
    if problem.deltas is None:
        return solve(problem.starts[0])
    return jax.vmap(solve)(jax.tree.map(lambda *leaves: jnp.stack(leaves), *problem.starts))


def _closed_form(problem: Problem, ts: np.ndarray, run: Any) -> tuple[Any, str | None]:
    """The run as the closed form has it, for a neuron and white inputs; else None and why."""
    if problem.kind != "neuron":
        return None, problem.note
    lr_a, lr_w = problem.lr
    try:
        pairs = [
            flow.linear_neuron_data(problem.data, start.a, start.w, ts, lr_a, lr_w)
            for start in problem.starts
        ]
    except ValueError as error:
        return None, f"no closed form: {error}"
    models = [flow.LinearNeuron(a, w) for a, w in pairs]
    losses = [jax.vmap(lambda model: flow.loss(model, problem.data))(model) for model in models]
    values = {
        "loss": np.stack(losses),
        "a": np.stack([a for a, _ in pairs]),
        "w": np.stack([w for _, w in pairs]),
        "beta": np.stack([a[:, None] * w for a, w in pairs]),
    }
    single = problem.deltas is None
    new = {n: (run[n].dims, x[0] if single else x, run[n].attrs) for n, x in values.items()}
    return run[["result", *values]].assign(new).assign_attrs(kind="closed form"), None

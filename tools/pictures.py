"""Draws the pictures of the documents into docs/pictures.

    python -m tools.pictures             # all of them, in about five minutes
    python -m tools.pictures schedules   # some

What a picture shows is run for it: the examples of the tutorial, presets of the demo.
"""

import argparse
import pathlib
import re
import tempfile
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

import tf_keras_optim as tko
from tools import task, train
from tools.config import load

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "pictures"
_STYLE: Any = {
    "svg.fonttype": "none",  # texts are texts, in a font of the reader
    "svg.hashsalt": "tf_keras_optim",  # the same names inside the file each time
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
_STEPS = 1000  # of the schedules


def schedules() -> None:
    """Draws the shapes of the package's own schedules, and of Keras' cosine."""
    of = tko.schedules
    shown = {
        "CosineDecay": of.CosineDecay(1.0, _STEPS),
        "Warmup, then CosineDecay": of.Warmup(of.CosineDecay(1.0, 900), 100),
        "OneCycle": of.OneCycle(1.0, _STEPS),
        "WarmupStableDecay": of.WarmupStableDecay(1.0, 100, 600, 300),
        "InverseSqrt": of.InverseSqrt(1.0, 100),
        "Cyclical": of.Cyclical(0.1, 1.0, step_size=125),
        "Rex": of.Rex(1.0, _STEPS),
        "CosineDecayRestarts": of.CosineDecayRestarts(1.0, 150, m_mul=0.8),
    }
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    for axes, (title, schedule) in zip(figure.subplots(2, 4, sharey=True).flat, shown.items()):
        steps = range(0, _STEPS + 1, 10)
        axes.plot(steps, [float(schedule(step)) for step in steps], color="tab:orange")
        axes.set_title(title, fontsize=10)
        axes.set(ylim=(0.0, 1.05), xticks=(0, 500, 1000), yticks=(0.0, 0.5, 1.0))
        axes.grid(alpha=0.3)
    figure.supxlabel("update", fontsize=10)
    figure.supylabel("share of the highest rate", fontsize=10)
    _write(figure, "schedules")


def tutorial() -> None:
    """Runs the examples of the tutorial; draws its two runs and its range test."""
    names: dict[str, Any] = {"__name__": "tutorial"}
    for block in _BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text()):
        exec(block, names)
    _write(names["before"].plot(), "monitor-before")
    _write(names["after"].plot(), "monitor-after")
    _write(names["found"].plot(), "range-test")


def demo() -> None:
    """Runs half of the demo's first preset; draws its curves."""
    _curves("digits_adamw", "demo", "data.epochs=10")


def text() -> None:
    """Runs the preset with Muon on text; draws its curves."""
    _curves("text_muon", "demo-text")


def step() -> None:
    """Draws what one step does, from the gradients to the counter."""
    figure = Figure(figsize=(9, 6.2))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 90), ylim=(0, 62))
    axes.axis("off")
    rows = (
        ("sum over replicas", "one all_reduce in the replica", "summing.py"),
        ("sparse gradients", "duplicate rows summed; dense, or kept as rows (lazy)", "rows.py"),
        ("finite?", "only where a step may be skipped", "loss_scaler.py"),
        ("unscale, norms, clip factors", "at most one pass over each gradient", "factors.py"),
    )
    _box(axes, 2, 56, 56, 5, "gradients and variables", "", "white")
    for place, (title, note, file) in enumerate(rows):
        y = 47.5 - 8 * place
        _arrow(axes, 30, y + 8, y + 6)
        _box(axes, 2, y, 56, 6, title, note, "#e8eef7")
        axes.text(61, y + 3, file, va="center", fontsize=9, family="monospace")
    _arrow(axes, 30, 23.5, 21)
    _box(axes, 2, 9.5, 56, 11.5, "one compiled kernel for each variable", "", "#fde8d0")
    kernel = "clip factor · centralizing · weight decay · update ·\ncautious mask · Lookahead"
    axes.text(30, 13.2, f"{kernel} · average", ha="center", va="center", fontsize=9)
    axes.text(61, 15, "kernels.py", va="center", fontsize=9, family="monospace")
    axes.text(61, 12, "under accumulation only in\na step that is due", va="center", fontsize=9)
    _arrow(axes, 30, 9.5, 7)
    _box(axes, 2, 2, 56, 5, "constraints, then `iterations` + 1", "", "#e8eef7")
    _bracket(axes, 84, 23.5, 53.5, "TensorFlow")
    _bracket(axes, 84, 9.5, 21, "XLA")
    _write(figure, "step")


def _box(axes: Any, x: float, y: float, w: float, h: float, title: str, note: str,
         color: str) -> None:  # fmt: skip
    shape = "round,pad=0,rounding_size=0.8"
    axes.add_patch(FancyBboxPatch((x, y), w, h, shape, facecolor=color, edgecolor="#555555"))
    top = y + h - 2.6 if h > 8 else y + h * (0.64 if note else 0.48)
    axes.text(x + w / 2, top, title, ha="center", va="center", fontsize=11)
    if note:
        axes.text(x + w / 2, y + h * 0.25, note, ha="center", va="center", fontsize=8.5)


def _arrow(axes: Any, x: float, start: float, end: float) -> None:
    axes.annotate("", (x, end), (x, start), arrowprops={"arrowstyle": "->", "color": "#555555"})


def _bracket(axes: Any, x: float, low: float, high: float, title: str) -> None:
    axes.plot([x - 1, x, x, x - 1], [low, low, high, high], color="#555555", linewidth=1)
    middle = (low + high) / 2
    axes.text(x + 1.5, middle, title, rotation=90, va="center", ha="left", fontsize=10)


def _curves(preset: str, name: str, *values: str) -> None:
    """Runs a preset, and draws the losses and accuracies of both sides."""
    config = load(str(ROOT / "configs" / f"{preset}.yaml"), values)
    data = task.load_data(config)
    steps = config.data["epochs"] * task.steps_per_epoch(config, data)
    ours, peer = train.make_optimizers(config, steps)
    with tempfile.TemporaryDirectory() as folder:
        comparison = train.run(config, data, ours, peer, pathlib.Path(folder))
    _write(comparison.figure(), name)


def _write(figure: Figure, name: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.svg"
    with matplotlib.rc_context(_STYLE):
        figure.savefig(path, metadata={"Date": None, "Creator": None})
    path.write_text(_shortened(path.read_text()))
    print(f"Wrote {path.relative_to(ROOT)}, {path.stat().st_size} bytes")


def _shortened(text: str) -> str:
    """Returns an SVG of matplotlib with what a reader does not see left out.

    Twenty names of a font become its kind, coordinates keep two digits, and a style that
    stands at many elements becomes a class.
    """
    text = re.sub(r"font-family: [^;\"]*", _generic, text)
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), text)
    parts = "axes|figure|legend|line2d|matplotlib.axis|patch|text|[xy]tick"
    text = re.sub(rf' id="({parts})_\d+"', "", text)
    text = re.sub(r"\n *", "\n", text)
    styles = dict.fromkeys(re.findall(r' style="([^"]*)"', text))
    for number, style in enumerate(styles):
        text = text.replace(f' style="{style}"', f' class="s{number}"')
    rules = "".join(f".s{number}{{{style}}}" for number, style in enumerate(styles))
    return text.replace("</style>", f"{rules}</style>", 1)


def _generic(family: re.Match[str]) -> str:
    """Returns the kind of a font in the place of twenty names."""
    return f"font-family: {'monospace' if 'Mono' in family[0].split(',')[0] else 'sans-serif'}"


PICTURES: dict[str, Callable[[], None]] = {
    "schedules": schedules,
    "tutorial": tutorial,
    "demo": demo,
    "text": text,
    "step": step,
}


def main(argv: list[str] | None = None) -> None:
    """Draws the pictures that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PICTURES))
    names = parser.parse_args(argv).names or list(PICTURES)
    unknown = sorted(set(names) - PICTURES.keys())
    if unknown:
        parser.error(f"unknown picture {unknown[0]!r}; known: {', '.join(PICTURES)}")
    for name in names:
        PICTURES[name]()


if __name__ == "__main__":
    main()

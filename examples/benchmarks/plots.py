"""Draw what the suite wrote, as SVG.

The growth of an iteration's time, and the training cycle beside the dense partner.

    python examples/benchmarks/plots.py benchmarks.json --out figures/
"""

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure


def draw_growth(measurements):
    """Draw the time against each variable, both as ratios to the first size."""
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log")
    largest = 1
    for measurement in measurements:
        sizes = measurement["sizes"]
        times = [row["value"] for row in measurement["rows"]]
        x = [size / sizes[0] for size in sizes]
        y = [time / times[0] for time in times]
        axes.plot(x, y, "o-", label=f"{measurement['variable']}, from {sizes[0]:,}")
        largest = max(largest, x[-1])
    axes.plot([1, largest], [1, largest], "k:", label="linear growth")
    axes.set_xlabel("variable, ratio to the first")
    axes.set_ylabel("time of a training iteration, ratio to the first")
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    return figure


def draw_steps(measurements):
    """Draw a panel of bars for each size."""
    figure = Figure(figsize=(8, 1.6 * len(measurements)), layout="constrained")
    panels = figure.subplots(len(measurements), squeeze=False)[:, 0]
    for axes, measurement in zip(panels, measurements, strict=True):
        rows = measurement["rows"][::-1]  # bars are stacked from below
        bars = axes.barh([row["name"] for row in rows], [row["value"] for row in rows])
        axes.bar_label(bars, fmt="%.0f", padding=3)
        axes.set_title(measurement["case"], fontsize="medium", loc="left")
        axes.margins(x=0.1)
    panels[-1].set_xlabel("milliseconds a cycle: 3 encoder steps and 1 decoder step")
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("json", type=Path, help="written by suite.py")
    parser.add_argument("--out", type=Path, required=True, help="folder for the SVGs")
    args = parser.parse_args()
    measurements = json.loads(args.json.read_text())["measurements"]
    args.out.mkdir(parents=True, exist_ok=True)
    for section, draw in {"growth": draw_growth, "step": draw_steps}.items():
        chosen = [m for m in measurements if m["section"] == section]
        if chosen:
            draw(chosen).savefig(args.out / f"{section}.svg")


if __name__ == "__main__":
    main()

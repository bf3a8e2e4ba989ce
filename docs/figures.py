"""Write the tables of pages anew from the results of studies.

    python docs/figures.py          # write them
    python docs/figures.py --check  # fail where a page has other figures

A page has a table between two lines, ``<!-- figures: NAME -->`` and
``<!-- end of figures -->``. NAME is one of `TABLES`, which says of which file in
``examples/studies`` it is made. Below a table is how its figures were made. Building
the docs draws the picture of quality against time from the same results.
"""

import argparse
import difflib
import json
import re
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]
STUDIES = PROJECT / "examples" / "studies"
PLACE = re.compile(
    r"(?<=<!-- figures: )(?P<name>[\w-]+) -->\n.*?(?=<!-- end of figures -->)",
    flags=re.DOTALL,
)


def main(argv=None):
    """Write or check all pages; give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    args = parser.parse_args(argv)
    wrong = [page for page in pages() if update(page, args.check)]
    if args.check and wrong:
        print("Run: python docs/figures.py", file=sys.stderr)
    return 1 if args.check and wrong else 0


def pages():
    """List the pages that may have tables."""
    return [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]


def update(page, check):
    """Say whether the page had other figures; write it unless it is a check."""
    before = page.read_text(encoding="utf-8")
    after = render(before)
    if check:
        lines = before.splitlines(), after.splitlines()
        difference = difflib.unified_diff(*lines, page.name, "results", lineterm="")
        print("\n".join(difference), end="")
    elif before != after:
        page.write_text(after, encoding="utf-8")
    return before != after


def render(text):
    """Put the tables into the text of a page."""
    return PLACE.sub(lambda found: f"{found['name']} -->\n{table(found['name'])}", text)


def table(name):
    """Make a table in Markdown."""
    if name not in TABLES:
        raise ValueError(f"There are no figures {name!r}, expected {', '.join(TABLES)}")
    file, data, make = TABLES[name]
    results = read_results(file)
    if data is not None:
        results = results[data]
    made = results.pop("made", None)  # none of a table of several data sets
    head, *rows = [f"| {' | '.join(row)} |\n" for row in make(results)]
    lines = [head, "|---" * (head.count("|") - 1) + "|\n", *rows]
    if made is not None:
        lines.append(
            f"\n`{made['command']}`: commit {made['commit']}, {made['machine']}, "
            f"{made['date']}.\n"
        )
    return "".join(lines)


def read_results(file):
    """Read the results of a study."""
    return json.loads((STUDIES / file).read_text(encoding="utf-8"))


def show(value, digits=4):
    """Show a value between 0 and 1 as .1234."""
    return without_zeros(f"{value:.{digits}f}")


def without_zeros(text):
    """Leave out the zero before the point of a number between -1 and 1."""
    return re.sub(r"\b0\.", ".", text)


def show_change(mean, half, digits=4):
    """Show a difference and the half of its interval as +.0123 ± .0045."""
    return without_zeros(f"{mean:+.{digits}f} ± {half:.{digits}f}")


def multvae(results):
    """List Mult-VAE and Mult-DAE beside RecBole's."""
    metrics = ("NDCG@100", "Recall@20", "Recall@50")
    yield ["", "chosen", "NDCG@100 of each seed", *metrics, "difference"]
    for name, run in results.items():
        chosen = ", ".join(f"`{key}={value}`" for key, value in run["setting"].items())
        change = [run["difference"], run["interval"]] if "difference" in run else None
        yield [
            name,
            chosen,
            " ".join(map(show, run["each seed"])),
            *(show(run[metric]) for metric in metrics),
            show_change(*change) if change else "",
        ]


def negative_results(results):
    """List what did not help, beside RecVAE."""
    yield ["", "NDCG@100", "difference", "in each seed", "validation", "kept"]
    for name, variant in results["variants"].items():
        changes = variant.get("difference_of_seeds", [])  # none of RecVAE itself
        yield [
            name,
            show(variant["test"]),
            show_change(variant["difference"], variant["half"]) if changes else "",
            without_zeros(" ".join(f"{change:+.4f}" for change in changes)),
            show(variant["validation"]),
            " ".join(map(str, variant["best_iterations"])),
        ]


def temporal(results):
    """List models by time and at random, with and without a half-life."""
    columns = ["with half-life", "gain"]
    yield ["", "by time", *columns, "random", *columns]
    for name in results["by time"]:
        row = [name]
        for split in ("by time", "random"):
            plain, decayed = (
                results[split][name][kind] for kind in ("plain", "decayed")
            )
            row.append(f"{show(plain['NDCG@100'], 3)} ({show(plain['error'], 3)})")
            row.append(f"{show(decayed['NDCG@100'], 3)}, {decayed['half-life']} days")
            row.append(show_change(*decayed["to plain"], 3))
        yield row


def ablation(results):
    """List what each novelty of the paper changes."""
    yield ["", "NDCG@100", "difference", "in each seed", ""]
    for name, row in results["rows"].items():
        changes = row.get("in each seed", [])  # none of what has none of them
        yield [
            name,
            show(row["NDCG@100"]),
            show_change(*row["difference"]) if changes else "",
            without_zeros(" ".join(f"{change:+.4f}" for change in changes)),
            row.get("verdict", ""),
        ]


def quality(results):
    """List RecVAE beside a dense implementation."""
    yield ["", "NDCG@100 (seeds 0, 1, 2)", "Recall@20", "Recall@50"]
    for name, row in results.items():
        each = " ".join(map(show, row["each seed"]))
        recalls = (show(row[metric]) for metric in ("Recall@20", "Recall@50"))
        yield [name, f"{show(row['NDCG@100'])} ({each})", *recalls]


def gamma(results):
    """List weights of the KL term on several data sets, by their constant."""
    yield ["", "mean feedback", "constant", "gamma", "NDCG@100", "difference", "kept"]
    for name, of_data in results.items():
        for row in of_data["rows"]:
            yield [
                name,
                f"{of_data['mean_interactions']:.1f}",
                show(row["constant"], 2),
                show(row["gamma"]),
                show(row["NDCG@100"][0]),
                show_change(*row["difference"]) if "difference" in row else "",
                " ".join(map(str, row["best_iterations"])),
            ]


def baselines(results):
    """List all models on one data set."""
    metrics = ("NDCG@100", "Recall@20", "Recall@50")
    yield ["", *metrics, "coverage", "minus the recipe", "tried", "seeds", "s", "MB"]
    for row in results["rows"]:
        yield [
            row["name"],
            *(show(row[metric][0]) for metric in metrics),
            show(row["coverage"], 2),
            show_change(*row["difference"]) if "difference" in row else "",
            row.get("tried", ""),
            str(len(row["each seed"])),
            f"{row['seconds']:.1f}" if "seconds" in row else "",
            str(row.get("megabytes", "")),
        ]


def catalogue(results):
    """List time and memory of EASE, exact and sparse, by the number of items."""
    yield ["items", "EASE, s", "EASE, GB", "sparse, s", "sparse, GB"]
    for row in results["rows"]:
        costs = []
        for model in ("EASE", "sparse"):
            cost = row[model]
            costs += (
                ["", ""]
                if cost is None
                else [
                    f"{cost['seconds']:.1f}",
                    f"{cost['peak_gb']:.2f}",
                ]
            )
        yield [f"{row['items']:,}", *costs]


def rows_by_name(results):
    """Give for each data set the rows by the names of their models."""
    return {
        data: {row["name"]: row for row in of_data["rows"]}
        for data, of_data in results.items()
    }


def show_means(of_data, name):
    """Show the mean of this model on all data sets, nothing where it was not run."""
    rows = (rows.get(name) for rows in of_data.values())
    return ["" if row is None else show(row["NDCG@100"][0]) for row in rows]


def overview(results):
    """List the main models on all data sets."""
    of_data = rows_by_name(results)
    yield ["", *of_data]
    for name in (
        "popularity",
        "item-kNN",
        "WMF",
        "SLIM",
        "EASE",
        "EASE with noise",
        "sparse EASE",
        "RecVAE",
        "recipe",
    ):
        label = "`BlendedRecommender()`" if name == "recipe" else name
        yield [label, *show_means(of_data, name)]


def blend(results):
    """List the recipe beside its parts on all data sets."""
    of_data = rows_by_name(results)
    yield ["", *of_data]
    yield ["training users", *(f"{r['n_users']['train']:,}" for r in results.values())]
    means = (f"{of_data['mean_interactions']:.0f}" for of_data in results.values())
    yield ["interactions a user", *means]
    for name in (
        "linear part of the recipe",
        "RecVAE of the recipe",
        "recipe",
        "recipe without X_val",
    ):
        yield [name, *show_means(of_data, name)]
        rows = [of_data[data].get(name) for data in of_data]
        if name.endswith(" of the recipe"):
            changes = (
                "" if row is None else show_change(*row["difference"]) for row in rows
            )
            yield ["… minus the recipe", *changes]


def draw(results, file):
    """Draw quality against the time of a fit, a panel for each data set."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    names = dict.fromkeys(
        row["name"] for of_data in results.values() for row in of_data["rows"]
    )
    colors = dict(zip(names, colormaps["tab20"].colors, strict=False))
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    panels = figure.subplots(2, -(-len(results) // 2), squeeze=False).flat
    for (data, of_data), axes in zip(results.items(), panels, strict=False):
        for row in of_data["rows"]:
            if "seconds" in row and "without" not in row["name"]:
                # Popularity takes less than is measured.
                place = max(0.01, row["seconds"]), row["NDCG@100"][0]
                axes.plot(*place, "o", color=colors[row["name"]], label=row["name"])
        axes.set_xscale("log")
        axes.set(title=data, xlabel="seconds of a fit", ylabel="test NDCG@100")
    for axes in panels:  # those that are left
        axes.set_axis_off()
    handles = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles, loc="outside right center")
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file)


# File of the results, the data set in it, and the function that lists rows.
TABLES = {
    "multvae": ("multvae.json", None, multvae),
    "temporal": ("temporal.json", None, temporal),
    "negative-results": ("negative_results.json", None, negative_results),
    "ablation-ml-1m": ("ablation.json", "MovieLens-1M", ablation),
    "ablation-toys": ("ablation.json", "toys", ablation),
    "quality": ("quality.json", None, quality),
    "gamma": ("gamma.json", None, gamma),
    "baselines-ml-1m": ("baselines.json", "MovieLens-1M", baselines),
    "baselines-small": ("baselines.json", "MovieLens latest-small", baselines),
    "baselines-toys": ("baselines.json", "toys", baselines),
    "baselines-gowalla": ("baselines.json", "Gowalla", baselines),
    "baselines-epinions": ("baselines.json", "Epinions", baselines),
    "catalogue": ("catalogue.json", None, catalogue),
    "overview": ("baselines.json", None, overview),
    "blend": ("baselines.json", None, blend),
}

if __name__ == "__main__":
    sys.exit(main())

"""Write the tables of pages anew from the results of studies.

    python docs/figures.py          # write them
    python docs/figures.py --check  # fail where a page has other figures

A page has a table between two lines, ``<!-- figures: NAME -->`` and
``<!-- end of figures -->``. NAME is a function of `TABLES`, which makes it of a file in
``examples/studies``.
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
    file, make = TABLES[name]
    rows = make(json.loads((STUDIES / file).read_text(encoding="utf-8")))
    head, *rows = [f"| {' | '.join(row)} |\n" for row in rows]
    return "".join([head, "|---" * (head.count("|") - 1) + "|\n", *rows])


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


TABLES = {
    "multvae": ("multvae.json", multvae),
    "temporal": ("temporal.json", temporal),
    "negative-results": ("negative_results.json", negative_results),
}

if __name__ == "__main__":
    sys.exit(main())

"""Run the benchmarks, print one table, and write everything measured to a JSON file.

All contestants of a case take turns in each round, and the table has medians over
rounds in which nothing else kept the machine busy. Sections, by default all of them:

- step: a training cycle beside a dense implementation of the same formulas
- peers: a training iteration beside the RecVAE of other packages
- floor: a training cycle beside the least time that its arithmetic takes here
- growth: an iteration against users, items, interactions, latent_dim, batch_size
- recommend: users a second, beside the ALS of implicit
- explain: one user and 1,000, beside a loop
- validation: its share of an iteration
- memory: peaks of fresh processes

The peers are optional; `peers.py` says how to install them.

    python -m pip install -c constraints.txt ".[examples,benchmark]"
    python examples/benchmarks/suite.py --json benchmarks.json
    python examples/benchmarks/plots.py benchmarks.json --out figures/
"""

import argparse
import functools
import json
import multiprocessing
import sys
from pathlib import Path

import explain
import floor
import growth
import memory_cases
import peers
import recommend
import step
import timing
import validation
from machine import describe_machine
from rich.console import Console
from rich.table import Table

SECTIONS = {
    "step": step.measure,
    "peers": peers.measure,
    "floor": floor.measure,
    "growth": growth.measure,
    "recommend": recommend.measure,
    "explain": explain.measure,
    "validation": validation.measure,
    "memory": memory_cases.measure,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}"
    )
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument(
        "--epinions", type=Path, help="a saved matrix, one more case of memory"
    )
    args = parser.parse_args()
    for section in args.sections:  # argparse's choices would refuse to have none
        if section not in SECTIONS:
            parser.error(f"no section {section!r}, choose of {', '.join(SECTIONS)}")
    sections = dict(SECTIONS)
    sections["memory"] = functools.partial(sections["memory"], epinions=args.epinions)

    if args.quick:
        timing.SETTLING_SECONDS = timing.TIMED_SECONDS = 0
        timing.MAX_TRIES = 1
        if "fork" in multiprocessing.get_all_start_methods():
            timing.START_METHOD = "fork"

    log = Console(stderr=True)
    result = {"quick": args.quick, "machine": describe_machine(), "measurements": []}
    for section in args.sections or sections:
        log.print(f"{section} ...")
        for measurement in sections[section](args.quick):
            log.print(f"  {measurement['case']}")
            result["measurements"].append({"section": section, **measurement})
            if args.json:  # after each, so that nothing measured can be lost
                args.json.write_text(json.dumps(result, indent=1))
    # Where there is no terminal rich would squeeze the table into 80 columns.
    width = None if sys.stdout.isatty() else 160
    Console(width=width).print(as_table(result))


def as_table(result):
    """Lay out all measurements, a row for each contestant."""
    table = Table("contestant", title=caption(result["machine"]), title_justify="left")
    table.add_column("median", justify="right")
    table.add_column("ratio")
    table.add_column("quiet rounds")
    for measurement in result["measurements"]:
        title = f"{measurement['section']}: {measurement['case']}"
        table.add_row(f"[bold]{title}[/bold]", "", "", quiet_rounds(measurement))
        for row in measurement["rows"]:
            value = ""
            if "value" in row:
                value = f"{three_digits(row['value'])} {row['unit']}"
            notes = [
                f"{r:.2f} times {name}" for name, r in row.get("ratios", {}).items()
            ]
            if "note" in row:
                notes.append(row["note"])
            table.add_row(f"  {row['name']}", value, ", ".join(notes), "")
        table.add_section()
    return table


def three_digits(value):
    """Write a number with three digits that count, or more before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def caption(machine):
    """Put the machine into a few lines."""
    versions = ", ".join(
        f"{name} {version or 'not installed'}"
        for name, version in machine["versions"].items()
    )
    return (
        f"{machine['processor']}, {machine['cores']} cores, "
        f"{machine['torch_threads']} threads, "
        f"{'native' if machine['native_bfloat16'] else 'no native'} bfloat16, "
        f"load {machine['load']:.2f}\n"
        f"Python {machine['python']}, {versions}, {machine['system']}"
    )


def quiet_rounds(measurement):
    """Say how many rounds the medians are of, and how many were rejected."""
    if "rounds" not in measurement:
        return ""
    quiet, needed = measurement["rounds_quiet"], measurement["rounds_needed"]
    text = f"{quiet}, {measurement['rounds_rejected']} rejected"
    if quiet == 0:
        return text + ": MACHINE TOO BUSY, medians of all"
    return text if quiet == needed else text + f": FEWER THAN {needed}"


if __name__ == "__main__":
    main()

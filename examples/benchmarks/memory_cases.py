"""Peak memory of fresh processes: one large case, and growth with three variables."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from scipy.sparse import load_npz, save_npz

from sklearn_recvae.datasets import make_interactions

SCRIPT = Path(__file__).with_name("memory.py")


def measure(quick, epinions=None):
    """Yield the peaks; `epinions` is the path of a saved matrix of 242,166 items."""
    n_users, n_items, k = (100, 300, 10) if quick else (116_677, 20_108, 100)
    yield {
        "case": f"{n_users:,} users, {n_items:,} items",
        "rows": [as_row(record) for record in peaks(n_users, n_items, k=k)],
    }
    if epinions is not None:
        n_users, n_items = load_npz(epinions).shape
        yield {
            "case": f"{epinions.parent.name}: {n_users:,} users, {n_items:,} items",
            "rows": [as_row(record) for record in peaks_of_file(epinions)],
        }
    if quick:
        yield growth("users", {n: peaks(n, 300) for n in (50, 100)})
        return
    yield growth("users", {n: peaks(n, 20_108) for n in (4_000, 16_000, 64_000)})
    yield growth("items", {n: peaks(2_000, n) for n in (20_000, 80_000, 240_000)})
    yield growth(
        "batch_size", {n: peaks(8_000, 20_108, batch_size=n) for n in (250, 1000, 4000)}
    )


def peaks(n_users, n_items, batch_size=500, k=0):
    """Draw a matrix and measure the steps on it."""
    X, _, _ = make_interactions(n_users, n_items, mean_interactions=75, random_state=0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "X.npz")
        save_npz(file, X, compressed=False)
        return peaks_of_file(file, batch_size, k)


def peaks_of_file(file, batch_size=500, k=0):
    """Measure load, fit and (if k > 0) recommend in a fresh process."""
    command = [sys.executable, str(SCRIPT), "--json", "--file", str(file)]
    command += ["--batch-size", str(batch_size), "--k", str(k)]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in result.stdout.splitlines()]


def growth(variable, records):
    """Put the peaks of fit at each size of a variable side by side."""
    fits = {size: steps[1] for size, steps in records.items()}
    return {
        "case": f"fit of one iteration against {variable}",
        "variable": variable,
        "sizes": list(fits),
        "rows": [
            as_row({**record, "step": f"{size:,} {variable}"})
            for size, record in fits.items()
        ],
    }


def as_row(record):
    """Turn what the script printed into a row of the table."""
    return {
        "name": record["step"],
        "value": record["peak_gb"],
        "unit": "GB peak",
        "extra": record["extra_gb"],
        "seconds": record["seconds"],
        "note": f"{record['extra_gb']:.2f} GB more than before, "
        f"in {record['seconds']:.1f} s",
    }

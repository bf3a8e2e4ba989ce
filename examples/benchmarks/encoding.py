"""Seconds and memory to encode a table of generated events.

python examples/benchmarks/encoding.py --events 10000000
"""

import argparse
import resource
import time

import numpy as np

from sklearn_recvae.preprocessing import InteractionEncoder

N_USERS, N_ITEMS = 500_000, 100_000


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--strings", action="store_true", help="ids that are strings")
    args = parser.parse_args()
    table = draw_events(args.events, args.strings)
    before = peak_memory()
    start = time.perf_counter()
    X = InteractionEncoder().fit_transform(table)
    seconds = time.perf_counter() - start
    print(
        f"{args.events} events to a matrix of {X.shape} with {X.nnz} pairs: "
        f"{seconds:.1f} s, {args.events / seconds / 1e6:.1f} million a second. "
        f"Peak memory {peak_memory():.2f} GB, {before:.2f} GB with the table alone."
    )


def draw_events(n_events, strings):
    """Draw users at random, and items by a power law."""
    rng = np.random.default_rng(0)
    users = rng.integers(N_USERS, size=n_events)
    items = rng.zipf(1.3, size=n_events) % N_ITEMS
    if strings:
        users, items = (
            as_strings(ids, n) for ids, n in ((users, N_USERS), (items, N_ITEMS))
        )
    return {"user": users, "item": items}


def as_strings(ids, n):
    """Give ids as Python strings, one object for each id."""
    names = np.array([f"id-{number}" for number in range(n)], dtype=object)
    return names[ids]


def peak_memory():
    """Give the peak of this process in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()

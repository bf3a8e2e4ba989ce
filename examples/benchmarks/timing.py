"""Time contestants in turns; reject the rounds in which the machine did other work."""

import statistics
import time

import psutil

# CPU time of anyone else during a round, in cores, above which the round is rejected.
MAX_FOREIGN_CORES = 0.1
# The system counts CPU time in ticks of 10 ms, which matters in short rounds.
TICKS = 0.02
# Rounds to try for each round that is needed.
MAX_TRIES = 3


def time_in_turns(contestants, rounds):
    """Run all contestants in each round, and go on until enough rounds were quiet.

    Parameters
    ----------
    contestants : dict of callable
        Each is run twice a round, and the second run is timed.
    rounds : int
        Number of quiet rounds needed. Three times as many are tried at most.

    Returns
    -------
    dict
        "medians" has the seconds of each contestant over the quiet rounds (over all of
        them if none was quiet), "rounds" has every round as it was measured.
    """
    records = []
    n_quiet = 0
    while n_quiet < rounds and len(records) < MAX_TRIES * rounds:
        records.append(_time_round(contestants))
        n_quiet += records[-1]["quiet"]
    used = [record for record in records if record["quiet"]] or records
    return {
        "medians": {
            name: statistics.median(record["seconds"][name] for record in used)
            for name in contestants
        },
        "rounds_needed": rounds,
        "rounds_quiet": n_quiet,
        "rounds_rejected": len(records) - n_quiet,
        "rounds": records,
    }


def _time_round(contestants):
    seconds = {}
    begin, foreign = time.perf_counter(), -_foreign_seconds()
    for name, run in contestants.items():
        run()  # so that caches and the memory at hand are not those of the one before
        start = time.perf_counter()
        run()
        seconds[name] = time.perf_counter() - start
    foreign += _foreign_seconds()
    allowed = MAX_FOREIGN_CORES * (time.perf_counter() - begin) + TICKS
    return {"quiet": foreign <= allowed, "foreign_seconds": foreign, "seconds": seconds}


def _foreign_seconds():
    """CPU seconds since boot that were not spent by this process and its children."""
    system = psutil.cpu_times()
    # Stolen time is what the host of a virtual machine gave to others.
    kinds = ("user", "nice", "system", "irq", "softirq", "steal", "interrupt", "dpc")
    own = psutil.Process().cpu_times()
    own = own.user + own.system + own.children_user + own.children_system
    return sum(getattr(system, kind, 0) for kind in kinds) - own

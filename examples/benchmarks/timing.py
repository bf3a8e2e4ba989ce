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
# Each turn begins with untimed runs for so long. A contestant that has handed much
# memory back to the system slows down whoever follows for a second or two: the cost is
# its own, and in a training that goes on it falls on nobody.
SETTLING_SECONDS = 3
# Short runs are repeated until they have taken so long, and their mean counts.
TIMED_SECONDS = 1


def time_in_turns(contestants, rounds):
    """Run all contestants in each round, and go on until enough rounds were quiet.

    Parameters
    ----------
    contestants : dict of callable
        Each is run several times a round, and the last of the runs are timed.
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
        _mean_seconds(run, SETTLING_SECONDS)
        seconds[name] = _mean_seconds(run, TIMED_SECONDS)
    foreign += _foreign_seconds()
    allowed = MAX_FOREIGN_CORES * (time.perf_counter() - begin) + TICKS
    return {"quiet": foreign <= allowed, "foreign_seconds": foreign, "seconds": seconds}


def _mean_seconds(run, at_least):
    """Run again and again for at least so many seconds, at least once."""
    start = time.perf_counter()
    n_runs = 0
    while n_runs == 0 or time.perf_counter() - start < at_least:
        run()
        n_runs += 1
    return (time.perf_counter() - start) / n_runs


def _foreign_seconds():
    """CPU seconds since boot that were not spent by this process and its children."""
    system = psutil.cpu_times()
    # Stolen time is what the host of a virtual machine gave to others.
    kinds = ("user", "nice", "system", "irq", "softirq", "steal", "interrupt", "dpc")
    own = psutil.Process().cpu_times()
    own = own.user + own.system + own.children_user + own.children_system
    return sum(getattr(system, kind, 0) for kind in kinds) - own

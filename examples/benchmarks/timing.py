"""Time contestants in turns; reject the rounds in which the machine did other work.

Each contestant lives in a process of its own, so that none pays for the memory that
another has taken or handed back.
"""

import multiprocessing
import statistics
import time
from contextlib import ExitStack, contextmanager

import psutil

# CPU time of anyone else during a round, in cores, above which the round is rejected.
MAX_FOREIGN_CORES = 0.1
# The system counts CPU time in ticks of 10 ms, which matters in short rounds.
TICKS = 0.02
# Rounds to try for each round that is needed.
MAX_TRIES = 3
# Each turn begins with untimed runs for so long: caches and clock rates are those of
# this contestant then, and what the system does after the one before is done.
SETTLING_SECONDS = 2
# Short runs are repeated until they have taken so long, and their mean counts.
TIMED_SECONDS = 1
# How the processes begin. A fork is sooner ready, but has one thread of torch only.
START_METHOD = "spawn"


class OwnTime(float):
    """Seconds that a contestant has measured itself; they count for its run."""


def time_in_turns(contestants, rounds):
    """Run all contestants in each round, and go on until enough rounds were quiet.

    Parameters
    ----------
    contestants : dict of callable
        Each makes, in the process of its own, the function that is timed; so it has to
        be pickled: a function of a module, or a `functools.partial` of one. Where the
        function that is timed returns an `OwnTime`, that is its time.
    rounds : int
        Number of quiet rounds needed. Three times as many are tried at most.

    Returns
    -------
    dict
        "medians" has the seconds of each contestant over the quiet rounds (over all of
        them if none was quiet), "rounds" has every round as it was measured.
    """
    with ExitStack() as stack:
        connections = {
            name: stack.enter_context(_started(make))
            for name, make in contestants.items()
        }
        for connection in connections.values():
            connection.recv()  # it is ready
        records = []
        n_quiet = 0
        while n_quiet < rounds and len(records) < MAX_TRIES * rounds:
            records.append(_time_round(connections))
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


@contextmanager
def _started(make):
    """Give the connection to a new process that answers with times."""
    context = multiprocessing.get_context(START_METHOD)
    connection, others_end = context.Pipe()
    process = context.Process(
        target=_answer, args=(others_end, connection), daemon=True
    )
    process.start()
    others_end.close()  # so that the end of the process ends the connection
    try:
        connection.send(make)
        yield connection
    finally:
        connection.close()
        process.join()


def _answer(connection, others_end):
    """Run for at least as many seconds as it is told, answer with the mean time."""
    others_end.close()
    run = connection.recv()()
    connection.send("ready")
    while True:
        try:
            at_least = connection.recv()
        except EOFError:
            return
        seconds = []
        while not seconds or sum(seconds) < at_least:
            start = time.perf_counter()
            result = run()
            own = isinstance(result, OwnTime)
            seconds.append(result if own else time.perf_counter() - start)
        connection.send(statistics.fmean(seconds))


def _time_round(connections):
    seconds = {}
    begin, foreign = time.perf_counter(), -foreign_seconds()
    for name, connection in connections.items():
        for at_least in (SETTLING_SECONDS, TIMED_SECONDS):
            connection.send(at_least)
            seconds[name] = connection.recv()
    foreign += foreign_seconds()
    allowed = MAX_FOREIGN_CORES * (time.perf_counter() - begin) + TICKS
    return {"quiet": foreign <= allowed, "foreign_seconds": foreign, "seconds": seconds}


def foreign_seconds():
    """CPU seconds since boot that were not spent by this process and its children."""
    system = psutil.cpu_times()
    # Stolen time is what the host of a virtual machine gave to others.
    kinds = ("user", "nice", "system", "irq", "softirq", "steal", "interrupt", "dpc")
    this = psutil.Process()
    own = [process.cpu_times() for process in (this, *this.children())]
    return sum(getattr(system, kind, 0) for kind in kinds) - sum(
        times.user + times.system for times in own
    )

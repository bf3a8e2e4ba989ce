"""Outcomes are counted in processes of their own; a crash or a hang is one of them."""

import multiprocessing
from collections import Counter

SECONDS = 120  # after which a process counts as hanging
PER_PROCESS = 500
START_METHOD = "spawn"  # of the processes
# Of an outcome that must not occur.
WRONG = "WRONG"


def in_processes(function, count, per_process=PER_PROCESS):
    """Call a function with so many seeds, some in each process."""
    outcomes = Counter()
    for start in range(0, count, per_process):
        seeds = range(start, min(start + per_process, count))
        outcomes += in_process(function, seeds)
    return outcomes


def in_process(function, argument, seconds=SECONDS):
    """Call a function in a process of its own."""
    context = multiprocessing.get_context(START_METHOD)
    connection, others_end = context.Pipe()
    process = context.Process(target=_answer, args=(function, argument, others_end))
    process.start()
    others_end.close()
    try:
        if not connection.poll(seconds):
            return Counter({f"{WRONG}: hangs": 1})
        return connection.recv()
    except EOFError:
        process.join()
        return Counter({f"{WRONG}: the process died with {process.exitcode}": 1})
    finally:
        process.kill()
        process.join()


def _answer(function, argument, connection):
    connection.send(function(argument))

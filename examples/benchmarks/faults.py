"""What comes of bad matrices and files, kills, interrupts and threads, counted.

    python examples/benchmarks/faults.py matrices --count 10000
    python examples/benchmarks/faults.py files --count 2000
    python examples/benchmarks/faults.py kills --count 50 --damage
    python examples/benchmarks/faults.py interrupts --count 300
    python examples/benchmarks/faults.py threads --seconds 60

Everything runs in processes of their own, so that a crash is counted, not suffered. An
outcome with a word in capitals must not occur, and makes the exit status 1.
"""

import argparse
import re
import sys

import faults_of_files
import faults_of_fits
import faults_of_matrices
import faults_of_threads

STUDIES = {
    "matrices": faults_of_matrices.study_matrices,
    "files": faults_of_files.study_files,
    "kills": faults_of_fits.study_kills,
    "interrupts": faults_of_fits.study_interrupts,
    "threads": faults_of_threads.study_threads,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60, help="of the threads")
    parser.add_argument(
        "--data", help="a MovieLens zip, for kills and interrupts; else data are drawn"
    )
    parser.add_argument(
        "--damage",
        action="store_true",
        help="empty both checkpoints after some of the kills",
    )
    args = parser.parse_args()
    outcomes = STUDIES[args.study](args)
    width = max(map(len, outcomes))
    for outcome, count in sorted(outcomes.items()):
        print(f"{outcome:{width}}  {count}")
    sys.exit(any(re.search(r"\b[A-Z]{2,}\b", outcome) for outcome in outcomes))


if __name__ == "__main__":
    main()

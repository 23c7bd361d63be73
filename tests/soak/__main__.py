"""EDGE: `make soak`: for as long as one likes."""

import argparse
import random
import sys

from podsla.output import note
from tests.soak.events import events, left_out
from tests.soak.report import lines
from tests.soak.soak import soak
from tests.soak.stand import stand


def main() -> None:
    """Run, print, and exit with 1 where something is wrong that must never be."""
    parser = argparse.ArgumentParser(prog="make soak")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    parser.add_argument("--pause", type=float, default=60.0, help="for how many seconds the leader stands still")
    parser.add_argument("--name", default="podsla-soak")
    asked = parser.parse_args()
    note(f"soak of {asked.minutes:g} minutes, seed {asked.seed}")
    for each in left_out():
        note(each)
    with stand(asked.name, note) as made:
        told = soak(made, asked.minutes * 60, asked.seed, events(asked.pause), note)
    print("\n".join([*lines(told), *left_out()]))
    sys.exit(1 if told.failed(planned=True) or told.unmutated or told.unpublished or told.grew or told.wrong else 0)


if __name__ == "__main__":
    main()

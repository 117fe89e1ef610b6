"""How often do two processes win one claim that think that they are one: the same host name, the same process id?

Two containers are like that. Each call that makes, links or removes a file takes a millisecond longer, so that the
two meet amid their steps.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

RACER = """
import os, socket, sys, time
from pathlib import Path
os.getpid = lambda: 7
socket.gethostname = lambda: "container"
def slowly(call):
    def wrapped(*args, **kwargs):
        time.sleep(0.001)
        return call(*args, **kwargs)
    return wrapped
os.open, os.link, os.unlink = slowly(os.open), slowly(os.link), slowly(os.unlink)
from hpc_bench.files import create_exclusive
folder, me = Path(sys.argv[1]), sys.argv[2]
(folder / f"ready.{me}").touch()
while len(list(folder.glob("ready.*"))) < 2:
    time.sleep(0.001)
for number in range(int(sys.argv[3])):
    try:
        print(number if create_exclusive(folder / f"claim{number}", me) else "lost")
    except OSError as error:
        print(f"error: {error}")
"""


def main() -> None:
    """Prints how many claims were won once, twice and never, and how many calls failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--races", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="1,000 races")
    arguments = parser.parse_args()
    races = 1_000 if arguments.quick else arguments.races
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", RACER, folder]
        racers = [subprocess.Popen([*command, me, str(races)], stdout=subprocess.PIPE, text=True) for me in "ab"]
        said = [line for racer in racers for line in racer.communicate()[0].splitlines()]
        left = len(list(Path(folder).glob(".tmp-*")))
    winners = Counter(line for line in said if line.isdigit())
    twice = sum(count > 1 for count in winners.values())
    errors = sum(line.startswith("error") for line in said)
    print(
        f"{races} races: {len(winners) - twice} won once, {twice} won twice, {races - len(winners)} won by nobody; "
        f"{errors} errors, {left} temporary files left"
    )


if __name__ == "__main__":
    main()

"""Runs the scenarios: `main.py [WORD...]`, those whose name contains one of the words, or all."""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rig import dns, pki, space
from rig.scenario import Runner
from scenarios import ejabberd, matrix, prosody, prosody_file, scale, service, start, stock
from scenarios.names import HOSTS, SERVERS

PARTS = (prosody, prosody_file, start, matrix, scale, ejabberd, stock, service)


async def main(wanted: list[str]) -> int:
    """Returns the exit status."""
    pki.make_authority()
    dns.start(SERVERS, HOSTS)
    runner = Runner(wanted)
    for part in PARTS:
        await part.run(runner)
    return runner.report()


if __name__ == "__main__":
    space.enter()
    try:
        status = asyncio.run(main(sys.argv[1:]))
    finally:
        space.end_all()
    sys.exit(status)

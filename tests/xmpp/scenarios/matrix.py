"""The negotiation matrix on Prosody: every triple, every method, both directions.

The table is the contract's (`rig.partners.MATRIX`). Inbound, the scripted remote tries each method, also where it is
not offered. Outbound, it offers just one way, and then everything; it notes what the server tried.
"""

import asyncio
from collections.abc import Iterator

from rig import pki
from rig.clients import User, leave
from rig.partners import DB_TCP, DB_TLS, MATRIX, SASL, Contents, Partner
from rig.prosody import Prosody
from rig.remote import Offer, Receiver, Seen, dial
from rig.scenario import Runner, Suite
from rig.space import until
from scenarios.names import ONE, ONE_IP, REMOTE, REMOTE_IP

suite = Suite("prosody matrix")
METHODS = (SASL, DB_TLS, DB_TCP)
OFFERS = {
    SASL: Offer(dialback=False, clear=False),
    DB_TLS: Offer(external=False, clear=False),
    DB_TCP: Offer(tls=False, external=False),
}


class Stage:
    """What both directions share."""

    server: Prosody
    a: User
    remote: Receiver


stage = Stage()


async def run(runner: Runner) -> None:
    """Opens the stage, plays, clears it away."""
    wanted = runner.wants(suite)
    if not wanted:
        return
    stage.server = Prosody(ONE, ONE_IP, enforced=True)
    stage.server.authority().file.write_base(Contents.of([]))
    stage.remote = await Receiver(REMOTE_IP, pki.issue(REMOTE)).start()
    stage.server.start()
    try:
        stage.a = await User(f"a@{ONE}", ONE_IP).come()
        for scenario in wanted:
            await runner.run(scenario)
        await leave(stage.a)
    finally:
        stage.remote.stop()
        stage.server.stop()


def cells(prefix: str) -> Iterator[tuple[Partner, str]]:
    """A partner of its own for every triple and method."""
    for row, (tls, sasl, dialback) in enumerate(MATRIX):
        for column, method in enumerate((*METHODS, "")):
            yield Partner(f"{prefix}{row}-{column}.{REMOTE}", tls=tls, sasl=sasl, dialback=dialback), method


def triple(partner: Partner) -> str:
    """A triple as text."""
    return f"tls {partner.tls}, sasl {partner.sasl}, dialback {partner.dialback}"


async def _inbound(partner: Partner, method: str, wrong: list[str]) -> None:
    allowed = method in partner.methods
    for wants_offer in (True, False):
        attempt = await dial(ONE_IP, partner.domain, ONE, method, pki.issue(REMOTE), wants_offer=wants_offer)
        if attempt.authenticated is not allowed:
            wrong.append(f"{triple(partner)}: {method} inbound is {attempt.authenticated}: {attempt.refused}")
        if attempt.wire:
            attempt.wire.close()


async def every_cell_inbound_is_as_the_contract_says() -> str:
    authority = stage.server.authority()
    trials = [(partner, method) for partner, method in cells("in") if method]
    await authority.rewrite(Contents.of([partner for partner, _ in trials]))
    wrong: list[str] = []
    for partner, method in trials:
        await _inbound(partner, method, wrong)
    assert not wrong, "\n".join(wrong)
    return f"{len(trials)} cells, each offered and forced"


async def _outbound(partner: Partner, method: str, wrong: list[str]) -> None:
    seen = stage.remote.seen[partner.domain]
    stage.remote.offers[partner.domain] = OFFERS.get(method, Offer())
    body = stage.a.say(f"u@{partner.domain}")
    offered = f"{triple(partner)}: offered {method or 'all'}"
    await until(lambda: body in seen.bodies or body in stage.a.refused, f"{offered}: an end", 10)
    delivered = body in seen.bodies
    expected = method or next(m for m in METHODS if m in partner.methods)
    if delivered is not (expected in partner.methods):
        wrong.append(f"{offered}, delivered is {delivered}")
    if delivered and seen.established != [expected]:
        wrong.append(f"{offered}, established by {seen.established}")
    _nothing_forbidden(partner, seen, wrong)


def _nothing_forbidden(partner: Partner, seen: Seen, wrong: list[str]) -> None:
    forbidden = set(seen.tried) - {*partner.methods, "STARTTLS"}
    if forbidden:
        wrong.append(f"{triple(partner)}: the server tried {sorted(forbidden)}")


async def every_cell_outbound_is_as_the_contract_says() -> str:
    authority = stage.server.authority()
    trials = list(cells("out"))
    await authority.rewrite(Contents.of([partner for partner, _ in trials]))
    wrong: list[str] = []
    for partner, method in trials:
        await _outbound(partner, method, wrong)
    assert not wrong, "\n".join(wrong)
    return f"{len(trials)} cells, one way offered and all"


async def thirteen_triples_are_valid() -> None:
    await asyncio.sleep(0)
    assert len(MATRIX) == 13


suite.scenario(thirteen_triples_are_valid)
suite.scenario(every_cell_inbound_is_as_the_contract_says, 240)
suite.scenario(every_cell_outbound_is_as_the_contract_says, 240)

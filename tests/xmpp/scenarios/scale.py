"""Times: how soon a removal is in force, what is delivered after it, what 50,000 partners cost."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from rig import pki
from rig.authority import Answer, Authority, Direct, allow, remove
from rig.clients import User, delivered, leave
from rig.partners import SASL, Contents, Partner
from rig.prosody import Prosody
from rig.remote import dial
from rig.scenario import Runner, Suite, quantiles
from rig.wire import Wire
from scenarios.names import ONE, ONE_IP, REMOTE, TWO, TWO_IP

suite = Suite("prosody times")
MANY = 50_000
MOST_STALL_MS = 20.0
REMOVALS = 50
MEDIAN_MS, P99_MS = 60.0, 250.0


class Stage:
    """What the scenarios share."""

    one: Prosody
    authority: Direct
    a: User
    b: User


stage = Stage()


async def run(runner: Runner) -> None:
    """Opens the stage, plays, clears it away."""
    wanted = runner.wants(suite)
    if not wanted:
        return
    stage.one = Prosody(ONE, ONE_IP, enforced=True)
    stage.authority = stage.one.authority()
    stage.authority.file.write_base(Contents.of([Partner(TWO)]))
    two = Prosody(TWO, TWO_IP)
    try:
        stage.one.start()
        two.start()
        stage.a = await User(f"a@{ONE}", ONE_IP).come()
        stage.b = await User(f"b@{TWO}", TWO_IP).come()
        for scenario in wanted:
            await runner.run(scenario)
        await leave(stage.a, stage.b)
    finally:
        stage.one.stop()
        two.stop()


async def time_removals(authority: Authority, ip: str, to: str) -> str:
    """Removes a partner with an open stream again and again; also used for ejabberd."""
    partner, bystander = Partner(f"leaving.{REMOTE}"), Partner(f"staying.{REMOTE}")
    await authority.put(Contents.of([partner, bystander]))
    other = await dial(ip, bystander.domain, to, SASL, pki.issue(REMOTE))
    assert other.wire, other.refused
    watching = asyncio.create_task(other.wire.until_closed(600))
    closed: list[float] = []
    acknowledged: list[float] = []
    for _ in range(REMOVALS):
        await allow(authority, partner)
        attempt = await dial(ip, partner.domain, to, SASL, pki.issue(REMOTE))
        assert attempt.wire, attempt.refused
        began = time.monotonic()
        ended = asyncio.create_task(_time_of_end(attempt.wire))
        answer = await remove(authority, partner.domain)
        closed.append(await ended - began)
        acknowledged.append(answer.seconds)
    assert not watching.done(), "another partner's stream was touched"
    watching.cancel()
    other.wire.close()
    ordered = sorted(closed)
    assert ordered[len(ordered) // 2] * 1000 <= MEDIAN_MS, quantiles(closed)
    assert ordered[round(0.99 * (len(ordered) - 1))] * 1000 <= P99_MS, quantiles(closed)
    return f"write to closed: {quantiles(closed)}; write to answer: {quantiles(acknowledged)}"


async def _time_of_end(wire: Wire) -> float:
    await wire.until_closed(10)
    return time.monotonic()


async def a_removal_is_in_force_at_once() -> str:
    return await time_removals(stage.authority, ONE_IP, ONE)


async def nothing_sent_after_the_acknowledgement_is_delivered() -> str:
    return await traffic_stops(stage.authority, stage.a, stage.b, TWO)


async def traffic_stops(authority: Authority, a: User, b: User, partner: str, rate: int = 150) -> str:
    """Both users talk `rate` times a second; in the middle the partner is removed."""
    lost_before = total_before = total_after = 0
    for _ in range(3):
        await authority.put(Contents.of([Partner(partner)]))
        await delivered(a, b)
        await delivered(b, a)
        sent: dict[str, tuple[float, User]] = {}
        talking = asyncio.gather(_talk(a, b, rate, 2.0, sent), _talk(b, a, rate, 2.0, sent))
        await asyncio.sleep(1.0)
        await remove(authority, partner)
        acknowledged = time.monotonic()
        await talking
        await asyncio.sleep(0.5)
        after = [body for body, (at, receiver) in sent.items() if at > acknowledged and body in receiver.arrived]
        assert not after, f"{len(after)} messages sent after the acknowledgement were delivered"
        before = [(body, receiver) for body, (at, receiver) in sent.items() if at <= acknowledged]
        senders = {a: b, b: a}
        lost_before += sum(1 for body, to in before if body not in to.arrived and body not in senders[to].refused)
        total_before += len(before)
        total_after += len(sent) - len(before)
        assert len(sent) > rate * 2 * 2.0 * 0.7, f"only {len(sent)} messages were sent"
    return f"{total_before} before, {lost_before} of them neither delivered nor refused; {total_after} after, 0 delivered"


async def _talk(sender: User, receiver: User, rate: int, seconds: float, sent: dict[str, tuple[float, User]]) -> None:
    began = time.monotonic()
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        at = time.monotonic()
        sent[sender.say(receiver.boundjid.bare)] = (at, receiver)


async def one_change_among_fifty_thousand_does_not_stall() -> str:
    filler = [Partner(f"p{n}.example", (f"mail.p{n}.example", f"chat.p{n}.example")) for n in range(MANY - 1)]
    many = Contents.of([Partner(TWO), *filler])
    await stage.authority.put(Contents.of([Partner(TWO)]))
    await delivered(stage.a, stage.b)
    pings = _Pings(stage.a)
    base = await pings.during(lambda: stage.authority.rewrite(many))
    assert base.acknowledged and base.partners == MANY, base.content
    base_pings = pings.take()
    await delivered(stage.a, stage.b)
    stalls: list[float] = []
    answers: list[float] = []
    for number in range(20):
        changed = replace(filler[number], suspended=True)
        contents = stage.authority.contents
        contents = replace(contents, partners={**contents.partners, changed.domain: changed})
        stage.authority.file.append(contents)
        answer = await pings.during(lambda: stage.authority.ring("apply"))
        assert answer.acknowledged and answer.digest == stage.authority.file.digest, answer.content
        stalls.append(answer.stall_ms / 1000)
        answers.append(answer.seconds)
    delta_pings = pings.take()
    compacted = await stage.authority.rewrite(stage.authority.contents)
    assert compacted.acknowledged and compacted.seconds < base.seconds
    # Processor time: the pings tell what a busy machine makes of it.
    assert max(stalls) * 1000 < MOST_STALL_MS, quantiles(stalls)
    assert base.stall_ms < MOST_STALL_MS, f"a new base stalls for {base.stall_ms:.1f} ms"
    await stage.authority.put(Contents.of([Partner(TWO)]))
    return (
        f"delta: stall {quantiles(stalls)}, answer {quantiles(answers)}, pings {quantiles(delta_pings)}; "
        f"new base in {base.seconds:.1f} s: longest stall {base.stall_ms:.1f} ms, pings {quantiles(base_pings)}; "
        f"same base again: stall {compacted.stall_ms:.1f} ms"
    )


class _Pings:
    """Asks the server all the time and notes how long it takes to answer: what its users feel."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.times: list[float] = []

    def take(self) -> list[float]:
        """The times since the last take."""
        times, self.times = self.times, []
        return times

    async def during(self, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Pings while the work goes on."""
        pinging = asyncio.create_task(self._ping())
        try:
            return await work()
        finally:
            pinging.cancel()
            await asyncio.gather(pinging, return_exceptions=True)

    async def _ping(self) -> None:
        while True:
            began = time.monotonic()
            await self.user.ping()
            self.times.append(time.monotonic() - began)
            await asyncio.sleep(0.005)


for function in (
    a_removal_is_in_force_at_once,
    nothing_sent_after_the_acknowledgement_is_delivered,
    one_change_among_fifty_thousand_does_not_stall,
):
    suite.scenario(function, 180)

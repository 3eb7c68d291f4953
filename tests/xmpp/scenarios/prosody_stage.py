"""The servers and people with whom Prosody's scenarios play, and what they do to each other."""

from collections.abc import Awaitable, Callable

from rig import pki
from rig.authority import Authority, Direct
from rig.clients import User, delivered, leave, refused
from rig.partners import SASL, Contents, Partner
from rig.prosody import Prosody
from rig.remote import Attempt, Receiver, dial
from rig.space import until
from rig.wire import Wire
from scenarios.names import ONE, ONE_IP, REMOTE, REMOTE_IP, THREE, THREE_IP, TWO, TWO_IP


class Stage:
    """What all scenarios on it share. `authority` is all that most of them need; `direct` is for those
    that are about the file and the bell themselves."""

    one: Prosody
    authority: Authority
    direct: Direct
    a: User
    b: User
    c: User
    remote: Receiver


stage = Stage()


async def play(performance: Callable[[], Awaitable[None]]) -> None:
    """Opens the stage, plays, clears it away."""
    stage.one = Prosody(ONE, ONE_IP, enforced=True)
    stage.direct = stage.one.authority()
    stage.authority = stage.direct
    stage.direct.file.write_base(Contents.of([Partner(TWO)]))
    two, three = Prosody(TWO, TWO_IP), Prosody(THREE, THREE_IP)
    stage.remote = await Receiver(REMOTE_IP, pki.issue(REMOTE)).start()
    try:
        for server in (stage.one, two, three):
            server.start()
        stage.a = await User(f"a@{ONE}", ONE_IP).come()
        stage.b = await User(f"b@{TWO}", TWO_IP).come()
        stage.c = await User(f"b@{THREE}", THREE_IP).come()
        await performance()
        await leave(stage.a, stage.b, stage.c)
    finally:
        stage.remote.stop()
        for server in (stage.one, two, three):
            server.stop()


def scripted(name: str, **terms: object) -> Partner:
    """A partner below the scripted remote's domain."""
    return Partner(f"{name}.{REMOTE}", **terms)  # type: ignore[arg-type]


async def stream_from(partner: Partner, method: str = SASL) -> Wire:
    """An established stream from a scripted partner to `one`."""
    attempt = await attempt_from(partner, method)
    assert attempt.authenticated and attempt.wire is not None, attempt.refused
    return attempt.wire


async def attempt_from(partner: Partner, method: str = SASL) -> Attempt:
    """An attempt at one."""
    return await dial(ONE_IP, partner.domain, ONE, method, pki.issue(REMOTE))


def message_from(partner: Partner, body: str, to: str = f"a@{ONE}") -> str:
    """A message of a scripted partner's user."""
    return f"<message from='u@{partner.domain}' to='{to}' type='chat' id='{body}'><body>{body}</body></message>"


async def heard_by_a(wire: Wire, partner: Partner, body: str) -> None:
    """Asserts that a message over this very stream arrives."""
    wire.send(message_from(partner, body))
    await until(lambda: body in stage.a.arrived, f"{body} arrives over the established stream")


async def both_ways() -> None:
    """Messages between `one` and `two` flow."""
    await delivered(stage.a, stage.b)
    await delivered(stage.b, stage.a)


async def neither_way() -> None:
    """Messages between `one` and `two` come back as errors."""
    assert (await refused(stage.a, f"b@{TWO}")).condition == "policy-violation"
    await refused(stage.b, f"a@{ONE}")

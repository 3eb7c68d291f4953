"""The service, its agent and a real server together: from a commit to a closed stream."""

import asyncio
import time
from dataclasses import replace

from rig import pki
from rig.authority import allow, remove
from rig.clients import User, delivered, leave, refused
from rig.ejabberd import Ejabberd
from rig.partners import SASL, Contents, Partner, Settings
from rig.prosody import Prosody
from rig.remote import dial
from rig.scenario import Runner, Suite
from rig.service import PARTNERD, Agent, Service, ThroughService
from scenarios.names import FOUR, FOUR_IP, ONE, ONE_IP, REMOTE, THREE, THREE_IP, TWO, TWO_IP
from scenarios.scale import time_removals, traffic_stops


class Stage:
    """A server that obeys, a partner, a bystander, and who decides."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.service = Service()
        self.server: Prosody | Ejabberd
        if kind == "prosody":
            self.domain, self.ip = ONE, ONE_IP
            self.server = Prosody(ONE, ONE_IP, enforced=True)
            door = ["--socket", str(self.server.base / "data/prosody.sock")]
        else:
            self.domain, self.ip = FOUR, FOUR_IP
            self.server = Ejabberd(FOUR, FOUR_IP)
            door = ["--api", f"http://{FOUR_IP}:5280"]
        # Nothing is there yet, so everybody is refused until the agent has heard from the service.
        self.two, self.three = Prosody(TWO, TWO_IP), Prosody(THREE, THREE_IP)
        self.service.start()
        self.agent = Agent(self.service, f"{kind}-1", kind, self.server.data, door)
        self.authority = ThroughService(self.service, self.agent.replica)
        self.a: User
        self.b: User
        self.c: User

    async def open(self) -> None:
        """Starts everything."""
        for server in (self.server, self.two, self.three):
            server.start()
        self.agent.start()
        self.a = await User(f"a@{self.domain}", self.ip).come()
        self.b = await User(f"b@{TWO}", TWO_IP).come()
        self.c = await User(f"b@{THREE}", THREE_IP).come()
        # Two settings that differ from the defaults, so that they are known to have come through.
        await self.authority.put(Contents.of([Partner(TWO), Partner(THREE)], Settings(keep_alive_interval=120)))

    async def close(self) -> None:
        """Ends everything."""
        await leave(self.a, self.b, self.c)
        self.clear()

    def clear(self) -> None:
        """Ends the processes."""
        self.agent.stop()
        self.service.stop()
        for server in (self.server, self.two, self.three):
            server.stop()

    async def with_two(self) -> None:
        """Messages with the partner flow both ways."""
        await delivered(self.a, self.b)
        await delivered(self.b, self.a)

    async def with_three(self) -> None:
        """Messages with the bystander flow both ways."""
        await delivered(self.a, self.c)
        await delivered(self.c, self.a)

    async def without_two(self) -> None:
        """Messages with the partner come back as errors."""
        await refused(self.a, f"b@{TWO}")
        await refused(self.b, f"a@{self.domain}")


def scenarios_of(kind: str) -> Suite:
    """What must hold on one kind of server."""
    suite = Suite(f"service and {kind}")

    def stage() -> Stage:
        return stages[kind]

    async def a_removal_closes_the_stream_and_a_second_partner_is_untouched() -> str:
        here = stage()
        await here.with_two()
        await here.with_three()
        bystander = await dial(here.ip, f"staying.{REMOTE}", here.domain, SASL, pki.issue(REMOTE))
        assert bystander.wire is None, "the scripted remote is not listed yet"
        await allow(here.authority, Partner(f"staying.{REMOTE}"))
        bystander = await dial(here.ip, f"staying.{REMOTE}", here.domain, SASL, pki.issue(REMOTE))
        assert bystander.wire is not None, bystander.refused
        watching = asyncio.create_task(bystander.wire.until_closed(60))
        answer = await remove(here.authority, TWO)
        assert answer.closed >= 1, answer.content
        await here.without_two()
        await here.with_three()
        assert not watching.done(), "the bystander's stream was closed"
        watching.cancel()
        bystander.wire.close()
        await allow(here.authority, Partner(TWO))
        await here.with_two()
        await remove(here.authority, f"staying.{REMOTE}")
        return f"{answer.closed} sessions closed, as the service shows"

    async def a_suspension_closes_the_stream_and_can_be_lifted() -> None:
        here = stage()
        await here.with_two()
        await allow(here.authority, Partner(TWO, suspended=True))
        await here.without_two()
        await here.with_three()
        await allow(here.authority, Partner(TWO))
        await here.with_two()

    async def an_expiry_closes_the_stream_at_its_time() -> None:
        here = stage()
        await here.with_two()
        expiry = int(time.time()) + 4
        await allow(here.authority, Partner(TWO, expire_time=expiry))
        await here.with_two()
        await asyncio.sleep(max(0.0, expiry + 1 - time.time()))
        await here.without_two()
        await here.with_three()
        await allow(here.authority, Partner(TWO))
        await here.with_two()

    async def the_death_of_the_service_changes_nothing_and_it_is_followed_again() -> None:
        here = stage()
        await here.with_two()
        here.service.kill()
        await here.with_two()
        await here.with_three()
        here.service.start()
        await remove(here.authority, TWO)
        await here.without_two()
        await allow(here.authority, Partner(TWO))
        await here.with_two()

    async def the_restart_of_the_agent_changes_nothing_and_it_catches_up() -> None:
        here = stage()
        await here.with_two()
        here.agent.kill()
        await here.with_two()
        # While nobody listens: a commit that is in force only once the agent is back.
        removed = replace(here.authority.contents, partners={THREE: Partner(THREE)})
        await here.authority.commit(removed)
        await here.with_two()
        here.agent.start()
        await here.authority.put(removed)
        await here.without_two()
        await here.with_three()
        await allow(here.authority, Partner(TWO))
        await here.with_two()

    async def the_restart_of_the_server_changes_nothing() -> None:
        here = stage()
        await remove(here.authority, TWO)
        await leave(here.a)
        here.server.stop()
        here.server.start()
        here.a = await User(f"a@{here.domain}", here.ip).come()
        await here.without_two()
        await here.with_three()
        await allow(here.authority, Partner(TWO))
        await here.with_two()

    async def what_is_not_enforced_is_shown() -> str:
        here = stage()
        proxied = Partner(f"proxied.{REMOTE}", proxy_fqdn="proxy.example.com", keep_alive_enabled=False)
        answer = await allow(here.authority, proxied)
        missing = set(answer.unenforced)
        if here.kind == "prosody":
            assert "proxy_fqdn" not in missing, missing
        else:
            assert "proxy_fqdn" in missing, missing
        await remove(here.authority, proxied.domain)
        return ", ".join(sorted(missing))

    async def a_committed_removal_is_in_force_at_once() -> str:
        here = stage()
        return await time_removals(here.authority, here.ip, here.domain)

    async def nothing_sent_after_the_acknowledgement_is_delivered() -> str:
        here = stage()
        return await traffic_stops(here.authority, here.a, here.b, TWO)

    for function in (
        a_removal_closes_the_stream_and_a_second_partner_is_untouched,
        a_suspension_closes_the_stream_and_can_be_lifted,
        an_expiry_closes_the_stream_at_its_time,
        the_death_of_the_service_changes_nothing_and_it_is_followed_again,
        the_restart_of_the_agent_changes_nothing_and_it_catches_up,
        the_restart_of_the_server_changes_nothing,
        what_is_not_enforced_is_shown,
        a_committed_removal_is_in_force_at_once,
        nothing_sent_after_the_acknowledgement_is_delivered,
    ):
        suite.scenario(function, 120)
    return suite


stages: dict[str, Stage] = {}


async def run(runner: Runner) -> None:
    """Opens a stage for each kind of server, plays, clears it away."""
    for kind in ("prosody", "ejabberd"):
        wanted = runner.wants(scenarios_of(kind))
        if not wanted:
            continue
        if not PARTNERD.exists():
            raise FileNotFoundError(f"{PARTNERD}: build it first (cargo build), or name it with PARTNERD")
        stages[kind] = Stage(kind)
        try:
            await stages[kind].open()
            for scenario in wanted:
                await runner.run(scenario)
            await stages[kind].close()
        finally:
            stages[kind].clear()

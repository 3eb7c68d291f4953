"""Prosody obeys: what each property does to streams of real and of scripted servers.

Everything here goes through an `Authority`, whoever that is.
"""

import asyncio
import time
from dataclasses import replace

from rig import pki
from rig.authority import allow, remove, settle
from rig.clients import delivered, refused
from rig.partners import DB_TCP, DB_TLS, OPTIONAL, SASL, Contents, Partner, Settings
from rig.remote import Offer, Receiver, claim, dial
from rig.scenario import Runner, Suite
from rig.space import until
from rig.wire import Closed, Wire
from scenarios.names import ONE, ONE_IP, PROXY, PROXY_IP, REMOTE, THREE, TWO
from scenarios.prosody_stage import (
    attempt_from,
    both_ways,
    heard_by_a,
    message_from,
    neither_way,
    play,
    scripted,
    stage,
    stream_from,
)

suite = Suite("prosody")


async def run(runner: Runner) -> None:
    """Plays what was asked for."""
    wanted = runner.wants(suite)

    async def performance() -> None:
        for scenario in wanted:
            await runner.run(scenario)

    if wanted:
        await play(performance)


# -------------------------------------------------------------- who may


async def allowed_messages_flow_both_ways() -> None:
    await stage.authority.put(Contents.of([Partner(TWO)]))
    await both_ways()
    sessions = (await stage.authority.status()).sessions
    assert sessions == [{"domain": TWO, "inbound": 1, "outbound": 1}], sessions


async def an_unlisted_server_is_refused_everywhere() -> None:
    await stage.authority.put(Contents.of([Partner(TWO)]))
    refusal = await refused(stage.a, f"b@{THREE}")
    assert refusal.condition == "policy-violation", refusal
    await refused(stage.c, f"a@{ONE}")
    await refused(stage.c, f"conference.{ONE}")
    await refused(stage.c, f"room@conference.{ONE}")


async def _ends_and_comes_back(ending: Contents, text: str) -> None:
    await stage.authority.put(Contents.of([]))
    bystander = scripted("bystander")
    await stage.authority.put(Contents.of([Partner(TWO), bystander]))
    await both_ways()
    partner = scripted("ending")
    ending = replace(ending, partners={**ending.partners, bystander.domain: bystander})
    await allow(stage.authority, partner)
    wire, other = await stream_from(partner), await stream_from(bystander)
    answer = await stage.authority.put(ending)
    assert answer.closed == 3, f"{answer.closed} streams closed: one scripted, two of two.test"
    end = await wire.until_closed(2)
    assert "policy-violation" in end and text in end, end
    await neither_way()
    assert text in (await attempt_from(partner)).refused
    assert (await stage.authority.status()).sessions == [{"domain": bystander.domain, "inbound": 1, "outbound": 0}]
    await heard_by_a(other, bystander, f"untouched-{text}")
    await allow(stage.authority, Partner(TWO), partner)
    await both_ways()
    (await stream_from(partner)).close()
    await heard_by_a(other, bystander, f"still-untouched-{text}")
    other.close()


async def removal_closes_the_streams_and_allowing_again_opens_them() -> None:
    await _ends_and_comes_back(Contents.of([]), "not allowed")


async def suspension_closes_the_streams_and_lifting_it_opens_them() -> None:
    await _ends_and_comes_back(Contents.of([Partner(TWO, suspended=True), scripted("ending", suspended=True)]), "suspended")


async def expiry_closes_the_streams_without_any_bell() -> str:
    bystander = scripted("bystander")
    partner = scripted("expiring", expire_time=int(time.time()) + 3)
    await stage.authority.put(Contents.of([partner, bystander]))
    wire, other = await stream_from(partner), await stream_from(bystander)
    end = await wire.until_closed(6)
    late = time.time() - (partner.expire_time or 0)
    assert "expired" in end, end
    assert -0.1 <= late < 1.5, f"closed {late:.2f} s after the expiry"
    assert "expired" in (await attempt_from(partner)).refused
    await heard_by_a(other, bystander, "untouched-by-expiry")
    await allow(stage.authority, replace(partner, expire_time=int(time.time()) + 3600))
    (await stream_from(partner)).close()
    other.close()
    return f"closed {late * 1000:.0f} ms after the expiry"


async def additional_domains_and_both_forms_of_a_name_belong_to_the_partner() -> None:
    # The last one is newer than nameprep; it must not get in the way of the others.
    partner = Partner(f"main.{REMOTE}", (f"also.{REMOTE}", f"xn--bcher-kva.{REMOTE}", f"xn--ls8h.{REMOTE}"))
    await stage.authority.put(Contents.of([partner]))
    wire = await stream_from(Partner(f"also.{REMOTE}"))
    for name in (f"xn--bcher-kva.{REMOTE}", f"bücher.{REMOTE}"):
        attempt = await dial(ONE_IP, name, ONE, SASL, pki.issue(REMOTE))
        assert "not allowed" not in attempt.refused, f"{name}: {attempt.refused}"
    assert not (await attempt_from(Partner(f"below.main.{REMOTE}"))).authenticated, "subdomains are not included"
    await stage.authority.put(Contents.of([Partner(f"main.{REMOTE}")]))
    assert "policy-violation" in await wire.until_closed(2)


async def a_further_domain_on_an_open_stream_needs_to_be_allowed() -> None:
    first = scripted("first", tls=OPTIONAL, sasl=OPTIONAL)
    second = scripted("second", tls=OPTIONAL, sasl=OPTIONAL)
    await stage.authority.put(Contents.of([first, second]))
    wire = await stream_from(first)
    await claim(wire, second.domain, ONE)
    await heard_by_a(wire, second, "multiplexed")
    try:
        await claim(wire, f"third.{REMOTE}", ONE)
    except Closed as refusal:
        assert "answered error" in str(refusal), refusal
    else:
        raise AssertionError("an unlisted domain was accepted on an open stream")
    await remove(stage.authority, second.domain)
    await heard_by_a(wire, first, "first-goes-on")
    wire.send(message_from(second, "must-not-arrive"))
    await wire.until_closed(2)
    assert "must-not-arrive" not in stage.a.arrived


async def the_mode_is_obeyed() -> None:
    await stage.authority.put(Contents.of([Partner(TWO), scripted("bad", suspended=True)]))
    await both_ways()
    answer = await settle(stage.authority, Settings(mode="DENY_ALL"))
    assert answer.closed >= 2, answer.content
    await neither_way()
    await settle(stage.authority, Settings(mode="ALLOW_ALL_EXCEPT_SUSPENDED"))
    await delivered(stage.a, stage.c)
    assert "suspended" in (await attempt_from(scripted("bad"))).refused
    assert not (await attempt_from(scripted("anybody"), DB_TLS)).authenticated, "only the default methods"
    await stage.authority.put(Contents.of([Partner(TWO)]))
    await refused(stage.a, f"b@{THREE}")


async def a_reload_of_the_configuration_changes_nothing() -> None:
    partner = scripted("reloaded")
    await stage.authority.put(Contents.of([Partner(TWO), partner]))
    wire = await stream_from(partner)
    stage.one.reload()
    await both_ways()
    await heard_by_a(wire, partner, "over-the-reload")
    await refused(stage.a, f"b@{THREE}")
    wire.close()


# -------------------------------------------------------------- properties


async def the_connection_limit_holds_and_lowering_it_closes_the_youngest() -> None:
    partner, bystander = scripted("limited", connection_limit=3), scripted("bystander")
    await stage.authority.put(Contents.of([partner, bystander]))
    wires = [await stream_from(partner) for _ in range(3)]
    other = await stream_from(bystander)
    assert "too many streams" in (await attempt_from(partner)).refused
    answer = await allow(stage.authority, replace(partner, connection_limit=1))
    assert answer.closed == 2, answer.content
    for wire in wires[1:]:
        assert "resource-constraint" in await wire.until_closed(2)
    await heard_by_a(wires[0], partner, "the-oldest-stays")
    await heard_by_a(other, bystander, "untouched-by-the-limit")
    await allow(stage.authority, replace(partner, connection_limit=None))
    wires.append(await stream_from(partner))
    await settle(stage.authority, Settings(partner_connection_limit=1))
    assert "resource-constraint" in await wires[-1].until_closed(2), "the settings' limit where it has none"
    await settle(stage.authority, Settings(connection_limit=1))
    assert "resource-constraint" in await other.until_closed(2), "the limit for all partners together"
    await heard_by_a(wires[0], partner, "the-oldest-still-stays")
    assert "too many streams" in (await attempt_from(bystander)).refused
    await stage.authority.put(Contents.of([]))


async def keep_alive_is_sent_or_idle_streams_are_closed() -> None:
    settings = Settings(keep_alive_interval=1, stream_inactivity_timeout=2)
    kept, idle = scripted("kept"), scripted("idle", keep_alive_enabled=False)
    await stage.authority.put(Contents.of([kept, idle], settings))
    kept_wire, idle_wire = await stream_from(kept), await stream_from(idle)
    end = await idle_wire.until_closed(5)
    assert "connection-timeout" in end and idle_wire.spaces == 0, f"{end}, {idle_wire.spaces} spaces"
    listening = asyncio.create_task(kept_wire.until_closed(30))
    await until(lambda: kept_wire.spaces >= 2, "two keep-alives", 5)
    assert not listening.done(), "a stream with keep-alive stays open"
    await heard_by_a(kept_wire, kept, "kept-alive")
    listening.cancel()
    kept_wire.close()
    await stage.authority.put(Contents.of([]))


async def a_stream_that_is_not_established_in_time_is_closed() -> None:
    partner = scripted("slow")
    await stage.authority.put(Contents.of([partner], Settings(stream_establishment_timeout=1)))
    wire = Wire(*await asyncio.open_connection(ONE_IP, 5269))
    wire.open(partner.domain, ONE)
    assert "connection-timeout" in await wire.until_closed(4)
    silent = Wire(*await asyncio.open_connection(ONE_IP, 5269))
    await silent.until_closed(4)
    await stage.authority.put(Contents.of([]))


async def a_proxy_is_dialled_instead_and_must_prove_the_partner_not_itself() -> None:
    partner = scripted("proxied")
    elsewhere = await Receiver(PROXY_IP, pki.issue(REMOTE)).start()
    try:
        await stage.authority.put(Contents.of([partner]))
        stage.a.say(f"u@{partner.domain}")
        await until(lambda: bool(stage.remote.seen[partner.domain].bodies), "the message arrives directly")
        answer = await allow(stage.authority, replace(partner, proxy_fqdn=PROXY))
        assert answer.closed == 1, "the stream by the old route is closed"
        stage.a.say(f"u@{partner.domain}")
        await until(lambda: bool(elsewhere.seen[partner.domain].bodies), "the message arrives by the proxy")
        assert stage.remote.seen[partner.domain].connections == 1
        await remove(stage.authority, partner.domain)
        elsewhere.certificate = pki.issue(PROXY)
        impostor = scripted("impostor", proxy_fqdn=PROXY)
        await allow(stage.authority, impostor)
        await refused(stage.a, f"u@{impostor.domain}")
        assert not elsewhere.seen[impostor.domain].established
    finally:
        elsewhere.stop()


async def an_unverified_public_partner_reaches_contacts_only() -> None:
    partner = scripted("public", partner_type="PUBLIC_UNVERIFIED")
    await stage.authority.put(Contents.of([partner]))
    wire = await stream_from(partner)
    stage.a.arrived.clear()
    wire.send(message_from(partner, "from-a-stranger"))
    seen = stage.remote.seen[partner.domain]
    await until(lambda: seen.connections == 1, "the refusal goes back")
    await stage.a.list_contact(f"u@{partner.domain}")
    await heard_by_a(wire, partner, "from-a-contact")
    assert "from-a-stranger" not in stage.a.arrived
    for trusted in ("PUBLIC_VERIFIED", "FEDERATED"):
        await allow(stage.authority, replace(partner, partner_type=trusted))
        stranger = message_from(partner, f"{trusted}-stranger").replace("u@", "v@")
        wire.send(stranger)
        await until(lambda t=trusted: f"{t}-stranger" in stage.a.arrived, f"{trusted} reaches everybody")  # type: ignore[misc]
    await stage.a.list_contact(f"u@{partner.domain}", "remove")
    wire.close()


async def a_certificate_nobody_trusts_is_worth_nothing_without_dialback() -> None:
    strict, lax = scripted("strict", dialback=False), scripted("lax", sasl=OPTIONAL)
    await stage.authority.put(Contents.of([strict, lax]))
    for partner, method, expected in ((strict, SASL, False), (lax, SASL, False), (lax, DB_TLS, True)):
        attempt = await dial(ONE_IP, partner.domain, ONE, method, pki.self_sign(partner.domain))
        assert attempt.authenticated is expected, f"{partner.domain} by {method}: {attempt.refused}"
        if attempt.wire:
            attempt.wire.close()


async def a_changed_method_closes_the_streams_that_no_longer_comply() -> None:
    partner = scripted("changing", tls=OPTIONAL, sasl=OPTIONAL)
    stage.remote.offers[partner.domain] = Offer(tls=False)
    await stage.authority.put(Contents.of([partner]))
    clear, encrypted = await stream_from(partner, DB_TCP), await stream_from(partner, SASL)
    await allow(stage.authority, scripted("changing"))
    assert "policy-violation" in await clear.until_closed(2)
    await heard_by_a(encrypted, partner, "complies-still")
    encrypted.close()


async def what_is_not_enforced_is_said() -> None:
    answer = await stage.authority.put(Contents.of([Partner(TWO)], Settings(message_body_logging_enabled=True)))
    said = {entry["property"] for entry in answer.unenforced}
    settings = {"subscription_refresh_interval", "message_body_logging_enabled"}
    assert said == {f"federation_settings.{name}" for name in settings}, said
    assert answer.warnings == [] and answer.server.startswith("Prosody "), answer.content
    await settle(stage.authority, Settings())


for function in (
    allowed_messages_flow_both_ways,
    an_unlisted_server_is_refused_everywhere,
    removal_closes_the_streams_and_allowing_again_opens_them,
    suspension_closes_the_streams_and_lifting_it_opens_them,
    expiry_closes_the_streams_without_any_bell,
    additional_domains_and_both_forms_of_a_name_belong_to_the_partner,
    a_further_domain_on_an_open_stream_needs_to_be_allowed,
    the_mode_is_obeyed,
    a_reload_of_the_configuration_changes_nothing,
    the_connection_limit_holds_and_lowering_it_closes_the_youngest,
    keep_alive_is_sent_or_idle_streams_are_closed,
    a_stream_that_is_not_established_in_time_is_closed,
    a_proxy_is_dialled_instead_and_must_prove_the_partner_not_itself,
    an_unverified_public_partner_reaches_contacts_only,
    a_certificate_nobody_trusts_is_worth_nothing_without_dialback,
    a_changed_method_closes_the_streams_that_no_longer_comply,
    what_is_not_enforced_is_said,
):
    suite.scenario(function)

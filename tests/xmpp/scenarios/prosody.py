"""Prosody obeys: what each property does to streams of real and of scripted servers."""

import asyncio
import hashlib
import hmac
import time
from dataclasses import replace

from rig import pki
from rig.authority import Direct, allow, remove, settle
from rig.clients import User, delivered, leave, refused
from rig.partners import (
    DB_TCP,
    DB_TLS,
    NOT_SUPPORTED,
    OPTIONAL,
    SASL,
    Contents,
    Partner,
    Settings,
    append_to_file,
    digest_of,
    replace_file,
)
from rig.prosody import Prosody
from rig.remote import Attempt, Offer, Receiver, claim, dial
from rig.scenario import Runner, Suite
from rig.space import until
from rig.wire import Closed, Wire
from scenarios.names import ONE, ONE_IP, PROXY, PROXY_IP, REMOTE, REMOTE_IP, THREE, THREE_IP, TWO, TWO_IP

suite = Suite("prosody")


class Stage:
    """The servers and people that all scenarios of this file share."""

    one: Prosody
    authority: Direct
    a: User
    b: User
    c: User
    remote: Receiver


stage = Stage()


async def run(runner: Runner) -> None:
    """Opens the stage, plays, clears it away."""
    wanted = runner.wants(suite)
    if not wanted:
        return
    stage.one = Prosody(ONE, ONE_IP, enforced=True)
    stage.authority = stage.one.authority()
    stage.authority.file.write_base(Contents.of([Partner(TWO)]))
    two, three = Prosody(TWO, TWO_IP), Prosody(THREE, THREE_IP)
    stage.remote = await Receiver(REMOTE_IP, pki.issue(REMOTE)).start()
    try:
        for server in (stage.one, two, three):
            server.start()
        stage.a = await User(f"a@{ONE}", ONE_IP).come()
        stage.b = await User(f"b@{TWO}", TWO_IP).come()
        stage.c = await User(f"b@{THREE}", THREE_IP).come()
        for scenario in wanted:
            await runner.run(scenario)
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
    partner = Partner(f"main.{REMOTE}", (f"also.{REMOTE}", f"xn--bcher-kva.{REMOTE}"))
    await stage.authority.put(Contents.of([partner]))
    await stage.authority.status()
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


# -------------------------------------------------------------- when things break


async def a_broken_file_keeps_the_last_good_set() -> None:
    await stage.authority.put(Contents.of([Partner(TWO)]))
    await both_ways()
    good = stage.one.data.read_bytes()
    header, settings, *partners = good.splitlines(keepends=True)
    broken = {
        "no JSON": b"{ broken\n",
        "empty": b"",
        "cut short": good[:-20],
        "other content than the digest says": header + settings + partners[0].replace(b'"FEDERATED"', b'"PUBLIC_VERIFIED"'),
        "unknown rule": good.replace(b'"domain"', b'"secret":1,"domain"'),
        "another format": good.replace(b'{"partnerd":1', b'{"partnerd":2'),
    }
    for what, content in broken.items():
        replace_file(stage.one.data, content)
        answer = await stage.authority.ring("apply")
        assert answer.result == "NACK" and answer.error, f"{what}: {answer.content}"
        assert answer.digest == stage.authority.file.digest and answer.closed == 0, what
        await delivered(stage.b, stage.a)
    stage.one.data.unlink()
    answer = await stage.authority.ring("apply")
    assert answer.result == "NACK" and answer.partners == 1, answer.content
    await both_ways()
    await refused(stage.c, f"a@{ONE}")
    assert (await stage.authority.rewrite(stage.authority.contents)).acknowledged


async def a_broken_delta_keeps_the_last_good_set() -> None:
    two = Contents.of([Partner(TWO)])
    await stage.authority.rewrite(two)
    before = stage.one.data.read_bytes()
    delta, _ = stage.authority.file.delta(Contents.of([]))
    for what, content in {
        "for another base": delta.replace(stage.authority.file.digest.encode(), b"0" * 64),
        "with a wrong digest": delta.replace(b'"digest":"', b'"digest":"f', 1),
        "that is not finished": delta[:-3],
        "that removes nobody": delta.replace(TWO.encode(), b"nobody.test"),
    }.items():
        append_to_file(stage.one.data, content)
        answer = await stage.authority.ring("apply")
        assert answer.result == "NACK" and answer.error, f"{what}: {answer.content}"
        assert answer.digest == stage.authority.file.digest and answer.partners == 1, what
        replace_file(stage.one.data, before)
    assert (await stage.authority.ring("apply")).acknowledged, "a good base ends it"
    await both_ways()


async def many_deltas_in_a_row_lead_where_a_base_leads() -> None:
    await stage.authority.rewrite(Contents.of([]))
    for number in range(60):
        await allow(stage.authority, Partner(f"p{number % 40}.example", connection_limit=number + 1))
        if number % 7 == 3:
            await remove(stage.authority, f"p{number % 40}.example")
    moved = [Partner("p1.example", ("shared.example",)), Partner("p2.example")]
    await allow(stage.authority, *moved)
    await allow(stage.authority, Partner("p1.example"), Partner("p2.example", ("shared.example",)))
    answer = await stage.authority.put(replace(stage.authority.contents, settings=Settings(connection_limit=7)))
    assert answer.digest == digest_of(stage.authority.contents.lines())
    assert answer.partners == len(stage.authority.contents.partners)


async def a_restarted_server_obeys_without_agent_and_service() -> None:
    await stage.authority.rewrite(Contents.of([Partner(TWO), Partner(THREE)]))
    await remove(stage.authority, THREE)
    stage.one.kill()
    append_to_file(stage.one.data, b'{"base":"torn by a cra')
    stage.one.start()
    stage.a = await User(f"a@{ONE}", ONE_IP).come()
    answer = await stage.authority.status()
    assert answer.partners == 1 and answer.digest == stage.authority.file.digest, answer.content
    await both_ways()
    await refused(stage.a, f"b@{THREE}")
    assert (await stage.authority.rewrite(stage.authority.contents)).acknowledged


async def a_reload_of_the_configuration_changes_nothing() -> None:
    partner = scripted("reloaded")
    await stage.authority.put(Contents.of([Partner(TWO), partner]))
    wire = await stream_from(partner)
    stage.one.reload()
    await both_ways()
    await heard_by_a(wire, partner, "over-the-reload")
    await refused(stage.a, f"b@{THREE}")
    wire.close()


async def staleness_denies_all_only_where_the_policy_says_so() -> None:
    now = int(time.time())
    partner = scripted("stale")
    keep = Settings(staleness_lease=1, staleness_policy="KEEP")
    await stage.authority.put(Contents.of([partner], keep))
    wire = await stream_from(partner)
    assert not (await stage.authority.ring("status", now - 3600)).stale
    deny = replace(keep, staleness_policy="DENY_ALL", staleness_lease=3)
    await stage.authority.ring("status", now)
    await settle(stage.authority, deny)
    await heard_by_a(wire, partner, "not-stale-yet")
    end = await wire.until_closed(8)
    assert "out of date" in end, end
    assert (await stage.authority.status()).stale
    assert not (await attempt_from(partner)).authenticated
    assert not (await stage.authority.ring("status", int(time.time()))).stale
    (await stream_from(partner)).close()
    await settle(stage.authority, Settings())


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


async def the_dialback_passphrase_makes_the_keys() -> None:
    """XEP-0185: the key is HMAC-SHA256(SHA256(passphrase), receiver ' ' originator ' ' stream id)."""
    for number in (1, 2):
        partner = scripted(f"dialback{number}", tls=NOT_SUPPORTED, sasl=NOT_SUPPORTED)
        passphrase, name = f"a passphrase, number {number}", f"dialback-passphrase.{number}"
        (stage.one.base / name).write_text(passphrase + "\n")
        await stage.authority.put(Contents.of([partner], Settings(dialback_passphrase=name)))
        stage.a.say(f"u@{partner.domain}")
        seen = stage.remote.seen[partner.domain]
        await until(lambda s=seen: bool(s.keys), "a key arrives")  # type: ignore[misc]
        identity, key = seen.keys[0]
        secret = hashlib.sha256(passphrase.encode()).hexdigest()
        text = f"{partner.domain} {ONE} {identity}"
        assert key == hmac.new(secret.encode(), text.encode(), "sha256").hexdigest()
    assert "a passphrase" not in stage.one.log_text()
    answer = await settle(stage.authority, Settings(dialback_passphrase="not-there"))
    assert any(entry["property"].endswith("dialback_passphrase") for entry in answer.unenforced), answer.content
    await stage.authority.put(Contents.of([]))


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
    a_broken_file_keeps_the_last_good_set,
    a_broken_delta_keeps_the_last_good_set,
    many_deltas_in_a_row_lead_where_a_base_leads,
    a_restarted_server_obeys_without_agent_and_service,
    a_reload_of_the_configuration_changes_nothing,
    staleness_denies_all_only_where_the_policy_says_so,
    the_connection_limit_holds_and_lowering_it_closes_the_youngest,
    keep_alive_is_sent_or_idle_streams_are_closed,
    a_stream_that_is_not_established_in_time_is_closed,
    a_proxy_is_dialled_instead_and_must_prove_the_partner_not_itself,
    an_unverified_public_partner_reaches_contacts_only,
    the_dialback_passphrase_makes_the_keys,
    a_certificate_nobody_trusts_is_worth_nothing_without_dialback,
    a_changed_method_closes_the_streams_that_no_longer_comply,
    what_is_not_enforced_is_said,
):
    suite.scenario(function)

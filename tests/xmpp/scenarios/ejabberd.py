"""ejabberd obeys, as far as it can; what it cannot do, it says."""

import asyncio
import time
from dataclasses import replace

from rig import pki
from rig.authority import Direct, allow, remove, settle
from rig.clients import User, delivered, leave, refused
from rig.ejabberd import Ejabberd
from rig.partners import DB_TCP, DB_TLS, MATRIX, NOT_SUPPORTED, OPTIONAL, SASL, Contents, Partner, Settings, replace_file
from rig.prosody import Prosody
from rig.remote import Attempt, Receiver, claim, dial
from rig.scenario import Runner, Suite, quantiles
from rig.space import until
from rig.wire import Closed, Wire
from scenarios.names import FOUR, FOUR_IP, REMOTE, REMOTE_IP, THREE, THREE_IP, TWO, TWO_IP
from scenarios.scale import time_removals, traffic_stops

suite = Suite("ejabberd")


class Stage:
    """What the scenarios share."""

    four: Ejabberd
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
    stage.four = Ejabberd(FOUR, FOUR_IP)
    stage.authority = stage.four.authority()
    stage.authority.file.write_base(Contents.of([Partner(TWO)]))
    two, three = Prosody(TWO, TWO_IP), Prosody(THREE, THREE_IP)
    stage.remote = await Receiver(REMOTE_IP, pki.issue(REMOTE)).start()
    try:
        for server in (two, three, stage.four):
            server.start()
        stage.a = await User(f"a@{FOUR}", FOUR_IP).come()
        stage.b = await User(f"b@{TWO}", TWO_IP).come()
        stage.c = await User(f"b@{THREE}", THREE_IP).come()
        for scenario in wanted:
            await runner.run(scenario)
        await leave(stage.a, stage.b, stage.c)
    finally:
        stage.remote.stop()
        for server in (two, three, stage.four):
            server.stop()


def scripted(name: str, **terms: object) -> Partner:
    """A partner below the scripted remote's domain."""
    return Partner(f"{name}.{REMOTE}", **terms)  # type: ignore[arg-type]


async def attempt_from(partner: Partner, method: str = SASL) -> Attempt:
    """An attempt at a stream from a scripted partner."""
    return await dial(FOUR_IP, partner.domain, FOUR, method, pki.issue(REMOTE))


async def stream_from(partner: Partner, method: str = SASL) -> Wire:
    """An established one."""
    attempt = await attempt_from(partner, method)
    assert attempt.authenticated and attempt.wire is not None, attempt.refused
    return attempt.wire


async def heard_by_a(wire: Wire, partner: Partner, body: str) -> None:
    """Asserts that a message over this very stream arrives."""
    wire.send(f"<message from='u@{partner.domain}' to='a@{FOUR}' type='chat' id='{body}'><body>{body}</body></message>")
    await until(lambda: body in stage.a.arrived, f"{body} arrives over the established stream")


async def both_ways() -> None:
    """Messages between `four` and `two` flow."""
    await delivered(stage.a, stage.b)
    await delivered(stage.b, stage.a)


async def allowed_messages_flow_both_ways() -> None:
    await stage.authority.put(Contents.of([Partner(TWO)]))
    await both_ways()
    assert (await stage.authority.status()).sessions == [{"domain": TWO, "inbound": 1, "outbound": 1}]


async def an_unlisted_server_is_refused() -> None:
    await refused(stage.a, f"b@{THREE}")
    await refused(stage.c, f"a@{FOUR}")
    for method in (SASL, DB_TLS, DB_TCP):
        attempt = await attempt_from(scripted("unlisted"), method)
        assert not attempt.authenticated and attempt.refused, f"{method}: {attempt}"


async def _ends_and_comes_back(ending: Contents, text: str) -> None:
    await stage.authority.put(Contents.of([]))
    bystander, partner = scripted("bystander"), scripted("ending")
    await stage.authority.put(Contents.of([Partner(TWO), bystander, partner]))
    await both_ways()
    wire, other = await stream_from(partner), await stream_from(bystander)
    ending = replace(ending, partners={**ending.partners, bystander.domain: bystander})
    answer = await stage.authority.put(ending)
    assert answer.closed == 3, answer.content
    end = await wire.until_closed(2)
    assert "policy-violation" in end and text in end, end
    await refused(stage.a, f"b@{TWO}")
    await refused(stage.b, f"a@{FOUR}")
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
    partner, bystander = scripted("expiring", expire_time=int(time.time()) + 3), scripted("bystander")
    await stage.authority.put(Contents.of([partner, bystander]))
    wire, other = await stream_from(partner), await stream_from(bystander)
    assert "expired" in await wire.until_closed(6)
    late = time.time() - (partner.expire_time or 0)
    assert -0.1 <= late < 1.5, f"closed {late:.2f} s after the expiry"
    assert "expired" in (await attempt_from(partner)).refused
    await heard_by_a(other, bystander, "untouched-by-expiry")
    other.close()
    return f"closed {late * 1000:.0f} ms after the expiry"


async def additional_domains_and_both_forms_of_a_name_belong_to_the_partner() -> None:
    # The last one is newer than nameprep; it must not get in the way of the others.
    names = (f"also.{REMOTE}", f"xn--bcher-kva.{REMOTE}", f"xn--ls8h.{REMOTE}")
    await stage.authority.put(Contents.of([Partner(f"main.{REMOTE}", names)]))
    wire = await stream_from(Partner(f"also.{REMOTE}"))
    for name in (f"xn--bcher-kva.{REMOTE}", f"bücher.{REMOTE}"):
        attempt = await dial(FOUR_IP, name, FOUR, SASL, pki.issue(REMOTE))
        assert "not allowed" not in attempt.refused, f"{name}: {attempt.refused}"
    assert not (await attempt_from(Partner(f"below.main.{REMOTE}"))).authenticated, "subdomains are not included"
    await stage.authority.put(Contents.of([Partner(f"main.{REMOTE}")]))
    assert "policy-violation" in await wire.until_closed(2)


async def a_further_domain_on_an_open_stream_needs_to_be_allowed() -> None:
    first = scripted("first", tls=OPTIONAL, sasl=OPTIONAL)
    second = scripted("second", tls=OPTIONAL, sasl=OPTIONAL)
    await stage.authority.put(Contents.of([first, second]))
    wire = await stream_from(first)
    await claim(wire, second.domain, FOUR)
    await heard_by_a(wire, second, "multiplexed")
    try:
        await claim(wire, f"third.{REMOTE}", FOUR)
    except Closed as refusal:
        assert "answered error" in str(refusal), refusal
    else:
        raise AssertionError("an unlisted domain was accepted on an open stream")
    await remove(stage.authority, second.domain)
    await heard_by_a(wire, first, "first-goes-on")
    wire.send(f"<message from='u@{second.domain}' to='a@{FOUR}' type='chat'><body>must-not-arrive</body></message>")
    await wire.until_closed(2)
    assert "must-not-arrive" not in stage.a.arrived


async def a_reload_of_the_configuration_changes_nothing() -> None:
    partner = scripted("reloaded")
    await stage.authority.put(Contents.of([Partner(TWO), partner]))
    wire = await stream_from(partner)
    await both_ways()
    await asyncio.to_thread(stage.four.api, "reload_config")
    await heard_by_a(wire, partner, "over-the-reload")
    await both_ways()
    (await stream_from(partner)).close()
    await refused(stage.a, f"b@{THREE}")
    wire.close()


async def fifty_thousand_partners_are_put_in_force() -> str:
    filler = [Partner(f"p{n}.example", (f"mail.p{n}.example", f"chat.p{n}.example")) for n in range(50_000)]
    base = await stage.authority.rewrite(Contents.of([Partner(TWO), *filler]))
    assert base.acknowledged and base.partners == 50_001, base.content
    await both_ways()
    times = []
    for number in range(20):
        contents, changed = stage.authority.contents, replace(filler[number], suspended=True)
        stage.authority.file.append(replace(contents, partners={**contents.partners, changed.domain: changed}))
        answer = await stage.authority.ring("apply")
        assert answer.acknowledged and answer.digest == stage.authority.file.digest, answer.content
        times.append(answer.seconds)
    await stage.authority.put(Contents.of([]))
    return f"a new base in {base.seconds:.1f} s; then bell to answer for one change {quantiles(times)}"


async def the_mode_is_obeyed() -> None:
    await stage.authority.put(Contents.of([Partner(TWO), scripted("bad", suspended=True)]))
    await both_ways()
    assert (await settle(stage.authority, Settings(mode="DENY_ALL"))).closed >= 2
    await refused(stage.a, f"b@{TWO}")
    await settle(stage.authority, Settings(mode="ALLOW_ALL_EXCEPT_SUSPENDED"))
    await delivered(stage.a, stage.c)
    assert "suspended" in (await attempt_from(scripted("bad"))).refused
    await stage.authority.put(Contents.of([Partner(TWO)]))


async def a_broken_file_keeps_the_last_good_set() -> None:
    await stage.authority.rewrite(Contents.of([Partner(TWO)]))
    await both_ways()
    good = stage.four.data.read_bytes()
    delta, _ = stage.authority.file.delta(Contents.of([]))
    for what, content in {
        "no JSON": b"{ broken\n",
        "empty": b"",
        "cut short": good[:-20],
        "an unknown rule": good.replace(b'"domain"', b'"secret":1,"domain"'),
        "a broken delta": good + delta.replace(stage.authority.file.digest.encode(), b"0" * 64),
        "an unfinished delta": good + delta[:-3],
    }.items():
        replace_file(stage.four.data, content)
        answer = await stage.authority.ring("apply")
        assert answer.result == "NACK" and answer.error, f"{what}: {answer.content}"
        assert answer.digest == stage.authority.file.digest and answer.closed == 0, what
    await both_ways()
    stage.four.data.unlink()
    assert (await stage.authority.ring("apply")).result == "NACK"
    await both_ways()
    assert (await stage.authority.rewrite(stage.authority.contents)).acknowledged


async def many_deltas_in_a_row_lead_where_a_base_leads() -> None:
    await stage.authority.rewrite(Contents.of([]))
    for number in range(30):
        await allow(stage.authority, Partner(f"p{number % 20}.example", connection_limit=number + 1))
        if number % 7 == 3:
            await remove(stage.authority, f"p{number % 20}.example")
    await allow(stage.authority, Partner("p1.example", ("shared.example",)), Partner("p2.example"))
    await allow(stage.authority, Partner("p1.example"), Partner("p2.example", ("shared.example",)))
    answer = await stage.authority.status()
    assert answer.partners == len(stage.authority.contents.partners)


async def a_restarted_server_obeys_without_agent_and_service() -> None:
    await stage.authority.rewrite(Contents.of([Partner(TWO), Partner(THREE)]))
    await remove(stage.authority, THREE)
    await leave(stage.a)
    stage.four.stop()
    await asyncio.to_thread(stage.four.start)
    stage.a = await User(f"a@{FOUR}", FOUR_IP).come()
    answer = await stage.authority.status()
    assert answer.partners == 1 and answer.digest == stage.authority.file.digest, answer.content
    await both_ways()
    await refused(stage.a, f"b@{THREE}")


async def staleness_denies_all_where_the_policy_says_so() -> None:
    partner = scripted("stale")
    await stage.authority.ring("status", int(time.time()))
    await stage.authority.put(Contents.of([partner], Settings(staleness_lease=2, staleness_policy="DENY_ALL")))
    await stage.authority.ring("status", int(time.time()))
    wire = await stream_from(partner)
    assert "out of date" in await wire.until_closed(6)
    assert not (await attempt_from(partner)).authenticated
    assert not (await stage.authority.ring("status", int(time.time()))).stale
    (await stream_from(partner)).close()
    await settle(stage.authority, Settings())


async def the_connection_limit_holds_and_lowering_it_closes_the_youngest() -> None:
    partner, bystander = scripted("limited", connection_limit=3), scripted("bystander")
    await stage.authority.put(Contents.of([partner, bystander]))
    wires = [await stream_from(partner) for _ in range(3)]
    other = await stream_from(bystander)
    assert "too many streams" in (await attempt_from(partner)).refused
    assert (await allow(stage.authority, replace(partner, connection_limit=1))).closed == 2
    for wire in wires[1:]:
        assert "resource-constraint" in await wire.until_closed(2)
    await heard_by_a(wires[0], partner, "the-oldest-stays")
    await heard_by_a(other, bystander, "untouched-by-the-limit")
    other.close()
    wires[0].close()
    await stage.authority.put(Contents.of([]))


async def every_cell_of_the_matrix_inbound_is_as_the_contract_says() -> str:
    trials = [
        (scripted(f"in{row}-{column}", tls=tls, sasl=sasl, dialback=dialback), method)
        for row, (tls, sasl, dialback) in enumerate(MATRIX)
        for column, method in enumerate((SASL, DB_TLS, DB_TCP))
    ]
    await stage.authority.rewrite(Contents.of([partner for partner, _ in trials]))
    wrong = []
    for partner, method in trials:
        attempt = await attempt_from(partner, method)
        if attempt.authenticated is not (method in partner.methods):
            wrong.append(f"{partner.methods}: {method} is {attempt.authenticated}: {attempt.refused}")
        if attempt.wire:
            attempt.wire.close()
    assert not wrong, "\n".join(wrong)
    await stage.authority.put(Contents.of([]))
    return f"{len(trials)} cells"


async def nothing_forbidden_is_used_outbound() -> str:
    partners = [scripted(f"out{row}", tls=tls, sasl=sasl, dialback=dialback) for row, (tls, sasl, dialback) in enumerate(MATRIX)]
    await stage.authority.rewrite(Contents.of(partners))
    wrong, reached = [], 0
    for partner in partners:
        seen = stage.remote.seen[partner.domain]
        body = stage.a.say(f"u@{partner.domain}")
        await until(lambda b=body, s=seen: b in s.bodies or b in stage.a.refused, "an end", 10)  # type: ignore[misc]
        if body in seen.bodies:
            reached += 1
            if not set(seen.established) <= set(partner.methods):
                wrong.append(f"{partner.methods}: established by {seen.established}")
        elif SASL in partner.methods:
            wrong.append(f"{partner.methods}: not reached: {stage.a.refused[body]}")
    assert not wrong, "\n".join(wrong)
    await stage.authority.put(Contents.of([]))
    return f"{reached} of {len(partners)} triples reached the remote that offers everything, the others were refused"


async def an_unverified_public_partner_reaches_contacts_only() -> None:
    partner = scripted("public", partner_type="PUBLIC_UNVERIFIED")
    await stage.authority.put(Contents.of([partner]))
    wire = await stream_from(partner)
    message = f"<message from='u@{partner.domain}' to='a@{FOUR}' type='chat' id='stranger'><body>stranger</body></message>"
    wire.send(message)
    seen = stage.remote.seen[partner.domain]
    await until(lambda: seen.connections == 1, "the refusal goes back")
    assert "stranger" not in stage.a.arrived
    await allow(stage.authority, replace(partner, partner_type="FEDERATED"))
    wire.send(message)
    await until(lambda: "stranger" in stage.a.arrived, "a federated partner reaches everybody")
    wire.close()


async def what_is_not_enforced_is_said() -> None:
    partners = [
        scripted("proxied", proxy_fqdn="proxy.test", keep_alive_enabled=False),
        scripted("clear", tls=NOT_SUPPORTED, sasl=NOT_SUPPORTED, keep_alive_enabled=False),
        scripted("dialback", sasl=NOT_SUPPORTED),
        scripted("plain", tls=OPTIONAL, keep_alive_enabled=False),
    ]
    answer = await stage.authority.put(Contents.of(partners))
    said = {entry["property"]: entry["examples"] for entry in answer.unenforced}
    assert said["proxy_fqdn"] == [partners[0].domain], said
    assert said["tls_negotiation"] == [partners[1].domain], said
    assert said["sasl_negotiation"] == said["keep_alive_enabled"] == [partners[2].domain], said
    assert answer.warnings == [] and answer.server.startswith("ejabberd "), answer.content
    await stage.authority.put(Contents.of([]))


async def a_removal_is_in_force_at_once() -> str:
    return await time_removals(stage.authority, FOUR_IP, FOUR)


async def nothing_sent_after_the_acknowledgement_is_delivered() -> str:
    return await traffic_stops(stage.authority, stage.a, stage.b, TWO)


async def without_data_everybody_is_refused_until_it_comes() -> None:
    await leave(stage.a)
    stage.four.stop()
    stage.four.data.unlink()
    await asyncio.to_thread(stage.four.start)
    stage.a = await User(f"a@{FOUR}", FOUR_IP).come()
    partner = scripted("early")
    assert "No list" in (await attempt_from(partner)).refused
    await refused(stage.a, f"b@{TWO}")
    answer = await stage.authority.status()
    assert (answer.result, answer.generation, answer.digest) == ("NACK", -1, ""), answer.content
    assert (await stage.authority.rewrite(Contents.of([partner]))).acknowledged
    (await stream_from(partner)).close()


async def without_the_module_everybody_is_refused() -> None:
    await leave(stage.a)
    stage.four.stop()
    bare = Ejabberd(FOUR, FOUR_IP, enforced=False)
    await asyncio.to_thread(bare.start)
    stage.four = bare
    stage.a = await User(f"a@{FOUR}", FOUR_IP).come()
    await refused(stage.a, f"b@{TWO}")
    attempt = await attempt_from(Partner(f"any.{REMOTE}"), DB_TLS)
    assert not attempt.authenticated, attempt
    # Stock ejabberd lets EXTERNAL succeed and closes at the first stanza, so nothing comes back.
    body = stage.b.say(f"a@{FOUR}")
    await until(lambda: f"Closing inbound s2s connection {TWO} -> {FOUR}" in bare.log_text(), "the stream is closed")
    assert body not in stage.a.arrived


for function in (
    allowed_messages_flow_both_ways,
    an_unlisted_server_is_refused,
    removal_closes_the_streams_and_allowing_again_opens_them,
    suspension_closes_the_streams_and_lifting_it_opens_them,
    expiry_closes_the_streams_without_any_bell,
    additional_domains_and_both_forms_of_a_name_belong_to_the_partner,
    a_further_domain_on_an_open_stream_needs_to_be_allowed,
    the_mode_is_obeyed,
    a_broken_file_keeps_the_last_good_set,
    many_deltas_in_a_row_lead_where_a_base_leads,
    a_restarted_server_obeys_without_agent_and_service,
    a_reload_of_the_configuration_changes_nothing,
    staleness_denies_all_where_the_policy_says_so,
    the_connection_limit_holds_and_lowering_it_closes_the_youngest,
    every_cell_of_the_matrix_inbound_is_as_the_contract_says,
    nothing_forbidden_is_used_outbound,
    an_unverified_public_partner_reaches_contacts_only,
    what_is_not_enforced_is_said,
    a_removal_is_in_force_at_once,
    nothing_sent_after_the_acknowledgement_is_delivered,
    fifty_thousand_partners_are_put_in_force,
    without_data_everybody_is_refused_until_it_comes,
    without_the_module_everybody_is_refused,
):
    suite.scenario(function, 120)

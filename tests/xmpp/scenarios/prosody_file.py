"""The file and the bell: what Prosody makes of good, broken, torn and old data."""

import hashlib
import hmac
import time
from dataclasses import replace

from rig.authority import allow, remove, settle
from rig.clients import User, delivered, refused
from rig.partners import (
    NOT_SUPPORTED,
    Contents,
    Partner,
    Settings,
    append_to_file,
    digest_of,
    replace_file,
)
from rig.scenario import Runner, Suite
from rig.space import until
from scenarios.names import ONE, ONE_IP, THREE, TWO
from scenarios.prosody_stage import attempt_from, both_ways, heard_by_a, play, scripted, stage, stream_from

suite = Suite("prosody file")


async def run(runner: Runner) -> None:
    """Plays what was asked for."""
    wanted = runner.wants(suite)

    async def performance() -> None:
        for scenario in wanted:
            await runner.run(scenario)

    if wanted:
        await play(performance)


async def a_broken_file_keeps_the_last_good_set() -> None:
    await stage.direct.put(Contents.of([Partner(TWO)]))
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
        answer = await stage.direct.ring("apply")
        assert answer.result == "NACK" and answer.error, f"{what}: {answer.content}"
        assert answer.digest == stage.direct.file.digest and answer.closed == 0, what
        await delivered(stage.b, stage.a)
    stage.one.data.unlink()
    answer = await stage.direct.ring("apply")
    assert answer.result == "NACK" and answer.partners == 1, answer.content
    await both_ways()
    await refused(stage.c, f"a@{ONE}")
    assert (await stage.direct.rewrite(stage.direct.contents)).acknowledged


async def a_broken_delta_keeps_the_last_good_set() -> None:
    two = Contents.of([Partner(TWO)])
    await stage.direct.rewrite(two)
    before = stage.one.data.read_bytes()
    delta, _ = stage.direct.file.delta(Contents.of([]))
    for what, content in {
        "for another base": delta.replace(stage.direct.file.digest.encode(), b"0" * 64),
        "with a wrong digest": delta.replace(b'"digest":"', b'"digest":"f', 1),
        "that is not finished": delta[:-3],
        "that removes nobody": delta.replace(TWO.encode(), b"nobody.test"),
    }.items():
        append_to_file(stage.one.data, content)
        answer = await stage.direct.ring("apply")
        assert answer.result == "NACK" and answer.error, f"{what}: {answer.content}"
        assert answer.digest == stage.direct.file.digest and answer.partners == 1, what
        replace_file(stage.one.data, before)
    assert (await stage.direct.ring("apply")).acknowledged, "a good base ends it"
    await both_ways()


async def many_deltas_in_a_row_lead_where_a_base_leads() -> None:
    await stage.direct.rewrite(Contents.of([]))
    for number in range(60):
        await allow(stage.direct, Partner(f"p{number % 40}.example", connection_limit=number + 1))
        if number % 7 == 3:
            await remove(stage.direct, f"p{number % 40}.example")
    moved = [Partner("p1.example", ("shared.example",)), Partner("p2.example")]
    await allow(stage.direct, *moved)
    await allow(stage.direct, Partner("p1.example"), Partner("p2.example", ("shared.example",)))
    answer = await stage.direct.put(replace(stage.direct.contents, settings=Settings(connection_limit=7)))
    assert answer.digest == digest_of(stage.direct.contents.lines())
    assert answer.partners == len(stage.direct.contents.partners)


async def a_restarted_server_obeys_without_agent_and_service() -> None:
    await stage.direct.rewrite(Contents.of([Partner(TWO), Partner(THREE)]))
    await remove(stage.direct, THREE)
    stage.one.kill()
    append_to_file(stage.one.data, b'{"base":"torn by a cra')
    stage.one.start()
    stage.a = await User(f"a@{ONE}", ONE_IP).come()
    answer = await stage.direct.status()
    assert answer.partners == 1 and answer.digest == stage.direct.file.digest, answer.content
    await both_ways()
    await refused(stage.a, f"b@{THREE}")
    assert (await stage.direct.rewrite(stage.direct.contents)).acknowledged


async def staleness_denies_all_only_where_the_policy_says_so() -> None:
    now = int(time.time())
    partner = scripted("stale")
    keep = Settings(staleness_lease=1, staleness_policy="KEEP")
    await stage.direct.put(Contents.of([partner], keep))
    wire = await stream_from(partner)
    assert not (await stage.direct.ring("status", now - 3600)).stale
    deny = replace(keep, staleness_policy="DENY_ALL", staleness_lease=3)
    await stage.direct.ring("status", now)
    await settle(stage.direct, deny)
    await heard_by_a(wire, partner, "not-stale-yet")
    end = await wire.until_closed(8)
    assert "out of date" in end, end
    assert (await stage.direct.status()).stale
    assert not (await attempt_from(partner)).authenticated
    assert not (await stage.direct.ring("status", int(time.time()))).stale
    (await stream_from(partner)).close()
    await settle(stage.direct, Settings())


async def the_dialback_passphrase_makes_the_keys() -> None:
    """XEP-0185: the key is HMAC-SHA256(SHA256(passphrase), receiver ' ' originator ' ' stream id)."""
    for number in (1, 2):
        partner = scripted(f"dialback{number}", tls=NOT_SUPPORTED, sasl=NOT_SUPPORTED)
        passphrase, name = f"a passphrase, number {number}", f"dialback-passphrase.{number}"
        (stage.one.base / name).write_text(passphrase + "\n")
        await stage.direct.put(Contents.of([partner], Settings(dialback_passphrase=name)))
        stage.a.say(f"u@{partner.domain}")
        seen = stage.remote.seen[partner.domain]
        await until(lambda s=seen: bool(s.keys), "a key arrives")  # type: ignore[misc]
        identity, key = seen.keys[0]
        secret = hashlib.sha256(passphrase.encode()).hexdigest()
        text = f"{partner.domain} {ONE} {identity}"
        assert key == hmac.new(secret.encode(), text.encode(), "sha256").hexdigest()
    assert "a passphrase" not in stage.one.log_text()
    answer = await settle(stage.direct, Settings(dialback_passphrase="not-there"))
    assert any(entry["property"].endswith("dialback_passphrase") for entry in answer.unenforced), answer.content
    await stage.direct.put(Contents.of([]))


for function in (
    a_broken_file_keeps_the_last_good_set,
    a_broken_delta_keeps_the_last_good_set,
    many_deltas_in_a_row_lead_where_a_base_leads,
    a_restarted_server_obeys_without_agent_and_service,
    staleness_denies_all_only_where_the_policy_says_so,
    the_dialback_passphrase_makes_the_keys,
):
    suite.scenario(function)

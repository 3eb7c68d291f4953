"""How Prosody starts: closed, unless module and data are both good."""

import asyncio
import os
import time
from pathlib import Path

from rig import pki
from rig.partners import SASL, Contents, Partner, Settings, replace_file
from rig.prosody import Prosody
from rig.remote import dial
from rig.scenario import Runner, Suite
from rig.space import RUN, port_is_open
from scenarios.names import ONE, ONE_IP, REMOTE

suite = Suite("prosody start")
PARTNER = Partner(f"start.{REMOTE}")


async def run(runner: Runner) -> None:
    """Plays; every scenario has a server of its own."""
    for scenario in runner.wants(suite):
        await runner.run(scenario)


async def _is_refused() -> None:
    attempt = await dial(ONE_IP, PARTNER.domain, ONE, SASL, pki.issue(REMOTE))
    assert not attempt.authenticated and "No list" in attempt.refused, attempt.refused


async def without_the_module_there_is_no_port() -> None:
    nowhere = RUN / "no-modules"
    nowhere.mkdir(exist_ok=True)
    server = Prosody(ONE, ONE_IP, enforced=True, plugins=nowhere)
    server.authority().file.write_base(Contents.of([PARTNER]))
    server.start(s2s=False)
    try:
        assert not port_is_open(ONE_IP, 5269)
        try:
            server.ring("status")
        except LookupError as error:
            assert "No module handled" in str(error), error
        else:
            raise AssertionError("somebody answered for a module that is not there")
    finally:
        server.stop()


async def a_module_that_does_not_compile_opens_no_port() -> None:
    broken = RUN / "broken-modules"
    _write_module(broken, "this is not Lua")
    server = Prosody(ONE, ONE_IP, enforced=True, plugins=broken)
    server.start(s2s=False)
    try:
        assert not port_is_open(ONE_IP, 5269)
    finally:
        server.stop()


def _write_module(folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "mod_s2s_partners.lua").write_text(text)


async def without_data_everybody_is_refused_until_it_comes() -> None:
    server = Prosody(ONE, ONE_IP, enforced=True).start()
    try:
        await _is_refused()
        authority = server.authority()
        answer = await authority.status()
        assert (answer.result, answer.generation, answer.digest) == ("NACK", -1, ""), answer.content
        await authority.put(Contents.of([PARTNER]))
        attempt = await dial(ONE_IP, PARTNER.domain, ONE, SASL, pki.issue(REMOTE))
        assert attempt.authenticated and attempt.wire, attempt.refused
        attempt.wire.close()
    finally:
        server.stop()


async def with_broken_data_everybody_is_refused() -> None:
    server = Prosody(ONE, ONE_IP, enforced=True)
    authority = server.authority()
    authority.file.write_base(Contents.of([PARTNER]))
    replace_file(server.data, server.data.read_bytes().replace(b'"FEDERATED"', b'"FEDERATES"'))
    server.start()
    try:
        await _is_refused()
        assert "partner_type" in (await authority.status()).error
    finally:
        server.stop()


async def an_old_list_denies_all_from_the_start_where_the_policy_says_so() -> None:
    server = Prosody(ONE, ONE_IP, enforced=True)
    authority = server.authority()
    authority.file.write_base(Contents.of([PARTNER], Settings(staleness_lease=60, staleness_policy="DENY_ALL")))
    hour_ago = time.time() - 3600
    os.utime(server.data, (hour_ago, hour_ago))
    server.start()
    try:
        attempt = await dial(ONE_IP, PARTNER.domain, ONE, SASL, pki.issue(REMOTE))
        assert "out of date" in attempt.refused, attempt.refused
        assert not (await authority.ring("status", int(time.time()))).stale
        attempt = await dial(ONE_IP, PARTNER.domain, ONE, SASL, pki.issue(REMOTE))
        assert attempt.authenticated, attempt.refused
    finally:
        server.stop()


async def a_configuration_that_fails_open_is_warned_of() -> None:
    server = Prosody(ONE, ONE_IP, enforced=True)
    configuration = server.base / "prosody.cfg.lua"
    text = configuration.read_text().replace('modules_disabled = { "s2s" }', "")
    text = text.replace("s2s_require_encryption = false", "")
    configuration.write_text(text.replace("s2s_secure_auth = false", "s2s_secure_auth = true"))
    authority = server.authority()
    authority.file.write_base(Contents.of([Partner(PARTNER.domain, tls="OPTIONAL")]))
    server.start()
    try:
        answer = await authority.status()
        assert any("modules_disabled" in warning for warning in answer.warnings), answer.content
        said = {entry["property"]: entry["examples"] for entry in answer.unenforced}
        assert said["tls_negotiation"] == said["dialback_enabled"] == [PARTNER.domain], said
    finally:
        server.stop()


async def unloading_the_module_closes_the_streams_and_the_door() -> None:
    server = Prosody(ONE, ONE_IP, enforced=True, modules=["admin_shell"])
    authority = server.authority()
    authority.file.write_base(Contents.of([PARTNER]))
    server.start()
    try:
        attempt = await dial(ONE_IP, PARTNER.domain, ONE, SASL, pki.issue(REMOTE))
        assert attempt.wire is not None, attempt.refused
        await asyncio.to_thread(server.shell, 'module:reload("s2s_partners", "*")')
        assert (await authority.status()).acknowledged
        assert (await authority.status()).sessions, "a reload keeps the streams"
        await asyncio.to_thread(server.shell, 'module:unload("s2s_partners", "*")')
        await attempt.wire.until_closed(3)
        attempt = await dial(ONE_IP, PARTNER.domain, ONE, SASL, pki.issue(REMOTE))
        assert not attempt.authenticated
    finally:
        server.stop()


for function in (
    without_the_module_there_is_no_port,
    a_module_that_does_not_compile_opens_no_port,
    without_data_everybody_is_refused_until_it_comes,
    with_broken_data_everybody_is_refused,
    an_old_list_denies_all_from_the_start_where_the_policy_says_so,
    a_configuration_that_fails_open_is_warned_of,
    unloading_the_module_closes_the_streams_and_the_door,
):
    suite.scenario(function)

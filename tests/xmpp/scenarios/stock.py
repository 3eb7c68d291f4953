"""The stock profiles: servers without our modules, fed and rung as section 6 of docs/enforcement.md says."""

import asyncio
import os
import subprocess
from pathlib import Path

from rig.clients import User, delivered, leave, refused
from rig.ejabberd import Ejabberd
from rig.partners import Contents, Partner, replace_file
from rig.prosody import Prosody
from rig.scenario import Runner, Suite
from rig.space import REPOSITORY, ROOT, RUN, SCRATCH, environment, until
from rig.stock import acl_file, list_file
from scenarios.names import FOUR, FOUR_IP, ONE, ONE_IP, THREE, THREE_IP, TWO, TWO_IP

suite = Suite("stock")
EVERYBODY = Contents.of([Partner(TWO), Partner(THREE)])
ONLY_THREE = Contents.of([Partner(THREE)])


class Stage:
    """The partners on the other side."""

    b: User
    c: User


stage = Stage()


async def run(runner: Runner) -> None:
    """Opens the stage, plays, clears it away."""
    wanted = runner.wants(suite)
    if not wanted:
        return
    two, three = Prosody(TWO, TWO_IP), Prosody(THREE, THREE_IP)
    try:
        for server in (two, three):
            server.start()
        stage.b = await User(f"b@{TWO}", TWO_IP).come()
        stage.c = await User(f"b@{THREE}", THREE_IP).come()
        for scenario in wanted:
            await runner.run(scenario)
        await leave(stage.b, stage.c)
    finally:
        for server in (two, three):
            server.stop()


async def prosody_with_mod_firewall_refuses_who_is_not_listed() -> None:
    server = Prosody(ONE, ONE_IP, modules=["admin_shell", "firewall"], more=_firewall(ONE), level="debug")
    names = server.base / "partners.list"
    replace_file(names, list_file(EVERYBODY).encode())
    template = (REPOSITORY / "enforcers/prosody/stock/partners.pfw").read_text()
    (server.base / "partners.pfw").write_text(template.replace("/var/lib/partnerd-agent/partners.list", str(names)))
    configuration = server.base / "prosody.cfg.lua"
    # A component does not inherit the module.
    configuration.write_text(configuration.read_text() + 'modules_enabled = { "firewall" }\n')
    server.start()
    await asyncio.to_thread(_apply, server, names, "")
    try:
        a = await User(f"a@{ONE}", ONE_IP).come()
        for user in (stage.b, stage.c):
            await delivered(a, user)
            await delivered(user, a)
        replace_file(names, list_file(ONLY_THREE).encode())
        await asyncio.to_thread(_apply, server, names, TWO)
        assert (await refused(a, f"b@{TWO}")).condition == "policy-violation"
        said = []
        for to in (f"a@{ONE}", f"room@conference.{ONE}"):
            body = stage.b.say(to)
            said.append(body)
            # Not even the refusal goes out to who is not listed.
            await until(lambda b=body: b in server.log_text(), f"the message to {to} comes in")  # type: ignore[misc]
        await delivered(a, stage.c)
        await delivered(stage.c, a)
        assert not set(a.arrived) & set(said), "an unlisted server's message was delivered"
        assert f"conference.{ONE}->{TWO}" not in server.log_text(), "the component answered an unlisted server"
        await leave(a)
    finally:
        server.stop()


def _apply(server: Prosody, names: Path, removed: str) -> None:
    """Runs the command that is shipped for the agent, with the rig's prosodyctl."""
    tools = server.base / "tools"
    tools.mkdir(exist_ok=True)
    lua, script = ROOT / "usr/bin/lua5.4", SCRATCH / "bin/prosodyctl.lua"
    prosodyctl = tools / "prosodyctl"
    prosodyctl.write_text(f'#!/bin/sh\nexec {lua} {script} --config {server.base}/prosody.cfg.lua "$@"\n')
    prosodyctl.chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    gone = server.base / "removed"
    gone.write_text(f"{removed}\n" if removed else "")
    env = environment(PARTNERD_FILE=str(names), PARTNERD_REMOVED_FILE=str(gone), PATH=path)
    command = [str(REPOSITORY / "enforcers/prosody/stock/apply")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _firewall(domain: str) -> str:
    modules = ROOT / "usr/lib/prosody/modules"
    return f'plugin_paths = {{ "{modules}" }}\nfirewall_scripts = {{ "{RUN / domain}/partners.pfw" }}\n'


async def ejabberd_with_acls_refuses_who_is_not_listed() -> None:
    template = (REPOSITORY / "enforcers/ejabberd/stock/ejabberd-partners.yml").read_text()
    acls = RUN / FOUR / "partners.yml"
    main, modules = template.split("modules:\n")
    server = Ejabberd(FOUR, FOUR_IP, enforced=False, stock=main.replace("/var/lib/partnerd-agent/partners.yml", str(acls)))
    configuration = server.base / "ejabberd.yml"
    configuration.write_text(configuration.read_text() + modules)
    replace_file(acls, acl_file(EVERYBODY).encode())
    await asyncio.to_thread(server.start)
    try:
        a = await User(f"a@{FOUR}", FOUR_IP).come()
        for user in (stage.b, stage.c):
            await delivered(a, user)
            await delivered(user, a)
        replace_file(acls, acl_file(ONLY_THREE).encode())
        for command in ("reload_config", "stop_s2s_connections"):
            await asyncio.to_thread(server.api, command)
        await refused(a, f"b@{TWO}")
        body = stage.b.say(f"a@{FOUR}")
        await delivered(a, stage.c)
        await delivered(stage.c, a)
        assert body not in a.arrived
        replace_file(acls, acl_file(Contents.of([])).encode())
        for command in ("reload_config", "stop_s2s_connections"):
            await asyncio.to_thread(server.api, command)
        await refused(a, f"b@{THREE}")
        await leave(a)
    finally:
        server.stop()


for function in (
    prosody_with_mod_firewall_refuses_who_is_not_listed,
    ejabberd_with_acls_refuses_who_is_not_listed,
):
    suite.scenario(function, 120)

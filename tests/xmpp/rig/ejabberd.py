"""An ejabberd from the unpacked packages, with our module."""

import json
import shutil
import subprocess
import urllib.request
from typing import Any

from rig import pki
from rig.authority import Direct
from rig.space import LIBS, RUN, SCRATCH, end, environment, spawn, wait_for_port

_CONFIGURATION = """
hosts: [ "{domain}" ]
loglevel: {level}
certfiles: [ "{bundle}" ]
ca_file: "{ca}"
s2s_cafile: "{ca}"
listen:
  - {{ port: 5222, ip: "{ip}", module: ejabberd_c2s, starttls: true, starttls_required: false }}
  - {{ port: 5269, ip: "{ip}", module: ejabberd_s2s_in }}
  - {{ port: 5280, ip: "{ip}", module: ejabberd_http, request_handlers: {{ "/api": mod_http_api }} }}
auth_method: internal
api_permissions:
  "rig":
    from: [ mod_http_api ]
    who: {{ ip: "127.0.0.0/8" }}
    what: [ register, reload_config, stop_s2s_connections, s2s_partners_apply, s2s_partners_status ]
{door}
outgoing_s2s_families: [ ipv4 ]
s2s_max_retry_delay: 1
modules:
  mod_admin_extra: {{}}
  mod_disco: {{}}
  mod_roster: {{}}
  mod_ping: {{}}
{modules}
"""

_DOOR = """s2s_access: none
s2s_use_starttls: optional
"""

_DIALBACK = "  mod_s2s_dialback: {}\n"

_MODULE = """  mod_s2s_partners:
    file: "{data}"
"""


class Ejabberd:
    """One server with one domain and users `a` and `b`. `stock`: that configuration instead of our module."""

    def __init__(self, domain: str, ip: str, *, level: str = "info", enforced: bool = True, stock: str = "") -> None:
        self.domain, self.ip = domain, ip
        self.base = RUN / domain
        shutil.rmtree(self.base, ignore_errors=True)
        (self.base / "spool").mkdir(parents=True)
        self.data = self.base / "partners.jsonl"
        modules = _DIALBACK + _MODULE.format(data=self.data) if enforced else _DIALBACK
        door, modules = (stock, "") if stock else (_DOOR, modules)
        (self.base / "ejabberd.yml").write_text(
            _CONFIGURATION.format(
                domain=domain, ip=ip, level=level, bundle=pki.issue(domain), ca=pki.CA, door=door, modules=modules
            )
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Ejabberd":
        """Starts it; returns once its ports are open and its users are there. The data must be there already."""
        argv = [
            str(SCRATCH / "bin/erl"),
            "-noinput",
            "-boot",
            "no_dot_erlang",
            "-pa",
            str(SCRATCH / "ebin"),
            "-mnesia",
            "dir",
            f'"{self.base}/spool"',
            "-s",
            "ejabberd",
        ]
        env = environment(
            ERL_LIBS=str(LIBS),
            EJABBERD_CONFIG_PATH=str(self.base / "ejabberd.yml"),
            EJABBERD_LOG_PATH=str(self.base / "log"),
            ERL_CRASH_DUMP_BYTES="0",
            HOME=str(self.base),
        )
        self.process = spawn(argv, self.base / "out", env, self.base)
        for port in (5269, 5222, 5280):
            wait_for_port(self.ip, port, self.process, 60)
        for user in ("a", "b"):
            self.api("register", user=user, host=self.domain, password="secret")
        return self

    def log_text(self) -> str:
        """What it logged."""
        return (self.base / "out").read_text(errors="replace")

    def stop(self) -> None:
        """Ends it."""
        if self.process is not None:
            end(self.process)
            self.process = None

    def api(self, command: str, **arguments: Any) -> Any:
        """Runs a command over the HTTP API."""
        request = urllib.request.Request(
            f"http://{self.ip}:5280/api/{command}",
            data=json.dumps(arguments).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 409:  # registered before
                return None
            raise AssertionError(f"{command}: {error.code} {error.read().decode()}") from error

    def ring(self, command: str, heard: int = 0) -> str:
        """Sends a command and returns the answer's JSON text."""
        answer = self.api(f"s2s_partners_{command}", heard=heard)
        assert isinstance(answer, str), f"not a JSON string: {answer!r}"
        return answer

    def authority(self) -> Direct:
        """The rig itself as the one who writes and rings."""
        return Direct(self.data, self.ring)

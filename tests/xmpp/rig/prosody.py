"""A Prosody from the unpacked packages: with our module, or as a stock server on the other side."""

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterable
from html import escape, unescape
from pathlib import Path

from rig import pki
from rig.authority import Direct
from rig.space import NAME_SERVER, REPOSITORY, ROOT, RUN, SCRATCH, end, environment, spawn, wait_for_file, wait_for_port

MODULES = REPOSITORY / "enforcers/prosody"
XMLNS = "urn:partnerd:enforcer:1"

_CONFIGURATION = """
run_as_root = true
daemonize = false
pidfile = "{base}/prosody.pid"
data_path = "{base}/data"
interfaces = {{ "{ip}" }}
local_interfaces = {{ "{ip}" }}
modules_enabled = {{ "roster"; "saslauth"; "tls"; "dialback"; "disco"; "ping"; "presence"; "message"; "iq"; {modules} }}
authentication = "internal_plain"
storage = "internal"
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
unbound = {{ resolvconf = false; hoststxt = false; forward = "{dns}"; options = {{
    -- libunbound refuses loopback forwarders, and says NXDOMAIN for .test, unless told otherwise
    ["do-not-query-localhost:"] = "no"; ["local-zone:"] = "test. transparent";
    ["cache-max-ttl:"] = "1"; ["cache-max-negative-ttl:"] = "1";
}} }}
log = {{ {{ levels = {{ min = "{level}" }}, to = "file", filename = "{base}/log" }} }}
ssl = {{ cafile = "{ca}"; certificate = "{certificate}"; key = "{key}" }}
{more}
VirtualHost "{domain}"
Component "conference.{domain}" "muc"
"""

_ENFORCED = """
modules_disabled = {{ "s2s" }}
plugin_paths = {{ "{plugins}" }}
s2s_partners_file = "{data}"
s2s_secure_auth = false
s2s_require_encryption = false
"""


class Prosody:
    """One server with one domain and users `a` and `b`."""

    def __init__(
        self,
        domain: str,
        ip: str,
        *,
        enforced: bool = False,
        plugins: Path = MODULES,
        more: str = "",
        level: str = "info",
        modules: Iterable[str] = (),
    ) -> None:
        self.domain, self.ip = domain, ip
        self.base = RUN / domain
        shutil.rmtree(self.base, ignore_errors=True)
        (self.base / "data").mkdir(parents=True)
        self.data = self.base / "partners.jsonl"
        self.log = self.base / "log"
        self._enforced, self._plugins, self._more, self._level = enforced, plugins, more, level
        self._modules = list(modules)
        for user in ("a", "b"):
            self._add_user(user)
        self.write_configuration()
        self.process: subprocess.Popen[bytes] | None = None

    def write_configuration(self, *, plugins: Path | None = None) -> None:
        """Writes the configuration, with other plugins if told."""
        bundle = pki.issue(self.domain)
        more = self._more
        modules = [*self._modules]
        if self._enforced:
            modules += ["admin_socket", "s2s_partners"]
            more += _ENFORCED.format(plugins=plugins or self._plugins, data=self.data)
        (self.base / "prosody.cfg.lua").write_text(
            _CONFIGURATION.format(
                base=self.base,
                ip=self.ip,
                domain=self.domain,
                dns=NAME_SERVER,
                level=self._level,
                ca=pki.CA,
                certificate=bundle.with_suffix(".crt"),
                key=bundle.with_suffix(".key"),
                more=more,
                modules="".join(f'"{name}"; ' for name in modules),
            )
        )

    def _add_user(self, user: str) -> None:
        folder = self.base / "data" / re.sub(r"[^a-zA-Z0-9]", lambda m: f"%{ord(m[0]):02x}", self.domain) / "accounts"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{user}.dat").write_text('return { ["password"] = "secret" }\n')

    def start(self, *, s2s: bool = True) -> "Prosody":
        """Starts it; returns once its ports are open."""
        argv = [
            str(ROOT / "usr/bin/lua5.4"),
            str(SCRATCH / "bin/prosody.lua"),
            "--config",
            str(self.base / "prosody.cfg.lua"),
            "-F",
        ]
        self.process = spawn(argv, self.base / "out", environment(), self.base)
        wait_for_port(self.ip, 5222, self.process)
        if s2s:
            wait_for_port(self.ip, 5269, self.process)
        if self._enforced:
            wait_for_file(self.base / "data/prosody.sock")
        return self

    def stop(self) -> None:
        """Ends it."""
        if self.process is not None:
            end(self.process)
            self.process = None

    def kill(self) -> None:
        """Ends it without a good-bye."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def reload(self) -> None:
        """SIGHUP."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def log_text(self) -> str:
        """What it logged."""
        return self.log.read_text(errors="replace")

    def ring(self, command: str, heard: int = 0) -> str:
        """Sends a command over the admin socket and returns the answer's JSON text."""
        told = f" heard='{heard}'" if heard else ""
        return self._ask(f"<{command} xmlns='{XMLNS}'{told}/>", "answer")

    def shell(self, line: str) -> str:
        """Lets mod_admin_shell evaluate a line."""
        return self._ask(f"<repl-input>{escape(line)}</repl-input>", "repl-result")

    def _ask(self, question: str, name: str) -> str:
        with socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(60)
            admin.connect(str(self.base / "data/prosody.sock"))
            opening = (
                "<stream:stream xmlns='xmpp:prosody.im/admin' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
            )
            admin.sendall(f"{opening}{question}".encode())
            received = b""
            answers = rf"<{name}[^>]*>(.*?)</{name}>|<repl-result[^>]*>(.*?)</repl-result>".encode()
            while not (found := re.search(answers, received, re.S)):
                data = admin.recv(65_536)
                if not data:
                    raise ConnectionError(f"no answer, only {received!r}")
                received += data
            admin.sendall(b"</stream:stream>")
        if found[2] is not None:
            raise LookupError(found[2].decode())
        return unescape(found[1].decode())

    def authority(self) -> Direct:
        """The rig itself as the one who writes and rings."""
        return Direct(self.data, self.ring)

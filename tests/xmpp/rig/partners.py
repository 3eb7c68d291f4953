"""Partners and settings, and the data file of docs/enforcement.md as an agent writes it.

A second, independent writer beside the agent's: what the modules read is checked against the page,
not against the agent's idea of it.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

REQUIRED, OPTIONAL, NOT_SUPPORTED = "REQUIRED", "OPTIONAL", "NOT_SUPPORTED"
SASL, DB_TLS, DB_TCP = "SASL_OVER_TLS", "DIALBACK_OVER_TLS", "DIALBACK_OVER_TCP"

_ANY = (SASL, DB_TLS, DB_TCP)
# The contract's table: (tls, sasl, dialback) to the methods. What is not here is invalid.
MATRIX: Mapping[tuple[str, str, bool], tuple[str, ...]] = {
    (REQUIRED, REQUIRED, True): (SASL,),
    (REQUIRED, REQUIRED, False): (SASL,),
    (OPTIONAL, REQUIRED, True): _ANY,
    (OPTIONAL, REQUIRED, False): (SASL,),
    (NOT_SUPPORTED, REQUIRED, True): (DB_TCP,),
    (NOT_SUPPORTED, OPTIONAL, True): (DB_TCP,),
    (REQUIRED, OPTIONAL, True): (SASL, DB_TLS),
    (REQUIRED, OPTIONAL, False): (SASL,),
    (OPTIONAL, OPTIONAL, True): _ANY,
    (OPTIONAL, OPTIONAL, False): (SASL,),
    (REQUIRED, NOT_SUPPORTED, True): (DB_TLS,),
    (OPTIONAL, NOT_SUPPORTED, True): (DB_TLS, DB_TCP),
    (NOT_SUPPORTED, NOT_SUPPORTED, True): (DB_TCP,),
}


@dataclass(frozen=True)
class Partner:
    """An allowed partner, by the API's words."""

    domain: str
    additional_domains: tuple[str, ...] = ()
    tls: str = REQUIRED
    sasl: str = REQUIRED
    dialback: bool = True
    partner_type: str = "FEDERATED"
    keep_alive_enabled: bool = True
    connection_limit: int | None = None
    proxy_fqdn: str = ""
    suspended: bool = False
    expire_time: int | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        """What the service derives from the triple."""
        return MATRIX[self.tls, self.sasl, self.dialback]

    def names(self) -> list[str]:
        """Every name by which a server may see this partner."""
        return [form for name in (self.domain, *self.additional_domains) for form in _forms(name)]

    def line(self) -> str:
        """The partner's line in the data file."""
        value: dict[str, Any] = {
            "domain": self.domain,
            "names": self.names(),
            "methods": list(self.methods),
            "partner_type": self.partner_type,
            "keep_alive_enabled": self.keep_alive_enabled,
        }
        if self.connection_limit is not None:
            value["connection_limit"] = self.connection_limit
        if self.proxy_fqdn:
            value["proxy_fqdn"] = self.proxy_fqdn
        if self.suspended:
            value["suspended"] = True
        if self.expire_time is not None:
            value["expire_time"] = self.expire_time
        return _compact(value)


def _forms(name: str) -> list[str]:
    labels = name.split(".")
    unicode_form = ".".join(label[4:].encode().decode("punycode") if label.startswith("xn--") else label for label in labels)
    return [name] if unicode_form == name else [name, unicode_form]


@dataclass(frozen=True)
class Settings:
    """The federation settings, with the contract's defaults."""

    mode: str = "ALLOW_LISTED"
    connection_limit: int = 1000
    partner_connection_limit: int = 20
    keep_alive_interval: int = 300
    stream_establishment_timeout: int = 60
    stream_inactivity_timeout: int = 600
    subscription_refresh_interval: int = 28_800
    message_body_logging_enabled: bool = False
    unlisted_methods: tuple[str, ...] = (SASL,)
    staleness_lease: int = 86_400
    staleness_policy: str = "KEEP"
    dialback_passphrase: str = ""

    def line(self) -> str:
        """The settings' line in the data file."""
        value = {name: getattr(self, name) for name in self.__dataclass_fields__}
        if not self.dialback_passphrase:
            del value["dialback_passphrase"]
        return _compact(value)


def _compact(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class Contents:
    """What shall be in force: the settings and the partners by domain."""

    settings: Settings = field(default_factory=Settings)
    partners: Mapping[str, Partner] = field(default_factory=dict)

    @classmethod
    def of(cls, partners: Iterable[Partner], settings: Settings | None = None) -> "Contents":
        """The contents with these partners."""
        return cls(settings or Settings(), {partner.domain: partner for partner in partners})

    def lines(self) -> list[str]:
        """The lines of a base, without its header."""
        ordered = sorted(self.partners.values(), key=lambda partner: partner.domain.encode())
        return [self.settings.line(), *(partner.line() for partner in ordered)]

    def changes_since(self, old: "Contents") -> list[str]:
        """The lines of the delta that leads here."""
        lines = [] if self.settings == old.settings else [self.settings.line()]
        lines += [p.line() for domain, p in self.partners.items() if old.partners.get(domain) != p]
        lines += [_compact({"remove": domain}) for domain in old.partners if domain not in self.partners]
        return lines


def digest_of(lines: Iterable[str]) -> str:
    """The XOR of the lines' SHA-256."""
    total = 0
    for line in lines:
        total ^= int.from_bytes(hashlib.sha256(line.encode()).digest(), "big")
    return f"{total:064x}"


@dataclass
class DataFile:
    """partners.jsonl as the agent keeps it."""

    path: Path
    contents: Contents | None = None
    digest: str = ""
    generation: int = 0

    def write_base(self, contents: Contents) -> None:
        """A new base: temporary file, sync, rename."""
        self.generation += 1
        lines = contents.lines()
        body = "".join(line + "\n" for line in lines).encode()
        self.digest = digest_of(lines)
        header = {
            "partnerd": 1,
            "generation": self.generation,
            "digest": self.digest,
            "partners": len(contents.partners),
            "bytes": len(body),
        }
        replace_file(self.path, _compact(header).encode() + b"\n" + body)
        self.contents = contents

    def append(self, contents: Contents) -> None:
        """A delta that leads to these contents: one write, one sync."""
        assert self.contents is not None, "a delta needs a base"
        delta, self.digest = self.delta(contents)
        self.generation += 1
        append_to_file(self.path, delta)
        self.contents = contents

    def delta(self, contents: Contents) -> tuple[bytes, str]:
        """The bytes of the delta that leads to these contents, and the digest after it."""
        assert self.contents is not None, "a delta needs a base"
        lines = contents.changes_since(self.contents)
        # By XOR, what leaves and what comes is the same work.
        gone = [old for domain, p in self.contents.partners.items() if contents.partners.get(domain) != p for old in [p.line()]]
        if self.contents.settings != contents.settings:
            gone.append(self.contents.settings.line())
        come = [line for line in lines if not line.startswith('{"remove"')]
        after = f"{int(self.digest, 16) ^ int(digest_of(gone + come), 16):064x}"
        header = {"base": self.digest, "generation": self.generation + 1, "digest": after, "lines": len(lines)}
        return "".join(line + "\n" for line in (_compact(header), *lines)).encode(), after


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def append_to_file(path: Path, content: bytes) -> None:
    """Appends by one write and syncs."""
    with path.open("ab", buffering=0) as file:
        file.write(content)
        os.fdatasync(file.fileno())


__all__ = ["Contents", "DataFile", "Partner", "Settings", "append_to_file", "digest_of", "replace", "replace_file"]

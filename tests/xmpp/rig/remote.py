"""A scripted remote server: opens streams in a chosen way, and accepts streams offering chosen ways."""

import asyncio
import base64
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar
from xml.etree.ElementTree import Element

from rig.partners import DB_TCP, DB_TLS, SASL
from rig.wire import DIALBACK, DIALBACK_FEATURE, STREAMS, Closed, Wire
from rig.wire import SASL as SASL_NS
from rig.wire import TLS as TLS_NS


@dataclass
class Attempt:
    """What came of an attempt to open a stream to a server."""

    authenticated: bool = False
    refused: str = ""
    offered: list[str] = field(default_factory=list)
    wire: Wire | None = None


async def dial(ip: str, sender: str, to: str, method: str, certificate: Path | None, *, wants_offer: bool = True) -> Attempt:
    """Opens a stream to the server at `ip` by one method. Without `wants_offer` it tries what was not
    offered as well."""
    attempt = Attempt()
    wire = Wire(*await asyncio.open_connection(ip, 5269))
    try:
        wire.open(sender, to)
        features = await wire.features()
        attempt.offered += [f"plain:{child.tag.split('}')[1]}" for child in features]
        if method in (SASL, DB_TLS):
            if features.find(TLS_NS + "starttls") is None and wants_offer:
                raise Closed("STARTTLS is not offered")
            wire.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
            answer = await wire.element()
            if answer.tag != TLS_NS + "proceed":
                raise Closed("STARTTLS was refused")
            await wire.encrypt(certificate, as_server=False)
            wire.open(sender, to)
            features = await wire.features()
            attempt.offered += [f"tls:{child.tag.split('}')[1]}" for child in features]
        await (_by_external if method == SASL else _by_dialback)(wire, sender, to, features, wants_offer)
        attempt.authenticated, attempt.wire = True, wire
    except (Closed, TimeoutError, ConnectionError) as end:
        attempt.refused = str(end) or type(end).__name__
        wire.close()
    return attempt


async def _by_external(wire: Wire, sender: str, to: str, features: Element, wants_offer: bool) -> None:
    if wants_offer and features.find(SASL_NS + "mechanisms") is None:
        raise Closed("EXTERNAL is not offered")
    identity = base64.b64encode(sender.encode()).decode()
    wire.send(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>{identity}</auth>")
    answer = await wire.element()
    if answer.tag != SASL_NS + "success":
        raise Closed("EXTERNAL was refused")
    wire.reset()
    wire.open(sender, to)
    await wire.features()


async def _by_dialback(wire: Wire, sender: str, to: str, features: Element, wants_offer: bool) -> None:
    if wants_offer and features.find(DIALBACK_FEATURE) is None:
        raise Closed("dialback is not offered")
    await claim(wire, sender, to)


async def claim(wire: Wire, sender: str, to: str) -> None:
    """Asks for a domain by dialback, on a new stream or a further one on an established stream."""
    wire.send(f"<db:result from='{sender}' to='{to}'>{uuid.uuid4().hex}</db:result>")
    answer = await wire.element()
    if answer.tag != DIALBACK + "result" or answer.get("type") != "valid":
        raise Closed(f"dialback was answered {answer.get('type')}")


@dataclass(frozen=True)
class Offer:
    """What the receiving side offers."""

    tls: bool = True
    external: bool = True
    dialback: bool = True
    clear: bool = True
    """Whether it goes on without TLS."""


@dataclass
class Seen:
    """What the receiving side saw of one domain's streams."""

    connections: int = 0
    tried: list[str] = field(default_factory=list)
    established: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    keys: list[tuple[str, str]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)


class Receiver:
    """Accepts streams for every domain that is asked for, and says so to every dialback."""

    def __init__(self, ip: str, certificate: Path) -> None:
        self.ip, self.certificate = ip, certificate
        self.offers: dict[str, Offer] = defaultdict(Offer)
        self.seen: dict[str, Seen] = defaultdict(Seen)
        self.connections = 0
        self._wires: set[Wire] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> "Receiver":
        """Listens."""
        self._server = await asyncio.start_server(self._serve, self.ip, 5269)
        return self

    def stop(self) -> None:
        """Hangs up and listens no more."""
        if self._server is not None:
            self._server.close()
        for wire in self._wires:
            wire.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        wire = Wire(reader, writer)
        self._wires.add(wire)
        stream = _Accepted(self, wire)
        try:
            await stream.run()
        except (Closed, TimeoutError, ConnectionError, OSError) as end:
            self.seen[stream.domain].ended.append(str(end))
        finally:
            self._wires.discard(wire)
            wire.close()


class _Accepted:
    """One accepted stream."""

    def __init__(self, receiver: Receiver, wire: Wire) -> None:
        self.receiver, self.wire = receiver, wire
        self.domain, self.identity = "", ""
        self.authenticated = False

    async def run(self) -> None:
        while True:
            element = await self.wire.element(600)
            handler = self._HANDLERS.get(element.tag, _Accepted._on_stanza)
            await handler(self, element)

    @property
    def seen(self) -> Seen:
        return self.receiver.seen[self.domain]

    async def _on_header(self, header: Element) -> None:
        first = not self.domain
        self.domain = header.get("to") or ""
        if first:
            self.seen.connections += 1
        self.identity = uuid.uuid4().hex
        self.wire.open(self.domain, header.get("from") or "", self.identity)
        self.wire.send(f"<stream:features>{self._features()}</stream:features>")

    def _features(self) -> str:
        offer = self.receiver.offers[self.domain]
        if self.authenticated:
            return ""
        features = ""
        if offer.tls and not self.wire.secure:
            required = "" if offer.clear else "<required/>"
            features += f"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'>{required}</starttls>"
        if offer.external and self.wire.secure:
            mechanism = "<mechanism>EXTERNAL</mechanism>"
            features += f"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{mechanism}</mechanisms>"
        if offer.dialback and (offer.clear or self.wire.secure):
            features += "<dialback xmlns='urn:xmpp:features:dialback'/>"
        return features

    async def _on_starttls(self, _element: Element) -> None:
        if not self.receiver.offers[self.domain].tls:
            self.seen.tried.append("STARTTLS")
            self.wire.send("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>")
            raise Closed("STARTTLS was not offered")
        self.wire.send("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        await self.wire.encrypt(self.receiver.certificate, as_server=True)

    async def _on_auth(self, _element: Element) -> None:
        self.seen.tried.append(SASL)
        self.wire.send("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
        self.wire.reset()
        self.authenticated = True
        self.seen.established.append(SASL)

    async def _on_result(self, element: Element) -> None:
        method = DB_TLS if self.wire.secure else DB_TCP
        self.seen.tried.append(method)
        self.seen.keys.append((self.identity, element.text or ""))
        offer = self.receiver.offers[self.domain]
        valid = offer.dialback and (offer.clear or self.wire.secure)
        if valid:
            self.seen.established.append(method)
            self.authenticated = True
        self._answer("result", element, "valid" if valid else "invalid")

    async def _on_verify(self, element: Element) -> None:
        self._answer("verify", element, "valid")

    def _answer(self, name: str, element: Element, kind: str) -> None:
        get = element.get
        identity = f" id='{get('id')}'" if get("id") else ""
        self.wire.send(f"<db:{name} from='{get('to')}' to='{get('from')}'{identity} type='{kind}'/>")

    async def _on_stanza(self, element: Element) -> None:
        body = element.find("{jabber:server}body")
        if body is not None and body.text:
            self.seen.bodies.append(body.text)

    _HANDLERS: ClassVar[Mapping[str, "Callable[[_Accepted, Element], Awaitable[None]]"]] = {
        STREAMS + "stream": _on_header,
        TLS_NS + "starttls": _on_starttls,
        SASL_NS + "auth": _on_auth,
        DIALBACK + "result": _on_result,
        DIALBACK + "verify": _on_verify,
    }

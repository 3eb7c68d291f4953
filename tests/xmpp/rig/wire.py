"""An XML stream between servers, by hand: what no real server would do can be done here."""

from __future__ import annotations

import asyncio
import ssl
import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from rig import pki

STREAMS = "{http://etherx.jabber.org/streams}"
TLS = "{urn:ietf:params:xml:ns:xmpp-tls}"
SASL = "{urn:ietf:params:xml:ns:xmpp-sasl}"
DIALBACK = "{jabber:server:dialback}"
DIALBACK_FEATURE = "{urn:xmpp:features:dialback}dialback"


class Closed(Exception):
    """The other side ended the stream: by an error, by its end tag, or by hanging up."""


class Wire:
    """One connection. Elements come out whole; the opening tag comes out as an element `stream`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._waiting: deque[ET.Element] = deque()
        self.secure = False
        self.spaces = 0
        self._ended = ""
        self.reset()

    def reset(self) -> None:
        """A new stream begins on the same connection."""
        self._parser: ET.XMLPullParser[ET.Element] = ET.XMLPullParser(["start", "end"])
        self._depth = 0
        self._root: ET.Element | None = None

    def send(self, text: str) -> None:
        """Sends as it is."""
        self._writer.write(text.encode())

    def open(self, sender: str, to: str, identity: str = "") -> None:
        """Sends a stream's opening tag."""
        named = f" id='{identity}'" if identity else ""
        self.send(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'"
            f" xmlns:db='jabber:server:dialback' version='1.0' from='{sender}' to='{to}'{named}>"
        )

    async def element(self, seconds: float = 8.0) -> ET.Element:
        """The next element; a stream error or an end is `Closed`."""
        while not self._waiting:
            if self._ended:
                raise Closed(self._ended)
            await self._read(seconds)
        element = self._waiting.popleft()
        if element.tag == STREAMS + "error":
            raise Closed(describe(element))
        return element

    async def _read(self, seconds: float) -> None:
        try:
            data = await asyncio.wait_for(self._reader.read(65_536), seconds)
        except (ConnectionError, ssl.SSLError) as error:
            raise Closed(str(error)) from error
        if not data:
            raise Closed("hung up")
        if not data.strip():
            self.spaces += len(data)
        self._parser.feed(data)
        for event, element in cast(Iterator[tuple[str, ET.Element]], self._parser.read_events()):
            if event == "start":
                self._depth += 1
                if self._depth == 1:
                    self._root = element
                    self._waiting.append(element)
            else:
                self._depth -= 1
                if self._depth == 1:
                    self._waiting.append(element)
                    if self._root is not None and element in list(self._root):
                        self._root.remove(element)
                elif self._depth == 0:
                    self._ended = "</stream>"

    async def features(self) -> ET.Element:
        """The opening tag and the features behind it."""
        header = await self.element()
        assert header.tag == STREAMS + "stream", header.tag
        features = await self.element()
        assert features.tag == STREAMS + "features", features.tag
        return features

    async def encrypt(self, certificate: Path | None, *, as_server: bool) -> None:
        """Makes the connection TLS, after both sides agreed to."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if as_server else ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(pki.CA)
        context.verify_mode = ssl.CERT_OPTIONAL if as_server else ssl.CERT_REQUIRED
        if certificate is not None:
            context.load_cert_chain(certificate)
        self.reset()
        await self._writer.start_tls(context)
        self.secure = True

    async def until_closed(self, seconds: float) -> str:
        """Reads on until the other side ends the stream; returns how it did."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    await self.element(seconds)
                except Closed as end:
                    return str(end)

    def close(self) -> None:
        """Hangs up."""
        self._writer.close()


def describe(error: ET.Element) -> str:
    """The condition and the text of a stream error."""
    names = [child.tag.split("}")[1] for child in error]
    texts = [child.text or "" for child in error if child.tag.endswith("}text")]
    return " ".join([name for name in names if name != "text"] + texts)

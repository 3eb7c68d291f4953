"""Users: slixmpp clients that send, and remember what came."""

import asyncio
import itertools
import logging
import ssl
import time
from dataclasses import dataclass
from typing import Any

import slixmpp

logging.getLogger("slixmpp").setLevel(logging.CRITICAL)
# slixmpp leaves a task behind when its server dies, and asyncio says so at the end.
logging.getLogger("asyncio").setLevel(logging.CRITICAL)
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Refusal:
    """The error that came for a message."""

    condition: str
    text: str


class User(slixmpp.ClientXMPP):
    """A user on a server of the rig."""

    def __init__(self, jid: str, ip: str) -> None:
        super().__init__(jid, "secret")
        self.ip = ip
        self.arrived: dict[str, float] = {}
        self.refused: dict[str, Refusal] = {}
        self._ready = asyncio.Event()
        self.register_plugin("xep_0199")
        self.ssl_context.check_hostname = False
        self.ssl_context.verify_mode = ssl.CERT_NONE
        self.add_event_handler("session_start", self._on_start)
        self.add_event_handler("message", self._on_message)
        self.add_event_handler("message_error", self._on_error)

    async def come(self) -> "User":
        """Connects and is available."""
        self.connect(self.ip, 5222)
        await asyncio.wait_for(self._ready.wait(), 20)
        return self

    async def _on_start(self, _event: Any) -> None:
        await self.get_roster()
        self.send_presence()
        self._ready.set()

    def _on_message(self, message: Any) -> None:
        if message["type"] != "error":
            self.arrived[message["body"]] = time.monotonic()

    def _on_error(self, message: Any) -> None:
        error = message["error"]
        # slixmpp does not know policy-violation (RFC 6120, 8.3.3.12).
        names = [child.tag.split("}")[1] for child in error.xml]
        condition = next((name for name in names if name != "text"), "")
        self.refused[message["id"]] = Refusal(condition, error["text"])

    async def ping(self) -> None:
        """Asks the own server for a sign of life and waits for it."""
        await self.plugin["xep_0199"].send_ping(slixmpp.JID(self.boundjid.host))

    async def list_contact(self, jid: str, subscription: str = "none") -> None:
        """Puts somebody in the contact list; `remove` takes him out."""
        changed = self.update_roster(slixmpp.JID(jid), subscription=subscription)
        assert changed is not None
        await changed

    def say(self, to: str) -> str:
        """Sends a message and returns its body, which is its id as well."""
        body = f"message-{next(_numbers)}"
        message = self.make_message(mto=to, mbody=body, mtype="chat")
        message["id"] = body
        message.send()
        return body


async def delivered(sender: User, receiver: User, seconds: float = 8.0) -> float:
    """Asserts that a message arrives; returns after how long."""
    body, started = sender.say(receiver.boundjid.bare), time.monotonic()
    while body not in receiver.arrived:
        refusal = sender.refused.get(body)
        assert refusal is None, f"{sender.boundjid.bare} to {receiver.boundjid.bare} was refused: {refusal}"
        assert time.monotonic() - started < seconds, f"{sender.boundjid.bare} to {receiver.boundjid.bare}: nothing in {seconds} s"
        await asyncio.sleep(0.002)
    return receiver.arrived[body] - started


async def refused(sender: User, to: str, seconds: float = 10.0) -> Refusal:
    """Asserts that messages come back as errors. One may be lost without an error, in a socket that is
    just being closed, so it is said again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        body, said = sender.say(to), time.monotonic()
        while time.monotonic() - said < 2.0:
            if body in sender.refused:
                return sender.refused[body]
            await asyncio.sleep(0.002)
    raise AssertionError(f"{sender.boundjid.bare} to {to}: no error in {seconds} s")


async def leave(*users: User) -> None:
    """Disconnects, so that nobody is still talking when the servers end."""
    for user in users:
        user.disconnect(wait=0.5)
        await asyncio.wait([asyncio.ensure_future(user.disconnected)], timeout=2)

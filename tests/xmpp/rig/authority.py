"""How a server is made to obey: one interface, so that scenarios need not know who writes and rings.

`Direct` writes the data file and rings the bell itself. An authority that goes through the service
and its agent fulfils the same protocol.
"""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from rig.partners import Contents, DataFile, Partner, Settings


@dataclass(frozen=True)
class Answer:
    """What the server said, and how long it took from before the write, in seconds."""

    content: dict[str, Any]
    seconds: float

    @property
    def acknowledged(self) -> bool:
        """Whether everything is in force."""
        return bool(self.content["result"] == "ACK")

    def __getattr__(self, name: str) -> Any:
        return self.content[name]


class Authority(Protocol):
    """Who decides what one server enforces. Every verb returns after the server's acknowledgement."""

    @property
    def contents(self) -> Contents:
        """What was last put in force."""

    async def put(self, contents: Contents) -> Answer:
        """Puts these contents in force."""

    async def status(self) -> Answer:
        """Asks the server how it is."""


async def allow(authority: Authority, *partners: Partner) -> Answer:
    """Adds or replaces partners."""
    now = authority.contents
    return await authority.put(replace(now, partners={**now.partners, **{p.domain: p for p in partners}}))


async def remove(authority: Authority, *domains: str) -> Answer:
    """Removes partners."""
    now = authority.contents
    return await authority.put(replace(now, partners={d: p for d, p in now.partners.items() if d not in domains}))


async def settle(authority: Authority, settings: Settings) -> Answer:
    """Puts settings in force."""
    return await authority.put(replace(authority.contents, settings=settings))


Bell = Callable[[str, int], str]
"""(command, heard) to the answer's JSON text; blocks."""


class Direct:
    """Writes the file and rings the bell, as an agent would."""

    MOST_DELTA_LINES = 256

    def __init__(self, path: Path, bell: Bell) -> None:
        self.file = DataFile(path)
        self.bell = bell

    @property
    def contents(self) -> Contents:
        """What was last written."""
        return self.file.contents or Contents()

    async def put(self, contents: Contents) -> Answer:
        """Appends a delta, or writes a base where a delta will not do."""
        started = time.monotonic()
        if self.file.contents is None or len(contents.changes_since(self.file.contents)) > self.MOST_DELTA_LINES:
            self.file.write_base(contents)
        else:
            self.file.append(contents)
        answer = await self.ring("apply", started=started)
        assert answer.acknowledged, answer.content
        assert answer.digest == self.file.digest, "the server acknowledged other contents"
        return answer

    async def rewrite(self, contents: Contents) -> Answer:
        """Writes a base whatever the change."""
        started = time.monotonic()
        self.file.write_base(contents)
        return await self.ring("apply", started=started)

    async def status(self) -> Answer:
        """Asks for the status."""
        return await self.ring("status")

    async def ring(self, command: str, heard: int = 0, started: float | None = None) -> Answer:
        """Rings the bell and returns the answer, whatever it is."""
        begun = time.monotonic() if started is None else started
        text = await asyncio.to_thread(self.bell, command, heard)
        return Answer(json.loads(text), time.monotonic() - begun)

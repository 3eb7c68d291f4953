"""An informer in Python: a copy of the partners that keeps itself up to date.

`Informer` is the algorithm of docs/clients.md and nothing else; take it from here. The rest shows it at
work against a development server (`partnerd serve --dev`), with the client generated beforehand:

    python generate.py generated
    PYTHONPATH=generated python informer.py --data-dir ./partnerd-data

It leaves nothing behind, and fails when the copy is not what the server has.
"""

import random
import sys
import threading
import time
import uuid
from itertools import groupby

import grpc
from google.protobuf.duration_pb2 import Duration
from partners import TIMEOUT_SECONDS, check, connect, parse_options
from xmpp.federation.v1 import allowed_partner_pb2 as model
from xmpp.federation.v1 import allowed_partner_service_pb2 as api
from xmpp.federation.v1 import watch_pb2 as watch
from xmpp.federation.v1.allowed_partner_service_pb2_grpc import AllowedPartnerServiceStub

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30
SLACK_SECONDS = 10


class Informer:
    """A copy of the partners and settings, always that of one whole revision.

    `run` blocks until `stop`; read the copy under `changed`, which is notified after each change.
    """

    def __init__(self, stub: AllowedPartnerServiceStub, progress_seconds: int = 30):
        self.partners: dict[str, model.AllowedPartner] = {}
        self.settings = None
        self.revision = 0
        self.last_contact = None
        self.changed = threading.Condition()
        self._stub = stub
        self._progress_seconds = progress_seconds
        self._relist = True
        self._call = None
        self._stopped = threading.Event()

    def run(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                self._follow()
            except grpc.RpcError as error:
                if self._stopped.is_set():
                    return
                print(f"interrupted: {error.code().name}: {error.details()}", file=sys.stderr)
                if error.code() == grpc.StatusCode.OUT_OF_RANGE:
                    self._relist = True
            except Fault as fault:
                print(f"the stream is at fault: {fault}", file=sys.stderr)
                self._relist = True
            # A stream that lived for a while was a success. Full jitter spreads those that fail.
            failures = 1 if time.monotonic() - began > 10 else failures + 1
            bound = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 30))
            self._stopped.wait(random.uniform(0, bound))

    def stop(self) -> None:
        self._stopped.set()
        self.interrupt()

    def interrupt(self) -> None:
        """Ends the stream; `run` opens another one."""
        if self._call is not None:
            self._call.cancel()

    def _follow(self) -> None:
        """Takes in one stream, until it ends."""
        start = 0 if self._relist else self.revision
        self._call = self._stub.WatchAllowedPartners(
            api.WatchAllowedPartnersRequest(
                start_revision=start, progress_interval=Duration(seconds=self._progress_seconds)
            )
        )
        with Watchdog(self._call, 2 * self._progress_seconds + SLACK_SECONDS) as watchdog:
            listing, pending = start == 0, []
            for message in self._call:
                watchdog.heard()
                self.last_contact = time.monotonic()
                pending.extend(message.events)
                if listing and message.synced:
                    self._replace(pending, message.progress_revision)
                    listing, pending = False, []
                elif not listing:
                    pending = self._take(message, pending)

    def _take(self, message, pending: list) -> list:
        """Applies what is whole, and gives back what is not."""
        progress = message.progress_revision
        if not message.events and pending and progress < pending[-1].revision:
            return pending
        whole, rest = pending, []
        if message.more_of_this_revision and pending:
            last = pending[-1].revision
            whole = [event for event in pending if event.revision < last]
            rest = [event for event in pending if event.revision == last]
        for revision, events in groupby(whole, lambda event: event.revision):
            self._apply(list(events), revision)
        with self.changed:
            self.revision = max(self.revision, progress)
            self.changed.notify_all()
        return rest

    def _apply(self, events: list, revision: int) -> None:
        if revision <= self.revision:
            raise Fault(f"revision {revision} came after {self.revision}")
        with self.changed:
            for event in events:
                self._put(self.partners, event)
            self.revision = revision
            self.changed.notify_all()

    def _replace(self, events: list, revision: int) -> None:
        """The whole state, read anew: what it does not hold is gone."""
        partners: dict[str, model.AllowedPartner] = {}
        with self.changed:
            self.settings = None
            for event in events:
                self._put(partners, event)
            self.partners, self.revision, self._relist = partners, revision, False
            self.changed.notify_all()

    def _put(self, partners: dict, event: watch.WatchEvent) -> None:
        removed = event.type == watch.WatchEvent.TYPE_REMOVED
        if event.name == "federationSettings":
            self.settings = None if removed else event.federation_settings
        elif event.name.startswith("allowedPartners/"):
            if removed:
                partners.pop(event.name, None)
            else:
                partners[event.name] = event.allowed_partner


class Fault(Exception):
    """The stream broke its own rules."""


class Watchdog:
    """Cancels a call on which nothing is heard for too long: its peer may be gone without a word."""

    def __init__(self, call: grpc.Call, seconds: float):
        self._call, self._seconds = call, seconds
        self._heard = threading.Event()
        self._done = False
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def heard(self) -> None:
        self._heard.set()

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._done = True
        self._heard.set()

    def _watch(self) -> None:
        while self._heard.wait(self._seconds):
            self._heard.clear()
            if self._done:
                return
        self._call.cancel()


def main() -> None:
    options = parse_options()
    prefix = f"informer-{uuid.uuid4().hex[:8]}"
    names = [f"allowedPartners/{prefix}-{number}.example" for number in range(5)]
    with connect(options) as channel:
        partners = AllowedPartnerServiceStub(channel)
        informer = Informer(partners, progress_seconds=1)
        thread = threading.Thread(target=informer.run, daemon=True)
        thread.start()
        try:
            for name in names[:3]:
                create(partners, name)
            in_step(informer, partners, "the copy has what was created")
            informer.interrupt()
            for name in names[3:]:
                create(partners, name)
            delete(partners, names.pop(0))
            in_step(informer, partners, "nothing is missed while there is no stream")
            check(informer.settings is not None, "the settings come on the same stream")
        finally:
            for name in names:
                delete(partners, name)
            in_step(informer, partners, "what is removed leaves the copy")
            informer.stop()
            thread.join()
    print("everything as documented")


def create(partners: AllowedPartnerServiceStub, name: str) -> None:
    domain = name.removeprefix("allowedPartners/")
    partners.CreateAllowedPartner(
        api.CreateAllowedPartnerRequest(
            allowed_partner_id=domain, allowed_partner=model.AllowedPartner()
        ),
        timeout=TIMEOUT_SECONDS,
    )


def delete(partners: AllowedPartnerServiceStub, name: str) -> None:
    request = api.DeleteAllowedPartnerRequest(name=name, allow_missing=True)
    partners.DeleteAllowedPartner(request, timeout=TIMEOUT_SECONDS)


def in_step(informer: Informer, partners: AllowedPartnerServiceStub, promise: str) -> None:
    """Waits until the copy has come to the revision of a listing, and compares the two."""
    listed, request = {}, api.ListAllowedPartnersRequest(page_size=1000)
    while True:
        page = partners.ListAllowedPartners(request, timeout=TIMEOUT_SECONDS)
        listed.update((partner.name, partner) for partner in page.allowed_partners)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    with informer.changed:
        came = informer.changed.wait_for(
            lambda: informer.revision >= page.revision, timeout=TIMEOUT_SECONDS
        )
        check(came and informer.partners == listed, promise)
        print(f"revision {informer.revision}: {len(listed)} partners; {promise}")


if __name__ == "__main__":
    main()

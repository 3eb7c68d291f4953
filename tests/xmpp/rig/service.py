"""The real thing: partnerd, and its agent beside a server. It obeys the same protocol as `Direct`."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from xmpp.federation.v1 import allowed_partner_pb2 as model
from xmpp.federation.v1 import allowed_partner_service_pb2 as api
from xmpp.federation.v1 import federation_settings_pb2 as settings_model
from xmpp.federation.v1 import federation_settings_service_pb2 as settings_api
from xmpp.federation.v1 import replica_pb2, replica_service_pb2
from xmpp.federation.v1.allowed_partner_service_pb2_grpc import AllowedPartnerServiceStub
from xmpp.federation.v1.federation_settings_service_pb2_grpc import FederationSettingsServiceStub
from xmpp.federation.v1.replica_service_pb2_grpc import ReplicaServiceStub

from rig.authority import Answer
from rig.partners import Contents, Partner, Settings
from rig.space import REPOSITORY, RUN, end, spawn, wait_for_port

PORT = 7443
PARTNERD = Path(os.environ.get("PARTNERD", REPOSITORY / "target/debug/partnerd")).resolve()
TIMEOUT_SECONDS = 20.0
WAIT_SECONDS = 15


class Service:
    """A development server of partnerd, and an administrator who calls it."""

    def __init__(self) -> None:
        self.base = RUN / "partnerd"
        shutil.rmtree(self.base, ignore_errors=True)
        self.base.mkdir(parents=True)
        self.data = self.base / "data"
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: grpc.aio.Channel | None = None

    def start(self) -> "Service":
        """Starts it, on the data that is there."""
        argv = [str(PARTNERD), "serve", "--dev", "--data-dir", str(self.data), "--listen", f"127.0.0.1:{PORT}"]
        self.process = spawn(argv, self.base / "out", dict(os.environ), self.base)
        wait_for_port("127.0.0.1", PORT, self.process)
        return self

    def kill(self) -> None:
        """Ends it as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """Ends it."""
        if self.process is not None:
            end(self.process)
            self.process = None

    def token(self, subject: str, role: str) -> str:
        """A token for somebody."""
        argv = [str(PARTNERD), "token", "--data-dir", str(self.data), "--role", role, "--subject", subject]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    def connected(self) -> grpc.aio.Channel:
        """The administrator's connection."""
        if self.channel is None:
            token = (self.data / "admin.token").read_text().strip()
            credentials = grpc.composite_channel_credentials(
                grpc.ssl_channel_credentials((self.data / "ca.pem").read_bytes()),
                grpc.access_token_call_credentials(token),
            )
            # A server that was killed is tried again at once.
            options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]
            self.channel = grpc.aio.secure_channel(f"localhost:{PORT}", credentials, options=options)
        return self.channel


class Agent:
    """An agent beside one server."""

    def __init__(self, service: Service, replica: str, server: str, data: Path, door: Iterable[str]) -> None:
        self.service, self.replica = service, replica
        self.log = service.base / f"{replica}.log"
        token = service.base / f"{replica}.token"
        token.write_text(service.token(replica, "sync-agent"))
        self._argv = [str(PARTNERD), "agent", "--server", server, "--replica", replica]
        self._argv += ["--endpoint", f"https://localhost:{PORT}", "--ca-file", str(service.data / "ca.pem")]
        self._argv += ["--token-file", str(token), "--data-file", str(data), "--status-interval", "1s", *door]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Agent":
        """Starts it."""
        self.process = spawn(self._argv, self.log, dict(os.environ), self.service.base)
        return self

    def kill(self) -> None:
        """Ends it as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """Ends it."""
        if self.process is not None:
            end(self.process)
            self.process = None


class ThroughService:
    """Decides by calls to the service, and waits until the service knows that it is in force."""

    def __init__(self, service: Service, replica: str) -> None:
        self.service, self.replica = service, replica
        self._contents = Contents()

    @property
    def contents(self) -> Contents:
        """What was last put in force."""
        return self._contents

    async def put(self, contents: Contents) -> Answer:
        """Makes the changes, and waits until they are in force. The time is that until the commit."""
        started = time.monotonic()
        revision = await self.commit(contents)
        committed = time.monotonic() - started
        await self._converged(revision)
        return Answer({**(await self._replica()), "result": "ACK"}, committed)

    async def status(self) -> Answer:
        """What the agent reported last."""
        started = time.monotonic()
        return Answer({**(await self._replica()), "result": "ACK"}, time.monotonic() - started)

    async def commit(self, contents: Contents) -> int:
        """Makes the changes and waits for nothing; the revision, 0 if there was nothing to change."""
        before, revision = self._contents, 0
        if contents.settings != before.settings:
            revision = await self._settle(contents.settings)
        partners = AllowedPartnerServiceStub(self.service.connected())
        gone = [domain for domain in before.partners if domain not in contents.partners]
        if gone:
            requests = [api.DeleteAllowedPartnerRequest(name=f"allowedPartners/{d}", allow_missing=True) for d in gone]
            deletion = api.BatchDeleteAllowedPartnersRequest(requests=requests)
            revision = (await partners.BatchDeleteAllowedPartners(deletion, timeout=TIMEOUT_SECONDS)).revision
        changed = [p for domain, p in contents.partners.items() if before.partners.get(domain) != p]
        if changed:
            updates = [
                api.UpdateAllowedPartnerRequest(allowed_partner=_wire(p), update_mask=FieldMask(paths=["*"]), allow_missing=True)
                for p in changed
            ]
            update = api.BatchUpdateAllowedPartnersRequest(requests=updates)
            revision = (await partners.BatchUpdateAllowedPartners(update, timeout=TIMEOUT_SECONDS)).revision
        self._contents = contents
        return revision

    async def _settle(self, settings: Settings) -> int:
        known = {f.name for f in settings_model.FederationSettings.DESCRIPTOR.fields}
        paths = [name for name in settings.__dataclass_fields__ if name in known]
        message = settings_model.FederationSettings(name="federationSettings")
        for path in paths:
            _set(message, path, getattr(settings, path))
        request = settings_api.UpdateFederationSettingsRequest(federation_settings=message, update_mask=FieldMask(paths=paths))
        stub = FederationSettingsServiceStub(self.service.connected())
        return int((await stub.UpdateFederationSettings(request, timeout=TIMEOUT_SECONDS)).revision)

    async def _converged(self, revision: int) -> None:
        request = replica_service_pb2.WaitForConvergenceRequest(revision=revision, timeout=Duration(seconds=WAIT_SECONDS))
        stub = ReplicaServiceStub(self.service.connected())
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            outcome = await stub.WaitForConvergence(request, timeout=TIMEOUT_SECONDS)
            # Nobody has reported yet, right after the agent's start.
            if outcome.replica_count or time.monotonic() > deadline:
                break
        assert outcome.replica_count and outcome.converged, f"not in force within {WAIT_SECONDS} s: {outcome}"

    async def _replica(self) -> dict[str, Any]:
        request = replica_service_pb2.GetReplicaRequest(name=f"replicas/{self.replica}")
        stub = ReplicaServiceStub(self.service.connected())
        found = await stub.GetReplica(request, timeout=TIMEOUT_SECONDS)
        report = found.report
        return {
            "state": replica_pb2.Replica.State.Name(found.state),
            "closed": report.closed_session_count,
            "partners": report.partner_count,
            "sessions": [
                {"domain": one.domain, "inbound": one.inbound_count, "outbound": one.outbound_count} for one in report.sessions
            ],
            "unenforced": [one.property for one in report.unenforced_properties],
            "server": report.server_version,
        }


def _wire(partner: Partner) -> model.AllowedPartner:
    message = model.AllowedPartner(
        name=f"allowedPartners/{partner.domain}",
        additional_domains=partner.additional_domains,
        partner_type=f"PARTNER_TYPE_{partner.partner_type}",
        proxy_fqdn=partner.proxy_fqdn,
        connection_limit=partner.connection_limit,
        keep_alive_enabled=partner.keep_alive_enabled,
        tls_negotiation=f"NEGOTIATION_{partner.tls}",
        sasl_negotiation=f"NEGOTIATION_{partner.sasl}",
        dialback_enabled=partner.dialback,
        suspended=partner.suspended,
    )
    if partner.expire_time is not None:
        message.expire_time.CopyFrom(Timestamp(seconds=partner.expire_time))
    return message


def _set(message: Any, path: str, value: Any) -> None:
    kind = message.DESCRIPTOR.fields_by_name[path]
    if kind.message_type is not None:
        getattr(message, path).CopyFrom(Duration(seconds=value))
    elif kind.enum_type is not None:
        prefix = kind.enum_type.values[0].name.removesuffix("UNSPECIFIED")
        setattr(message, path, kind.enum_type.values_by_name[prefix + value].number)
    else:
        setattr(message, path, value)

"""Partners from Python: create, masked update, list with a filter, and errors with details.

Against a development server (`partnerd serve --dev`), with the client generated beforehand:

    python generate.py generated
    PYTHONPATH=generated python partners.py --data-dir ./partnerd-data

It leaves nothing behind, and fails when the server does not answer as documented.
"""

import argparse
import sys
import time
import tomllib
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from xmpp.federation.v1 import allowed_partner_pb2 as model
from xmpp.federation.v1 import allowed_partner_service_pb2 as api
from xmpp.federation.v1.allowed_partner_service_pb2_grpc import AllowedPartnerServiceStub

DETAILS = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.PreconditionFailure,
    error_details_pb2.ResourceInfo,
    error_details_pb2.RetryInfo,
)
TIMEOUT_SECONDS = 10


def main() -> None:
    options = parse_options()
    domain = f"python-{uuid.uuid4().hex[:8]}.example"
    name = f"allowedPartners/{domain}"
    with connect(options) as channel:
        partners = AllowedPartnerServiceStub(channel)
        create(partners, domain)
        try:
            update(partners, name)
            find(partners, name)
            refuse_two_faults_at_once(partners, name)
            refuse_a_second_one(partners, domain)
        finally:
            partners.DeleteAllowedPartner(
                api.DeleteAllowedPartnerRequest(name=name), timeout=TIMEOUT_SECONDS
            )
    print("everything as documented")


def create(partners: AllowedPartnerServiceStub, domain: str) -> None:
    partner = partners.CreateAllowedPartner(
        api.CreateAllowedPartnerRequest(
            allowed_partner_id=domain.upper(),
            allowed_partner=model.AllowedPartner(
                description="made from Python",
                partner_type=model.PARTNER_TYPE_FEDERATED,
                labels={"made-by": "python"},
            ),
            request_id=str(uuid.uuid4()),
        ),
        timeout=TIMEOUT_SECONDS,
    )
    print(f"created {partner.name} at revision {partner.revision}")
    check(partner.name == f"allowedPartners/{domain}", "the domain is stored in lower case")
    check(partner.tls_negotiation == model.NEGOTIATION_REQUIRED, "defaults are filled in")
    check(partner.dialback_enabled, "defaults are filled in")


def update(partners: AllowedPartnerServiceStub, name: str) -> None:
    partner = partners.UpdateAllowedPartner(
        api.UpdateAllowedPartnerRequest(
            allowed_partner=model.AllowedPartner(
                name=name,
                description="not in the mask, so not looked at",
                sasl_negotiation=model.NEGOTIATION_OPTIONAL,
            ),
            update_mask=FieldMask(paths=["sasl_negotiation"]),
            add_additional_domains=[f"na.{name.removeprefix('allowedPartners/')}"],
        ),
        timeout=TIMEOUT_SECONDS,
    )
    methods = [model.NegotiationMethod.Name(method) for method in partner.negotiation_methods]
    print(f"updated {partner.name}: {', '.join(methods)}")
    check(partner.sasl_negotiation == model.NEGOTIATION_OPTIONAL, "what the mask names changes")
    check(partner.description == "made from Python", "what it does not name stays")
    check(len(partner.additional_domains) == 1, "a domain is added to the list")


def find(partners: AllowedPartnerServiceStub, name: str) -> None:
    request = api.ListAllowedPartnersRequest(
        filter='partner_type = FEDERATED AND labels.made-by = "python"', page_size=100
    )
    found = []
    while True:
        page = partners.ListAllowedPartners(request, timeout=TIMEOUT_SECONDS)
        found.extend(partner.name for partner in page.allowed_partners)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    print(f"found {len(found)} of {page.total_size} at revision {page.revision}")
    check(name in found, "the filter lets the new partner through")


def refuse_two_faults_at_once(partners: AllowedPartnerServiceStub, name: str) -> None:
    error = refused(
        partners.UpdateAllowedPartner,
        api.UpdateAllowedPartnerRequest(
            allowed_partner=model.AllowedPartner(
                name=name,
                connection_limit=1_000_000,
                owner="x" * 1_000,
            ),
            update_mask=FieldMask(paths=["connection_limit", "owner"]),
        ),
    )
    details = show(error)
    check(error.code() == grpc.StatusCode.INVALID_ARGUMENT, "bad values are INVALID_ARGUMENT")
    broken = {
        violation.field
        for detail in details
        if isinstance(detail, error_details_pb2.BadRequest)
        for violation in detail.field_violations
    }
    wanted = {"allowed_partner.connection_limit", "allowed_partner.owner"}
    check(wanted <= broken, f"both faults are named, not {sorted(broken)}")


def refuse_a_second_one(partners: AllowedPartnerServiceStub, domain: str) -> None:
    error = refused(
        partners.CreateAllowedPartner,
        api.CreateAllowedPartnerRequest(
            allowed_partner_id=domain, allowed_partner=model.AllowedPartner()
        ),
    )
    details = show(error)
    check(error.code() == grpc.StatusCode.ALREADY_EXISTS, "a domain belongs to one partner")
    domains = [d.domain for d in details if isinstance(d, error_details_pb2.ErrorInfo)]
    check(domains == ["federation.xmpp"], "every error has one ErrorInfo of our domain")


def refused(method, request) -> grpc.RpcError:
    try:
        method(request, timeout=TIMEOUT_SECONDS)
    except grpc.RpcError as error:
        return error
    sys.exit(f"accepted, but should not be: {request}")


def show(error: grpc.RpcError) -> list:
    """Prints what google.rpc.Status says beyond code and message, and returns it."""
    status = rpc_status.from_call(error)
    check(status is not None, "every error carries a google.rpc.Status")
    print(f"{error.code().name}: {status.message}")
    details = []
    for packed in status.details:
        for kind in DETAILS:
            detail = kind()
            if packed.Unpack(detail):
                details.append(detail)
                for line in str(detail).splitlines():
                    print(f"    {kind.DESCRIPTOR.name}: {line}")
    return details


def check(holds: bool, promise: str) -> None:
    if not holds:
        sys.exit(f"broken promise: {promise}")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path("partnerd-data"),
        help="the development server's folder, with partnerctl.toml, ca.pem and admin.token",
    )
    parser.add_argument(
        "--wait", type=float, default=0, metavar="SECONDS", help="how long to wait for the server"
    )
    return parser.parse_args()


def connect(options: argparse.Namespace) -> grpc.Channel:
    """A channel over TLS that sends the administrator's token with every call."""
    folder = options.data_dir
    deadline = time.monotonic() + options.wait
    endpoint = wait_for(lambda: endpoint_of(folder / "partnerctl.toml"), deadline)
    tls = grpc.ssl_channel_credentials((folder / "ca.pem").read_bytes())
    token = grpc.access_token_call_credentials((folder / "admin.token").read_text().strip())
    credentials = grpc.composite_channel_credentials(tls, token)
    channel = grpc.secure_channel(endpoint, credentials)
    try:
        grpc.channel_ready_future(channel).result(max(1, deadline - time.monotonic()))
    except grpc.FutureTimeoutError:
        sys.exit(f"nobody answers on {endpoint}; is the server running?")
    return channel


def endpoint_of(path: Path) -> str | None:
    """`host:port` from the file that the server writes once it listens."""
    try:
        settings = tomllib.loads(path.read_text())
    except (FileNotFoundError, tomllib.TOMLDecodeError):
        return None
    return urlsplit(settings["endpoint"]).netloc if "endpoint" in settings else None


def wait_for(condition, deadline: float):
    while (found := condition()) is None:
        if time.monotonic() >= deadline:
            sys.exit("no endpoint in partnerctl.toml; start `partnerd serve --dev` first")
        time.sleep(0.1)
    return found


if __name__ == "__main__":
    main()

"""The files of the stock profiles, as the agent's `file` target writes them: the form `list`, and the template
that is shipped for ejabberd."""

import json

import jinja2

from rig.partners import Contents, Partner
from rig.space import REPOSITORY


def _allowed(contents: Contents) -> list[Partner]:
    if contents.settings.mode == "DENY_ALL":
        return []
    ordered = sorted(contents.partners.values(), key=lambda partner: partner.domain)
    return [partner for partner in ordered if not partner.suspended]


def list_file(contents: Contents) -> str:
    """Prosody's `partners.list`."""
    return "".join(f"{name}\n" for partner in _allowed(contents) for name in partner.names())


def acl_file(contents: Contents) -> str:
    """ejabberd's `partners.yml`."""
    template = (REPOSITORY / "enforcers/ejabberd/stock/partners.yml.j2").read_text()
    lines = [json.loads(partner.line()) for partner in _allowed(contents)]
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    return environment.from_string(template).render(partners=lines)

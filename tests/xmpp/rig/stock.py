"""The files of the stock profiles, as docs/enforcement.md section 6 defines them."""

from rig.partners import Contents, Partner


def names(contents: Contents) -> list[str]:
    """The names of the partners that may federate, sorted."""
    return sorted(name for partner in _allowed(contents) for name in partner.names())


def _allowed(contents: Contents) -> list[Partner]:
    if contents.settings.mode != "ALLOW_LISTED":
        return []
    return [partner for partner in contents.partners.values() if not partner.suspended]


def list_file(contents: Contents) -> str:
    """Prosody's `partners.list`."""
    return "".join(f"{name}\n" for name in names(contents))


def acl_file(contents: Contents) -> str:
    """ejabberd's `partners.yml`."""
    trusted = [p for p in _allowed(contents) if p.partner_type != "PUBLIC_UNVERIFIED"]
    lists = {"partners": names(contents), "partners_not_public": sorted(n for p in trusted for n in p.names())}
    return "acl:\n" + "".join(f"  {acl}:\n    server:{_yaml(items)}" for acl, items in lists.items())


def _yaml(items: list[str]) -> str:
    return "".join(f'\n      - "{item}"' for item in items) + "\n" if items else " []\n"

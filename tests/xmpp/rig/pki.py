"""A certificate authority for the rig, and certificates: good ones and self-signed ones.

They carry dNSNames only: an XmppAddr name crashes ejabberd 23.01 in SASL EXTERNAL.
"""

import subprocess
from pathlib import Path

from rig.space import RUN

FOLDER = RUN / "pki"
CA = FOLDER / "ca.pem"

_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=FOLDER)


def make_authority() -> None:
    """Makes the CA that every server of the rig trusts."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not CA.exists():
        _openssl("req", "-x509", *_KEY, "-subj", "/CN=Rig CA", "-keyout", "ca.key", "-out", CA)


def issue(domain: str) -> Path:
    """A certificate for a domain and all names right below it, with its key in one file."""
    bundle = FOLDER / f"{domain}.pem"
    if not bundle.exists():
        names = f"subjectAltName=DNS:{domain},DNS:*.{domain}"
        _openssl(
            "req",
            "-x509",
            *_KEY,
            "-CA",
            CA,
            "-CAkey",
            "ca.key",
            "-subj",
            f"/CN={domain}",
            "-addext",
            names,
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-addext",
            "extendedKeyUsage=serverAuth,clientAuth",
            "-keyout",
            f"{domain}.key",
            "-out",
            f"{domain}.crt",
        )
        bundle.write_text((FOLDER / f"{domain}.crt").read_text() + (FOLDER / f"{domain}.key").read_text())
    return bundle


def self_sign(domain: str) -> Path:
    """A certificate for a domain that nobody trusts, with its key in one file."""
    bundle = FOLDER / f"{domain}-self.pem"
    if not bundle.exists():
        names = f"subjectAltName=DNS:{domain}"
        crt, key = f"{domain}-self.crt", f"{domain}-self.key"
        _openssl("req", "-x509", *_KEY, "-subj", f"/CN={domain}", "-addext", names, "-keyout", key, "-out", crt)
        bundle.write_text((FOLDER / crt).read_text() + (FOLDER / key).read_text())
    return bundle

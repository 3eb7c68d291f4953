"""dnsmasq, the only name server in the namespace."""

from collections.abc import Mapping

from rig.space import NAME_SERVER, ROOT, RUN, environment, spawn, wait_for_port


def start(servers: Mapping[str, str], hosts: Mapping[str, str]) -> None:
    """`servers`: XMPP domain to address. `hosts`: further names, with everything below them, to address."""
    folder = RUN / "dns"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        "no-resolv",
        "no-hosts",
        "bind-interfaces",
        f"listen-address={NAME_SERVER}",
        "local=/test/",
        "user=root",
        "cache-size=0",
    ]
    for domain, ip in servers.items():
        host = f"xmpp.{domain}"
        lines += [f"srv-host=_xmpp-server._tcp.{domain},{host},5269,5,0", f"host-record={host},{ip}"]
    lines += [f"address=/{host}/{ip}" for host, ip in hosts.items()]
    configuration = folder / "dnsmasq.conf"
    configuration.write_text("\n".join(lines) + "\n")
    argv = [str(ROOT / "usr/sbin/dnsmasq"), "--conf-file=" + str(configuration), "--keep-in-foreground", "--pid-file="]
    process = spawn(argv, folder / "log", environment(), folder)
    wait_for_port(NAME_SERVER, 53, process)

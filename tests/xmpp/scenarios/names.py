"""Who lives where in the namespace."""

ONE, ONE_IP = "one.test", "127.0.0.2"
"""Prosody with our module: the server that obeys."""
TWO, TWO_IP = "two.test", "127.0.0.3"
"""A stock Prosody: a partner."""
THREE, THREE_IP = "three.test", "127.0.0.4"
"""A stock Prosody: another partner, or nobody's."""
FOUR, FOUR_IP = "four.test", "127.0.0.5"
"""ejabberd with our module: the other server that obeys."""
REMOTE, REMOTE_IP = "remote.test", "127.0.0.6"
"""The scripted remote; every name below it is there as well."""
PROXY, PROXY_IP = "proxy.test", "127.0.0.7"
"""A host that no SRV record names."""

SERVERS = {ONE: ONE_IP, f"conference.{ONE}": ONE_IP, TWO: TWO_IP, THREE: THREE_IP, FOUR: FOUR_IP}
HOSTS = {REMOTE: REMOTE_IP, PROXY: PROXY_IP}

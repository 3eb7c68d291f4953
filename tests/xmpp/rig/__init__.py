"""The rig: real XMPP servers, DNS, certificates, clients and a scripted remote in one namespace."""

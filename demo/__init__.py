"""Stand-ins for the User, Product, Order and Payment services and an identity provider.

A team that adopts the gateway deletes this folder; neither imports anything of the other.
"""

from demo.run import FREE, PORTS, Demo, processes

__all__ = ["API_KEY", "FREE", "PORTS", "Demo", "processes"]

API_KEY = "bff_demo_key_for_this_machine_only"
"""The partner's key in the gateway's own bff.yaml, which holds its hash: good for nothing but trying."""

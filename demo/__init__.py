"""Stand-ins for the User, Product, Order and Payment services and an identity provider.

A team that adopts the gateway deletes this folder; neither imports anything of the other.
"""

from demo.run import FREE, PORTS, Demo, processes

__all__ = ["FREE", "PORTS", "Demo", "processes"]

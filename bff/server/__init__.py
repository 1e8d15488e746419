"""The public port's own HTTP/1.1: what a request crosses before the edge, below uvicorn's server."""

from bff.server.connection import Connection, ConnectionSettings, connections

__all__ = ["Connection", "ConnectionSettings", "connections"]

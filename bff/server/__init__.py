"""The public port's own HTTP/1.1, HTTP/2 and TLS: what a request crosses before the edge, below uvicorn's server."""

from bff.server.connection import Connection, connections
from bff.server.http2 import http2
from bff.server.listening import Server
from bff.server.settings import ConnectionSettings
from bff.server.tls import Tls, TlsSettings

__all__ = ["Connection", "ConnectionSettings", "Server", "Tls", "TlsSettings", "connections", "http2"]

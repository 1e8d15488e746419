"""What a service manager is told of the gateway's life, as sd_notify(3) has it: systemd's `Type=notify`."""

from __future__ import annotations

import socket
import time
from contextlib import suppress


class ServiceManager:
    """Whoever waits for word at a socket. Where nobody does, nothing is said.

        manager = ServiceManager(os.environ.pop("NOTIFY_SOCKET", None))
        manager.ready()

    Args:
        address: of a datagram socket: a path, or a name that begins with `@`.
    """

    def __init__(self, address: str | None) -> None:
        self._address = f"\0{address[1:]}" if address and address.startswith("@") else address

    def ready(self) -> None:
        """It takes requests, by the newest configuration that can be used."""
        self._say("READY=1")

    def reloading(self) -> None:
        """It reads its configuration again, and says `ready` when that is over."""
        self._say(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """It takes no more requests soon."""
        self._say("STOPPING=1")

    def _say(self, text: str) -> None:
        if self._address:
            # The gateway goes on without whoever was to hear it.
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                manager.setblocking(False)
                manager.sendto(text.encode(), self._address)


NOBODY = ServiceManager(None)

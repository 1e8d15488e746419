"""A server of HTTP/2 over TLS, and a client that is h2's where it keeps to the protocol, and raw where it does not."""

import asyncio
from collections import defaultdict

import h2.config
import h2.connection
import h2.events
import pytest

from bff.core.certificates import Observed
from bff.core.telemetry import Telemetry
from bff.server import Tls, TlsSettings
from tests.pki import Authority

GOAWAY = 7
ASK = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/a?b=1")]


class Client:
    """One connection.

    Attributes:
        headers, bodies, resets: by stream, as they come.
        over: streams that have ended.
        goaways: what the server said at the end, as (last stream, code).
        raw: all that came, for what h2 does not tell.
    """

    def __init__(self, reader, writer, *, window=None, reads=True):
        self.reader, self.writer, self.error = reader, writer, None
        config = h2.config.H2Configuration(
            header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)
        self.headers, self.bodies, self.resets = defaultdict(list), defaultdict(bytes), {}
        self.over, self.goaways, self.events = set(), [], []
        self.ended = False
        self._news = asyncio.Condition()
        self.h2.initiate_connection()
        if window is not None:
            self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.flush()
        self._reading = asyncio.create_task(self._read()) if reads else None
        self.gives_window = window is None

    def flush(self):
        self.writer.write(self.h2.data_to_send())

    def raw(self, data):
        self.writer.write(data)

    def ask(self, headers=ASK, body=None, *, ended=True):
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, headers, end_stream=body is None and ended)
        if body is not None:
            self.h2.send_data(number, body, end_stream=ended)
        self.flush()
        return number

    async def answer(self, number):
        """Status, headers and body; None where the stream was reset."""
        await self.until(lambda: number in self.over or number in self.resets or self.ended)
        if number not in self.over:
            return None
        headers = dict(self.headers[number][-1])
        return int(headers.pop(b":status")), headers, self.bodies[number]

    async def until(self, condition):
        async with asyncio.timeout(30), self._news:
            await self._news.wait_for(condition)

    async def closed(self):
        """The code with which the server said goodbye, once the connection has ended."""
        await self.until(lambda: self.ended)
        return self.goaways[-1][1] if self.goaways else None

    async def _read(self):
        try:
            while True:
                head = await self.reader.readexactly(9)
                data = head + await self.reader.readexactly(int.from_bytes(head[:3]))
                if head[3] == GOAWAY:  # after which h2 would hear nothing more
                    self.goaways.append((int.from_bytes(data[9:13]), int.from_bytes(data[13:17])))
                else:
                    for event in self.h2.receive_data(data):
                        self._heard(event)
                    self.flush()
                async with self._news:
                    self._news.notify_all()
        except (OSError, asyncio.IncompleteReadError, h2.exceptions.ProtocolError) as error:
            self.error = error
        self.ended = True
        async with self._news:
            self._news.notify_all()

    def _heard(self, event):
        self.events.append(event)
        match event:
            case h2.events.ResponseReceived() | h2.events.InformationalResponseReceived():
                self.headers[event.stream_id].append(event.headers)
            case h2.events.DataReceived():
                self.bodies[event.stream_id] += event.data
                if self.gives_window:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self.over.add(event.stream_id)
            case h2.events.StreamReset():
                self.resets[event.stream_id] = event.error_code


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
async def http2(serve, authority):
    """Serve an app; what comes back makes clients: `connect = await http2(app); client = await connect()`."""
    clients = []

    async def start(app, **settings):
        telemetry = Telemetry()
        pair = authority.issue("server", names=("DNS:localhost",))
        tls = Tls(TlsSettings(**pair.settings), ("h2", "http/1.1"), Observed(telemetry), telemetry)
        connect = await serve(app, tls=tls, **settings)

        async def client(**options):
            made = await connect(ssl=authority.client(alpn=("h2",)), server_hostname="localhost")
            assert made.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
            clients.append(Client(made.reader, made.writer, **options))
            return clients[-1]

        client.server = connect.server
        client.port = connect.port
        return client

    yield start
    for each in clients:
        if each._reading:
            each._reading.cancel()

"""What the rules read of a request: its values, one a line, with the codings undone that attacks hide in."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote, unquote_plus

import orjson

# Their values are dates, types, lengths and ids by their own grammars, or secrets; the guard has judged their form.
_UNREAD = frozenset(
    b"accept accept-charset accept-encoding authorization connection content-length content-type date expect host"
    b" if-match if-modified-since if-none-match if-unmodified-since keep-alive origin range sec-ch-ua"
    b" sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user te traceparent"
    b" tracestate transfer-encoding upgrade-insecure-requests x-api-key x-request-id"
    b" cache-control pragma dnt priority access-control-request-headers access-control-request-method".split()
)
_UPLOADS = frozenset((b"x-filename", b"x_filename", b"x-file-name", b"x.filename"))
_STRUCTURED = (b"/json", b"+json", b"/xml", b"+xml")
_TEXTS = frozenset((b"", b"application/x-www-form-urlencoded", b"multipart/form-data"))
_MOST_VALUES = 10_000

_HOST = re.compile(r"^https?://[^/?#]*")
_BLANKS = re.compile(r"[ \t\f\x00\x85\xa0\u2000-\u200d\u2028\u2029]+")
_BREAKS = re.compile(r"[\r\n\v]{1,2}")
_ESCAPES = re.compile(r"\\(?:u\{?([0-9a-fA-F]{4})\}?|x([0-9a-fA-F]{2})|u\{([0-9a-fA-F]{1,6})\})")
_COMMENTS = re.compile(r"/\*[^!+].*?\*/|/\*\*/")
_SHELL = re.compile(r"""['"\\^`]|\$[@*?!#_-](?=\w)|\$u(?=\W)|\$\{IFS[^}]*\}|\$IFS(?:\$\d)?|\{u\}""")
_PLAIN = re.compile(r"(?:[\w,.:@/\n-]| (?! ))*", re.ASCII)  # nothing in it to undo
_WIDE = re.compile(r"[^\x00-\x7f]")


def text_of(values: Iterable[str]) -> str:
    """All values as the rules want them, each in a line of its own, and again where another reader would see more."""
    values = list(values)
    together = "\n".join(values)
    if _PLAIN.fullmatch(together) and together.count("\n") == len(values) - 1:
        return together
    lines: dict[str, None] = {}
    for value in values:
        for form in _forms(value):
            lines[form] = None
    return "\n".join(lines)


def _forms(value: str) -> Iterator[str]:
    value = _decoded(value)
    plain = _BLANKS.sub(" ", _BREAKS.sub("\v", value))
    yield plain
    if "/*" in plain and (bare := _COMMENTS.sub(" ", plain)) != plain:
        yield _BLANKS.sub(" ", bare)
    # Shells join what quotes and empty variables part: c''url, c$@url.
    if (joined := _SHELL.sub("", plain)) != plain:
        yield joined.replace("\v", " ")


def _decoded(value: str) -> str:
    for _ in range(2):
        before = value
        if "%" in value:
            value = unquote(value)
        if "&" in value:
            value = html.unescape(value)
        if "\\" in value:
            value = _ESCAPES.sub(_character, value)
        if value == before:
            break
    return unicodedata.normalize("NFKC", value) if _WIDE.search(value) else value


def _character(escape: re.Match[str]) -> str:
    code = int(escape[1] or escape[2] or escape[3], 16)
    return chr(code) if code < 0x110000 else escape[0]


def query_values(query: bytes) -> Iterator[str]:
    """Names and values of a query string or a form."""
    for pair in query.decode("utf-8", "replace").split("&", _MOST_VALUES):
        name, _, value = pair.partition("=")
        if name:
            yield unquote_plus(name)
        if value:
            yield unquote_plus(value)


def header_values(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[str]:
    """Of all headers that carry what a client makes up; of cookies each name and value."""
    for name, value in headers:
        if name == b"cookie":
            for cookie in value.decode("latin-1").split(";"):
                key, _, content = cookie.strip().partition("=")
                yield unquote_plus(key)
                yield unquote_plus(content)
        elif name == b"referer":
            # Where a page stands is no value: only what follows its host may have been made up.
            yield from re.split(r"[/?&=#]", unquote_plus(_HOST.sub("", value.decode("utf-8", "replace"))))
        elif name not in _UNREAD and name not in _UPLOADS:
            yield value.decode("utf-8", "replace")


def upload_names(headers: Iterable[tuple[bytes, bytes]], body: str = "") -> Iterator[str]:
    """What files are said to be called."""
    for name, value in headers:
        if name in _UPLOADS:
            yield value.decode("utf-8", "replace")
    for found in re.finditer(r"(?i)content-disposition:[^\r\n]*?name\*?=\s*(?:\"([^\"\r\n]*)|([^;\s]+))", body):
        yield found[1] or found[2] or ""
    for found in re.finditer(
        r"(?i)content-disposition:[^\r\n]*?filename\*?=\s*(?:[\w-]*'')?(?:\"([^\"\r\n]*)|'([^'\r\n]*)|([^;\s]+))", body
    ):
        yield found[1] or found[2] or found[3] or ""


def json_values(body: bytes) -> Iterator[str]:
    """Every string and name of a JSON text, however deep."""
    try:
        pending = [orjson.loads(body)]
    except orjson.JSONDecodeError:
        yield body.decode("utf-8", "replace")  # for a reader that is less strict
        return
    yield from strings_of(pending)


def strings_of(pending: list[Any]) -> Iterator[str]:
    """Every string and name in values that came as JSON."""
    count = 0
    while pending and count < _MOST_VALUES:
        value = pending.pop()
        count += 1
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from value
            pending += value.values()
        elif isinstance(value, list):
            pending += value


def xml_values(body: str) -> Iterator[str]:
    """Attributes and text; what stands in angle brackets is markup and no attack by itself."""
    head = re.match(r"\s*<\?xml[^>]{0,100}\?>", body)
    body = body[head.end() :] if head else body
    if "<!" in body:
        yield body
    for found in re.finditer(r"=\s*(?:\"([^\"]*)\"|'([^']*)')|>([^<]+)<", body):
        yield found[1] or found[2] or found[3] or ""


def text_type(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The media type of a body that has values which can be read, in lower case; None without such a body."""
    kind, has_body = b"", False
    for name, value in headers:
        if name == b"content-type":
            kind = value.partition(b";")[0].strip().lower()
        elif name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            has_body = True
    return kind if has_body and (kind in _TEXTS or kind.startswith(b"text/") or kind.endswith(_STRUCTURED)) else None


def body_values(kind: bytes, body: bytes) -> Iterator[str]:
    """The values of a body of that media type, in lower case; nothing of one that is no text."""
    if kind.endswith((b"/json", b"+json")):
        yield from json_values(body)
    elif kind == b"application/x-www-form-urlencoded" or not kind:
        yield from query_values(body)
    elif kind.endswith((b"/xml", b"+xml")):
        yield from xml_values(body.decode("utf-8", "replace"))
    elif kind.startswith(b"text/"):
        text = body.decode("utf-8", "replace")
        yield text
        if text[:1] in "{[":
            yield from json_values(body)
        else:
            yield from query_values(body)
    elif kind == b"multipart/form-data":
        for part in re.split(r"(?:^|\r?\n)--[^\r\n]*", body.decode("utf-8", "replace")):
            _, _, content = part.strip("\r\n").partition("\r\n\r\n")
            yield content

"""Query parameters of lists: ids of a batch, the position and size of a page."""

from starlette.requests import Request

from demo.ids import number_of
from demo.problems import Problem

MAX_BATCH = 500
MAX_PAGE, DEFAULT_PAGE = 200, 20


def parameters(request: Request, *names: str) -> dict[str, str]:
    """Those that were sent, each at most once; parameters that the service doesn't know say nothing to it."""
    sent = {}
    for name, value in request.query_params.multi_items():
        if name in sent:
            raise Problem(400, f"{name} was sent more than once")
        if name in names:
            sent[name] = value
    return sent


def batch(name: str, sent: dict[str, str], *, beside: tuple[str, ...] = ()) -> list[str]:
    """The ids in one comma-separated parameter, which goes with none but those named in `beside`."""
    if others := sorted(set(sent) - {name, *beside}):
        raise Problem(400, f"{name} goes without {' and '.join(others)}")
    ids = sent[name].split(",")
    if len(ids) > MAX_BATCH:
        raise Problem(400, f"{len(ids)} ids are more than {MAX_BATCH}")
    if "" in ids:
        raise Problem(400, f"{name} has an empty id")
    return ids


def whole(name: str, sent: dict[str, str], default: int, most: int) -> int:
    text = sent.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise Problem(400, f"{name} is a number from 1 to {most}")
    return int(text)


def page_size(sent: dict[str, str]) -> int:
    return whole("limit", sent, DEFAULT_PAGE, MAX_PAGE)


def position(prefix: str, sent: dict[str, str]) -> int | None:
    """The number in `cursor`, the id of the last item seen."""
    if "cursor" not in sent:
        return None
    number = number_of(prefix, sent["cursor"])
    if number is None:
        raise Problem(400, f"cursor is the id of the last item seen, such as {prefix}20")
    return number

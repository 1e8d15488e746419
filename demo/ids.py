"""Ids such as `usr_7`: a prefix for the type and, in these services, the number of a row."""

import re

IDS = re.compile(r"[a-z]{3}_([1-9][0-9]{0,17})")


def number_of(prefix: str, text: str) -> int | None:
    """None for what is no id of that type, `usr_007` among it."""
    match = IDS.fullmatch(text)
    return int(match[1]) if match and text.startswith(prefix) else None


def numbers_of(prefix: str, texts: list[str]) -> list[int]:
    numbers = (number_of(prefix, text) for text in texts)
    return [number for number in numbers if number is not None]

"""`auth.api_keys_file`: API keys that come and go without a restart. `bff keys` writes it, the gateway follows it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path

import yaml

from bff.core import loading
from bff.core.files import locked, replace
from bff.core.loading import ConfigError, did_you_mean
from bff.core.settings import Complaint, Settings
from bff.core.telemetry import Telemetry
from bff.edge.credentials.api_keys import ApiKeys, ApiKeySettings, is_called, shown, the_one_called

LIVE_KEYS = 2  # of one consumer: the one in use, and the one that takes its place
_SHOWN = 4  # of a key's 43 random characters


class KeysFile(Settings):
    """What is in the file: a list of entries as in `auth.api_keys`."""

    keys: tuple[ApiKeySettings, ...] = ()

    def problems(self) -> Iterable[Complaint]:
        seen: dict[str, int] = {}
        for index, key in enumerate(self.keys):
            if seen.setdefault(key.hash, index) != index:
                yield ("keys", index, "hash"), f"must differ from that of entry {seen[key.hash]}"


def read(path: Path, tiers: Iterable[str], taken: Iterable[ApiKeySettings] = ()) -> tuple[ApiKeySettings, ...]:
    """The keys in the file.

    Args:
        path: where it is.
        tiers: those that a key may be of.
        taken: the keys of the configuration, which the file must not have too.

    Raises:
        ConfigError: with every problem that there is.
    """
    keys = loading.load(KeysFile, loading.read_text(path), source=str(path), list_of="keys").config.keys
    elsewhere = {each.hash for each in taken}
    for index, key in enumerate(keys):
        _check_tier(f"{path}[{index}].tier", key, tiers)
        if key.hash in elsewhere:
            raise ConfigError.of(
                f"{path}[{index}].hash", "the configuration has this key too: remove it from one of them"
            )
    return keys


def _check_tier(where: str, key: ApiKeySettings, tiers: Iterable[str]) -> None:
    if key.tier not in {*tiers, "default"}:
        raise ConfigError.of(where, f"there is no tier {key.tier!r}{did_you_mean(key.tier, tiers)}")


def write(path: Path, keys: Sequence[ApiKeySettings]) -> None:
    """Replace the file: whoever reads it sees all of the old one or all of the new one.

    Raises:
        ConfigError: it cannot be written; nothing has changed.
    """
    entries = [each.model_dump(mode="json", exclude_defaults=True) for each in keys]
    text = "# API keys by their hash. `bff keys` writes this file, and the gateway follows it.\n"
    text += yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)
    try:
        replace(path, text.encode())
    except OSError as error:
        raise _unwritable(path, error) from None


def new_key(
    consumer: str, scopes: Sequence[str] = (), tier: str = "default", *, now: float, expires: float | None = None
) -> tuple[str, ApiKeySettings]:
    """A key, and what may be kept of it."""
    beginning = f"bff_{consumer}_"
    key = beginning + secrets.token_urlsafe(32)
    return key, ApiKeySettings(
        consumer=consumer,
        hash=f"sha256:{sha256(key.encode()).hexdigest()}",
        scopes=tuple(scopes),
        tier=tier,
        prefix=key[: len(beginning) + _SHOWN],
        created=float(int(now)),
        expires=expires,
    )


def add(path: Path, key: ApiKeySettings, tiers: Iterable[str], others: Sequence[ApiKeySettings], now: float) -> None:
    """Put one more key into the file, which is made if there is none.

    Args:
        path: where it is.
        key: what `new_key` gave.
        tiers: those that a key may be of.
        others: the keys of the configuration.
        now: seconds since 1970.

    Raises:
        ConfigError: its consumer has two keys already, or the file cannot be read or written.
    """
    with _locked(path):
        keys = read(path, tiers, others) if path.exists() else ()
        _check_tier("tier", key, tiers)
        live = [each for each in (*others, *keys) if each.consumer == key.consumer and not has_expired(each, now)]
        if len(live) >= LIVE_KEYS:
            names = " and ".join(shown(each) for each in live)
            raise ConfigError.of(str(path), f"{key.consumer} has {names}: revoke one of them before it gets another")
        write(path, [*keys, key])


def revoke(path: Path, name: str, tiers: Iterable[str], others: Sequence[ApiKeySettings]) -> ApiKeySettings:
    """Take a key out of the file.

    Args:
        path: where it is.
        name: how the key or its hash begins, as `bff keys list` shows it.
        tiers: those that a key may be of.
        others: the keys of the configuration.

    Raises:
        ConfigError: there is no such key, or more than one, or the file cannot be read or written.
    """
    with _locked(path):
        keys = read(path, tiers, others) if path.exists() else ()
        found = the_one_called(name, keys, str(path))
        write(path, [each for each in keys if each is not found])
    return found


def has_expired(key: ApiKeySettings, now: float) -> bool:
    return key.expires is not None and now >= key.expires


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(path))
        except OSError as error:
            raise _unwritable(path, error) from None
        yield


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError.of(str(path), f"can't be written: {str(error.strerror).lower()}")


class Followed:
    """Keeps `keys` as the file has them.

    Args:
        path: where it is.
        keys: where its keys are added.
        every: seconds between two looks.
        telemetry: where changes are said, and what is wrong with the file.

    Raises:
        ConfigError: the file cannot be used as it is at the start.
    """

    def __init__(self, path: Path, keys: ApiKeys, every: float, telemetry: Telemetry) -> None:
        self._path = path
        self._keys = keys
        self._every = every
        self._telemetry = telemetry
        if not path.exists():
            raise ConfigError.of("auth.api_keys_file", f"there is no file {path}: `bff keys create` makes it")
        self._one_at_a_time = asyncio.Lock()
        self._seen = self._signature()
        self._entries = self._read()
        keys.add(self._entries)

    async def follow(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - whatever it is, revoked keys must not work for ever after it
                self._telemetry.log.warning("api_keys_file", problem=type(error).__name__, kept=len(self._entries))

    async def revoke(self, name: str) -> ApiKeySettings:
        """Take a key out of the file, and refuse it from now on; raises as `revoke` does.

        It may be that another process has taken it out a moment ago.
        """
        known = [each for each in self._entries if is_called(each, name)]
        try:
            revoked = await asyncio.to_thread(revoke, self._path, name, self._keys.tiers, self._keys.configured)
        except ConfigError:
            await self.look()
            if len(known) != 1 or known[0] in self._entries:
                raise
            return known[0]
        await self.look()
        return revoked

    async def look(self) -> None:
        """Take over what has changed; a file that cannot be used changes nothing."""
        async with self._one_at_a_time:  # what was read first is not to count last
            signature = await asyncio.to_thread(self._signature)
            if signature == self._seen:
                return
            try:
                entries = await asyncio.to_thread(self._read)
            except ConfigError as error:
                self._seen = signature
                self._telemetry.log.warning("api_keys_file", problem=str(error), kept=len(self._entries))
            else:
                self._seen = signature  # not before, since who asks for a look may leave
                self._take(entries)

    def _take(self, entries: Sequence[ApiKeySettings]) -> None:
        before, self._entries = self._entries, entries
        self._keys.add(entries)
        for action, changed in (("api_key_added", _less(entries, before)), ("api_key_removed", _less(before, entries))):
            for key in changed:
                self._telemetry.audit(action, consumer=key.consumer, key=shown(key), scopes=key.scopes, tier=key.tier)

    def _read(self) -> Sequence[ApiKeySettings]:
        return read(self._path, self._keys.tiers, self._keys.configured)

    def _signature(self) -> object:
        """What differs whenever the content does, also where a link is turned to another file."""
        try:
            found = self._path.stat()
        except OSError as error:
            return error.errno
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _less(keys: Iterable[ApiKeySettings], others: Iterable[ApiKeySettings]) -> list[ApiKeySettings]:
    known = set(others)
    return [each for each in keys if each not in known]

"""API keys that come and go while the gateway runs."""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import stat
import threading
from hashlib import sha256
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from bff.cli import main
from bff.core.errors import Unauthenticated
from bff.core.loading import ConfigError
from bff.edge.credentials import AuthSettings, Credentials, keys_file
from bff.edge.credentials.api_keys import ApiKeySettings
from tests.edge.test_auth import Clock, Provider
from tests.harness import BFF_YAML, PARTNER, gateway


def bff(*arguments: str):
    return CliRunner().invoke(main, [*arguments])


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "bff.yaml"
    path.write_text(BFF_YAML.replace("auth:", "auth:\n  api_keys_file: keys.yaml", 1))
    return path


@pytest.fixture
def file(config) -> Path:
    return config.parent / "keys.yaml"


def created(config: Path, consumer: str = "acme", *more: str) -> str:
    ran = bff("keys", "create", "--consumer", consumer, "-c", str(config), *more)
    assert ran.exit_code == 0, ran.stderr
    key, hashed = ran.stdout.splitlines()
    assert hashed == f"sha256:{sha256(key.encode()).hexdigest()}"
    return key


async def reads(shop, key: str) -> int:
    return (await shop.client.get("/api/users/usr_1", headers={"x-api-key": key})).status_code


def following(file: Path):
    shop = gateway(BFF_YAML, auth={"api_keys_file": str(file)})
    return shop, shop.app.state.credentials


# bff keys


def test_a_key_is_256_random_bits_and_the_file_has_only_its_hash_and_its_beginning(config, file):
    key = created(config, "acme", "--scope", "users:read", "--scope", "orders:read", "--tier", "partner")
    random = re.fullmatch(r"bff_acme_([A-Za-z0-9_-]{43})", key)[1]
    (entry,) = yaml.safe_load(file.read_text())
    assert (entry["scopes"], entry["tier"]) == (["users:read", "orders:read"], "partner")
    assert entry["prefix"] == f"bff_acme_{random[:4]}"
    assert random[4:] not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir() if path.name.startswith(".")] == []


def test_a_consumer_has_two_keys_so_that_one_can_take_the_others_place_and_no_third(config):
    first = created(config)
    created(config)
    refused = bff("keys", "create", "--consumer", "acme", "-c", str(config))
    assert refused.exit_code == 1
    assert "revoke one of them" in refused.stderr
    assert refused.stdout == ""
    created(config, "globex")
    assert bff("keys", "revoke", first[:13], "-c", str(config)).exit_code == 0
    created(config)


def test_an_expired_key_is_in_nobodys_way(config):
    for _ in range(3):
        created(config, "acme", "--expires", "2024-01-31")


def test_keys_are_listed_with_what_they_may_do_and_where_they_are(config, file):
    key = created(config, "acme", "--scope", "users:read", "--expires", "2031-01-31T12:00:00Z")
    created(config, "globex", "--expires", "2024-01-31")
    lines = bff("keys", "list", "-c", str(config)).stdout.splitlines()
    partner, acme, globex = (line.split() for line in lines[1:])
    assert partner[0] == f"sha256:{sha256(PARTNER.encode()).hexdigest()[:12]}"
    assert partner[-1] == str(config)
    assert acme[:4] == [key[:13], "acme", "default", "users:read"]
    assert acme[-2:] == ["2031-01-31T12:00:00Z", str(file)]
    assert globex[-2] == "expired"
    assert key not in "".join(lines)


@pytest.mark.parametrize("name", ["bff_acme_", "bff", "", "sha256:", "sha256:1", "acme"])
def test_a_key_is_revoked_by_a_name_that_means_it_alone(config, file, name):
    created(config)
    before = file.read_text()
    refused = bff("keys", "revoke", name, "-c", str(config))
    assert refused.exit_code == 1
    assert "no key is called so" in refused.stderr
    assert file.read_text() == before


def test_a_key_of_the_configuration_is_not_revoked_there(config):
    hashed = sha256(PARTNER.encode()).hexdigest()
    assert bff("keys", "revoke", f"sha256:{hashed}", "-c", str(config)).exit_code == 1


def test_a_file_that_is_a_link_stays_one_and_keeps_its_mode(config, file):
    real = file.parent / "real.yaml"
    real.write_text("")
    real.chmod(0o640)
    file.symlink_to(real)
    created(config)
    assert file.is_symlink()
    assert len(yaml.safe_load(real.read_text())) == 1
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- {consumer: acme}", "hash"),
        ("- {consumer: acme, hash: bff_acme_pasted_the_key_itself}", "sha256:"),
        ("- {consumer: acme, hash: HASH, tier: gold}", "tier"),
        ("- {consumer: acme, hash: HASH, scope: [x]}", "did you mean `scopes`"),
        ("- {consumer: acme, hash: HASH}\n- {consumer: b, hash: HASH}", "must differ"),
        ("- {consumer: acme, hash: PARTNER}", "the configuration has this key too"),
        ("- [", "keys.yaml"),
        ("7", "keys.yaml"),
        ("\0", "keys.yaml"),
    ],
)
def test_a_broken_file_is_left_alone_and_it_is_said_what_is_wrong_with_it(config, file, text, says):
    known = "sha256:" + sha256(PARTNER.encode()).hexdigest()
    file.write_text(text.replace("HASH", "sha256:" + "a" * 64).replace("PARTNER", known))
    before = file.read_bytes()
    for command in (["create", "--consumer", "globex"], ["revoke", "x"], ["list"]):
        ran = bff("keys", *command, "-c", str(config))
        assert ran.exit_code == 1
        assert says in ran.stderr
        assert "pasted_the_key" not in ran.stderr
        assert isinstance(ran.exception, SystemExit)
    assert file.read_bytes() == before
    checked = bff("check", "-c", str(config))
    assert checked.exit_code == 1
    assert says in checked.stderr


def test_a_tier_that_does_not_exist_or_a_date_that_is_none_makes_no_key(config, file):
    for arguments in (["--tier", "gold"], ["--expires", "soon"], ["--scope", "a b"]):
        ran = bff("keys", "create", "--consumer", "acme", "-c", str(config), *arguments)
        assert (ran.exit_code, ran.stdout) == (1, "")
        assert isinstance(ran.exception, SystemExit)
        assert not file.exists()


def _create(path: str, number: int) -> None:
    _, entry = keys_file.new_key(f"c{number}", now=0)
    keys_file.add(Path(path), entry, (), (), 0)


def test_writers_at_the_same_time_lose_nothing(file):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_create, args=(str(file), number)) for number in range(3)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    assert {each.consumer for each in keys_file.read(file, ())} == {"c0", "c1", "c2"}


# The gateway


async def test_a_new_key_works_and_a_revoked_one_stops_without_a_restart(config, file):
    first = created(config, "acme", "--scope", "users:read", "--scope", "users:admin")
    shop, credentials = following(file)
    assert (await reads(shop, first), await reads(shop, PARTNER)) == (200, 200)
    second = created(config, "acme", "--scope", "users:read", "--scope", "users:admin")
    assert await reads(shop, second) == 401
    await credentials._file.look()
    assert (await reads(shop, first), await reads(shop, second)) == (200, 200)
    bff("keys", "revoke", first[:13], "-c", str(config))
    await credentials._file.look()
    assert (await reads(shop, first), await reads(shop, second), await reads(shop, PARTNER)) == (401, 200, 200)
    changes = [line for line in shop.log if line["event"] == "audit" and line["action"].startswith("api_key")]
    assert [(line["action"], line["consumer"], line["key"]) for line in changes] == [
        ("api_key_added", "acme", second[:13]),
        ("api_key_removed", "acme", first[:13]),
    ]


async def test_the_file_is_followed_within_the_time_that_the_configuration_says(config, file):
    created(config)
    before = file.read_text()
    key = created(config, "globex", "--scope", "users:read", "--scope", "users:admin")
    after = file.read_text()
    file.write_text(before)
    shop = gateway(BFF_YAML, auth={"api_keys_file": str(file), "api_keys_refresh": "50ms"})
    async with shop.app.router.lifespan_context(shop.app), asyncio.timeout(30):
        assert await reads(shop, key) == 401
        file.write_text(after)
        while await reads(shop, key) != 200:  # noqa: ASYNC110 - nothing tells when
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("text", [None, "- {consumer: acme}", "\0", "- {consumer: acme, hash: bff_acme_pasted}"])
async def test_a_file_that_cannot_be_used_changes_nothing_and_is_said_once(config, file, text):
    key = created(config, "acme", "--scope", "users:read", "--scope", "users:admin")
    shop, credentials = following(file)
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    for _ in range(3):
        await credentials._file.look()
    assert await reads(shop, key) == 200
    (line,) = [line for line in shop.log if line["event"] == "api_keys_file"]
    assert (line["level"], line["kept"]) == ("warning", 1)
    assert str(file) in line["problem"]
    assert "bff_acme_pasted" not in line["problem"]
    file.write_text("")
    await credentials._file.look()
    assert await reads(shop, key) == 401


def test_a_gateway_does_not_start_without_the_file_that_it_is_to_follow(tmp_path):
    with pytest.raises(ConfigError, match=r"keys\.yaml"):
        gateway(BFF_YAML, auth={"api_keys_file": str(tmp_path / "keys.yaml")})


async def test_a_key_is_refused_from_the_time_on_that_it_expires():
    clock = Clock()
    key, entry = keys_file.new_key("acme", now=clock.now, expires=clock.now + 60)
    held = Credentials(AuthSettings(api_keys=(entry,)), Provider(), clock)
    assert (await held.identify([(b"x-api-key", key.encode())])).consumer == "acme"
    clock.now += 60
    with pytest.raises(Unauthenticated, match="expired"):
        await held.identify([(b"x-api-key", key.encode())])


def test_dates_are_times_in_utc_unless_they_say_otherwise():
    known = {"consumer": "a", "hash": "sha256:" + "a" * 64}
    for written, seconds in (
        ("1970-01-02", 86400),
        ("1970-01-01T00:00:10Z", 10),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1970-01-01 00:01", 60),
    ):
        assert ApiKeySettings.model_validate(known | {"expires": written}).expires == seconds
    for wrong in ("soon", "2027-13-01", True, None, []):
        if wrong is not None:
            with pytest.raises(ValueError, match="date or time"):
                ApiKeySettings.model_validate(known | {"expires": wrong})


class Slow:
    """Reads the file as it is, and gives what it has read when it is let go."""

    def __init__(self, monkeypatch) -> None:
        self.began, self.go, self._read = threading.Event(), threading.Event(), keys_file.read
        monkeypatch.setattr(keys_file, "read", self.read)

    async def look(self, credentials) -> asyncio.Task[None]:
        """A look that has read the file, and not yet taken over what is in it."""
        looking = asyncio.create_task(credentials._file.look())
        await asyncio.to_thread(self.began.wait, 30)
        return looking

    def read(self, *arguments):
        found = self._read(*arguments)
        if not self.began.is_set():
            self.began.set()
            assert self.go.wait(30)
        return found


async def test_what_was_read_first_does_not_count_last(config, file, monkeypatch):
    created(config, "first")
    shop, credentials = following(file)
    key, slow = created(config, "second"), Slow(monkeypatch)
    earlier = await slow.look(credentials)
    keys_file.revoke(file, f"sha256:{sha256(key.encode()).hexdigest()}", (), ())
    later = asyncio.create_task(credentials._file.look())
    await asyncio.wait({later}, timeout=0.1)
    slow.go.set()
    await asyncio.gather(earlier, later)
    assert await reads(shop, key) == 401


async def test_a_change_is_not_missed_because_who_asked_for_a_look_has_left(config, file, monkeypatch):
    created(config, "first")
    shop, credentials = following(file)
    key, slow = created(config, "second"), Slow(monkeypatch)
    leaving = await slow.look(credentials)
    leaving.cancel()
    slow.go.set()
    await asyncio.wait({leaving})
    await credentials._file.look()
    assert await reads(shop, key) != 401

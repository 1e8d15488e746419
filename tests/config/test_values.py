from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from bff.core.loading import ConfigError, load
from bff.core.settings import Duration, File, Network, Percent, Rate, Secret, Settings, Size, Url

DURATION, SIZE, PERCENT, RATE, URL = map(TypeAdapter, (Duration, Size, Percent, Rate, Url))


def written(adapter, value):
    return adapter.dump_python(value, mode="json")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("2s", 2),
        ("1.5s", 1.5),
        ("5m", 300),
        ("1h", 3600),
        ("1d", 86400),
        ("0s", 0),
        (3, 3),
        (0.5, 0.5),
    ],
)
def test_a_duration_is_seconds(text, seconds):
    assert DURATION.validate_python(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "2", "2 s", "s", "-1s", "1h30m", "2S", "1e3s", "3651d", "٣s", "2s\n", True, -1, math.nan, math.inf, 10**400],
)
def test_what_is_no_duration_is_refused_with_examples(text):
    with pytest.raises(ValidationError, match="must be a duration such as 250ms, 2s, 5m, 1h or 1d"):
        DURATION.validate_python(text)


@given(st.integers(0, 10**9), st.sampled_from(["ms", "s", "m", "h", "d"]), st.integers(0, 999))
def test_a_duration_reads_back_as_it_is_written(whole, unit, fraction):
    try:
        seconds = DURATION.validate_python(f"{whole}.{fraction:03}{unit}")
    except ValidationError:
        assert whole >= 3650
        return
    assert DURATION.validate_python(written(DURATION, seconds)) == seconds


def test_a_duration_is_written_in_whole_units():
    assert [written(DURATION, each) for each in (0.1, 0.0015, 0, 2, 90, 300, 86400)] == [
        "100ms",
        "1.500ms",
        "0s",
        "2s",
        "90s",
        "5m",
        "1d",
    ]


@pytest.mark.parametrize(("text", "size"), [("512B", 512), ("64KB", 65536), ("2MB", 2097152), ("1GB", 2**30), (7, 7)])
def test_a_size_is_bytes_and_a_kilobyte_is_1024(text, size):
    assert SIZE.validate_python(text) == size


@pytest.mark.parametrize("text", ["", "64", "64kb", "1.5MB", "2 MB", "-1KB", "9999999GB", True, 1.5, -1, 10**30])
def test_what_is_no_size_is_refused_with_examples(text):
    with pytest.raises(ValidationError, match="must be a size such as 512B, 64KB, 2MB or 1GB"):
        SIZE.validate_python(text)


@given(st.integers(0, 1024**5))
def test_a_size_reads_back_as_it_is_written(size):
    assert SIZE.validate_python(written(SIZE, size)) == size


def test_a_percentage_is_a_fraction():
    assert [PERCENT.validate_python(each) for each in ("20%", "0%", "100%", "0.5%", 0.2)] == [0.2, 0, 1, 0.005, 0.2]


@pytest.mark.parametrize("text", ["20", "101%", "-1%", "%", 1, 20, True, 1.5, math.nan])
def test_a_bare_number_is_no_percentage(text):
    with pytest.raises(ValidationError, match="must be a percentage from 0% to 100%"):
        PERCENT.validate_python(text)


@given(st.integers(0, 10_000))
def test_a_percentage_reads_back_as_it_is_written(hundredths):
    fraction = PERCENT.validate_python(f"{hundredths / 100}%")
    assert PERCENT.validate_python(written(PERCENT, fraction)) == pytest.approx(fraction, abs=1e-9)


@given(st.integers(1, 10**12 - 1), st.sampled_from(["second", "minute", "hour", "day"]))
def test_a_rate_reads_back_as_it_is_written(amount, period):
    rate = RATE.validate_python(f"{amount}/{period}")
    assert rate.amount == amount
    assert rate.per == {"second": 1, "minute": 60, "hour": 3600, "day": 86400}[period]
    assert str(rate) == written(RATE, rate) == f"{amount}/{period}"
    assert RATE.validate_python(rate) is rate


@pytest.mark.parametrize(
    "text", ["", "100", "0/minute", "-1/minute", "100 / minute", "1.5/second", "100/week", 5, None]
)
def test_what_is_no_rate_is_refused_with_examples(text):
    with pytest.raises(ValidationError, match="must be a rate such as 20/second, 100/minute"):
        RATE.validate_python(text)


class Holder(Settings):
    token: Secret


def test_a_secret_is_shown_nowhere_but_where_it_is_revealed():
    holder = Holder(token="hunter2")
    assert holder.token.reveal() == "hunter2"
    assert holder.token == Secret("hunter2") != Secret("other")
    assert len({holder.token, Secret("hunter2")}) == 1
    shown = [
        repr(holder),
        str(holder),
        str(holder.model_dump()),
        holder.model_dump_json(),
        f"{holder.token}",
        repr(vars),
    ]
    assert not any("hunter2" in each for each in shown)


def test_an_empty_secret_is_no_secret():
    with pytest.raises(ValidationError):
        Holder(token="")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://users.internal", "http://users.internal"),
        ("https://users.internal:8443/base/", "https://users.internal:8443/base"),
        ("http://127.0.0.1:8101", "http://127.0.0.1:8101"),
        ("http://[::1]:8101", "http://[::1]:8101"),
    ],
)
def test_a_url_is_a_base_that_paths_can_be_added_to(text, url):
    assert URL.validate_python(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "users.internal",
        "ftp://x",
        "http://",
        "http:///x",
        "http://:80",
        "http://x:0",
        "http://x:99999",
        "http://x:y",
        "http://[::1",
        "http://a b",
        "http://ü",
        "http://x\n",
        "//x",
        "http://-x",
        5,
        None,
    ],
)
def test_what_is_no_http_address_is_refused(text):
    with pytest.raises(ValidationError, match="must be an absolute URL such as"):
        URL.validate_python(text)


@pytest.mark.parametrize(
    "text", ["http://u:p@x", "http://u@x", "http://x?q", "http://x/?", "http://x#f", "http://x\\@y"]
)
def test_a_url_has_no_user_password_query_or_fragment(text):
    with pytest.raises(ValidationError, match="without user, password, query or fragment"):
        URL.validate_python(text)


def test_a_network_is_a_prefix_or_one_address():
    network = TypeAdapter(Network)
    assert [str(network.validate_python(text)) for text in ("10.0.0.0/8", "127.0.0.1", "fd00::/8")] == [
        "10.0.0.0/8",
        "127.0.0.1/32",
        "fd00::/8",
    ]
    assert written(network, network.validate_python("10.0.0.0/8")) == "10.0.0.0/8"


@pytest.mark.parametrize("text", ["", "x", "10.0.0.0/33", "10.0.0.1/8", "10.0.0", 5, None, True])
def test_what_is_no_network_is_refused_with_an_example(text):
    with pytest.raises(ValidationError, match="must be a network such as"):
        TypeAdapter(Network).validate_python(text)


def test_settings_are_frozen_and_refuse_unknown_keys():
    holder = Holder(token="x")
    with pytest.raises(ValidationError):
        holder.token = Secret("y")
    with pytest.raises(ValidationError):
        Holder(token="x", tokn="y")


def test_a_relative_path_starts_from_the_configurations_folder(tmp_path):
    class Paths(Settings):
        operations: File
        absolute: File

    text = "{operations: operations/, absolute: /srv/operations}"
    config = load(Paths, text, directory=tmp_path).config
    assert config.operations == tmp_path / "operations"
    assert config.absolute == Path("/srv/operations")
    with pytest.raises(ConfigError, match="operations: must be a path"):
        load(Paths, "{operations: 5, absolute: /srv}")

"""Attacks on tokens, and vectors of others, against a gateway and against its verifier."""

from __future__ import annotations

import json
import os
import re
import sys

import pytest

from tests.acceptance.test_runners import all_passed, ran
from tests.running import ROOT, running

SECRET = "a secret that is shared with an issuer, of 32 bytes or more"
# What the vectors want and do not get, and why.
CONTRADICTIONS = {
    "W-signature-346": "the key says PS256 and the token PS384: RFC 8725 §3.1",
    "W-signature-347": "the key says ES521, which is no algorithm",
    "W-signature-350": "as 346",
    "W-signature-351": "as 347",
    "W-signature-367": "the same text as 357, which is to be taken",
    "W-signature-370": "the same text as 357, which is to be taken",
    "W-signature-372": "a character that base64url has not: RFC 7515 §5.2",
    "W-signature-373": "as 372",
}


@pytest.mark.timeout(300)
def test_no_token_that_is_forged_for_a_shared_secret_is_taken(shared, real_services):
    issuer = {"issuer": "https://partner.example.com", "audience": "shop", "algorithms": ["HS256"], "secret": SECRET}
    with running(
        ROOT / "bff.yaml", real_services, BFF__AUTH__JWT=json.dumps([issuer]), BFF__LIMITS__MODE="off"
    ) as gateway:
        run = ran(
            sys.executable,
            shared / "acceptance" / "run_jwt_attacks.py",
            f"{gateway.url}/api/users/usr_1",
            *("--secret", SECRET, "--iss", issuer["issuer"], "--aud", "shop"),
        )
    all_passed(run, at_least=20)


def test_the_vectors_of_wycheproof_get_what_they_want_but_where_they_contradict_themselves(shared, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    run = ran(
        sys.executable,
        shared / "acceptance" / "run_wycheproof_jws.py",
        shared / "data" / "wycheproof",
        *("--verifier", "tests.acceptance.verifier:verify"),
    )
    assert re.search(r"^(\d+) passed, (\d+) failed$", run.stdout, re.MULTILINE).groups() == ("418", "8"), run.stdout
    assert set(re.findall(r"^FAIL (\S+)", run.stdout, re.MULTILINE)) == set(CONTRADICTIONS)
    assert "unexpected exception types: 0" in run.stdout

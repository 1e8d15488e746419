"""The page about TLS, from its first command to its last, in a folder of its own."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

from bff.config import read
from tests.docs.test_docs import BLOCKS, Block
from tests.running import running
from tests.shop import NAMES

PAGE = [each for each in BLOCKS if each.page == "docs/tls.md"]
END = Block("", 0, "", "")


def bash(script: str, folder: Path) -> str:
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, capture_output=True, text=True, timeout=110, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_page_about_tls_does_what_it_says(tmp_path, real_services):
    """Certificates are made, configurations load, and where a client follows one, it gets its answer."""
    answered = 0
    for block, following in pairwise([*PAGE, END]):
        if block.info == "sh tls":
            bash(block.text, tmp_path)
        elif block.info == "yaml tls":
            config = tmp_path / "bff.yaml"
            config.write_text(block.text)
            assert read(config).services
            if following.info == "sh tls client":
                others = "".join(f"\n  {each}: {{url: http://{each}.internal}}" for each in NAMES if each != "products")
                config.write_text(block.text.replace("services:", f"services:{others}", 1))
                with running(config, real_services) as gateway:
                    port = gateway.url.rpartition(":")[2]
                    said = bash(following.text.replace("127.0.0.1:8000", f"127.0.0.1:{port}"), tmp_path)
                    assert '"id":"prd_1"' in said.replace(" ", ""), said
                    answered += 1
    assert answered == sum(each.info == "sh tls client" for each in PAGE) > 0

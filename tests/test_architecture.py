"""The rules that decide where anything lives, kept by machines."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import pytest

from bff import sdk
from bff.core import errors
from bff.core.errors import Code, GatewayError
from demo import PORTS

ROOT = Path(__file__).parent.parent
SERVICES = sorted(set(PORTS) - {"identity"})


def sources(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert found
    return found


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_import_rules_hold():
    ran = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert ran.returncode == 0, ran.stdout


def named_in(tree: ast.AST) -> Iterator[str]:
    """What code acts on: names, attributes, arguments, imports, and strings that are one word; prose has more."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=text) | ast.arg(arg=text) | ast.Attribute(attr=text) | ast.alias(name=text):
                yield from re.split(r"[._]", text)
            case ast.ImportFrom(module=str(text)):
                yield from text.split(".")
            case ast.Constant(value=str(text)) if " " not in text.strip():
                yield from re.split(r"\W", text) if "://" not in text else ()


@pytest.mark.parametrize("path", sources("bff"), ids=relative)
def test_the_gateway_knows_no_service_by_name(path):
    assert not set(named_in(ast.parse(path.read_text()))) & set(SERVICES)


def test_a_service_named_in_code_would_be_found():
    for code in ("import services.users", "users_url = 1", 'x["orders"]', 'f("/payments/pay_1")', "a.products"):
        assert set(named_in(ast.parse(code))) & set(SERVICES), code


@pytest.mark.parametrize("path", sources("services", "schema"), ids=relative)
def test_teams_modules_import_the_sdk_and_nothing_else_of_the_gateway(path):
    for node in ast.walk(ast.parse(path.read_text())):
        modules = [node.module] if isinstance(node, ast.ImportFrom) else []
        modules += [each.name for each in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            assert module == "bff.sdk" or not (module or "").startswith("bff")


@pytest.mark.parametrize("path", sources("demo"), ids=relative)
def test_the_demo_imports_nothing_of_the_gateway(path):
    assert not re.search(r"^\s*(?:from|import) (?:bff|services|schema)\b", path.read_text(), re.MULTILINE)


def test_services_are_independent_of_each_other():
    for path in sources("services"):
        imported = set(re.findall(r"^from services(?:\.(\w+))? import", path.read_text(), re.MULTILINE))
        assert imported <= {"money"}, path


def test_the_schemas_edges_form_no_cycle():
    edges = {
        path.stem: set(re.findall(r"^from schema\.(\w+) import", path.read_text(), re.MULTILINE))
        for path in sources("schema")
    }
    while leaves := [name for name, imported in edges.items() if not imported & set(edges)]:
        for name in leaves:
            del edges[name]
    assert edges == {}


def test_the_sdk_is_exactly_what_it_says_in_order():
    public = {name for name in vars(sdk) if not name.startswith("_")}
    assert sdk.__all__ == sorted(sdk.__all__)
    assert set(sdk.__all__) == public
    classes_and_functions = [name for name in sdk.__all__ if isinstance(getattr(sdk, name), type | FunctionType)]
    assert [name for name in classes_and_functions if not getattr(sdk, name).__doc__] == []


def test_teams_use_nothing_that_the_sdk_does_not_offer():
    for path in sources("services", "schema"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "bff.sdk":
                assert {each.name for each in node.names} <= set(sdk.__all__)


def tree_of(error: type[GatewayError]) -> list[type[GatewayError]]:
    return [error, *(each for child in error.__subclasses__() for each in tree_of(child))]


def test_every_code_is_in_the_documentation_with_its_status():
    documented = {}
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for line in page.read_text().splitlines():
            if row := re.match(r"\| *`?([A-Z][A-Z_]+)`? *\| *(\d{3})", line):
                documented[row[1]] = int(row[2])
    assert set(documented) == set(Code)
    for error in tree_of(GatewayError):
        if error.__module__ == errors.__name__:
            assert documented[error.code] == error.status


def test_no_code_is_made_up_outside_the_one_list():
    for path in sources("bff"):
        if path.name == "errors.py" and path.parent.name == "core":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in set(Code):
                raise AssertionError(f"{relative(path)}:{node.lineno} says {node.value} by itself")


@pytest.mark.parametrize("path", sources("bff", "services", "schema", "demo"), ids=relative)
def test_the_product_does_not_know_that_it_is_tested(path):
    text = path.read_text()
    assert not re.search(r"\btesting\b|pytest|unittest|TESTING", text)
    assert text.count("\n") <= 420, "a file that one reads top to bottom"


def test_every_module_says_what_it_is_for():
    for path in sources("bff", "services", "schema"):
        text = path.read_text()
        assert not text or ast.get_docstring(ast.parse(text)) or path.name == "__main__.py", path

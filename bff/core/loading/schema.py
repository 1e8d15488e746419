"""The JSON Schema of a configuration file, for editors: completion, descriptions and errors while one types."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, NoDefault
from pydantic_core import SchemaError, SchemaSerializer

from bff.core.loading.defaults import document_model
from bff.core.settings import Settings

_SCALARS = frozenset({"string", "number", "integer", "boolean"})
_ELSEWHERE = "Elsewhere"


def json_schema(model: type[Settings]) -> dict[str, Any]:
    """The schema (draft 2020-12) of a file for these settings; any value may be `${VAR}` or `{file: path}`."""
    schema = document_model(model).model_json_schema(schema_generator=_Generator)
    definitions = schema.pop("$defs", {})
    for each in (schema, *definitions.values()):
        _allow_elsewhere(each)
    definitions[_ELSEWHERE] = {
        "description": "A value from the environment, or from a file such as a mounted secret.",
        "anyOf": [
            {"type": "string", "pattern": "\\$\\{"},
            {
                "type": "object",
                "properties": {"file": {"type": "string"}},
                "required": ["file"],
                "additionalProperties": False,
            },
        ],
    }
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "$defs": definitions}


class _Generator(GenerateJsonSchema):
    """Without the titles that only repeat the keys, and with defaults written as people write them (`2s`)."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  # the interface's
        return False

    def get_default_value(self, schema: Any) -> Any:
        default = super().get_default_value(schema)
        if default is NoDefault or default is None:
            return NoDefault
        try:
            return SchemaSerializer(schema["schema"]).to_python(default, mode="json", warnings=False)
        except SchemaError:  # it refers to a definition; pydantic knows how to write the default of one
            return default


def _allow_elsewhere(schema: dict[str, Any]) -> None:
    """Gives each scalar the alternative to come from elsewhere; descriptions, defaults and examples stay outside."""
    if "anyOf" in schema or "oneOf" in schema:
        members = schema.get("anyOf") or schema["oneOf"]
        for each in members:
            _allow_elsewhere_below(each)
        if any(map(_is_scalar, members)):
            members.append({"$ref": f"#/$defs/{_ELSEWHERE}"})
    elif _is_scalar(schema):
        kept = {key: schema.pop(key) for key in list(schema) if key not in ("description", "default", "examples")}
        schema["anyOf"] = [kept, {"$ref": f"#/$defs/{_ELSEWHERE}"}]
    else:
        _allow_elsewhere_below(schema)


def _allow_elsewhere_below(schema: dict[str, Any]) -> None:
    below = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]
    for each in [*below, *schema.get("prefixItems", ())]:
        if isinstance(each, dict):
            _allow_elsewhere(each)


def _is_scalar(schema: dict[str, Any]) -> bool:
    types = schema.get("type", ())
    return bool(_SCALARS & {*([types] if isinstance(types, str) else types)}) or "enum" in schema or "const" in schema

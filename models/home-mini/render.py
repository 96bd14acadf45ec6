"""Conversations as the model reads them: the Gemma 4 chat format in pieces, each with whether the model writes it.

The same text as pled's chat template renders, without an empty thought before answers: cases.py writes prompts down, and
pled's tests hold its own against them.
"""

import json
from typing import Any

QUOTE = '<|"|>'


def value(v: Any) -> str:
    """A value of the format: strings in quote tokens, keys bare and sorted."""
    match v:
        case bool():
            return "true" if v else "false"
        case None:
            return "null"
        case str():
            return f"{QUOTE}{v}{QUOTE}"
        case dict():
            return "{" + fields(v) + "}"
        case list():
            return "[" + ",".join(map(value, v)) + "]"
        case _:
            return json.dumps(v)


def fields(d: dict[str, Any]) -> str:
    return ",".join(f"{k}:{value(d[k])}" for k in sorted(d, key=str.lower))


def _schema(schema: dict[str, Any]) -> str:
    """One property: its parts in the format's order, the type last and in capitals."""
    parts = []
    if "description" in schema:
        parts.append(f"description:{value(schema['description'])}")
    if "enum" in schema:
        parts.append(f"enum:{value(schema['enum'])}")
    if "items" in schema:
        parts.append("items:{" + _schema(schema["items"]) + "}")
    if "properties" in schema:
        parts.append("properties:{" + _properties(schema["properties"]) + "}")
    if "required" in schema:
        parts.append(f"required:{value(schema['required'])}")
    parts.append(f"type:{value(schema['type'].upper())}")
    return ",".join(parts)


def _properties(properties: dict[str, Any]) -> str:
    return ",".join(f"{k}:{{{_schema(properties[k])}}}" for k in sorted(properties, key=str.lower))


def declaration(tool: dict[str, Any]) -> str:
    function = tool["function"]
    parameters = function["parameters"]
    return (f"<|tool>declaration:{function['name']}{{description:{value(function['description'])},"
            f"parameters:{{{_schema(parameters)}}}}}<tool|>")


def pieces(case: dict[str, Any]) -> list[tuple[str, bool]]:
    """(text, supervised) from <bos> to the last message; supervised is what the model is to write."""
    out: list[tuple[str, bool]] = []
    messages = case["messages"]
    system = messages[0]["content"] if messages and messages[0]["role"] == "system" else ""
    head = "<bos>"
    if system or case["tools"]:
        head += f"<|turn>system\n{system.strip()}{''.join(map(declaration, case['tools']))}<turn|>\n"
    out.append((head, False))
    in_model_turn = False
    names: dict[str, str] = {}
    for m in messages:
        match m["role"]:
            case "user":
                out.append((f"<|turn>user\n{m['content'].strip()}<turn|>\n<|turn>model\n", False))
                in_model_turn = True
            case "assistant" if m.get("tool_calls"):
                calls = [(one["id"], one["function"]) for one in m["tool_calls"]]
                names |= {i: f["name"] for i, f in calls}
                text = "".join(f"<|tool_call>call:{f['name']}{{{fields(f['arguments'])}}}<tool_call|>" for _, f in calls)
                out.append((text + "<|tool_response>", True))
                first = True
            case "assistant":
                assert in_model_turn
                out.append((m["content"].strip() + "<turn|>", True))
                out.append(("\n", False))
                in_model_turn = False
            case "tool":
                body = _result(m["content"])
                start = "" if first else "<|tool_response>"
                out.append((f"{start}response:{names[m['tool_call_id']]}{{{body}}}<tool_response|>", False))
                first = False
    return out


def _result(content: str) -> str:
    """A JSON object as its fields, other text as one string: what pled makes of a tool's result."""
    try:
        parsed = json.loads(content)
    except ValueError:
        parsed = None
    return fields(parsed) if isinstance(parsed, dict) else f"value:{value(content)}"

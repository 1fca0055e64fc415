#!/usr/bin/env python3
"""Lists every field of the official SDKs' types, in the order of their paths, into fields.txt beside this file.

    fields.py            writes the list
    fields.py --check    fails when the list is not what the installed SDKs say (`.ci/run`)

One line per field:

    FORMAT KIND PATH TYPES [required]

KIND is `request`, `reply` or `stream`. In a path, `.x` is a member, `[]` an item of a list, `{}` a value of a free
map. Where objects of several kinds may stand, the kind (its `type`, or its `role`) is in the brackets: `[text]` for an
item, `(base64)` for a value. A stream's path begins with the event. TYPES are joined by `|`; a word in quotes is a
value, `object` and `list` have lines of their own for what is inside unless anything may be.

The stable types and the beta types are one list: a field is required if it is in both. What stands inside itself is
listed the first time.
"""
from __future__ import annotations

import argparse
import collections.abc
import datetime
import difflib
import os
import sys
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Union

import typing_extensions as te
from pydantic import BaseModel

HERE = os.path.dirname(os.path.abspath(__file__))
LIST = os.path.join(HERE, "fields.txt")
TAGS = ("type", "role")
LEAVES = {str: "string", int: "int", float: "number", bool: "bool", object: "any", Any: "any", type(None): "null"}
LEAVES |= {datetime.datetime: "string", datetime.date: "string"}
# Members whose content is listed elsewhere: a tool under `tools`, what a stream's events hold of a reply under `reply`.
ELSEWHERE = {
    "(tool_definition).definition": "any",
    "message_start.message.content": "list:any",
    "input[tool_search_output].tools": "list:any",
    "input[additional_tools].tools": "list:any",
    ".response": "any",
    "output_item.added.item": "any",
    "output_item.done.item": "any",
    "output[tool_search_output].tools": "list:any",
    "output[additional_tools].tools": "list:any",
}
# What a reply repeats of its request.
ECHO = {("openai_responses", "reply"): {"instructions": "any", "tools": "list:any", "prompt": "any", "text": "any"}}
# Python's own ways to hand over a file: never JSON.
PYTHONS = (bytes, os.PathLike, typing.IO)


@dataclass
class Line:
    """What is known of one path."""

    types: set[str] = field(default_factory=set)
    required: bool = True


Lines = dict[str, Line]


def strip(tp: Any) -> Any:
    """The type without what is said about it."""
    while True:
        if te.get_origin(tp) in (te.Annotated, te.Required, te.NotRequired, te.ReadOnly):
            tp = te.get_args(tp)[0]
        elif isinstance(tp, te.TypeAliasType):
            tp = tp.__value__
        else:
            return tp


def alternatives(tp: Any) -> list[Any]:
    tp = strip(tp)
    if te.get_origin(tp) in (Union, types.UnionType):
        return [leaf for arm in te.get_args(tp) for leaf in alternatives(arm)]
    return [tp]


def is_object(tp: Any) -> bool:
    return isinstance(tp, type) and (issubclass(tp, BaseModel) or (issubclass(tp, dict) and hasattr(tp, "__total__")))


def members(cls: Any) -> dict[str, tuple[Any, bool]]:
    """Name on the wire -> type, and whether it has to be there."""
    if issubclass(cls, BaseModel):
        return {row.alias or name: (row.annotation, row.is_required()) for name, row in cls.model_fields.items()}
    # Postponed annotations hide `Required[…]` from `__required_keys__`; the resolved hints show it.
    hints = te.get_type_hints(cls, include_extras=True)
    needed = {name for name, tp in hints.items() if te.get_origin(tp) is te.Required}
    needed |= {name for name in cls.__required_keys__ if te.get_origin(hints[name]) is not te.NotRequired}
    return {name: (tp, name in needed) for name, tp in hints.items()}


def tags(cls: Any, tag: str) -> list[str]:
    """The values of a member that says what kind of object it is; none if it says nothing."""
    if tag not in (rows := members(cls)):
        return []
    arms = [arm for arm in alternatives(rows[tag][0]) if arm is not type(None)]
    if not arms or any(te.get_origin(arm) is not te.Literal for arm in arms):
        return []
    return [str(value) for arm in arms for value in te.get_args(arm)]


def words(tp: Any) -> set[str]:
    """A leaf's type, as it is written in the list."""
    if te.get_origin(tp) is te.Literal:
        return {f'"{value}"' if isinstance(value, str) else str(value).lower() for value in te.get_args(tp)}
    return {LEAVES[tp]} if tp in LEAVES else {"object"}


class Walk:
    """Goes through the types and gathers lines."""

    def __init__(self, echo: dict[str, str]) -> None:
        self.lines: Lines = {}
        self.echo = echo

    def object(self, classes: list[Any], path: str, above: tuple[Any, ...]) -> None:
        """An object of any of these types: the stable one and the beta one, or such as no tag tells apart."""
        rows = [members(cls) for cls in classes if cls not in above]
        for name in {name: None for row in rows for name in row}:
            here = f"{path}.{name}" if path else name
            found = [row[name] for row in rows if name in row]
            line = self.lines.setdefault(here, Line())
            line.required = len(found) == len(rows) and all(required for _, required in found)
            word = next((word for end, word in ELSEWHERE.items() if here.endswith(end)), self.echo.get(here))
            if word:
                line.types.add(word)
            else:
                self.value([tp for tp, _ in found], here, line, (*above, *classes))

    def value(self, tps: list[Any], path: str, line: Line, above: tuple[Any, ...]) -> None:
        objects, items, values = [], [], []
        for arm in [arm for tp in tps for arm in alternatives(tp)]:
            origin, args = te.get_origin(arm), te.get_args(arm)
            if is_object(arm):
                line.types.add("object")
                objects.append(arm)
            elif origin is te.Literal:
                line.types |= words(arm)
            elif origin in (dict, collections.abc.Mapping) or arm is dict:
                line.types.add("object")
                values += [value for arg in args[1:] for value in alternatives(arg) if is_object(value)]
            elif arm in LEAVES:
                line.types |= words(arm)
            elif arm in PYTHONS or origin in PYTHONS:
                continue
            elif len(args) == 1:
                items += [item for item in alternatives(args[0]) if is_object(item)]
                line.types |= {f"list:{word}" for item in alternatives(args[0]) for word in words(item)}
            else:
                raise TypeError(f"{path}: {arm!r} is a type this script does not know")
        self.kinds(objects, path, "", "({})", above)
        self.kinds(items, path, "[]", "[{}]", above)
        if values:
            self.object(values, path + "{}", above)

    def kinds(self, objects: list[Any], path: str, one: str, several: str, above: tuple[Any, ...]) -> None:
        """Objects that may stand in one place, apart by their tag where there are several kinds."""
        for tag in TAGS:
            found = [tags(cls, tag) for cls in objects]
            if all(found) and any(kinds != found[0] for kinds in found) and not is_one(objects):
                for kind in {kind: None for kinds in found for kind in kinds}:
                    of_kind = [cls for cls, kinds in zip(objects, found) if kind in kinds]
                    self.object(of_kind, path + several.format(kind), above)
                return
        if objects:
            self.object(objects, path + one, above)


def is_one(classes: list[Any]) -> bool:
    """Anthropic's messages: their blocks are the same whoever speaks, so paths do not tell the roles apart."""
    return all("anthropic" in cls.__module__ and "role" in members(cls) for cls in classes)


def listed(roots: list[Any], is_stream: bool, echo: dict[str, str]) -> Lines:
    walk = Walk(echo)
    classes = [cls for root in roots for cls in alternatives(root)]
    events = {kind: None for cls in classes for kind in tags(cls, "type")} if is_stream else {}
    for event in events:
        walk.object([cls for cls in classes if event in tags(cls, "type")], event, ())
    if not events:
        walk.object(classes, "", ())
    return walk.lines


def sdk() -> dict[tuple[str, str], list[Any]]:
    from anthropic.types import Message, RawMessageStreamEvent
    from anthropic.types import message_create_params as create
    from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent
    from anthropic.types.beta import message_create_params as beta
    from openai.types.chat import ChatCompletion, ChatCompletionChunk
    from openai.types.chat import completion_create_params as chat
    from openai.types.responses import Response, ResponseStreamEvent
    from openai.types.responses import response_create_params as responses

    return {
        ("anthropic", "request"): [create.MessageCreateParams, beta.MessageCreateParams],
        ("anthropic", "reply"): [Message, BetaMessage],
        ("anthropic", "stream"): [RawMessageStreamEvent, BetaRawMessageStreamEvent],
        ("openai_chat", "request"): [chat.CompletionCreateParams],
        ("openai_chat", "reply"): [ChatCompletion],
        ("openai_chat", "stream"): [ChatCompletionChunk],
        ("openai_responses", "request"): [responses.ResponseCreateParams],
        ("openai_responses", "reply"): [Response],
        ("openai_responses", "stream"): [ResponseStreamEvent],
    }


def text() -> str:
    out = []
    for (form, kind), roots in sdk().items():
        for path, line in sorted(listed(roots, kind == "stream", ECHO.get((form, kind), {})).items()):
            is_open = "string" in line.types
            shapes = sorted(shape for shape in line.types if not (is_open and shape.startswith('"')))
            words = [form, kind, path, "|".join(shapes), "required" if line.required else ""]
            out.append(" ".join(words).rstrip())
    return "\n".join(sorted(out)) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    wanted = text()
    if not parser.parse_args().check:
        with open(LIST, "w", encoding="utf-8") as file:
            file.write(wanted)
        return 0
    with open(LIST, encoding="utf-8") as file:
        found = file.read()
    if found == wanted:
        print(f"{wanted.count(chr(10))} fields, as the installed SDKs have them")
        return 0
    lines = difflib.unified_diff(found.splitlines(True), wanted.splitlines(True), "fields.txt", "the SDKs")
    sys.stdout.writelines(lines)
    print("tests/sdk/fields.txt is not what the installed SDKs say: run tests/sdk/fields.py and settle each new field")
    return 1


if __name__ == "__main__":
    sys.exit(main())

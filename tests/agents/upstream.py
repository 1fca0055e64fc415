"""A scripted model that speaks three formats, and does one task: it thinks, makes a file, reads it back, and says what it holds.

Which turn it is, it reads from the request: so many results of calls are in it. What it was asked is kept in `SEEN`.
"""
from __future__ import annotations

import http.server
import json
from typing import Any

# What each turn says: its thought, its words, the command it wants run.
TURNS: list[tuple[str | None, str, str | None]] = [
    ("I should make a file.", "Making the file.", "echo one > one.txt"),
    ("Now read it.", "Reading it back.", "cat one.txt"),
    (None, "The file says: one.", None),
]
# What seals the thoughts, by the path of the format.
SEALS = {"/v1/messages": "EpwBCkYIBhgCKkD", "/v1/responses": "gAAAAABpJx"}
# Tools that run a command, by the agents' names for them, and what holds the command.
SHELLS = {"exec_command": "cmd", "Bash": "command"}

SEEN: list[tuple[str, dict[str, Any]]] = []
Json = dict[str, Any]


class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        path = self.path.split("?")[0]
        if path.endswith("count_tokens"):
            return self.answer("application/json", [b'{"input_tokens":10}'])
        SEEN.append((path, body))
        events = {"/v1/chat/completions": chat, "/v1/messages": messages, "/v1/responses": responses}[path]
        thought, words, command = TURNS[min(results(body), len(TURNS) - 1)]
        tool = next((name for name in tools(body) if name in SHELLS), None)
        call = (tool, json.dumps({SHELLS[tool]: command, "description": "as asked"})) if tool and command else None
        number = len(SEEN)
        return self.answer("text/event-stream", events(number, thought, words.split(" "), call))

    def answer(self, kind: str, parts: list[bytes]) -> None:
        body = b"".join(parts)
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        # In pieces that end where no event does.
        for at in range(0, len(body), 97):
            self.wfile.write(body[at:at + 97])
            self.wfile.flush()


def results(body: Json) -> int:
    """Results of calls that are in a request, whatever its format."""
    count = 0
    for message in body.get("messages") or body.get("input") or []:
        count += message.get("role") == "tool" or message.get("type") == "function_call_output"
        content = message.get("content")
        if isinstance(content, list):
            count += sum(block.get("type") == "tool_result" for block in content)
    return count


def tools(body: Json) -> list[str]:
    return [tool.get("function", tool).get("name", "") for tool in body.get("tools") or []]


def event(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def pieces(text: str) -> list[str]:
    return [text[at:at + 5] for at in range(0, len(text), 5)]


def chat(number: int, thought: str | None, words: list[str], call: tuple[str, str] | None) -> list[bytes]:
    out: list[bytes] = []

    def data(choices: list[Json], **more: Any) -> None:
        shell = {"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": choices, **more}
        out.append(f"data: {json.dumps(shell)}\n\n".encode())

    def chunk(delta: Json, finish: str | None = None) -> None:
        data([{"index": 0, "delta": delta, "finish_reason": finish}])

    chunk({"role": "assistant", "content": ""})
    if thought:
        chunk({"reasoning_content": thought})
    for word in words:
        chunk({"content": word + " "})
    if call:
        head = {"name": call[0], "arguments": ""}
        chunk({"tool_calls": [{"index": 0, "id": f"call_{number}", "type": "function", "function": head}]})
        for piece in pieces(call[1]):
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    chunk({}, "tool_calls" if call else "stop")
    data([], usage={"prompt_tokens": 50, "completion_tokens": 9, "total_tokens": 59, "prompt_tokens_details": {"cached_tokens": 20}})
    return [*out, b"data: [DONE]\n\n"]


def messages(number: int, thought: str | None, words: list[str], call: tuple[str, str] | None) -> list[bytes]:
    usage = {"input_tokens": 30, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 0, "output_tokens": 1}
    message = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": "up", "content": [], "stop_reason": None,
               "stop_sequence": None, "usage": usage}
    out = [event("message_start", message=message)]
    blocks: list[tuple[Json, list[Json]]] = []
    if thought:
        seal = {"type": "signature_delta", "signature": SEALS["/v1/messages"]}
        blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, [{"type": "thinking_delta", "thinking": thought}, seal]))
    blocks.append(({"type": "text", "text": ""}, [{"type": "text_delta", "text": word + " "} for word in words]))
    if call:
        head = {"type": "tool_use", "id": f"toolu_{number}", "name": call[0], "input": {}}
        blocks.append((head, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces(call[1])]))
    for index, (block, deltas) in enumerate(blocks):
        out.append(event("content_block_start", index=index, content_block=block))
        out += [event("content_block_delta", index=index, delta=delta) for delta in deltas]
        out.append(event("content_block_stop", index=index))
    stop = {"stop_reason": "tool_use" if call else "end_turn", "stop_sequence": None}
    return [*out, event("message_delta", delta=stop, usage={"output_tokens": 9}), event("message_stop")]


def responses(number: int, thought: str | None, words: list[str], call: tuple[str, str] | None) -> list[bytes]:
    out: list[bytes] = []
    items: list[Json] = []

    def tell(kind: str, **members: Any) -> None:
        out.append(event(kind, sequence_number=len(out), **members))

    def item(begun: Json, done: Json, between: list[tuple[str, Json]]) -> None:
        place = {"output_index": len(items)}
        tell("response.output_item.added", **place, item=begun)
        for kind, members in between:
            tell(kind, item_id=begun["id"], **place, **members)
        tell("response.output_item.done", **place, item=done)
        items.append(done)

    response = {"id": f"resp_{number}", "object": "response", "created_at": 1, "model": "up", "status": "in_progress", "output": [],
                "tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "usage": None, "error": None,
                "incomplete_details": None}
    tell("response.created", response=response)
    tell("response.in_progress", response=response)
    if thought:
        begun = {"id": f"rs_{number}", "type": "reasoning", "summary": []}
        part, at = {"type": "summary_text", "text": thought}, {"summary_index": 0}
        item(begun, {**begun, "summary": [part], "encrypted_content": SEALS["/v1/responses"]}, [
            ("response.reasoning_summary_part.added", {**at, "part": {**part, "text": ""}}),
            ("response.reasoning_summary_text.delta", {**at, "delta": thought}),
            ("response.reasoning_summary_text.done", {**at, "text": thought}),
            ("response.reasoning_summary_part.done", {**at, "part": part}),
        ])
    begun = {"id": f"msg_{number}", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    text, at = "".join(word + " " for word in words), {"content_index": 0}
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    item(begun, {**begun, "status": "completed", "content": [part]}, [
        ("response.content_part.added", {**at, "part": {**part, "text": ""}}),
        *(("response.output_text.delta", {**at, "delta": word + " ", "logprobs": []}) for word in words),
        ("response.output_text.done", {**at, "text": text, "logprobs": []}),
        ("response.content_part.done", {**at, "part": part}),
    ])
    if call:
        begun = {"id": f"fc_{number}", "type": "function_call", "status": "in_progress", "call_id": f"call_{number}", "name": call[0],
                 "arguments": ""}
        item(begun, {**begun, "status": "completed", "arguments": call[1]}, [
            *(("response.function_call_arguments.delta", {"delta": piece}) for piece in pieces(call[1])),
            ("response.function_call_arguments.done", {"arguments": call[1]}),
        ])
    usage = {"input_tokens": 50, "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 0}, "output_tokens": 9,
             "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 59}
    tell("response.completed", response={**response, "status": "completed", "output": items, "usage": usage})
    return out

#!/usr/bin/env python3
"""The official SDKs, as they are, against the running gateway: 63 cells.

    matrix.py PATH-TO-model-proxy [CELL...]

{whole, stream} x {chat, responses, anthropic} clients x as many upstreams x {text, tools, error}, the Responses
client's parsed answers x all upstreams, and the Anthropic client's count of tokens x all upstreams.
The upstream is scripted in this file and speaks all formats; it checks what it is sent, the cells check what the
SDK made of the answer. A cell is named as the table prints it, e.g. `stream/anthropic/openai/tools`.
"""
from __future__ import annotations

import http.server
import itertools
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from typing import Any, Callable, Iterator

import anthropic
import openai
import pydantic

CLIENT_KEY = "client-key-of-the-matrix"
PROVIDER_KEYS = {"openai": "key-of-provider-o", "anthropic": "key-of-provider-a", "responses": "key-of-provider-r"}
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
PATHS = {"openai": CHAT, "anthropic": MESSAGES, "responses": RESPONSES}
COUNT = f"{MESSAGES}/count_tokens"
COUNTED = 2095

SYSTEM = "You are terse. \u00e9"
QUESTION = "What is the weather in Paris and Rome? \U0001f600"
# A line separator inside text is where careless readers of event streams lose the rest.
ANSWER = "It is fine\u2028today: \u00e9, \U0001f600 and \"quotes\"."
CELLS = (
    list(itertools.product(("whole", "stream"), PATHS, PATHS, ("text", "tools", "error")))
    + [(mode, "responses", speaks, "parsed") for mode in ("whole", "stream") for speaks in PATHS]
    + [("whole", "anthropic", speaks, "count") for speaks in PATHS]
)
PARSED = {"city": "Paris", "degrees": 18}
FINAL = "18 degrees in Paris, 24 in Rome."
PREFACE = "Let me look."
CALLS = [("Paris", "18"), ("Rome", "24")]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "The city's name."}},
    "required": ["city"],
    "additionalProperties": False,
}
# 11 fresh and 10 cached tokens in, 7 out: each format counts them in its own way.
OPENAI_USAGE = {
    "prompt_tokens": 21,
    "completion_tokens": 7,
    "total_tokens": 28,
    "prompt_tokens_details": {"cached_tokens": 10, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
RESPONSES_USAGE = {
    "input_tokens": 21,
    "input_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 0},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 28,
}
ANTHROPIC_USAGE = {"input_tokens": 11, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 0, "output_tokens": 7}


# --- the scripted upstream ------------------------------------------------------------------------------------


class Upstream(http.server.ThreadingHTTPServer):
    """All formats on one port. What it is asked decides the answer: the model's name is the scenario's."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # The gateway closes connections as it likes; anything else is a mistake in this file.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def take(self) -> list[dict[str, Any]]:
        """Every request since the last time."""
        out = []
        while not self.seen.empty():
            out.append(self.seen.get())
        return out


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Upstream

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:  # noqa: N802 (the library's name)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {k.lower(): v for k, v in self.headers.items()}
        self.server.seen.put({"path": self.path, "headers": headers, "body": body})
        if self.path == COUNT:
            wrong = check_count(headers, body)
            if wrong:
                return self.reply(400, error_body("anthropic", "invalid_request_error", wrong))
            return self.reply(200, {"input_tokens": COUNTED})
        speaks = {path: speaks for speaks, path in PATHS.items()}.get(self.path)
        if speaks is None:
            return self.reply(404, error_body("openai", "not_found_error", f"no such path: {self.path}"))
        wrong = check_request(speaks, headers, body)
        if wrong:
            return self.reply(400, error_body(speaks, "invalid_request_error", f"the upstream was asked wrongly: {wrong}"))
        scenario = body["model"].split("-")[0]
        if scenario == "bad":
            return self.reply(400, error_body(speaks, "invalid_request_error", "that is not how it is done"))
        if scenario == "limited":
            return self.reply(429, error_body(speaks, "rate_limit_error", "slow down"), {"retry-after": "17"})
        blocks, stop = answer(scenario, speaks, body)
        if not body.get("stream"):
            return self.reply(200, whole(speaks, body["model"], blocks, stop))
        include_usage = (body.get("stream_options") or {}).get("include_usage", False)
        events = list(stream(speaks, body["model"], blocks, stop, include_usage))
        if scenario == "broken":
            half = next(i for i, e in enumerate(events) if "fine" in e) + 1
            events = events[:half] + [error_event(speaks, "overloaded_error", "lost my thread")]
        self.events(events)

    def reply(self, status: int, body: dict[str, Any], more: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(data)), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def events(self, events: list[str]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        data = "".join(events).encode()
        # Cut without regard to events or characters, with a pause so that the pieces come apart.
        for at in range(0, len(data), 97):
            piece = data[at : at + 97]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            time.sleep(0.001)
        self.wfile.write(b"0\r\n\r\n")


def check_request(speaks: str, headers: dict[str, str], body: dict[str, Any]) -> str | None:
    """What the vendor itself would refuse."""
    if any(CLIENT_KEY in v for v in headers.values()):
        return "the client's key went upstream"
    if speaks != "anthropic" and headers.get("authorization") != f"Bearer {PROVIDER_KEYS[speaks]}":
        return f"authorization: {headers.get('authorization')}"
    if speaks == "responses":
        called: list[str] = []
        for item in body["input"]:
            if item.get("type") == "function_call":
                called.append(item["call_id"])
            if item.get("type") == "function_call_output":
                if item["call_id"] not in called:
                    return f"a result without a call: {item}"
                called.remove(item["call_id"])
            if item.get("role") == "assistant" and any(part["type"] == "input_text" for part in item["content"]):
                return "an assistant says input_text"
        return f"calls without results: {called}" if called else None
    if speaks == "openai":
        open_calls: list[str] = []
        for m in body["messages"]:
            if m["role"] == "tool":
                if m["tool_call_id"] not in open_calls:
                    return f"a result without a call: {m}"
                open_calls.remove(m["tool_call_id"])
            elif open_calls:
                return f"calls without results: {open_calls}"
            open_calls += [c["id"] for c in m.get("tool_calls") or []]
        return f"calls without results: {open_calls}" if open_calls else None
    if headers.get("x-api-key") != PROVIDER_KEYS[speaks] or "authorization" in headers:
        return "the provider's key is not there, or not alone"
    if headers.get("anthropic-version") not in ("2023-06-01", "2026-10-21"):
        return f"anthropic-version: {headers.get('anthropic-version')}"
    if headers["anthropic-version"] == "2026-10-21" and {"temperature", "top_p", "top_k"} & body.keys():
        return "sampling parameters were removed in this version"
    if not isinstance(body.get("max_tokens"), int):
        return "max_tokens: Field required"
    open_uses: set[str] = set()
    for m in body["messages"]:
        blocks = m["content"] if isinstance(m["content"], list) else []
        results = {b["tool_use_id"] for b in blocks if b["type"] == "tool_result"}
        if open_uses != results:
            return f"tool_use {open_uses} against tool_result {results}"
        open_uses = {b["id"] for b in blocks if b["type"] == "tool_use"}
    return None


def check_count(headers: dict[str, str], body: dict[str, Any]) -> str | None:
    """What the vendor itself would refuse where tokens are counted."""
    if headers.get("x-api-key") != PROVIDER_KEYS["anthropic"] or "authorization" in headers:
        return "the provider's key is not there, or not alone"
    # What the cells give it, and nothing that a request for an answer would have besides.
    more = sorted(body.keys() - {"messages", "model", "system", "tools"})
    return f"{more}: Extra inputs are not permitted" if more else None


def call_id(speaks: str, n: int) -> str:
    return f"toolu_0{n}AbCdEf" if speaks == "anthropic" else f"call_{n}abcDEF"


def answer(scenario: str, speaks: str, body: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    if scenario == "parsed":
        return [{"text": json.dumps(PARSED)}], "end"
    if scenario != "tools":
        return [{"text": ANSWER}], "end"
    if speaks == "responses":
        done = body["input"][-1].get("type") == "function_call_output"
    else:
        done = body["messages"][-1]["role"] == "tool" or isinstance(body["messages"][-1]["content"], list) and any(
            b["type"] == "tool_result" for b in body["messages"][-1]["content"]
        )
    if done:
        return [{"text": FINAL}], "end"
    calls = [{"id": call_id(speaks, n), "args": json.dumps({"city": city})} for n, (city, _) in enumerate(CALLS)]
    return [{"text": PREFACE}, *calls], "tools"


def whole(speaks: str, model: str, blocks: list[dict[str, Any]], stop: str) -> dict[str, Any]:
    if speaks == "openai":
        calls = [
            {"id": b["id"], "type": "function", "function": {"name": "get_weather", "arguments": b["args"]}}
            for b in blocks
            if "id" in b
        ]
        message: dict[str, Any] = {"role": "assistant", "content": blocks[0]["text"], "refusal": None, "annotations": []}
        if calls:
            message["tool_calls"] = calls
        finish = "tool_calls" if stop == "tools" else "stop"
        return {
            "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG",
            "object": "chat.completion",
            "created": 1741570283,
            "model": model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
            "usage": OPENAI_USAGE,
            "service_tier": "default",
            "system_fingerprint": "fp_44added55e",
        }
    if speaks == "responses":
        return response(model, [item(n, b) for n, b in enumerate(blocks)], "completed")
    content = [
        {"type": "text", "text": b["text"]}
        if "text" in b
        else {"type": "tool_use", "id": b["id"], "name": "get_weather", "input": json.loads(b["args"])}
        for b in blocks
    ]
    return {
        "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": "tool_use" if stop == "tools" else "end_turn",
        "stop_sequence": None,
        "usage": ANTHROPIC_USAGE,
    }


def item(n: int, block: dict[str, Any]) -> dict[str, Any]:
    if "id" in block:
        call = {"call_id": block["id"], "name": "get_weather", "arguments": block["args"]}
        return {"id": f"fc_{n}", "type": "function_call", "status": "completed", **call}
    part = {"type": "output_text", "text": block["text"], "annotations": [], "logprobs": []}
    return {"id": f"msg_{n}", "type": "message", "status": "completed", "role": "assistant", "content": [part]}


def response(model: str, output: list[dict[str, Any]], status: str) -> dict[str, Any]:
    return {
        "id": "resp_67ccd2bed1ec8190b14f964abc054267",
        "object": "response",
        "created_at": 1741476542,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": RESPONSES_USAGE if status == "completed" else None,
    }


def pieces(text: str, size: int) -> Iterator[str]:
    for at in range(0, len(text), size):
        yield text[at : at + size]


def stream(speaks: str, model: str, blocks: list[dict[str, Any]], stop: str, usage: bool) -> Iterator[str]:
    if speaks == "responses":
        return responses_stream(model, blocks)
    return openai_stream(model, blocks, stop, usage) if speaks == "openai" else anthropic_stream(model, blocks, stop)


def responses_stream(model: str, blocks: list[dict[str, Any]]) -> Iterator[str]:
    numbers = itertools.count()

    def event(kind: str, **more: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, 'sequence_number': next(numbers), **more})}\n\n"

    yield event("response.created", response=response(model, [], "in_progress"))
    yield event("response.in_progress", response=response(model, [], "in_progress"))
    for n, block in enumerate(blocks):
        done = item(n, block)
        here = {"item_id": done["id"], "output_index": n}
        if "id" in block:
            yield event("response.output_item.added", output_index=n, item={**done, "status": "in_progress", "arguments": ""})
            for p in pieces(block["args"], 5):
                yield event("response.function_call_arguments.delta", **here, delta=p)
            yield event("response.function_call_arguments.done", **here, name=done["name"], arguments=block["args"])
        else:
            (part,) = done["content"]
            here["content_index"] = 0
            yield event("response.output_item.added", output_index=n, item={**done, "status": "in_progress", "content": []})
            yield event("response.content_part.added", **here, part={**part, "text": ""})
            for p in pieces(block["text"], 11):
                yield event("response.output_text.delta", **here, delta=p, logprobs=[])
            yield event("response.output_text.done", **here, text=block["text"], logprobs=[])
            yield event("response.content_part.done", **here, part=part)
        yield event("response.output_item.done", output_index=n, item=done)
    output = [item(n, block) for n, block in enumerate(blocks)]
    yield event("response.completed", response=response(model, output, "completed"))


def openai_stream(model: str, blocks: list[dict[str, Any]], stop: str, usage: bool) -> Iterator[str]:
    base = {"id": "chatcmpl-B9MHD", "object": "chat.completion.chunk", "created": 1741570283, "model": model}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
        body = {**base, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}
        return f"data: {json.dumps({**body, 'usage': None} if usage else body)}\n\n"

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    n = 0
    for b in blocks:
        if "text" in b:
            yield from (chunk({"content": p}) for p in pieces(b["text"], 11))
            continue
        function = {"name": "get_weather", "arguments": ""}
        yield chunk({"tool_calls": [{"index": n, "id": b["id"], "type": "function", "function": function}]})
        for p in pieces(b["args"], 5):
            yield chunk({"tool_calls": [{"index": n, "function": {"arguments": p}}]})
        n += 1
    yield chunk({}, "tool_calls" if stop == "tools" else "stop")
    if usage:
        yield f"data: {json.dumps({**base, 'choices': [], 'usage': OPENAI_USAGE})}\n\n"
    yield "data: [DONE]\n\n"


def anthropic_stream(model: str, blocks: list[dict[str, Any]], stop: str) -> Iterator[str]:
    def event(kind: str, **more: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n"

    message = {**whole("anthropic", model, [], "end"), "content": [], "stop_reason": None}
    yield event("message_start", message={**message, "usage": {**ANTHROPIC_USAGE, "output_tokens": 1}})
    for i, b in enumerate(blocks):
        if "text" in b:
            yield event("content_block_start", index=i, content_block={"type": "text", "text": ""})
            yield event("ping")
            for p in pieces(b["text"], 11):
                yield event("content_block_delta", index=i, delta={"type": "text_delta", "text": p})
        else:
            start = {"type": "tool_use", "id": b["id"], "name": "get_weather", "input": {}}
            yield event("content_block_start", index=i, content_block=start)
            for p in ["", *pieces(b["args"], 5)]:
                yield event("content_block_delta", index=i, delta={"type": "input_json_delta", "partial_json": p})
        yield event("content_block_stop", index=i)
    delta = {"stop_reason": "tool_use" if stop == "tools" else "end_turn", "stop_sequence": None}
    yield event("message_delta", delta=delta, usage={"output_tokens": 7})
    yield event("message_stop")


def error_body(speaks: str, kind: str, message: str) -> dict[str, Any]:
    if speaks != "anthropic":
        return {"error": {"message": message, "type": kind, "param": None, "code": None}}
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy"}


def error_event(speaks: str, kind: str, message: str) -> str:
    name = "" if speaks == "openai" else "event: error\n"
    tag = {"type": "error", "sequence_number": 99} if speaks == "responses" else {}
    return f"{name}data: {json.dumps({**tag, **error_body(speaks, kind, message)})}\n\n"


# --- the gateway ----------------------------------------------------------------------------------------------


# What the gateway calls them, where that is another name.
FORMATS = {"responses": "openai_responses"}


class Gateway:
    """The binary with a provider of each format; ended by its pid."""

    def __init__(self, binary: str, upstream: Upstream, home: str) -> None:
        base = f"http://127.0.0.1:{upstream.server_address[1]}"
        for name, speaks, path, header, form in (
            ("o", "openai", CHAT, "Authorization", "Bearer {api_key}"),
            ("a", "anthropic", MESSAGES, "x-api-key", "{api_key}"),
            ("r", "responses", RESPONSES, "Authorization", "Bearer {api_key}"),
        ):
            write(home, f"config/providers/{name}.json", {
                "name": name,
                "enabled": True,
                "endpoints": {"base_url": base, "completions": path, "compatible_format": FORMATS.get(speaks, speaks)},
                "authentication": {"header_name": header, "header_format": form},
                "api_keys": {"env_var_patterns": ["{PROVIDER}_API_KEY"]},
                "request_config": {"timeout_seconds": 20},
            })
            # One model for each thing that is asked: a limit that one cell runs into is no other cell's.
            for scenario, n in itertools.product(("text", "tools", "parsed", "bad", "limited", "broken"), range(len(CELLS))):
                model = f"{scenario}-{n}"
                write(home, f"config/models/{speaks}_{model}.json", {
                    "logical_name": f"{speaks}/{model}",
                    "model_routings": [{"provider": name, "model": model}],
                    "fallback_model_routings": [],
                })
        self.process = subprocess.Popen(
            [binary, "start", "--host", "127.0.0.1", "--port", "0", "--config", os.path.join(home, "config")],
            cwd=home,
            env={
                "HOME": home,
                "CLIENT_API_KEY": CLIENT_KEY,
                "O_API_KEY": PROVIDER_KEYS["openai"],
                "A_API_KEY": PROVIDER_KEYS["anthropic"],
                "R_API_KEY": PROVIDER_KEYS["responses"],
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []
        address: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self.listen, args=(address,), daemon=True).start()
        try:
            url = address.get(timeout=20)
        except queue.Empty:
            url = None
        if url is None:
            self.stop()
            raise SystemExit("the gateway does not start:\n" + "".join(self.said))
        self.url = url

    def listen(self, address: queue.Queue[str | None]) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.said.append(line)
            if "listening on " in line:
                address.put(line.split("listening on ")[1].split()[0])
        address.put(None)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def write(home: str, name: str, body: dict[str, Any]) -> None:
    path = os.path.join(home, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(body, file)


# --- what each client makes of it -----------------------------------------------------------------------------


def same(got: Any, want: Any, what: str) -> None:
    if got != want:
        raise AssertionError(f"{what}: {got!r} where {want!r} was expected")


class OpenaiClient:
    """One conversation by the OpenAI SDK, whole or streamed."""

    name = "openai"

    def __init__(self, url: str, streams: bool) -> None:
        self.sdk = openai.OpenAI(base_url=f"{url}/v1", api_key=CLIENT_KEY, max_retries=0, timeout=30)
        self.streams = streams

    def messages(self) -> list[dict[str, Any]]:
        return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]

    def ask(self, model: str, messages: list[dict[str, Any]], **more: Any) -> Any:
        """The final completion, checked for what every one of them has."""
        arguments = dict(model=model, messages=messages, max_completion_tokens=300, temperature=0.5, **more)
        if not self.streams:
            completion = self.sdk.chat.completions.create(**arguments)
            same(bool(completion._request_id), True, "a request id")
        else:
            with self.sdk.chat.completions.stream(**arguments, stream_options={"include_usage": True}) as events:
                text = "".join(e.delta for e in events if e.type == "content.delta")
                completion = events.get_final_completion()
            same(text, completion.choices[0].message.content, "the deltas, joined")
        same(completion.object, "chat.completion", "object")
        same(len(completion.choices), 1, "choices")
        same(completion.choices[0].message.role, "assistant", "role")
        usage = completion.usage
        same((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (21, 7, 28), "usage")
        same(usage.prompt_tokens_details.cached_tokens, 10, "cached tokens")
        return completion

    def text(self, model: str) -> None:
        completion = self.ask(model, self.messages())
        choice = completion.choices[0]
        same(choice.message.content, ANSWER, "the text")
        same(choice.finish_reason, "stop", "finish_reason")
        same(choice.message.tool_calls or None, None, "tool calls")

    def tools(self, model: str, speaks: str, seen: Callable[[], dict[str, Any]]) -> None:
        function = {"name": "get_weather", "description": "Tells the weather.", "parameters": SCHEMA, "strict": True}
        tools = {"tools": [{"type": "function", "function": function}], "tool_choice": "auto"}
        messages = self.messages()
        choice = self.ask(model, messages, **tools).choices[0]
        check_tools_sent(speaks, seen()["body"])
        same(choice.finish_reason, "tool_calls", "finish_reason")
        same(choice.message.content, PREFACE, "the text before the calls")
        calls = choice.message.tool_calls
        same([c.id for c in calls], [call_id(speaks, n) for n in range(2)], "ids of the calls")
        same([c.function.name for c in calls], ["get_weather"] * 2, "names of the calls")
        same([json.loads(c.function.arguments) for c in calls], [{"city": c} for c, _ in CALLS], "arguments")
        messages.append(choice.message.to_dict())
        for call, (_, degrees) in zip(calls, CALLS):
            messages.append({"role": "tool", "tool_call_id": call.id, "content": degrees})
        choice = self.ask(model, messages, **tools).choices[0]
        same((choice.message.content, choice.finish_reason), (FINAL, "stop"), "the second turn")
        check_turn_sent(speaks, seen()["body"])

    def fails(self, model: str) -> openai.APIError:
        try:
            self.ask(model, self.messages())
        except openai.APIError as error:
            return error
        raise AssertionError("no error")

    def error(self, to: str, n: int) -> None:
        error = self.fails(f"{to}/bad-{n}")
        same(type(error), openai.BadRequestError, "a request that is wrong")
        same((error.status_code, error.type), (400, "invalid_request_error"), "its status and type")
        same("that is not how it is done" in error.message, True, f"its message: {error.message}")
        same(bool(error.request_id), True, "its request id")
        error = self.fails(f"{to}/limited-{n}")
        same(type(error), openai.RateLimitError, "a limit")
        same((error.status_code, error.response.headers.get("retry-after")), (429, "17"), "its status and wait")
        same("slow down" in error.message, True, f"its message: {error.message}")
        if self.streams:
            error = self.fails(f"{to}/broken-{n}")
            same("lost my thread" in error.message, True, f"a stream that breaks: {error.message}")


class Weather(pydantic.BaseModel):
    city: str
    degrees: int


class ResponsesClient(OpenaiClient):
    """One conversation by the OpenAI SDK's Responses, whole or streamed."""

    name = "responses"

    def messages(self) -> list[dict[str, Any]]:
        return [{"role": "user", "content": QUESTION}]

    def ask(self, model: str, messages: list[dict[str, Any]], **more: Any) -> Any:
        arguments = dict(model=model, input=messages, instructions=SYSTEM, max_output_tokens=300, temperature=0.5, store=False)
        arguments.update(more)
        if not self.streams:
            ask = self.sdk.responses.parse if "text_format" in arguments else self.sdk.responses.create
            response = ask(**arguments)
            same(bool(response._request_id), True, "a request id")
        else:
            with self.sdk.responses.stream(**arguments) as events:
                got = list(events)
                response = events.get_final_response()
            deltas = "".join(e.delta for e in got if e.type == "response.output_text.delta")
            same(deltas, response.output_text, "the deltas, joined")
            same([e.sequence_number for e in got], list(range(len(got))), "the numbers of the events")
        same((response.object, response.status), ("response", "completed"), "object and status")
        usage = response.usage
        same((usage.input_tokens, usage.output_tokens, usage.total_tokens), (21, 7, 28), "usage")
        same(usage.input_tokens_details.cached_tokens, 10, "cached tokens")
        return response

    def text(self, model: str) -> None:
        response = self.ask(model, self.messages())
        same([i.type for i in response.output], ["message"], "the items")
        same(response.output_text, ANSWER, "the text")

    def parsed(self, model: str) -> None:
        response = self.ask(model, self.messages(), text_format=Weather)
        same(response.output_parsed, Weather(**PARSED), "what was parsed")

    def tools(self, model: str, speaks: str, seen: Callable[[], dict[str, Any]]) -> None:
        function = {"name": "get_weather", "description": "Tells the weather.", "parameters": SCHEMA, "strict": True}
        tools = {"tools": [{"type": "function", **function}], "tool_choice": "auto"}
        messages = self.messages()
        response = self.ask(model, messages, **tools)
        check_tools_sent(speaks, seen()["body"])
        same([i.type for i in response.output], ["message", "function_call", "function_call"], "the items")
        same(response.output_text, PREFACE, "the text before the calls")
        calls = response.output[1:]
        same([c.call_id for c in calls], [call_id(speaks, n) for n in range(2)], "ids of the calls")
        same([c.name for c in calls], ["get_weather"] * 2, "names of the calls")
        same([json.loads(c.arguments) for c in calls], [{"city": c} for c, _ in CALLS], "arguments")
        # As the SDK's own examples go on.
        messages += response.output
        for call, (_, degrees) in zip(calls, CALLS):
            messages.append({"type": "function_call_output", "call_id": call.call_id, "output": degrees})
        response = self.ask(model, messages, **tools)
        same(response.output_text, FINAL, "the second turn")
        check_turn_sent(speaks, seen()["body"])


class AnthropicClient:
    """One conversation by the Anthropic SDK, whole or streamed."""

    name = "anthropic"

    def __init__(self, url: str, streams: bool) -> None:
        self.sdk = anthropic.Anthropic(base_url=url, api_key=CLIENT_KEY, max_retries=0, timeout=30)
        self.streams = streams

    def messages(self) -> list[dict[str, Any]]:
        return [{"role": "user", "content": QUESTION}]

    def ask(self, model: str, messages: list[dict[str, Any]], **more: Any) -> Any:
        arguments = dict(model=model, messages=messages, max_tokens=300, system=SYSTEM, **more)
        if not self.streams:
            message = self.sdk.messages.create(**arguments)
            same(bool(message._request_id), True, "a request id")
        else:
            with self.sdk.messages.stream(**arguments) as events:
                text = "".join(events.text_stream)
                message = events.get_final_message()
                same(bool(events.request_id), True, "a request id")
            same(text, "".join(b.text for b in message.content if b.type == "text"), "the deltas, joined")
        same((message.type, message.role), ("message", "assistant"), "type and role")
        usage = message.usage
        same((usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens), (11, 10, 7), "usage")
        return message

    def text(self, model: str) -> None:
        message = self.ask(model, self.messages())
        same([(b.type, b.text) for b in message.content], [("text", ANSWER)], "the text")
        same((message.stop_reason, message.stop_sequence), ("end_turn", None), "stop_reason")

    def tools(self, model: str, speaks: str, seen: Callable[[], dict[str, Any]]) -> None:
        tool = {"name": "get_weather", "description": "Tells the weather.", "input_schema": SCHEMA}
        tools = {"tools": [tool], "tool_choice": {"type": "auto"}}
        messages = self.messages()
        message = self.ask(model, messages, **tools)
        check_tools_sent(speaks, seen()["body"])
        same(message.stop_reason, "tool_use", "stop_reason")
        same([b.type for b in message.content], ["text", "tool_use", "tool_use"], "the blocks")
        same(message.content[0].text, PREFACE, "the text before the calls")
        uses = message.content[1:]
        same([u.id for u in uses], [call_id(speaks, n) for n in range(2)], "ids of the calls")
        same([u.name for u in uses], ["get_weather"] * 2, "names of the calls")
        same([u.input for u in uses], [{"city": c} for c, _ in CALLS], "inputs")
        messages.append({"role": "assistant", "content": message.content})
        results = [
            {"type": "tool_result", "tool_use_id": use.id, "content": degrees} for use, (_, degrees) in zip(uses, CALLS)
        ]
        messages.append({"role": "user", "content": results})
        message = self.ask(model, messages, **tools)
        same([b.text for b in message.content], [FINAL], "the second turn")
        same(message.stop_reason, "end_turn", "stop_reason of the second turn")
        check_turn_sent(speaks, seen()["body"])

    def count(self, model: str, speaks: str) -> None:
        tool = {"name": "get_weather", "description": "Tells the weather.", "input_schema": SCHEMA}
        arguments = dict(model=model, messages=self.messages(), system=SYSTEM, tools=[tool])
        for counter in (self.sdk.messages, self.sdk.beta.messages):
            raw = counter.with_raw_response.count_tokens(**arguments)
            tokens, estimated = raw.parse().input_tokens, raw.headers.get("x-model-proxy-estimated")
            same(bool(raw.headers.get("request-id")), True, "a request id")
            if speaks == "anthropic":
                same((tokens, estimated), (COUNTED, None), "the upstream's own count")
            else:
                same((60 < tokens < 200, estimated), (True, "true"), f"an estimate that says so: {tokens}")
        try:
            self.sdk.messages.count_tokens(model="nobody", messages=self.messages())
        except anthropic.NotFoundError as error:
            same(error.body["error"]["type"], "not_found_error", "an unknown model")
        else:
            raise AssertionError("an unknown model is counted")

    def fails(self, model: str) -> anthropic.APIError:
        try:
            self.ask(model, self.messages())
        except anthropic.APIError as error:
            return error
        raise AssertionError("no error")

    def error(self, to: str, n: int) -> None:
        error = self.fails(f"{to}/bad-{n}")
        same(type(error), anthropic.BadRequestError, "a request that is wrong")
        same((error.status_code, error.body["type"]), (400, "error"), "its status and body")
        same(error.body["error"]["type"], "invalid_request_error", "its type")
        same("that is not how it is done" in error.body["error"]["message"], True, f"its message: {error.message}")
        same(bool(error.request_id), True, "its request id")
        error = self.fails(f"{to}/limited-{n}")
        same(type(error), anthropic.RateLimitError, "a limit")
        same((error.status_code, error.response.headers.get("retry-after")), (429, "17"), "its status and wait")
        same("slow down" in error.message, True, f"its message: {error.message}")
        if self.streams:
            error = self.fails(f"{to}/broken-{n}")
            same("lost my thread" in error.message, True, f"a stream that breaks: {error.message}")


# --- what the upstream must have been asked -------------------------------------------------------------------


def texts(content: Any) -> str:
    return content if isinstance(content, str) else "".join(b.get("text", "") for b in content)


def check_text_sent(client: str, speaks: str, streams: bool, seen: dict[str, Any]) -> None:
    body, headers = seen["body"], seen["headers"]
    same(body.get("stream") or False, streams, "stream, upstream")
    same(headers.get("content-type"), "application/json", "content-type, upstream")
    if speaks == "responses":
        same(body["instructions"], SYSTEM, "the system text, upstream")
        (user,) = body["input"]
        same((user["role"], texts(user["content"])), ("user", QUESTION), "the question, upstream")
        same((body["max_output_tokens"], body["store"]), (300, False), "the limit, and that nothing is kept")
    elif speaks == "openai":
        system, user = body["messages"]
        same((system["role"] in ("system", "developer"), texts(system["content"])), (True, SYSTEM), "the system text, upstream")
        same((user["role"], texts(user["content"])), ("user", QUESTION), "the question, upstream")
        same(body.get("max_completion_tokens", body.get("max_tokens")), 300, "the limit, upstream")
        if streams:
            same(body["stream_options"], {"include_usage": True}, "usage is asked for")
    else:
        same(texts(body["system"]), SYSTEM, "the system text, upstream")
        same([(m["role"], texts(m["content"])) for m in body["messages"]], [("user", QUESTION)], "the question, upstream")
        same(body["max_tokens"], 300, "the limit, upstream")
        version = "2026-10-21" if client == "anthropic" else "2023-06-01"
        same(headers["anthropic-version"], version, "anthropic-version, upstream")
    same(body.get("temperature"), None if client == "anthropic" else 0.5, "temperature, upstream")


def check_tools_sent(speaks: str, body: dict[str, Any]) -> None:
    (tool,) = body["tools"]
    function = tool["function"] if speaks == "openai" else tool
    same((function["name"], function["description"]), ("get_weather", "Tells the weather."), "the tool, upstream")
    same(function["input_schema" if speaks == "anthropic" else "parameters"], SCHEMA, "its schema, upstream")
    same(body.get("tool_choice"), {"type": "auto"} if speaks == "anthropic" else "auto", "tool_choice, upstream")


def check_turn_sent(speaks: str, body: dict[str, Any]) -> None:
    ids = [call_id(speaks, n) for n in range(2)]
    if speaks == "responses":
        said, *rest = body["input"][-5:]
        same(texts(said["content"]), PREFACE, "the text before the calls, upstream")
        calls = [(c["call_id"], json.loads(c["arguments"])) for c in rest[:2]]
        same(calls, [(i, {"city": c}) for i, (c, _) in zip(ids, CALLS)], "the calls, upstream")
        same([(r["type"], r["call_id"], texts(r["output"])) for r in rest[2:]],
             [("function_call_output", i, d) for i, (_, d) in zip(ids, CALLS)], "the results, upstream")
        return
    if speaks == "openai":
        call, *results = body["messages"][-3:]
        same(texts(call["content"]), PREFACE, "the text before the calls, upstream")
        calls = [(c["id"], json.loads(c["function"]["arguments"])) for c in call["tool_calls"]]
        same(calls, [(i, {"city": c}) for i, (c, _) in zip(ids, CALLS)], "the calls, upstream")
        same([(r["role"], r["tool_call_id"], texts(r["content"])) for r in results],
             [("tool", i, d) for i, (_, d) in zip(ids, CALLS)], "the results, upstream")
        return
    call, results = body["messages"][-2:]
    same([b["type"] for b in call["content"]], ["text", "tool_use", "tool_use"], "the blocks, upstream")
    same([(b["id"], b["input"]) for b in call["content"][1:]],
         [(i, {"city": c}) for i, (c, _) in zip(ids, CALLS)], "the calls, upstream")
    same([(b["type"], b["tool_use_id"], texts(b["content"])) for b in results["content"]],
         [("tool_result", i, d) for i, (_, d) in zip(ids, CALLS)], "the results, upstream")


# --- the cells ------------------------------------------------------------------------------------------------


def run_cell(gateway: Gateway, upstream: Upstream, cell: tuple[str, str, str, str], n: int) -> None:
    mode, client_name, speaks, scenario = cell
    streams = mode == "stream"
    clients = {one.name: one for one in (OpenaiClient, ResponsesClient, AnthropicClient)}
    client = clients[client_name](gateway.url, streams)

    def seen() -> dict[str, Any]:
        requests = upstream.take()
        same(len(requests), 1, "requests at the upstream")
        same(requests[0]["path"], PATHS[speaks], "path, upstream")
        return requests[0]

    upstream.take()
    if scenario == "text":
        client.text(f"{speaks}/text-{n}")
        request = seen()
        same(request["body"]["model"], f"text-{n}", "model, upstream")
        check_text_sent(client_name, speaks, streams, request)
    elif scenario == "count":
        client.count(f"{speaks}/text-{n}", speaks)
        asked = [(r["path"].split("?")[0], r["body"]["model"]) for r in upstream.take()]
        same(asked, [(COUNT, f"text-{n}")] * 2 if speaks == "anthropic" else [], "requests at the upstream")
    elif scenario == "parsed":
        client.parsed(f"{speaks}/parsed-{n}")
        same(json.dumps(seen()["body"]).count('"degrees"') >= 2, True, "the schema, upstream")
    elif scenario == "tools":
        client.tools(f"{speaks}/tools-{n}", speaks, seen)
    else:
        client.error(speaks, n)
        same(len(upstream.take()), 3 if streams else 2, "requests at the upstream: nothing is tried again")


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    binary, wanted = os.path.abspath(sys.argv[1]), sys.argv[2:]
    upstream = Upstream()
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="model-proxy-matrix-") as home:
        gateway = Gateway(binary, upstream, home)
        try:
            print(f"openai {openai.__version__}, anthropic {anthropic.__version__}")
            print(f"{'':8}{'client':11}{'upstream':11}{'scenario':10}")
            for n, cell in enumerate(CELLS):
                if wanted and "/".join(cell) not in wanted:
                    continue
                try:
                    run_cell(gateway, upstream, cell, n)
                    passed += 1
                    outcome = "ok"
                except Exception as error:  # a cell may fail in any way; the others go on
                    failed += 1
                    outcome = f"FAILED: {type(error).__name__}: {error}"
                    if wanted:
                        traceback.print_exc()
                print(f"{cell[0]:8}{cell[1]:11}{cell[2]:11}{cell[3]:10}{outcome}", flush=True)
        finally:
            gateway.stop()
        if failed:
            print("the gateway said:\n" + "".join(gateway.said))
    upstream.shutdown()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())

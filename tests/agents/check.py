#!/usr/bin/env python3
"""Real agents do a task through the gateway, each against a scripted upstream of each format.

    check.py PATH-TO-model-proxy PATH-TO-node_modules

Codex and Claude Code (npm) run headless: in three turns they make a file, read it back, and say what it holds. Looked at are the file,
what the agent said, what came back to the upstream (thoughts under their maker's seal, results of calls), and the journal.
"""
from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

import upstream

KEY = "key-of-the-agents"
TASK = "Make a file and read it back"
# The formats, as a provider's file calls them, and where they are spoken.
FORMATS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "openai_responses": "/v1/responses"}
CODEX = """model = "gpt-any"
model_provider = "proxy"
[model_providers.proxy]
name = "proxy"
base_url = "%s/v1"
env_key = "PROXY_KEY"
wire_api = "responses"
"""
# A model of every name, which thinks. Claude Code keeps its thoughts between turns only if the name that answers is the one it asked for.
MODEL = {"logical_name": "*", "model_routings": [{"provider": "p", "model": "*"}], "rewrite_model": True, "capabilities": {
    "thinking": {"adaptive": True, "enabled": True, "disabled": True}, "effort": ["low", "medium", "high"], "inline_system": True}}


def codex(modules: str, base: str, home: str) -> tuple[list[str], dict[str, str]]:
    os.makedirs(os.path.join(home, ".codex"))
    with open(os.path.join(home, ".codex", "config.toml"), "w", encoding="utf-8") as file:
        file.write(CODEX % base)
    command = ["codex", "exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", TASK]
    return [os.path.join(modules, ".bin", command[0]), *command[1:]], {"PROXY_KEY": KEY}


def claude(modules: str, base: str, home: str) -> tuple[list[str], dict[str, str]]:
    command = ["claude", "-p", TASK, "--output-format", "stream-json", "--verbose", "--dangerously-skip-permissions", "--model",
               "claude-sonnet-4-5"]
    env = {"ANTHROPIC_BASE_URL": base, "ANTHROPIC_API_KEY": KEY, "DISABLE_TELEMETRY": "1", "IS_SANDBOX": "1",
           "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    return [os.path.join(modules, ".bin", command[0]), *command[1:]], env


AGENTS = {"codex": codex, "claude": claude}


def codex_said(line: dict[str, Any]) -> str:
    item = line.get("item", {})
    return item.get("text", "") if item.get("type") == "agent_message" else ""


def claude_said(line: dict[str, Any]) -> str:
    return line.get("result", "") if line.get("type") == "result" and not line.get("is_error") else ""


def main(binary: str, modules: str) -> int:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), upstream.Upstream)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for agent in AGENTS:
        for kind, path in FORMATS.items():
            home = tempfile.mkdtemp(prefix="model-proxy-agents-")
            try:
                began = time.monotonic()
                run(binary, modules, agent, (kind, path), server.server_address[1], home)
                print(f"{agent:<8}{path:<24}ok  {time.monotonic() - began:.1f} s", flush=True)
            finally:
                shutil.rmtree(home)
    print(f"{len(AGENTS) * len(FORMATS)} passed, 0 failed")
    return 0


def run(binary: str, modules: str, agent: str, format: tuple[str, str], port: int, home: str) -> None:
    kind, path = format
    upstream.SEEN.clear()
    config = os.path.join(home, "config")
    for name in ("config/models", "config/providers", "work"):
        os.makedirs(os.path.join(home, name))
    provider = {"name": "p", "endpoints": {"base_url": f"http://127.0.0.1:{port}", "completions": path, "compatible_format": kind},
                "api_keys": {"env_var_patterns": ["P_API_KEY"]}}
    for name, content in (("models/any.json", MODEL), ("providers/p.json", provider)):
        with open(os.path.join(config, name), "w", encoding="utf-8") as file:
            json.dump(content, file)
    env = {"HOME": home, "PATH": os.environ["PATH"], "CLIENT_API_KEY": KEY, "P_API_KEY": "key-up"}
    log = os.path.join(home, "log")
    with open(log, "w", encoding="utf-8") as stderr:
        gateway = subprocess.Popen([binary, "start", "--port", "0", "--config", config], env=env, cwd=home, stderr=stderr)
    try:
        base = listening(log, gateway)
        command, more = AGENTS[agent](modules, base, home)
        work = os.path.join(home, "work")
        done = subprocess.run(command, cwd=work, env={"HOME": home, "PATH": os.environ["PATH"], **more}, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=120, check=False)
    finally:
        gateway.send_signal(signal.SIGTERM)
        gateway.wait(40)
    told = f"{agent} to {path}\n{done.stdout}\n{done.stderr}\n{open(log, encoding='utf-8').read()}"
    assert done.returncode == 0, told
    said = {"codex": codex_said, "claude": claude_said}[agent]
    words = [said(json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [word for word in words if word][-1].strip() == upstream.TURNS[-1][1], told
    assert open(os.path.join(work, "one.txt"), encoding="utf-8").read() == "one\n", told
    check_upstream(path, told)
    check_journal(binary, config, env, home, told)


def listening(log: str, gateway: subprocess.Popen[bytes]) -> str:
    for _ in range(200):
        assert gateway.poll() is None, open(log, encoding="utf-8").read()
        for line in open(log, encoding="utf-8"):
            if line.startswith("listening on "):
                return line.split()[2]
        time.sleep(0.05)
    raise AssertionError("the gateway does not listen")


def check_upstream(path: str, told: str) -> None:
    """Every turn came once, in the upstream's format; the last brought the results, and each thought under its seal."""
    assert [(at, upstream.results(body)) for at, body in upstream.SEEN] == [(path, 0), (path, 1), (path, 2)], told
    last = upstream.SEEN[-1][1]
    turns = last["input"] if path.endswith("responses") else last["messages"]
    if path.endswith("messages"):
        blocks = [block for turn in turns if isinstance(turn["content"], list) for block in turn["content"]]
        sealed = [(block["thinking"], block["signature"]) for block in blocks if block["type"] == "thinking"]
    elif path.endswith("responses"):
        items = [item for item in turns if item.get("type") == "reasoning"]
        sealed = [("".join(part["text"] for part in item["summary"]), item["encrypted_content"]) for item in items]
    else:
        # What nobody sealed is not taken back.
        return
    assert sealed == [(thought, upstream.SEALS[path]) for thought, _, _ in upstream.TURNS if thought], (sealed, told)


def check_journal(binary: str, config: str, env: dict[str, str], home: str, told: str) -> None:
    query = "SELECT count(*) AS requests, sum(input) AS input, sum(cache_read) AS cached, sum(output) AS output FROM log"
    command = [binary, "db", "query", query, "--format", "json", "--config", config]
    done = subprocess.run(command, env=env, cwd=home, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows == [{"requests": 3, "input": 90, "cached": 60, "output": 27}], (rows, told)


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])))

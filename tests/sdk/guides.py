#!/usr/bin/env python3
"""Runs the guides of the README as somebody would who follows them, on a free port.

    guides.py PATH-TO-model-proxy PATH-TO-node_modules

The `bash` blocks run one after the other, each in a shell of its own, in one empty folder and home, with the real agents (npm; see
tests/agents); the `yaml` block is written to .pre-commit-config.yaml, the `toml` block to Codex's configuration, and the `python` block is
run with the official SDKs. `sh` blocks name what cannot run here: docker. tests/package/check.py reads its files.
"""
from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        assert server.poll() is None, "the server ended"
        try:
            socket.create_connection(("127.0.0.1", port), 0.1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the server does not listen")


def main(binary: str, modules: str) -> int:
    readme = open(os.path.join(ROOT, "README.md"), encoding="utf-8").read()
    guides = readme.split("<!-- guides -->")[1].split("<!-- /guides -->")[0]
    blocks = re.findall(r"```(\w+)\n(.*?)```", guides, re.S)
    kinds = [kind for kind, _ in blocks]
    assert [kinds.count(kind) for kind in ("bash", "python", "yaml", "toml")] == [4, 1, 1, 1], kinds
    home = tempfile.mkdtemp(prefix="model-proxy-guides-")
    tools = os.path.join(home, "bin")
    os.mkdir(tools)
    shutil.copy(binary, os.path.join(tools, "model-proxy"))
    port = free_port()
    here = os.path.join(home, "project")
    os.mkdir(here)
    os.mkdir(os.path.join(home, ".codex"))
    path = os.pathsep.join([tools, os.path.join(modules, ".bin"), os.path.dirname(sys.executable), os.environ["PATH"]])
    env = {"HOME": home, "PATH": path, "CLIENT_API_KEY": "choose-one", "OPENAI_API_KEY": "sk-guide",
           "PRE_COMMIT_HOME": os.path.join(home, "pre-commit")}
    server = None
    try:
        for kind, block in blocks:
            block = block.replace("127.0.0.1:9876", f"127.0.0.1:{port}")
            if kind in ("yaml", "toml"):
                written = {"yaml": os.path.join(here, ".pre-commit-config.yaml"), "toml": os.path.join(home, ".codex", "config.toml")}
                with open(written[kind], "w", encoding="utf-8") as file:
                    file.write(block)
                continue
            if kind == "sh":
                words = {line.split()[0] for line in block.splitlines()}
                assert words <= {"docker", "docker-compose"}, words
                continue
            if "model-proxy start &" in block:
                # Before it, what it needs; behind it, what needs it.
                before, block = block.split("model-proxy start &")
                run(["bash", "-euo", "pipefail", "-c", before], here, env)
                server = subprocess.Popen(["model-proxy", "start", "--port", str(port)], cwd=here, env=env, stderr=subprocess.DEVNULL,
                                          executable=os.path.join(tools, "model-proxy"))
                wait_for(port, server)
            said = run([sys.executable, "-c", block] if kind == "python" else ["bash", "-euo", "pipefail", "-c", block], here, env)
            print(f"-- {kind}\n{block.strip()}\n-- said\n{said.strip()}")
            if kind == "python":
                assert said.count("hello") == 3, said
            elif "claude" in block or "codex" in block:
                assert "demo: tool said " in said, said
            if "pre-commit" in block:
                assert "Passed" in said, said
    finally:
        if server:
            server.send_signal(signal.SIGTERM)
            server.wait(40)
        shutil.rmtree(home)
    print("the guides work")
    return 0


def run(command: list[str], here: str, env: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=here, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{command[-1]}\nended with {done.returncode}:\n{done.stdout}"
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])))

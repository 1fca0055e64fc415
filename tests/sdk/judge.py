#!/usr/bin/env python3
"""Holds what the converters wrote against the official SDKs' own types and the rules of the wire.

    judge.py --validate shared/tools/validate.py --corpus shared/corpus --converted target/converted

`--converted` is what `cargo test` wrote there under MODEL_PROXY_CONVERTED. Every item must pass, unknown fields
included. An item may fail only if it stands in known.txt beside this file, and only if its recording is itself
wrong: it fails the same check, or the provider answered it with an error. An entry that no longer fails is stale,
and fails too.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
APIS = ("openai-chat", "anthropic-messages", "openai-responses")
# What was written, and the format it was recorded in.
KINDS = [(f"{to}-{what}", of) for to in APIS for what in ("request", "response", "stream") for of in APIS if of != to]
# Fields that the SDKs' types lack and providers and clients of that format agree on all the same.
ALLOWED = "reasoning_content,reasoning_details,annotations"


def validate(options: argparse.Namespace, kind: str, *paths: str) -> dict[str, list[dict[str, str]]]:
    """The problems of each file, as validate.py tells them; unknown fields count."""
    command = [sys.executable, options.validate, "--kind", kind, "--json", "--allow", ALLOWED, *paths]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    report = json.loads(run.stdout)
    fail = ("error", "unknown")
    return {f["file"]: [p for p in f["problems"] if p["sev"] in fail] for f in report["files"]}


def known() -> dict[tuple[str, str], str]:
    """(kind, recording) -> reason. The kind is that of what was written."""
    entries = {}
    with open(os.path.join(HERE, "known.txt"), encoding="utf-8") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                kind, recording, reason = line.strip().split(None, 2)
                entries[(kind, recording)] = reason
    return entries


def excuse(options: argparse.Namespace, rows: dict[str, dict], kind: tuple[str, str], recording: str) -> str | None:
    """Why a recording cannot convert well, if it is the recording's own fault."""
    row = rows[recording]
    if (row.get("status") or 200) >= 400:
        return f"the provider answered {row['status']}"
    what = kind[0].rsplit("-", 1)[1]
    problems = validate(options, f"{kind[1]}-{what}", os.path.join(options.corpus, recording))
    errors = [p for found in problems.values() for p in found if p["sev"] == "error"]
    return f"the recording has it too: {errors[0]['msg']}" if errors else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--validate", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--converted", required=True)
    options = parser.parse_args()
    with open(os.path.join(options.corpus, "index.jsonl"), encoding="utf-8") as index:
        rows = {row["file"]: row for row in map(json.loads, index)}
    entries, met = known(), set()
    passed = failed = 0
    for kind, of in KINDS:
        folder = os.path.join(options.converted, kind, of)
        found = validate(options, kind, folder)
        fine = excused = 0
        for path, problems in sorted(found.items()):
            if not problems:
                fine += 1
                continue
            recording = os.path.basename(path).replace("~", "/")
            why = excuse(options, rows, (kind, of), recording) if (kind, recording) in entries else None
            if why:
                met.add((kind, recording))
                excused += 1
                print(f"  known: {recording}: {why}")
                continue
            failed += 1
            listed = " (listed, but the recording is in order)" if (kind, recording) in entries else ""
            print(f"  FAILED: {path}{listed}")
            for p in problems[:6]:
                print(f"    {p['sev']}: {p['path']}: {p['msg']} [{p['rule']}]")
        passed += fine
        print(f"{kind} from {of}: {len(found)} converted, {fine} fit the SDK's types, {excused} known")
        if not found:
            failed += 1
            print(f"  FAILED: {folder} holds nothing")
    for kind, recording in sorted(entries.keys() - met):
        failed += 1
        print(f"  FAILED: known.txt names {kind} {recording}, which does not fail any more")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

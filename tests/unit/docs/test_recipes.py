"""The functions of docs/recipes.md take what a sink sends, and nothing else: each in its own language."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from eventsink.destinations.webhook.sender import WebhookSender
from eventsink.destinations.webhook.target import WebhookTarget
from eventsink.sinks.signatures import signature, signing_key
from tests.unit.destinations.sender_contract import MESSAGE, ScriptedTransport, responded
from tests.unit.docs.pages import ROOT, between, blocks, page

RECIPES = page("recipes.md")
SECRET = "whsec_" + base64.b64encode(b"a secret of the tests alone").decode()
OTHER = "whsec_" + base64.b64encode(b"another secret, never used").decode()
Case = tuple[dict[str, str], bytes, bool]
"""Headers, body, and whether the body is handed over in base64."""
TAKEN, REFUSED = 204, 401

PYTHON = "import json, sys\nfor one in json.load(sys.stdin):\n    print('=', handler(one)['statusCode'])\n"
JAVASCRIPT = """
(async () => {
  for (const one of JSON.parse(require("node:fs").readFileSync(0))) console.log("=", (await exports.handler(one)).statusCode);
})();
"""
GO = """package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	var events []Event
	if err := json.NewDecoder(os.Stdin).Decode(&events); err != nil {
		panic(err)
	}
	for _, one := range events {
		response, err := handler(context.Background(), one)
		if err != nil {
			panic(err)
		}
		fmt.Println("=", response.StatusCode)
	}
}
"""
JAVA = """
class Main {
    public static void main(String[] given) throws Exception {
        for (int i = 0; i < given.length; i += 5) {
            var headers = java.util.Map.of("Webhook-Id", given[i], "Webhook-Timestamp", given[i + 1], "Webhook-Signature", given[i + 2]);
            var event = java.util.Map.<String, Object>of("headers", headers, "body", given[i + 3],
                "isBase64Encoded", given[i + 4].equals("true"));
            System.out.println("= " + new Handler().handleRequest(event).get("statusCode"));
        }
    }
}
"""
RUBY = 'require "json"\nJSON.parse($stdin.read).each { |one| puts "= #{handler(event: one)[:statusCode]}" }\n'


def events(cases: Sequence[Case]) -> list[dict[str, object]]:
    return [
        {
            "headers": {name.title(): value for name, value in headers.items()},
            "body": base64.b64encode(body).decode() if encoded else body.decode(),
            "isBase64Encoded": encoded,
        }
        for headers, body, encoded in cases
    ]


def in_python(folder: Path, code: str, cases: Sequence[Case]) -> str:
    return ended(folder, [sys.executable, "-c", code + "\n" + PYTHON], json.dumps(events(cases)))


def in_javascript(folder: Path, code: str, cases: Sequence[Case]) -> str:
    (folder / "handler.cjs").write_text(code + JAVASCRIPT)
    return ended(folder, ["node", "handler.cjs"], json.dumps(events(cases)))


def in_go(folder: Path, code: str, cases: Sequence[Case]) -> str:
    (folder / "go.mod").write_text("module function\n\ngo 1.21\n")
    (folder / "handler.go").write_text(code)
    (folder / "main.go").write_text(GO)
    return ended(folder, ["go", "run", "."], json.dumps(events(cases)))


def in_java(folder: Path, code: str, cases: Sequence[Case]) -> str:
    # The launcher starts the first class of the file.
    imports, _, rest = code.partition("public class Handler")
    (folder / "Main.java").write_text(f"{imports}{JAVA}\nclass Handler{rest}")
    arguments = [
        part
        for one in events(cases)
        for part in (
            *(dict(one["headers"])[name] for name in ("Webhook-Id", "Webhook-Timestamp", "Webhook-Signature")),  # type: ignore[call-overload]
            str(one["body"]),
            str(one["isBase64Encoded"]).lower(),
        )
    ]
    return ended(folder, ["java", "-XX:TieredStopAtLevel=1", "Main.java", *arguments])


def in_ruby(folder: Path, code: str, cases: Sequence[Case]) -> str:
    return ended(folder, ["ruby", "-e", code + RUBY], json.dumps(events(cases)))


def ended(folder: Path, command: list[str], given: str = "") -> str:
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME", "GOCACHE", "GOROOT", "JAVA_HOME") if name in os.environ},
        "WEBHOOK_SECRET": SECRET,
        "LANG": "C.UTF-8",
        "GOFLAGS": "-mod=mod",
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
    }
    done = subprocess.run(command, cwd=folder, env=environment, input=given, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


LANGUAGES: dict[str, tuple[str, Callable[[Path, str, Sequence[Case]], str]]] = {
    "python": (sys.executable, in_python),
    "javascript": ("node", in_javascript),
    "go": ("go", in_go),
    "java": ("java", in_java),
    "ruby": ("ruby", in_ruby),
}
ALWAYS = re.split(", | and ", between(RECIPES, "The functions run in the project's tests: ", " always").lower())
"""As the page says. One of these that is missing is a skipped test, which counts as failed under CI (`no_skips`)."""
RUN = [language for language, (program, _) in LANGUAGES.items() if language in ALWAYS or shutil.which(program)]


async def posted() -> tuple[dict[str, str], bytes]:
    transport = ScriptedTransport(responded(200))
    target = WebhookTarget(url="https://example.com/", signing_secrets=(OTHER, SECRET))
    await WebhookSender(target, transport, "acme").send(MESSAGE)
    _, lines, body = transport.posted[0]
    headers = dict(line.split(": ", 1) for line in lines.decode().split("\r\n") if line)
    return {name: value for name, value in headers.items() if name.startswith("webhook-")}, body


@pytest.mark.parametrize("language", RUN)
async def test_a_function_takes_only_what_is_signed(language: str, tmp_path: Path) -> None:
    program, run = LANGUAGES[language]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed here, and the page says that the function in {language} is always run")
    headers, body = await posted()
    now = int(headers["webhook-timestamp"])
    old = {"webhook-id": "m1", "webhook-timestamp": str(now - 3600)}
    old["webhook-signature"] = signature([signing_key(SECRET)], "m1", now - 3600, body)
    cases: list[tuple[Case, int]] = [
        ((headers, body, False), TAKEN),
        ((headers, body, True), TAKEN),
        ((headers, body + b" ", False), REFUSED),
        (({**headers, "webhook-id": "m2"}, body, True), REFUSED),
        (({**headers, "webhook-timestamp": str(now + 1)}, body, False), REFUSED),
        (({**headers, "webhook-timestamp": "soon"}, body, False), REFUSED),
        (({**headers, "webhook-signature": headers["webhook-signature"].split()[0]}, body, False), REFUSED),
        (({**headers, "webhook-signature": "v1,AAAA"}, body, False), REFUSED),
        ((old, body, False), REFUSED),
    ]
    [code] = blocks(RECIPES, language)
    began = time.time()
    printed = run(tmp_path, code, [case for case, _ in cases])
    assert time.time() - began < 240
    assert [int(line[2:]) for line in printed.split("\n") if line.startswith("= ")] == [expected for _, expected in cases]


def test_the_page_says_which_languages_always_run() -> None:
    assert ALWAYS == ["python", "javascript", "go", "java"]
    assert set(RUN) >= set(ALWAYS)


def test_each_language_has_one_function_which_names_the_same_headers() -> None:
    for language in LANGUAGES:
        [code] = blocks(RECIPES, language)
        for name in (
            "webhook-id",
            "webhook-timestamp",
            "webhook-signature",
            "WEBHOOK_SECRET",
            "whsec_",
            "300" if language != "go" else "5*time.Minute",
        ):
            assert name in code, (language, name)


def test_each_recipe_has_a_section_and_a_sample() -> None:
    for path in (ROOT / "manifests" / "samples").glob("recipe-*.yaml"):
        assert f"(../manifests/samples/{path.name})" in RECIPES

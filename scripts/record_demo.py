"""Runs the demo and draws its output as a terminal recording: docs/images/demo.svg.

    .venv/bin/python scripts/record_demo.py        (make pictures)

Run it after each change of the demo; a test fails when the steps of the demo are not those of the recording. Whatever differs from
run to run (ports, folders, ids) is replaced, and lines appear after fixed waits, so that a new recording differs only where the
demo does.
"""

from __future__ import annotations

import html
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "images" / "demo.svg"
ROWS = 30
"""Lines that the terminal shows at once."""
LINE, COLUMN, PADDING, BAR = 20, 8.43, 22, 38
"""Height of a line, width of a character of 14 pixels, space around the text, height of the title bar; in pixels."""
COLUMNS = 100
STEP_SECONDS, LINE_SECONDS, DRAWN_SECONDS, END_SECONDS = 1.5, 0.3, 0.06, 8.0
"""Wait before a step, before a line, before a line of a Slack message, and at the end."""
FIRST_SECONDS = 3.0
"""How long the end is shown before the recording starts for the first time: its first frame is what a still picture shows."""
BACKGROUND, BORDER, TEXT = "#0d1117", "#30363d", "#d5dde6"
COLOURS = {"2": "#8b98a8", "31": "#ff7b72", "32": "#56d364", "33": "#e3b341", "36": "#58c4dd"}
RGB = "38;2;"
"""How the code of any other colour begins; red, green and blue follow."""
REPLACED = (
    (r"/tmp/eventsink-demo-\w+", "/tmp/demo"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:8080"),
    (r"webhook-id: [0-9a-f]+-", "webhook-id: 3f9c01aa2b4d-"),
)

Span = tuple[str, frozenset[str]]
"""A piece of a line, and the codes of its style."""


def record() -> str:
    """The output of one run of the demo in a terminal.

    Raises
    ------
    CalledProcessError
        A check of the demo failed.
    """
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "TMPDIR": "/tmp"}
    environment.pop("NO_COLOR", None)
    output = b""
    with subprocess.Popen([sys.executable, "-m", "demo"], cwd=ROOT, env=environment, stdout=follower) as running:
        os.close(follower)
        while True:
            try:
                read = os.read(leader, 65536)
            except OSError:  # Linux: the other side is closed
                break
            if not read:
                break
            output += read
    os.close(leader)
    if running.returncode:
        raise subprocess.CalledProcessError(running.returncode, "python -m demo", output)
    return output.decode().replace("\r\n", "\n")


def lines_of(output: str) -> list[list[Span]]:
    """The lines of what a terminal was sent, each as spans of one style."""
    for pattern, instead in REPLACED:
        output = re.sub(pattern, instead, output)
    found: list[list[Span]] = []
    for line in output.rstrip("\n").split("\n"):
        style: frozenset[str] = frozenset()
        spans: list[Span] = []
        for number, piece in enumerate(re.split(r"\x1b\[([\d;]*)m", line)):
            if number % 2:
                codes = {piece} if piece.startswith(RGB) else set(piece.split(";")) - {""}
                style = frozenset() if not codes or "0" in codes else style | codes
            elif piece:
                spans.append((piece, style))
        found.append(spans)
    return found


def words(line: list[Span]) -> str:
    """A line without its style."""
    return "".join(piece for piece, _ in line)


def wait_before(line: list[Span]) -> float:
    """Seconds between the line before and this one."""
    text = words(line)
    if re.match(r"\d+\. ", text):
        return STEP_SECONDS
    return DRAWN_SECONDS if not text or text.lstrip()[0] in "┌│└" else LINE_SECONDS


def span(piece: str, style: frozenset[str]) -> str:
    """One span as SVG."""
    colour = next((COLOURS[code] for code in sorted(style) if code in COLOURS), TEXT)
    for code in style:
        if code.startswith(RGB):
            colour = f"rgb({code.removeprefix(RGB).replace(';', ',')})"
    weight = ' font-weight="bold"' if "1" in style else ""
    return f'<tspan fill="{colour}"{weight}>{html.escape(piece)}</tspan>'


def keyframes(name: str, times: list[float], offsets: list[int], total: float) -> str:
    """Jumps to an offset at each time."""
    steps = [
        f"{100 * time / total:.2f}% {{ transform: translateY({offset}px) }}" for time, offset in zip(times, offsets, strict=True)
    ]
    return f"@keyframes {name} {{ {' '.join(steps)} }}"


def draw(lines: list[list[Span]]) -> str:
    """The recording as SVG: it plays by itself, again and again; where motion is not wanted it shows its first lines."""
    lines = [[("$ ", frozenset({"32"})), ("make demo", frozenset({"1"}))], *lines]
    times, now = [0.0], 0.0
    for line in lines[1:]:
        now += wait_before(line)
        times.append(now)
    total = now + END_SECONDS
    shown = [LINE * (number + 1) for number in range(len(lines))]
    scrolled = [-max(0, offset - LINE * ROWS) for offset in shown]
    width, height = round(COLUMNS * COLUMN + 2 * PADDING), BAR + LINE * ROWS + 2 * PADDING - 8
    mono = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"
    top = BAR + PADDING - 6
    texts = [
        f'<text x="{PADDING}" y="{top + LINE * number + 15}" xml:space="preserve">{"".join(span(*one) for one in line)}</text>'
        for number, line in enumerate(lines)
        if line
    ]
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
            "<title>The output of make demo</title>",
            "<style>",
            f"text {{ font: 14px {mono}; white-space: pre }}",
            keyframes("scroll", times, scrolled, total),
            keyframes("type", times, shown, total),
            "@media (prefers-reduced-motion: no-preference) {",
            f".scroll {{ animation: scroll {total:.2f}s step-end {FIRST_SECONDS - total:.2f}s infinite }}",
            f".cover {{ animation: type {total:.2f}s step-end {FIRST_SECONDS - total:.2f}s infinite }}",
            "}",
            "</style>",
            f'<clipPath id="screen"><rect x="0" y="{top}" width="{width}" height="{LINE * ROWS}"/></clipPath>',
            f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="10" fill="{BACKGROUND}" stroke="{BORDER}"/>',
            f'<path d="M 1 {BAR} H {width - 1}" stroke="{BORDER}"/>',
            *(
                f'<circle cx="{22 + 20 * number}" cy="{BAR / 2:g}" r="6" fill="{colour}"/>'
                for number, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
            ),
            f'<text x="{width / 2:g}" y="{BAR / 2 + 5:g}" text-anchor="middle" fill="#8b98a8">make demo</text>',
            '<g clip-path="url(#screen)"><g class="scroll">',
            *texts,
            f'<rect class="cover" x="1" y="{top}" width="{width - 2}" height="{LINE * len(lines)}" fill="{BACKGROUND}" '
            f'transform="translate(0 {LINE * len(lines)})"/>',
            "</g></g>",
            "</svg>\n",
        )
    )


if __name__ == "__main__":
    FILE.write_text(draw(lines_of(record())), encoding="utf-8")

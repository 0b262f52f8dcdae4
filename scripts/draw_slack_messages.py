"""Draws the Slack messages of real situations as pictures: docs/images/slack/*.png.

    .venv/bin/python scripts/draw_slack_messages.py [--all]        (make pictures)

Needs Chromium, and the fonts of the Debian packages fonts-liberation, fonts-dejavu and fonts-noto-color-emoji. Draws what has changed since
it was drawn last (`--all`: everything), and records in drawn.json what each picture was made from; a test fails when that is not what the
program makes now.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from scripts.slack_page import THEMES, WIDTH, page  # noqa: E402
from scripts.slack_situations import SITUATIONS  # noqa: E402

FOLDER = ROOT / "docs" / "images" / "slack"
RECORD = FOLDER / "drawn.json"
SCALE = 2
"""Pixels for each CSS pixel, as phones have."""
COLOURS = 32
"""Of a picture: text with emoji needs no more, and it has a quarter of the bytes."""
CALL_SECONDS = 60


def pages() -> dict[str, str]:
    """Name of each picture -> the page that it shows."""
    return {
        f"{name}-{theme}.png": page(one.bodies(), colours, replies=one.replies)
        for name, one in SITUATIONS.items()
        for theme, colours in THEMES.items()
    }


def digest(shown: str) -> str:
    """What is recorded of a page."""
    return hashlib.sha256(shown.encode()).hexdigest()


def recorded() -> dict[str, str]:
    """Name of each picture -> digest of the page that was drawn."""
    found: dict[str, str] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    return found


class Browser:
    """One tab of Chromium, by its DevTools protocol over two pipes: JSON, each message ended by a zero byte.

    Parameters
    ----------
    commands, responses
        File descriptors to write to and to read from.
    """

    def __init__(self, commands: int, responses: int) -> None:
        self._commands, self._responses = commands, responses
        self._received = b""
        self._calls = 0
        self._session: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")
        self._session = {"sessionId": self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]}

    def call(self, method: str, **arguments: Any) -> Any:
        """The result of one command."""
        self._calls += 1
        said = {"id": self._calls, "method": method, "params": arguments, **self._session}
        text = json.dumps(said).encode() + b"\0"
        while text:
            text = text[os.write(self._commands, text) :]
        while (response := self._receive()).get("id") != self._calls:
            pass
        if "error" in response:
            raise RuntimeError(f"{method}: {response['error']['message']}")
        return response["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            if not select.select([self._responses], [], [], CALL_SECONDS)[0]:
                raise TimeoutError("Chromium does not respond")
            if not (read := os.read(self._responses, 1 << 20)):
                raise ConnectionError("Chromium has ended")
            self._received += read
        text, _, self._received = self._received.partition(b"\0")
        said: dict[str, Any] = json.loads(text)
        return said

    def draw(self, shown: str) -> bytes:
        """A page as PNG, as high as it is."""
        frame = self.call("Page.getFrameTree")["frameTree"]["frame"]["id"]
        self._size(1)
        self.call("Page.setDocumentContent", frameId=frame, html=shown)
        self.call("Runtime.evaluate", expression="document.fonts.ready", awaitPromise=True)
        measured = self.call("Runtime.evaluate", expression="Math.ceil(document.body.getBoundingClientRect().height)")
        self._size(measured["result"]["value"])
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def _size(self, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=WIDTH, height=height, deviceScaleFactor=SCALE, mobile=False)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium, and end it."""
    program = shutil.which("chromium")
    if program is None:
        sys.exit("draw_slack_messages: install Chromium (Debian: apt install chromium fonts-noto-color-emoji)")
    read_end, commands = os.pipe()
    responses, write_end = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = [
            "--headless=new",
            "--no-sandbox",  # it shows nothing but our own page, and root has no sandbox
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--force-color-profile=srgb",
            "--disable-lcd-text",
            "--remote-debugging-pipe",
            f"--user-data-dir={folder}",
        ]
        # Chromium reads from the descriptor 3, and writes to 4.
        command = ["bash", "-c", f'exec "$@" 3<&{read_end} 4>&{write_end}', "bash", program, *options]
        quiet = subprocess.DEVNULL
        running = subprocess.Popen(command, stdout=quiet, stderr=quiet, pass_fds=(read_end, write_end))
        os.close(read_end)
        os.close(write_end)
        try:
            yield Browser(commands, responses)
        finally:
            os.close(commands)
            os.close(responses)
            running.kill()
            running.wait()


def smaller(png: bytes) -> bytes:
    """The same picture with at most COLOURS colours, those that are used least replaced by the nearest."""
    width, height, pixels = _pixels(png)
    counts = Counter(pixels[at : at + 3] for at in range(0, len(pixels), 3))
    kept = [colour for colour, _ in counts.most_common(COLOURS)]
    index = {colour: number for number, colour in enumerate(kept)}
    for colour in counts.keys() - index.keys():
        index[colour] = min(
            range(len(kept)), key=lambda number: sum((a - b) ** 2 for a, b in zip(colour, kept[number], strict=True))
        )
    lines = bytearray()
    for row in range(height):
        start = row * width * 3
        lines.append(0)
        lines += bytes(index[pixels[at : at + 3]] for at in range(start, start + width * 3, 3))
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = ((b"IHDR", head), (b"PLTE", b"".join(kept)), (b"IDAT", zlib.compress(bytes(lines), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def _pixels(png: bytes) -> tuple[int, int, bytes]:
    """(width, height, RGB of each pixel) of a PNG of Chromium: eight bits of each colour, not interlaced."""
    at, data = 8, b""
    width = height = channels = 0
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        kind, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colours = struct.unpack_from(">IIBB", content)
            channels = {2: 3, 6: 4}[colours]
            assert depth == 8
        elif kind == b"IDAT":
            data += content
        at += 12 + length
    raw, stride = zlib.decompress(data), width * channels
    before = bytearray(stride)
    found = bytearray()
    for row in range(height):
        start = row * (stride + 1)
        line = _unfiltered(raw[start], bytearray(raw[start + 1 : start + 1 + stride]), before, channels)
        found += line if channels == 3 else b"".join(line[at : at + 3] for at in range(0, stride, 4))
        before = line
    return width, height, bytes(found)


def _unfiltered(kind: int, line: bytearray, above: bytearray, channels: int) -> bytearray:
    """One line of pixels (PNG specification, section 9)."""
    for at in range(len(line) if kind else 0):
        left = line[at - channels] if at >= channels else 0
        corner = above[at - channels] if at >= channels else 0
        if kind == 1:
            guess = left
        elif kind == 2:
            guess = above[at]
        elif kind == 3:
            guess = (left + above[at]) // 2
        else:
            estimate = left + above[at] - corner
            guess = min((left, above[at], corner), key=lambda one: abs(estimate - one))
        line[at] = (line[at] + guess) & 255
    return line


def draw(everything: bool) -> None:
    """Draw what has changed, and remove what is not drawn any more."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted, before = pages(), recorded()
    changed = {
        name: shown
        for name, shown in wanted.items()
        if everything or before.get(name) != digest(shown) or not (FOLDER / name).exists()
    }
    if changed:
        with chromium() as browser:
            for name, shown in changed.items():
                (FOLDER / name).write_bytes(smaller(browser.draw(shown)))
                print(f"drew {name}: {(FOLDER / name).stat().st_size} bytes")
    for file in FOLDER.glob("*.png"):
        if file.name not in wanted:
            file.unlink()
    RECORD.write_text(json.dumps({name: digest(shown) for name, shown in wanted.items()}, indent=1) + "\n")


if __name__ == "__main__":
    draw("--all" in sys.argv[1:])

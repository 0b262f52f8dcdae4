"""Draws docs/images/alert-path-{light,dark}.svg: how an alert travels from Alertmanager to the receivers.

    python3 scripts/draw_alert_path.py

Two files, because a picture in a README cannot see which theme the page has. Only Python's own library is used, so that the
pictures can be drawn without an environment; a test fails when the committed files are not what this script draws.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "docs" / "images"
WIDTH, HEIGHT = 1000, 560
ALT = (
    "A tenant's EventSink is validated and compiled by the operator. Alertmanager posts alerts to the router, which finds tenant, "
    "matching sinks and what is new, writes the deliveries to a queue on disk, only then responds with 200, and sends them to Slack "
    "and webhooks with retries; what cannot be delivered becomes a dead letter."
)
"""For people who do not see the picture; the README uses the same text."""


@dataclass(frozen=True)
class Theme:
    """Colours of one picture."""

    background: str
    panel: str
    card: str
    border: str
    line: str
    text: str
    quiet: str
    acme: str
    globex: str
    good: str
    bad: str


THEMES = {
    "light": Theme(
        background="#ffffff",
        panel="#f3f6fa",
        card="#ffffff",
        border="#c9d3df",
        line="#7b8a9c",
        text="#1b2733",
        quiet="#5a6b7d",
        acme="#0a63c9",
        globex="#a94c00",
        good="#177a3c",
        bad="#b3261e",
    ),
    "dark": Theme(
        background="#0d1117",
        panel="#151c26",
        card="#1d2632",
        border="#364354",
        line="#74859a",
        text="#e8eef5",
        quiet="#a3b1c2",
        acme="#6cb0ff",
        globex="#ffab5e",
        good="#5bd183",
        bad="#ff8f87",
    ),
}

TRUNK = "M 172 322 H 478"
"""From Alertmanager through the decisions into the queue."""
ROUTES = {
    "slack": "M 574 322 H 716 C 752 322 752 232 788 232 H 808",
    "webhook": "M 574 322 H 808",
    "globex": "M 574 322 H 716 C 752 322 752 412 788 412 H 808",
}
"""From the queue to each receiver."""
STEPS = (("tenant", "whose is it?"), ("match", "which sinks?"), ("new?", "or a repeat?"))


def text(x: float, y: float, words: str, *classes: str, anchor: str = "start") -> str:
    """One line of text; `y` is its baseline."""
    return f'<text x="{x:g}" y="{y:g}" class="{" ".join(classes)}" text-anchor="{anchor}">{html.escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, *classes: str) -> str:
    """A rectangle with round corners."""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="10" class="{" ".join(classes)}"/>'


def arrow(path: str, kind: str = "line") -> str:
    """A line with a head at its end, in the colour of its kind."""
    return f'<path d="{path}" class="{kind}" marker-end="url(#{kind})"/>'


def cylinder(x: float, y: float, width: float, height: float, kind: str) -> str:
    """A store on disk."""
    half, depth = width / 2, 9
    body = (
        f"M {x:g} {y:g} v {height:g} a {half:g} {depth} 0 0 0 {width:g} 0 v {-height:g} "
        f"a {half:g} {depth} 0 0 0 {-width:g} 0 a {half:g} {depth} 0 0 0 {width:g} 0"
    )
    return f'<path d="{body}" class="{kind}"/>'


def dot(path: str, tenant: str, begin: float, lasts: float, *, cycle: float) -> str:
    """An alert on its way along a path, once per cycle."""
    share = lasts / cycle
    times = f"0;{share:.3f};1"
    return (
        f'<circle r="6" class="dot {tenant}" opacity="0">'
        f'<animateMotion path="{path}" begin="{begin:g}s" dur="{cycle:g}s" repeatCount="indefinite" '
        f'calcMode="linear" keyPoints="0;1;1" keyTimes="{times}"/>'
        f'<animate attributeName="opacity" begin="{begin:g}s" dur="{cycle:g}s" repeatCount="indefinite" '
        f'calcMode="discrete" values="1;0;0" keyTimes="{times}"/></circle>'
    )


def style(theme: Theme) -> str:
    """The style sheet."""
    sans = "-apple-system,BlinkMacSystemFont,'Segoe UI','Noto Sans',Helvetica,Arial,sans-serif"
    mono = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
    return "\n".join(
        (
            f"text {{ font: 14px {sans}; fill: {theme.text} }}",
            ".title { font-weight: 600; font-size: 16px }",
            f".small {{ font-size: 13px; fill: {theme.quiet} }}",
            ".tiny { font-size: 12px }",
            f".code {{ font: 13px {mono}; white-space: pre }}",
            f".panel {{ fill: {theme.panel}; stroke: {theme.border} }}",
            f".card {{ fill: {theme.card}; stroke: {theme.border} }}",
            f".disk {{ fill: {theme.card}; stroke: {theme.good}; stroke-width: 2 }}",
            f".dead {{ fill: {theme.card}; stroke: {theme.bad}; stroke-width: 2 }}",
            f".line {{ fill: none; stroke: {theme.line}; stroke-width: 2 }}",
            f".ok {{ fill: none; stroke: {theme.good}; stroke-width: 2 }}",
            f".fail {{ fill: none; stroke: {theme.bad}; stroke-width: 2 }}",
            f".good {{ fill: {theme.good} }} .bad {{ fill: {theme.bad} }}",
            f".acme {{ fill: {theme.acme} }} .globex {{ fill: {theme.globex} }}",
            f".edge-acme {{ stroke: {theme.acme}; stroke-width: 2 }} .edge-globex {{ stroke: {theme.globex}; stroke-width: 2 }}",
            "@media (prefers-reduced-motion: reduce) { .dot { display: none } }",
        )
    )


def configuration() -> list[str]:
    """The upper row: what a tenant writes, and what the operator makes of it."""
    yaml = ("kind: EventSink", "spec:", "  tenant: acme", "  match: {minSeverity: high}", '  slack: {channel: "#incidents"}')
    return [
        box(24, 24, 300, 132, "card", "edge-acme"),
        *(text(42, 52 + 22 * number, line, "code", *(["acme"] if "tenant" in line else [])) for number, line in enumerate(yaml)),
        arrow("M 324 72 H 418"),
        text(371, 62, "apply", "small", anchor="middle"),
        arrow("M 420 120 H 326", "ok"),
        text(373, 141, "Ready: True", "small", "good", anchor="middle"),
        arrow("M 270 198 V 160", "ok"),
        text(258, 184, "Delivering: True", "small", "good", anchor="end"),
        box(420, 38, 210, 104, "card"),
        text(525, 68, "operator", "title", anchor="middle"),
        text(525, 92, "validates, reads Secrets,", "small", anchor="middle"),
        text(525, 112, "compiles each sink", "small", anchor="middle"),
        arrow("M 525 142 V 196"),
        text(538, 174, "compiled sinks, one Secret each", "small"),
    ]


def router() -> list[str]:
    """The middle row: from the request to the message."""
    parts = [
        text(250, 226, "router", "title"),
        box(24, 284, 148, 76, "card"),
        text(98, 317, "Alertmanager", "title", anchor="middle"),
        text(98, 339, "posts alerts", "small", anchor="middle"),
        arrow("M 172 322 H 246"),
    ]
    for number, (name, question) in enumerate(STEPS):
        x = 250 + 78 * number
        parts += [
            box(x, 292, 66, 60, "card"),
            text(x + 33, 327, name, anchor="middle"),
            text(x + 33, 372, question, "small", "tiny", anchor="middle"),
        ]
        parts.append(arrow(f"M {x + 66} 322 H {x + 76}") if number < len(STEPS) - 1 else arrow(f"M {x + 66} 322 H 486"))
    return [
        *parts,
        cylinder(488, 288, 86, 70, "disk"),
        text(531, 325, "queue", "title", anchor="middle"),
        text(531, 345, "on disk", "small", anchor="middle"),
        arrow("M 531 368 V 414 Q 531 424 521 424 H 108 Q 98 424 98 414 V 362", "ok"),
        text(326, 415, "200 only once it is on disk", "good", anchor="middle"),
        arrow("M 574 322 H 618"),
        box(620, 284, 96, 76, "card"),
        text(668, 317, "send", "title", anchor="middle"),
        text(668, 339, "at least once", "small", anchor="middle"),
        arrow("M 694 284 C 716 240 620 240 642 282"),
        text(668, 240, "retry for up to maxAge", "small", anchor="middle"),
        cylinder(614, 448, 108, 50, "dead"),
        text(668, 482, "dead letters", anchor="middle"),
        arrow("M 668 360 V 436", "fail"),
        text(678, 408, "rejected", "small", "bad"),
        arrow("M 612 482 H 560 Q 548 482 548 470 V 370"),
        text(560, 508, "replay", "small", anchor="middle"),
    ]


def receivers() -> list[str]:
    """The right column."""
    parts = [arrow(f"M 716 322 C 752 322 752 {y} 788 {y} H 806") for y in (232, 412)] + [arrow("M 716 322 H 806")]
    for y, tenant, name, detail in (
        (232, "acme", "Slack", "#incidents"),
        (322, "acme", "webhook", "signed CloudEvents"),
        (412, "globex", "webhook", "Alertmanager format"),
    ):
        parts += [
            box(808, y - 37, 168, 74, "card", f"edge-{tenant}"),
            text(824, y - 6, name, "title"),
            text(960, y - 6, tenant, tenant, anchor="end"),
            text(824, y + 19, detail, "small"),
        ]
    return parts


def alerts() -> list[str]:
    """Alerts on their way: each tenant's reach only that tenant's receivers."""
    cycle, trunk, leg = 6.0, 1.6, 1.4
    return [
        dot(TRUNK, "acme", 0, trunk, cycle=cycle),
        dot(ROUTES["slack"], "acme", trunk + 0.3, leg, cycle=cycle),
        dot(ROUTES["webhook"], "acme", trunk + 0.3, leg, cycle=cycle),
        dot(TRUNK, "globex", 3, trunk, cycle=cycle),
        dot(ROUTES["globex"], "globex", 3 + trunk + 0.3, leg, cycle=cycle),
    ]


def draw(theme: Theme) -> str:
    """The whole picture as SVG; the same for the same script."""
    heads = "".join(
        f'<marker id="{kind}" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="5" markerHeight="5" orient="auto-start-reverse">'
        f'<path d="M 0 0 L 8 4 L 0 8 z" fill="{colour}"/></marker>'
        for kind, colour in (("line", theme.line), ("ok", theme.good), ("fail", theme.bad))
    )
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
            f"<title>{html.escape(ALT)}</title>",
            f"<style>\n{style(theme)}\n</style>",
            f"<defs>{heads}</defs>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" rx="14" fill="{theme.background}"/>',
            *configuration(),
            box(232, 198, 528, 330, "panel"),
            *alerts(),  # below what follows: they disappear in each box and come out of it
            *router(),
            *receivers(),
            "</svg>\n",
        )
    )


def pictures() -> dict[str, str]:
    """File name -> content of each picture."""
    return {f"alert-path-{name}.svg": draw(theme) for name, theme in THEMES.items()}


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for file, content in pictures().items():
        (FOLDER / file).write_text(content, encoding="utf-8")

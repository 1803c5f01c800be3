"""A bar chart as SVG: how many times better, on a logarithmic scale, with a mark for what is wanted."""

import math
from xml.sax.saxutils import escape

WIDTH = 960
LEFT = 380
RIGHT = 100
TOP = 84
STEP = 26
BAR = 14
# Readable on white and on black; GitHub and browsers follow the reader's scheme also for images.
STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
.title { font-size: 17px; font-weight: 600; }
.small { font-size: 11px; fill: #59636e; }
.value { font-weight: 600; }
.grid { stroke: #d1d9e0; stroke-width: 1; }
.one { stroke: #59636e; stroke-width: 1.5; }
.yes { fill: #1a7f64; }
.no { fill: #c4622d; }
.open { fill: #6e7f95; }
.range { stroke: #1f2328; stroke-opacity: 0.45; stroke-width: 1.5; }
.mark { stroke: #1f2328; stroke-width: 2.5; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .small { fill: #9198a1; }
  .grid { stroke: #3d444d; }
  .one { stroke: #9198a1; }
  .yes { fill: #3fb893; }
  .no { fill: #e58a55; }
  .open { fill: #8b9bb0; }
  .range { stroke: #f0f6fc; }
  .mark { stroke: #f0f6fc; }
}"""


def bars(table, facts):
    """The chart of all lines that have a ratio to RocketMQ."""
    shown = [line for line in table if line["against"]]
    ratios = [line["better"][line["against"]]["median"] for line in shown]
    marks = [line["wanted"] for line in shown if line["wanted"]]
    least = min([0.5, *ratios])
    most = max([10.0, *ratios, *marks])
    low, high = math.floor(math.log10(least) * 4) / 4, math.ceil(math.log10(most) * 4) / 4
    span = WIDTH - LEFT - RIGHT
    height = TOP + STEP * len(shown) + 46

    def x(value):
        value = min(max(value, 10**low), 10**high)
        return LEFT + span * (math.log10(value) - low) / (high - low)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'aria-label="How many times better BasaltMQ is than RocketMQ">',
        f"<style>{STYLE}</style>",
        '<text class="title" x="16" y="28">BasaltMQ against the better RocketMQ 5.x consume queue</text>',
        '<text class="small" x="16" y="48">times better, logarithmic; thin line: range of the pairs; black or white mark: wanted. '
        f"{escape(facts['date'])}, {facts['cores']} cores, commit {escape(facts['commit'])}</text>",
    ]
    bottom = TOP + STEP * len(shown)
    for tick in _ticks(10**low, 10**high):
        kind = "one" if tick == 1 else "grid"
        out.append(f'<line class="{kind}" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP - 8}" y2="{bottom}"/>')
        out.append(f'<text class="small" text-anchor="middle" x="{x(tick):.1f}" y="{bottom + 18}">{tick:g}x</text>')
    for index, line in enumerate(shown):
        out += _bar(line, TOP + STEP * index, x)
    if not shown:
        out.append(f'<text class="small" x="16" y="{TOP}">nothing was compared with RocketMQ</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"


def _ticks(least, most):
    steps = [digit * 10.0**power for power in range(-3, 6) for digit in (1, 2, 5)]
    return [step for step in steps if least <= step <= most]


def _bar(line, y, x):
    found = line["better"][line["against"]]
    middle = y + BAR / 2
    kind = {"yes": "yes", "no": "no"}.get(line["reached"], "open")
    start, end = sorted((x(1), x(found["median"])))
    title = f"{line['title']}: {line['label']}"
    yield f'<text text-anchor="end" x="{LEFT - 12}" y="{middle + 4.5}">{escape(title)}</text>'
    yield (f'<rect class="{kind}" x="{start:.1f}" y="{y}" width="{max(end - start, 1):.1f}" height="{BAR}" rx="2">'
           f"<title>{escape(title)}, against {escape(line['against'])}: {found['median']:.2f} times better</title></rect>")
    yield (f'<line class="range" x1="{x(found["least"]):.1f}" x2="{x(found["most"]):.1f}" y1="{middle}" y2="{middle}"/>')
    if line["wanted"]:
        at = x(line["wanted"])
        yield f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{y - 4}" y2="{y + BAR + 4}"/>'
    label = max(end, x(found["most"]), x(line["wanted"]) if line["wanted"] else 0) + 8
    yield f'<text class="value" x="{label:.1f}" y="{middle + 4.5}">{found["median"]:.1f}x</text>'

"""A bar chart of ratios as SVG, without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

LABEL, PLOT, RIGHT = 330, 480, 60  # widths in pixels
ROW, TOP, BOTTOM = 24, 56, 34  # heights in pixels
TICKS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)

GOOD, BAD, INK, FAINT = "#2f7d5b", "#c2562d", "#222222", "#cccccc"


def bar_chart(title: str, bars: Sequence[tuple[str, float, float | None]]) -> str:
    """An SVG document: a bar per (label, ratio, aim), on a logarithmic scale.

    Bars begin at 1, where both sides take the same time; a bar to the left means that ours takes
    less. An aim is a vertical mark across its bar.
    """
    low = min([0.05, *(ratio for _, ratio, _ in bars)])
    high = max([2.0, *(ratio for _, ratio, _ in bars)])

    def place(ratio: float) -> float:
        return LABEL + PLOT * math.log(ratio / low) / math.log(high / low)

    width, height = LABEL + PLOT + RIGHT, TOP + ROW * len(bars) + BOTTOM
    end = height - BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="12" y="22" font-size="15" fill="{INK}">{escape(title)}</text>',
        f'<text x="12" y="40" fill="{INK}">time ours / theirs, logarithmic; '
        "left of 1 is faster than the peer; marks are aims</text>",
    ]
    for tick in TICKS:
        if low <= tick <= high:
            x = place(tick)
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{end}" '
                f'stroke="{INK if tick == 1.0 else FAINT}"/>'
                f'<text x="{x:.1f}" y="{end + 18}" text-anchor="middle">{tick:g}</text>'
            )
    for number, (label, ratio, aim) in enumerate(bars):
        y = TOP + ROW * number + 4
        left, right = sorted((place(ratio), place(1.0)))
        colour = GOOD if ratio <= (1.0 if aim is None else aim) else BAD
        parts.append(
            f'<text x="{LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(label)}</text>'
            f'<rect x="{left:.1f}" y="{y}" width="{right - left:.1f}" height="{ROW - 8}" '
            f'fill="{colour}"/>'
            f'<text x="{width - 8}" y="{y + 12}" text-anchor="end">{ratio:.2f}</text>'
        )
        if aim is not None:
            x = place(aim)
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 3}" y2="{y + ROW - 5}" '
                f'stroke="{INK}" stroke-width="2"/>'
            )
    parts.append("</svg>\n")
    return "\n".join(parts)

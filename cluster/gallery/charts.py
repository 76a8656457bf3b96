"""Bars and curves as SVG without styles of their own: the page's style sheet colours their classes.

Text in them is escaped; numbers are ours.
"""

from markupsafe import Markup, escape

from cluster.results.baselines import title
from cluster.results.comparing import Score
from cluster.tracking.metrics import Curve
from distill.text import percent

WIDTH, HEIGHT = 360, 150
LEFT, RIGHT, TOP, BOTTOM = 8, 8, 12, 22
MOST_POINTS = 240
METRICS = {"selection_accuracy": "accuracy on the images that select", "student_lr": "learned rate"}


def bar(score: Score | None, baselines: dict[str, Score], label: str) -> Markup:
    """An accuracy in [0, 1] as a bar with its deviation, and ticks at its baselines."""
    parts = ['<rect class="track" width="1000" height="14" y="5" rx="7"/>']
    spoken = [f"{label}: {percent(score)} %" if score else f"{label}: accuracy unknown"]
    if score:
        mean, std = 1000 * score["mean"], 1000 * score["std"]
        low, high = max(0, mean - std), min(1000, mean + std)
        parts.append(f'<rect class="bar" width="{mean:.1f}" height="14" y="5" rx="7"/>')
        parts.append(f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="12" y2="12"/>')
    for name in ("random", "full"):
        if other := baselines.get(name):
            x = 1000 * other["mean"]
            spoken.append(f"{title(name)}: {percent(other)} %")
            parts.append(f'<line class="tick {name}" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="24"/>')
    return _svg("bar-chart", "0 0 1000 24", "; ".join(spoken), parts, 'preserveAspectRatio="none"')


def curve(name: str, points: Curve, marked: int | None) -> Markup:
    """A metric over the steps; `marked` is the step of the published set."""
    points = [(step, value) for step, value in points if abs(value) < float("inf")]  # NaN is not below it either
    if len(points) < 2:
        return Markup()
    every = -(-len(points) // MOST_POINTS)
    shown = points[:-1:every] + points[-1:]
    steps, values = [step for step, _ in points], [value for _, value in points]
    low, high = min(values), max(values)

    def at(step: float, value: float) -> tuple[float, float]:
        x = LEFT + (step - steps[0]) / (steps[-1] - steps[0]) * (WIDTH - LEFT - RIGHT)
        y = TOP + (1 - (value - low) / ((high - low) or 1)) * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)

    line = " ".join("{},{}".format(*at(step, value)) for step, value in shown)
    base = HEIGHT - BOTTOM
    first, last = at(steps[0], low)[0], at(steps[-1], low)[0]
    parts = [
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>',
        f'<polygon class="area" points="{first},{base} {line} {last},{base}"/>',
        f'<polyline class="line" points="{line}"/>',
        f'<text x="{LEFT}" y="{HEIGHT - 7}">{steps[0]}</text>',
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 7}" text-anchor="end">{steps[-1]}</text>',
    ]
    if marked is not None and steps[0] <= marked <= steps[-1]:
        x = at(marked, low)[0]
        parts.insert(0, f'<line class="marked" x1="{x}" x2="{x}" y1="{TOP}" y2="{base}"/>')
    spoken = f"{name} from step {steps[0]} to {steps[-1]}: {_brief(values[0])} to {_brief(values[-1])}, "
    spoken += f"lowest {_brief(low)}, highest {_brief(high)}"
    return _svg("curve", f"0 0 {WIDTH} {HEIGHT}", spoken, parts)


def title_of(name: str) -> str:
    """A metric's name for people."""
    return METRICS.get(name, name.replace("_", " "))


def span(points: Curve) -> str:
    """First and last value of a metric."""
    return f"{_brief(points[0][1])} → {_brief(points[-1][1])}"


def _brief(value: float) -> str:
    return f"{value:.3g}"


def _svg(kind: str, box: str, spoken: str, parts: list[str], more: str = "") -> Markup:
    label = escape(spoken)
    return Markup(f'<svg class="{kind}" viewBox="{box}" role="img" aria-label="{label}" {more}>{"".join(parts)}</svg>')  # noqa: S704 - numbers and escaped text

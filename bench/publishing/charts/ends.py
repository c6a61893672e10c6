"""Labels at the ends of lines, without overlaps; lines that hide each other share a label."""

from __future__ import annotations

from collections.abc import Sequence

from bench.publishing.charts.labels import LINE_HEIGHT, beside, off_the_lines, spread
from bench.publishing.charts.pictures import Point
from bench.publishing.charts.spec import Axis

SAME_PIXELS = 1.5
"""Distance in pixels below which one line hides another, so that they share a label."""
_LEADER = 16
"""Pixels from the end of a line to its label."""
_EARLY = 4
"""Pixels before the end of the axis at which a line ends early, where others may go on."""


def height_for(num_lines: int, least: float) -> float:
    """Height in pixels of a picture in which every line has room for its label."""
    return max(least, (LINE_HEIGHT + 1) * num_lines)


def end_labels(lines: Sequence[Sequence[Point]], x: Axis, y: Axis) -> list[Point]:
    """Data of the labels of lines: the end of each line, and where its label begins.

    Points have ``x``, ``y`` and ``name``; those with a ``label`` show it.
    """
    drawn = [sorted(line, key=lambda point: point["x"]) for line in lines]
    corners = [[(x.pixel(p["x"]), y.pixel(p["y"])) for p in line] for line in drawn]
    ends = [
        line[-1] | {"name": ", ".join(names), "side": "right"} for line, names in together(drawn, y)
    ]
    ends.sort(key=lambda end: (y.pixel(end["y"]), end["name"]))
    width, height = x.pixels[1], y.pixels[0]
    late = [end for end in ends if x.pixel(end["x"]) > width - _EARLY]
    early = [end for end in ends if end not in late]
    wanted = [y.pixel(end["y"]) for end in late]
    places = [(width + _LEADER, at) for at in spread(wanted, gap=LINE_HEIGHT, low=0, high=height)]
    taken = [beside(place, end["name"]) for place, end in zip(places, late, strict=True)]
    near = [(x.pixel(end["x"]) + _LEADER, y.pixel(end["y"])) for end in early]
    heights = off_the_lines(near, [end["name"] for end in early], corners, height, taken)
    places += [(at, free) for (at, _), free in zip(near, heights, strict=True)]
    return [
        end | {"label_x": x.value(at), "label_y": y.value(down)}
        for end, (at, down) in zip([*late, *early], places, strict=True)
    ]


def together(lines: Sequence[Sequence[Point]], y: Axis) -> list[tuple[Sequence[Point], list[str]]]:
    """Lines with the names of those that they hide, which end where they do or before."""
    found: list[tuple[Sequence[Point], list[str]]] = []
    for line in sorted(lines, key=lambda line: (-len(line), line[0]["name"])):
        name = str(line[-1].get("label") or line[-1]["name"])
        for longer, names in found:
            heights = {point["x"]: y.pixel(point["y"]) for point in longer}
            if len(line) > 1 and all(
                abs(heights.get(point["x"], float("inf")) - y.pixel(point["y"])) < SAME_PIXELS
                for point in line
            ):
                names.append(name)
                break
        else:
            found.append((line, [name]))
    return found

# SPDX-License-Identifier: MIT
"""Markdown."""


def row(cells):
    return "| " + " | ".join(cells) + " |"


def table(head, rows, left=1):
    """The first @left columns are text, the others numbers."""
    marks = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join(row(cells) for cells in [head, marks, *rows])


def number(value, digits=0):
    return "" if value is None else f"{value:,.{digits}f}"


def microseconds(value):
    """Three digits that count."""
    return number(value, 0 if value is None or value >= 100 else 1)


def mebibytes(value):
    return f"{value / (1 << 20):,.0f} MiB"


def goals(verdicts):
    """verdicts: [{"goal", "value", "met"}]; value is text, met None when it was not measured."""
    words = {True: "reached", False: "**not reached**", None: "not measured"}
    return table(["to reach", "measured", ""], [[v["goal"], v["value"], words[v["met"]]] for v in verdicts], left=3)

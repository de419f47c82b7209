"""HTML by small functions: everything is escaped unless it is `Html` already, so that no name or message can break the page."""

import html
import math
import re
from typing import TypeGuard

VOID = ("img", "input", "br", "meta")
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NONE = "–"
SUBSCRIPT = re.compile(r"(?<![A-Za-z0-9_])(e\*?|r|λ)_(Q|noise|policy|in|out|max)(?!\w)")  # the subscripts of the theory page


class Html(str):
    """Text that is HTML already."""


def escaped(value) -> Html:
    """Any value as HTML; lists one after the other, None as nothing."""
    if isinstance(value, Html):
        return value
    if isinstance(value, list | tuple):
        return Html("".join(map(escaped, value)))
    return Html("" if value is None else html.escape(str(value)))


def tag(name, *children, **attributes) -> Html:
    """An element; `class_` stands for class, underscores for dashes, False or None for an attribute left out."""
    named = ((k.rstrip("_").replace("_", "-"), v) for k, v in attributes.items() if v not in (None, False))
    opening = "".join(f" {k}" if v is True else f' {k}="{html.escape(str(v))}"' for k, v in named)
    return Html(f"<{name}{opening}>" if name in VOID else f"<{name}{opening}>{escaped(children)}</{name}>")


def prose(text) -> Html:
    """Text with `code` in backticks and the subscripts of the theory."""
    if isinstance(text, Html):
        return text
    coded = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped(text))
    return Html(SUBSCRIPT.sub(r"\1<sub>\2</sub>", coded))


def is_number(value) -> TypeGuard[int | float]:
    """Neither truth nor text nor nothing."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def number(value, digits=4) -> str:
    """A number to be read: 0.01234, 12 340, 1.2·10⁻⁷; what is not finite is a dash."""
    if not is_number(value) or not math.isfinite(value):
        return NONE
    if isinstance(value, int) and abs(value) < 10**6:
        return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}").replace("-", "−")
    factor, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    if value == 0 or -4 <= int(exponent) < 6:
        return f"{float(f'{value:.{digits}g}'):.10g}".replace("-", "−")
    return f"{float(factor):g}·10".replace("-", "−") + str(int(exponent)).translate(RAISED)


def shown(value, unit=""):
    """A value as text: numbers readable, with their unit; truth in words; lists in brackets."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{k} = {shown(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(shown, value)) + "]"
    text = number(value) if is_number(value) or value is None else str(value)
    return f"{text}\N{NO-BREAK SPACE}{unit}" if unit and unit != "1" and text != NONE else text


def cell(value) -> Html:
    """A cell of a table; numbers keep all their digits for sorting and in the tooltip."""
    if is_number(value):
        return tag("td", number(value), class_="number", data_sort=repr(value), title=repr(value))
    if value is None:
        return tag("td", NONE, class_="number")
    return tag("td", prose(value if isinstance(value, Html) else shown(value)))


def table(caption, head, rows, sort=True) -> Html:
    """A table in a box of its own that scrolls; the first cell of each row heads it."""
    numeric = [bool(rows) and all(is_number(row[k]) or row[k] is None for row in rows) for k in range(len(head))]
    titles = [tag("th", title, scope="col", class_="number" if right else None) for title, right in zip(head, numeric, strict=True)]
    body = [tag("tr", tag("th", prose(row[0]), scope="row"), *map(cell, row[1:])) for row in rows]
    inner = tag(
        "table", tag("caption", prose(caption)), tag("thead", tag("tr", *titles)), tag("tbody", *body), class_="sortable" if sort else None
    )
    return tag("div", inner, class_="box")


def pairs(caption, rows) -> Html:
    """A table of names and values, (name, value[, what it means]); rows without a value are left out."""
    rows = [row for row in rows if row[1] not in (None, "", [], {})]
    head = ("name", "value", "meaning")[: max((len(row) for row in rows), default=2)]
    return table(caption, head, [(*row, "")[: len(head)] for row in rows], sort=False) if rows else Html()


def paragraph(*sentences) -> Html:
    """A paragraph of the sentences that are there."""
    there = [prose(s) for s in sentences if s]
    return tag("p", Html(" ".join(there))) if there else Html()


def bullets(sentences, **attributes) -> Html:
    """A list of the sentences that are there."""
    return tag("ul", *[tag("li", prose(said)) for said in sentences if said], **attributes)

"""Damage to bytes, JSON values and texts, as seeds decide."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

ODD_TEXTS = (
    *(
        "",
        " ",
        "\u2028",
        "\u0085",
        "\ufeffa",
        "\x00",
        "\x1b[31mred\x1b[0m",
        "\ud800",
        "a\r\nb",
        "\t",
    ),
    *(
        "$",
        "costs $5 or \\frac{$ more",
        "{x}",
        "%s",
        "*",
        "~",
        "~/x",
        "../..",
        "/",
        "-",
        "--",
        "[",
        "]",
    ),
    *(
        "null",
        "true",
        "on",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "0x10",
        "1_000",
        "01",
        "١",
        "½",
        "1e-400",
    ),
    *("\u202etxt", "e\u0301", "👩‍👩‍👧", "a" * 300, "x" * 100_000, "[" * 3000, '{"a":' * 2000),
    *("os.system", "torch.nn.Linear", "builtins.eval", "http://localhost:1/x", "hf://a/b"),
)
ODD_NUMBERS: tuple[Any, ...] = (
    *(0, -1, 1, 2, 3, 10**3, 10**6, 10**12, 2**63, 10**30, -(2**63), 0.5, -0.5, 1e-30, 1e30),
    *(float("nan"), float("inf"), float("-inf"), True, False),
)
ODD_VALUES: tuple[Any, ...] = (*ODD_TEXTS[:35], *ODD_NUMBERS, None, [], {}, [None], {"a": 1}, [[]])


def odd_value(draw: random.Random) -> Any:
    """A value that a setting may be given by mistake or by malice."""
    return copy.deepcopy(draw.choice(ODD_VALUES))


def deep(draw: random.Random) -> Any:
    """Lists or mappings in each other."""
    value: Any = 1
    is_list = draw.random() < 0.5
    for _ in range(draw.choice((50, 120, 500))):
        value = [value] if is_list else {"a": value}
    return value


def spoil_bytes(content: bytes, draw: random.Random) -> bytes:
    """Cut, flip, remove, double, empty or replace a part."""
    size = len(content)
    start = draw.randrange(size + 1)
    stop = min(size, start + draw.choice((1, 4, 64, 4096)))
    ways: tuple[Callable[[], bytes], ...] = (
        lambda: content[:start],
        lambda: content[start:],
        lambda: (
            content[:start] + bytes(255 - byte for byte in content[start:stop]) + content[stop:]
        ),
        lambda: content[:start] + content[stop:],
        lambda: content[:stop] + content[start:],
        lambda: content[:start] + draw.randbytes(stop - start) + content[stop:],
        lambda: content[:start] + bytes(stop - start) + content[stop:],
        lambda: content[:start] + b"\xff" * (stop - start) + content[stop:],
        lambda: b"",
        lambda: draw.randbytes(draw.choice((1, 8, 100, 5000))),
        lambda: content + draw.randbytes(50),
        lambda: b"\xef\xbb\xbf" + content,
    )
    return draw.choice(ways)()


def spoil_json(value: Any, draw: random.Random) -> Any:
    """One entry somewhere inside removed, renamed, doubled in kind, or replaced."""
    value = copy.deepcopy(value)
    places = list(_places(value))
    if not places:
        return odd_value(draw)
    holder, key = draw.choice(places)
    way = draw.randrange(6)
    if way == 0:
        del holder[key]
    elif way == 1 and isinstance(holder, dict):
        holder[draw.choice(ODD_TEXTS[:20]) + str(key)] = holder.pop(key)
    elif way == 2:
        holder[key] = [holder[key]]
    elif way == 3 and isinstance(holder[key], int | float):
        holder[key] = draw.choice((holder[key] + 1, holder[key] * 2, -holder[key], holder[key] / 2))
    elif way == 4 and draw.random() < 0.3:
        holder[key] = deep(draw)
    else:
        holder[key] = odd_value(draw)
    return value


def spoil_json_text(text: bytes, draw: random.Random) -> bytes:
    """A JSON file with one entry changed, or with damaged text."""
    if draw.random() < 0.25:
        return spoil_bytes(text, draw)
    try:
        value = json.loads(text)
    except ValueError:
        return spoil_bytes(text, draw)
    return as_json(spoil_json(value, draw))


def as_json(value: Any) -> bytes:
    """JSON with whatever texts there are, half surrogates too."""
    return json.dumps(value, indent=1).encode()


def spoil_text(text: str, draw: random.Random) -> bytes:
    """A text with an odd piece put in somewhere, or with damaged bytes."""
    if draw.random() < 0.3:
        return spoil_bytes(text.encode("utf-8", "surrogatepass"), draw)
    lines = text.split("\n")
    line = draw.randrange(len(lines))
    at = draw.randrange(len(lines[line]) + 1)
    piece = draw.choice(ODD_TEXTS)
    ways = (
        lines[line][:at] + piece + lines[line][at:],
        piece,
        lines[line] + "\n" + lines[line],
        "  " + lines[line],
        "",
    )
    lines[line] = draw.choice(ways)
    coding = draw.choice(("utf-8",) * 8 + ("utf-16", "latin-1", "utf-8-sig"))
    return "\n".join(lines).encode(coding, "surrogatepass" if "utf" in coding else "replace")


def _places(value: Any) -> Any:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield value, key
            yield from _places(inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield value, index
            yield from _places(inner)

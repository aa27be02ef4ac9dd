"""Globs and policy variables, as IAM's policy language has them.

Follows the IAM User Guide, "IAM JSON policy elements: variables and tags": ``*`` and ``?`` are wild,
``${name}`` and ``${name, 'default'}`` are taken from the request's context, ``${*}``, ``${?}`` and ``${$}``
are those characters themselves.
"""

import re
from collections.abc import Mapping

Context = Mapping[str, tuple[str, ...]]
"""Condition keys in lower case, with the values that the request gives them."""

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def squeeze(pattern: str) -> str:
    """Fold runs of stars into one: they mean the same, and cost the matcher dearly."""
    return re.sub(r"\*+", "*", pattern)


def matches_glob(pattern: str, value: str, *, ignore_case: bool = False) -> bool:
    """Tell whether a glob without variables covers a value; linear in time, whatever the pattern."""
    if ignore_case:
        pattern, value = pattern.lower(), value.lower()
    if "?" in pattern:
        return _wild([c if c in "*?" else "=" + c for c in squeeze(pattern)], value)
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == value
    *middle, last = rest
    position, end = len(first), len(value) - len(last)
    if not (value.startswith(first) and value.endswith(last)):
        return False
    for piece in middle:
        found = value.find(piece, position, end)
        if found < 0:
            return False
        position = found + len(piece)
    return position <= end


def expand(text: str, context: Context) -> list[str] | None:
    """Split text into tokens (``*``, ``?``, or ``=`` and a literal character), variables replaced.

    None means that a variable has no value, so that the text can match nothing.
    """
    tokens: list[str] = []
    position = 0
    for found in _VARIABLE.finditer(text):
        tokens += _tokens(text[position : found.start()])
        value = _value(found[1], context)
        if value is None:
            return None
        tokens += ["=" + c for c in value]
        position = found.end()
    return tokens + _tokens(text[position:])


def literal(tokens: list[str]) -> str:
    """Join tokens into plain text, where stars and question marks are themselves."""
    return "".join(symbol[-1] for symbol in tokens)


def matches_tokens(tokens: list[str], value: str) -> bool:
    """Tell whether a tokenised glob covers a value."""
    return _wild(tokens, value)


def _tokens(text: str) -> list[str]:
    return [c if c in "*?" else "=" + c for c in text]


def _value(variable: str, context: Context) -> str | None:
    if variable in ("*", "?", "$"):
        return variable
    name, comma, default = variable.partition(",")
    values = context.get(name.strip().lower())
    if values is not None and len(values) == 1:
        return values[0]
    default = default.strip()
    if comma and len(default) > 1 and default[0] == default[-1] == "'":
        return default[1:-1]
    return None


def _wild(tokens: list[str], value: str) -> bool:
    """Match greedily, going back to the last star only: O(len(tokens) * len(value)) at worst."""
    t = v = 0
    star = -1
    resume = 0
    while v < len(value):
        symbol = tokens[t] if t < len(tokens) else ""
        if symbol in ("?", "=" + value[v]):
            t, v = t + 1, v + 1
        elif symbol == "*":
            star, resume, t = t, v, t + 1
        elif star >= 0:
            resume += 1
            t, v = star + 1, resume
        else:
            return False
    return all(symbol == "*" for symbol in tokens[t:])

"""PKCS#11 URIs (RFC 7512): which library, which token, which key, and where its PIN lies.

Attributes that are not matched by are refused, because passing over them would widen the search. A PIN in the
URI itself (pin-value) is refused too: everybody reads argument lists, logs and files of settings.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import unquote, unquote_to_bytes

from cloister.errors import CloisterError

MAX_URI: Final = 2000
MAX_PIN: Final = 1024
_KEY_PARTS: Final = frozenset({"token", "serial", "manufacturer", "model", "object", "id", "type"})
_QUERY_PARTS: Final = frozenset({"module-path", "pin-source"})
_EXAMPLE: Final = "pkcs11:token=cloister;object=key?module-path=/usr/lib/softhsm/libsofthsm2.so"

Ask = Callable[[str], str]
"""Given a token's name, returns its PIN, or raises CloisterError."""


class TokenError(CloisterError):
    """A key on a token cannot be named, found or used."""


@dataclass(frozen=True, slots=True)
class TokenUri:
    """Where a key lies: the library that speaks to the token, the token, and the object on it."""

    text: str
    module: str
    token: str | None
    serial: str | None
    manufacturer: str | None
    model: str | None
    label: str | None
    key_id: bytes | None
    pin_source: Path | None

    @classmethod
    def parse(cls, text: str, *, module: str | None = None) -> Self:
        """Read a URI; ``module`` is used if it names none. Raises TokenError, also where it holds a PIN."""
        if "pin-value" in text:
            raise TokenError("a PIN has no place in a URI, which everybody can read: use pin-source")
        if len(text) > MAX_URI or not re.fullmatch(r"pkcs11:[!-~]+", text, re.ASCII):
            raise TokenError(f"'{text[:80]}' is not a PKCS#11 URI such as {_EXAMPLE}")
        path, _, query = text.removeprefix("pkcs11:").partition("?")
        parts = _attributes(path, ";", _KEY_PARTS) | _attributes(query, "&", _QUERY_PARTS)
        found = {name: unquote(value) for name, value in parts.items()}
        if found.get("type", "private") != "private":
            raise TokenError(f"the URI names an object of type '{found['type']}': expected private")
        found.setdefault("module-path", module or "")
        if not ({"token", "serial"} & set(found) and {"object", "id"} & set(found) and found["module-path"]):
            raise TokenError(
                f"the URI must have token (or serial), object (or id) and module-path, such as {_EXAMPLE}"
            )
        source = found.get("pin-source")
        return cls(
            text,
            found["module-path"],
            found.get("token"),
            found.get("serial"),
            found.get("manufacturer"),
            found.get("model"),
            found.get("object"),
            unquote_to_bytes(parts["id"]) if "id" in parts else None,
            _pin_file(source) if source is not None else None,
        )

    @property
    def token_name(self) -> str:
        """What to call the token."""
        return self.token or self.serial or ""

    @property
    def key_name(self) -> str:
        """What to call the key: its label, or its id in hexadecimal."""
        return self.label if self.label is not None else (self.key_id or b"").hex()

    def pin(self, ask: Ask, *variables: str) -> str:
        """Return the PIN, from the file that the URI names, the environment, or whoever can be asked."""
        if self.pin_source is None:
            given = (value for name in variables if (value := os.environ.get(name)))
            return next(given, None) or ask(self.token_name)
        try:
            with self.pin_source.open("r", encoding="utf-8") as file:
                return file.read(MAX_PIN).rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise TokenError(f"the PIN's file '{self.pin_source}' cannot be read") from error


def _attributes(text: str, separator: str, known: frozenset[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, text.split(separator)):
        name, equals, value = part.partition("=")
        if name not in known or not equals or not value or name in found:
            raise TokenError(  # without the value, which may be a PIN in the wrong place
                f"the PKCS#11 URI's '{name[:80]}' is not understood: "
                f"expected {', '.join(sorted(known))}, each once"
            )
        found[name] = value
    return found


def _pin_file(source: str) -> Path:
    path = re.sub(r"^file:(//(localhost)?(?=/))?", "", source)
    if not path.startswith("/"):
        raise TokenError(f"the URI's pin-source '{source[:80]}' is not a file: expected file:/PATH")
    return Path(path)

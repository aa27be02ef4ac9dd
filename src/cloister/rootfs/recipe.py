"""``enclave.toml``: what an enclave's root filesystem is made of and which program it runs.

A recipe is written by a person; the lock file beside it is written by ``--update-lock`` and pins what the
recipe names. Paths in ``[files]`` are relative to the recipe's directory.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self

from cloister.errors import CloisterError

RECIPE_NAME = "enclave.toml"
LOCK_NAME = "lock.json"


class RecipeError(CloisterError):
    """The recipe is missing or malformed."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One enclave: its packages, its files, its program."""

    suites: tuple[str, ...]
    architecture: str
    packages: tuple[str, ...]
    wheels: tuple[str, ...]
    library: bool
    """Whether this library's in-enclave rooms are put in too."""
    keep: tuple[str, ...]
    """When given, only paths under one of these survive; patterns as in a shell, ``*`` matches ``/`` too."""
    leave_out: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    """Symbolic links: path in the image, target."""
    files: tuple[tuple[str, str], ...]
    """Path in the image, path beside the recipe."""
    programs: tuple[tuple[str, str], ...]
    """Path in the image, C source beside the recipe that is compiled to a static program."""
    cmd: tuple[str, ...]
    env: tuple[str, ...]

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """Parse a recipe; RecipeError says what is wrong with it."""
        try:
            tables: dict[str, dict[str, Any]] = tomllib.loads(text)
            root = _known(tables, "root", "suites architecture packages wheels library keep leave_out links")
            image = _known(tables, "image", "cmd env")
            files, programs = tables.pop("files", {}), tables.pop("programs", {})
            _known({"": tables}, "", "")
            recipe = cls(
                suites=_words(root, "suites"),
                architecture=str(root.pop("architecture", "amd64")),
                packages=_words(root, "packages"),
                wheels=_words(root, "wheels"),
                library=bool(root.pop("library", False)),
                keep=_words(root, "keep"),
                leave_out=_words(root, "leave_out"),
                links=tuple(
                    sorted((_inside(path), str(target)) for path, target in root.pop("links", {}).items())
                ),
                files=_beside(files),
                programs=_beside(programs),
                cmd=_words(image, "cmd"),
                env=_words(image, "env"),
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise RecipeError(f"the recipe is malformed: {error}") from error
        if not (recipe.packages or recipe.programs) or not recipe.cmd:
            raise RecipeError(
                "the recipe is incomplete: it must name [root] packages or [programs], and [image] cmd"
            )
        return recipe


def read_recipe(directory: Path) -> Recipe:
    """Read ``enclave.toml`` in a directory; RecipeError names the file."""
    path = directory / RECIPE_NAME
    try:
        return Recipe.from_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"the recipe {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"the recipe {path} is not UTF-8 at byte {error.start}") from error
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error


def _known(tables: dict[str, dict[str, Any]], name: str, keys: str) -> dict[str, Any]:
    table = tables.pop(name, {})
    if unknown := set(table) - set(keys.split()):
        raise ValueError(f"[{name}] has the unknown entry {min(unknown)}")
    return table


def _words(table: dict[str, Any], name: str) -> tuple[str, ...]:
    values = table.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{name} must be a list of strings")
    return tuple(values)


def _beside(table: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((_inside(path), _inside(source)) for path, source in table.items()))


def _inside(path: object) -> str:
    if not isinstance(path, str) or path.startswith("/") or ".." in PurePosixPath(path).parts:
        raise ValueError(f"{path!r} must be a relative path without '..'")
    return str(PurePosixPath(path))

"""A case: what is wrong, who says so, which step must refuse, and how to make it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC
from typing import Any

from corpus.attestation.generator.draft import Draft

Change = Callable[[Draft], None]


def nothing(draft: Draft) -> None:
    """Leave a draft as it is."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One document of the corpus: right with ``given`` alone, wrong in one way after ``change``."""

    id: str
    wrong: str | None
    source: str
    step: str | None
    change: Change
    level: str = "document"
    category: str = ""
    given: Change = nothing
    """What makes the document special, not wrong."""
    mended: Change = nothing
    """What stands in the place of ``change`` in the twin that is right."""

    def draft(self) -> Draft:
        """Return the published document."""
        draft = Draft(self.id)
        self.given(draft)
        self.change(draft)
        return draft

    def twin(self) -> Draft:
        """Return the same document without the flaw."""
        draft = Draft(self.id)
        self.given(draft)
        self.mended(draft)
        return draft


def flaw(
    name: str, wrong: str, source: str, step: str, change: Change, level: str = "document", **more: Any
) -> Case:
    """Describe a document that must be refused."""
    return Case(id=name, wrong=wrong, source=source, step=step, change=change, level=level, **more)


def sound(name: str, source: str, change: Change = nothing, level: str = "document") -> Case:
    """Describe a document that must be accepted."""
    return Case(id=name, wrong=None, source=source, step=None, change=change, level=level, category="sound")


def in_category(category: str, cases: Iterator[Case]) -> Iterator[Case]:
    """Mark the cases of one file."""
    return (replace(case, category=category) for case in cases)


def together(*changes: Change) -> Change:
    """Make several changes of a draft, in turn."""

    def change(draft: Draft) -> None:
        for each in changes:
            each(draft)

    return change


def having(**parts: Any) -> Change:
    """Exchange attributes of a draft."""

    def change(draft: Draft) -> None:
        for name, value in parts.items():
            if not hasattr(draft, name):
                raise AttributeError(name)
            setattr(draft, name, value)

    return change


def field(name: str, value: Any) -> Change:
    """Exchange or add a field of the payload."""

    def change(draft: Draft) -> None:
        draft.fields[name] = value

    return change


def expecting(**expect: Any) -> Change:
    """Add to what the verifier is told to expect."""

    def change(draft: Draft) -> None:
        draft.expect |= expect

    return change


def entry(case: Case, draft: Draft, sha256: str, roots: str) -> dict[str, Any]:
    """Return a case as the manifest has it."""
    described = {
        "id": case.id,
        "category": case.category,
        "level": case.level,
        "verdict": "refuse" if case.step else "accept",
        "step": case.step,
        "wrong": case.wrong,
        "source": case.source,
        "file": f"documents/{case.id}.cose",
        "sha256": sha256,
        "roots": roots,
        "time": f"{draft.now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "expect": draft.expect,
    }
    json.dumps(described)  # nothing but plain values
    return described

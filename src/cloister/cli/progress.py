"""Long work made visible on standard error: a bar on a terminal, plain lines anywhere else."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

PLAIN_SECONDS = 10.0
"""Between two plain lines about the same work."""

Report = Callable[[float | None, str], None]


@contextmanager
def show_progress(title: str) -> Iterator[Report]:
    """Give a function that takes the share done (0 to 1, or None) and what is being done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_reporter(title)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[detail]}", markup=True),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, detail="")

        def report(share: float | None, what: str) -> None:
            detail = what.replace("[", "(")[-60:]
            bar.update(task, total=None if share is None else 1.0, completed=share or 0.0, detail=detail)

        yield report


def _plain_reporter(title: str) -> Report:
    last = time.monotonic()

    def report(share: float | None, what: str) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_SECONDS:
            last = time.monotonic()
            done = "" if share is None else f"{share:.0%} "
            print(f"      {title}: {done}{what}", file=sys.stderr, flush=True)

    return report

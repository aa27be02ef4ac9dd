"""What a person sees while an image is fetched, built or measured: a bar, with sizes and rates."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

from cloister.build import Progress
from cloister.cli.table import plain

if TYPE_CHECKING:
    from rich import progress as bars

_SMALL: Final = 64 << 20
"""Bytes that need no progress bar."""


@contextmanager
def shown_progress() -> Iterator[Progress | None]:
    """Show what is going on where a person looks at it: on stderr, when that is a terminal.

    The bars come with the first report that is worth one: what is done within a moment needs none.
    """
    if not sys.stderr.isatty():
        yield None
        return
    with ExitStack() as held:
        tasks, display = dict[str, Any](), None

        def report(what: str, done: int, total: int) -> None:
            nonlocal display
            if display is None:
                if 0 < total < _SMALL:
                    return
                display = held.enter_context(_bars())
            if what not in tasks:
                tasks[what] = display.add_task(plain(what), total=total or None)
            display.update(tasks[what], completed=done)

        yield report


def _bars() -> "bars.Progress":
    from rich import progress as bars  # noqa: PLC0415 - costs a tenth of a second that small images need not pay
    from rich.console import Console  # noqa: PLC0415

    columns: Sequence[bars.ProgressColumn] = (
        bars.TextColumn("{task.description}", markup=False),  # which holds names
        bars.BarColumn(),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
    )
    return bars.Progress(*columns, console=Console(stderr=True), transient=True)

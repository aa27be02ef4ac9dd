"""Tables for people: drawn on a terminal that is wide enough, plain columns elsewhere.

Nothing in them drives a terminal. In a narrow one an id that is folded within its column could not be copied.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

GAP = "  "
MAX_WIDTH = 1 << 16


def plain(text: str) -> str:
    """Return a text with whatever could drive a terminal spelled out."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a header."""
    lines = plain_lines(header, rows)
    if sys.stdout.isatty():
        from rich.console import Console  # noqa: PLC0415 -- costs a tenth of a second that scripts need not pay
        from rich.measure import measure_renderables  # noqa: PLC0415

        console, table = Console(), make_table(header, rows)
        unlimited = console.options.update(max_width=MAX_WIDTH)
        if measure_renderables(console, unlimited, [table]).maximum <= console.width:
            console.print(table)
            return
    print("\n".join(lines), flush=True)


def make_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> "Table":
    """Return a table to be shown by rich."""
    from rich import box  # noqa: PLC0415 -- as above
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in header:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    return table


def plain_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return aligned columns, one row a line, at least two spaces apart."""
    table = [list(header), *([plain(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    return [
        GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    ]

"""Tables on a terminal: drawn where there is room, whole lines where there is not."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

ID = "i-" + "0123456789" * 4
PROGRAM = f"from cloister.cli.table import print_table; print_table(('NAME', 'ID'), [('web', '{ID}')])"


def shown_on(columns: int) -> str:
    """Print a table on a terminal of so many columns and return what it got."""
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    try:
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        words = [sys.executable, "-c", PROGRAM]
        subprocess.run(words, stdin=terminal, stdout=terminal, env=environment, check=True, timeout=60)
        return os.read(master, 1 << 16).decode()
    finally:
        os.close(terminal)
        os.close(master)


@pytest.mark.parametrize(("columns", "drawn"), [(80, True), (30, False)])
def test_an_id_stays_in_one_piece(columns: int, drawn: bool) -> None:
    """An id can be copied from a terminal of any width: a table that does not fit is not folded."""
    shown = shown_on(columns)
    assert ID in shown
    assert ("─" in shown) is drawn

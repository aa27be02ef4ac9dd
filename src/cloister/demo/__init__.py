"""The demo: the whole loop with the real commands, in processes of their own, told as a session."""

from cloister.demo.leftovers import Traces, find_leftovers, observe
from cloister.demo.session import DemoError, Session
from cloister.demo.stage import open_stage, run_demo
from cloister.demo.story import Story, change_one_byte, follow_console, wait_until_gone

__all__ = [
    "DemoError",
    "Session",
    "Story",
    "Traces",
    "change_one_byte",
    "find_leftovers",
    "follow_console",
    "observe",
    "open_stage",
    "run_demo",
    "wait_until_gone",
]

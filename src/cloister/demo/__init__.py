"""The demo: the whole loop with the real commands, in processes of their own, told as a session."""

from cloister.demo.session import DemoError
from cloister.demo.stage import run_demo

__all__ = ["DemoError", "run_demo"]

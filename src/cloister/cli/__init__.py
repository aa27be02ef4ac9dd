"""The door: every command, one file a verb; the only room that prints and exits."""

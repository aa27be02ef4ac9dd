"""nitro-cli's command line as data, and what clap makes of such data: parsing, usage errors, help.

Follows clap 4.4, which nitro-cli 1.5.0 uses, in what is accepted, in words and in layout (decision 0080). Of
clap only what these nine commands need: long options with no value, one, or several.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Final, NamedTuple, NoReturn

WIDTH: Final = 100
"""Columns that clap assumes when it does not ask the terminal."""
MORE: Final = "For more information, try '--help'.\n"


class Option(NamedTuple):
    """One long option; the other options it speaks of are named without their dashes."""

    name: str
    help: str
    value: str | None = None
    """What its value is called; None: it takes none."""
    many: bool = False
    """It takes one value or more."""
    required: bool = False
    unless: tuple[str, ...] = ()
    """It is required unless one of these is given."""
    conflicts: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()

    @property
    def spec(self) -> str:
        """How usage and help name it: ``--memory <memory>``."""
        return f"--{self.name}" + (f" <{self.value}>" if self.value else "") + ("..." if self.many else "")


class Command(NamedTuple):
    """One command, or the program itself when ``commands`` are given."""

    title: str
    """How it is called: ``nitro-cli run-enclave``."""
    about: str
    options: tuple[Option, ...] = ()
    commands: Mapping[str, str] | None = None
    version: str | None = None

    @property
    def flags(self) -> tuple[str, ...]:
        """The long options that every command has, or the program."""
        return ("help",) if self.version is None else ("help", "version")

    def find(self, name: str) -> Option | None:
        """Return the option of that name."""
        return next((option for option in self.options if option.name == name), None)


class Arguments(SimpleNamespace):
    """What was given: an option's value, list of values, or bool; None when absent."""


class UsageExit(Exception):  # noqa: N818 -- asking for help is no error
    """The command line asks for help or is wrong: the text to show, and the exit code 0 or 2."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


def parse(command: Command, words: Sequence[str]) -> Arguments:
    """Return the options' values; raises UsageExit."""
    reading = _Reading(command)
    rest = iter(words)
    for word in rest:
        if word == "--":
            stray = next(rest, None)
            if stray is not None:
                refuse_argument(command, stray)
        elif word.startswith("--"):
            reading.long(word)
        elif len(word) > 1 and word.startswith("-"):
            reading.short(word)
        else:
            reading.value(word)
    reading.complete()
    _check_conflicts(command, reading.given)
    _check_required(command, reading.given)
    found: dict[str, bool | str | list[str] | None] = {}
    for option in command.options:
        values = reading.given.get(option.name)
        if option.value is None:
            found[_field(option)] = values is not None
        elif option.many:
            found[_field(option)] = values
        else:
            found[_field(option)] = None if values is None else values[0]
    return Arguments(**found)


def _field(option: Option) -> str:
    return option.name.replace("-", "_")


class _Reading:
    """The options met so far, in their order, and the one whose values are being read."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.given: dict[str, list[str]] = {}
        self._open: tuple[Option, list[str]] | None = None

    def long(self, word: str) -> None:
        """Take ``--name`` or ``--name=value``."""
        name, equals, value = word[2:].partition("=")
        option = self.command.find(name)
        if option is None and name not in self.command.flags:
            self._refuse_unknown(name)
        if equals and (option is None or option.value is None):
            _fail(
                f"unexpected value '{value}' for '--{name}' found; no more were expected",
                _smart(self.command, [*self.given, name]),
            )
        self.complete()
        if option is None:
            raise UsageExit(help_text(self.command) if name == "help" else f"{self.command.version}\n", 0)
        if equals:
            self._take(option, [value])
        elif option.value is None:
            self._take(option, [])
        else:
            self._open = (option, [])

    def short(self, word: str) -> None:
        """Take ``-h``, and ``-V`` where there is a version."""
        if word[1] == "h":
            self.complete()
            raise UsageExit(help_text(self.command), 0)
        if word[1] == "V" and self.command.version is not None:
            raise UsageExit(f"{self.command.version}\n", 0)
        refuse_argument(self.command, word[:2])

    def value(self, word: str) -> None:
        """Take a value of the option before it."""
        if self._open is None or (self._open[1] and not self._open[0].many):
            refuse_argument(self.command, word)
        self._open[1].append(word)

    def complete(self) -> None:
        """End the option whose values are being read."""
        if self._open is None:
            return
        option, values = self._open
        if not values:
            _fail(f"a value is required for '{option.spec}' but none was supplied", None)
        self._open = None
        self._take(option, values)

    def _take(self, option: Option, values: list[str]) -> None:
        usage = _plain(self.command)
        if option.name in self.given:
            _fail(f"the argument '{option.spec}' cannot be used multiple times", usage)
        if any(not _is_unicode(value) for value in values):
            _fail("invalid UTF-8 was detected in one or more arguments", usage)
        self.given[option.name] = values

    def _refuse_unknown(self, name: str) -> NoReturn:
        from cloister.cli.nitro.similar import similar  # noqa: PLC0415 -- most command lines are right

        known = similar(name, [*(option.name for option in self.command.options), *self.command.flags])
        tip = f"a similar argument exists: '--{known[-1]}'" if known else None
        if self._open is not None and self._open[1]:
            self.complete()
        used = [*self.given, *known[-1:]]
        refuse_argument(
            self.command, f"--{name}", tip=tip, usage=_smart(self.command, used) if used else None
        )


def _check_conflicts(command: Command, given: Mapping[str, object]) -> None:
    for name in given:
        option = _known(command, name)
        against = [
            other
            for other in given
            if other != name and (other in option.conflicts or name in _known(command, other).conflicts)
        ]
        if against:
            specs = [_known(command, other).spec for other in against]
            shown = f" '{specs[0]}'" if len(specs) == 1 else ":" + "".join(f"\n  {spec}" for spec in specs)
            used = [other for other in given if other not in against]
            _fail(f"the argument '{option.spec}' cannot be used with{shown}", _smart(command, used))


def _check_required(command: Command, given: Mapping[str, object]) -> None:
    required = [option.name for option in command.options if option.required]
    for name in given:
        required += [other for other in _known(command, name).requires if other not in required]
    missing = [name for name in required if name not in given]
    missing += [
        option.name
        for option in command.options
        if option.unless and option.name not in given and not any(name in given for name in option.unless)
    ]
    if missing:
        listed = "".join(f"\n  {_known(command, name).spec}" for name in missing)
        _fail(
            f"the following required arguments were not provided:{listed}",
            _smart(command, [*given, *missing], required),
        )


def refuse_argument(
    command: Command, word: str, *, tip: str | None = None, usage: str | None = None
) -> NoReturn:
    """Refuse a word that has no place here; raises UsageExit."""
    _fail(f"unexpected argument '{word}' found", usage or _plain(command), tip)


def refuse_command(command: Command, word: str, *, suggest: bool = True) -> NoReturn:
    """Refuse a word that should be a command; raises UsageExit."""
    from cloister.cli.nitro.similar import similar  # noqa: PLC0415 -- as above

    known = similar(word, [*(command.commands or ()), "help"]) if suggest else []
    tip = None
    if len(known) == 1:
        tip = f"a similar subcommand exists: '{known[0]}'"
    elif known:
        tip = "some similar subcommands exist: " + ", ".join(f"'{name}'" for name in known)
    _fail(f"unrecognized subcommand '{word}'", _plain(command), tip)


def _fail(what: str, usage: str | None, tip: str | None = None) -> NoReturn:
    parts = [f"error: {what}\n"]
    if tip is not None:
        parts.append(f"  tip: {tip}\n")
    if usage is not None:
        parts.append(f"Usage: {usage}\n")
    raise UsageExit("\n".join([*parts, MORE]), 2)


def _known(command: Command, name: str) -> Option:
    option = command.find(name)
    if option is None:  # a table that names an option it does not have
        raise KeyError(name)
    return option


def _plain(command: Command) -> str:
    """Return the usage line of the help."""
    if command.commands is not None:
        return f"{command.title} [COMMAND]"
    required = [option.spec for option in command.options if option.required]
    optional = ["[OPTIONS]"] if any(not option.required for option in command.options) else []
    return " ".join([command.title, *optional, *required])


def _smart(command: Command, used: Iterable[str], required: Iterable[str] | None = None) -> str:
    """Return the usage line of an error: what is required, then what was used."""
    if required is None:
        required = [option.name for option in command.options if option.required]
    names = [name for wanted in required for name in (*_closure(command, wanted), wanted)]
    specs = (
        option.spec if (option := command.find(name)) else f"--{name}"
        for name in dict.fromkeys([*names, *used])
    )
    return " ".join([command.title, *specs])


def _closure(command: Command, name: str, seen: tuple[str, ...] = ()) -> Iterator[str]:
    for other in _known(command, name).requires:
        if other not in seen:
            yield other
            yield from _closure(command, other, (*seen, other))


def help_text(command: Command) -> str:
    """Return the help page."""
    parts = [f"{command.about}\n", f"Usage: {_plain(command)}\n"]
    if command.commands is not None:
        commands = {**command.commands, "help": "Print this message or the help of the given subcommand(s)"}
        width = max(map(len, commands))
        parts.append("Commands:\n" + "".join(f"  {name:{width}}  {commands[name]}\n" for name in commands))
    rows = [("    ", option.spec, option.help) for option in command.options]
    rows.append(("-h, ", "--help", "Print help"))
    if command.version is not None:
        rows.append(("-V, ", "--version", "Print version"))
    parts.append("Options:\n" + _table(rows))
    return "\n".join(parts)


def _table(rows: Sequence[tuple[str, str, str]]) -> str:
    """Lay out options: help beside them, or under them all where it would not fit (clap's 40 per cent)."""
    longest = max(len(spec) for _, spec, _ in rows)
    taken = longest + 8
    below = taken > WIDTH * 0.4 and any(len(text) > WIDTH - taken for *_, text in rows)
    lines = []
    for short, spec, text in rows:
        if below:
            lines.append(f"  {short}{spec}\n          {text}\n")
        else:
            indented = text.replace("\n", "\n" + " " * taken)
            lines.append(f"  {short}{spec:{longest}}  {indented}\n")
    return "".join(lines)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

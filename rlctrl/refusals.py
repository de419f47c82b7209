"""Everything that a file is refused for, collected so that it can be said at once, each with its line."""

import re
from typing import Any

from rlctrl.errors import InputError


class Problems:
    """Everything wrong with a file, collected so that it can be said at once, each with its line."""

    def __init__(self, text="", stand_ins=None):
        self._lines, self._found, self._stand_ins = places(text), [], stand_ins or {}
        self.plant: Any = None  # these two as soon as they are known
        self.table: dict = {}

    def add(self, sentence, section="", key=""):
        """Note a problem with `[section] key`, or with a section, or with a key at the top."""
        line = self._lines.get((section, key)) or self._lines.get((section, ""))
        self._found.append((line or 0, f"line {line}: {sentence}" if line else sentence))

    def attempt(self, section, function, *arguments, values=None):
        """function(*arguments), or function(*arguments, values) for a table; None if it refuses, which is noted. A key of the table that it
        refuses is exchanged for what cannot be wrong, each key once, and it is tried again: so all that is wrong there is found."""
        if values is None:
            return self._first(section, lambda _: function(*arguments), {}, set())
        exchanged: set[str] = set()
        call = lambda keys: function(*arguments, self._mended(section, values, keys))
        while True:
            before = len(exchanged)
            made = self._first(section, call, values, exchanged)
            if made is not None or len(exchanged) == before:
                return made

    def _first(self, section, call, values, exchanged):
        """call(exchanged); None if it refuses: the key to blame, if there is one not yet among them, is noted and added."""
        try:
            return call(exchanged)
        except InputError as error:
            named = _named(error)
            open_ = named not in exchanged and (named in values or (section != "plant" and self._stand_in(section, named) is not None))
            key = named if open_ else "" if named in exchanged else self._blamed(call, values, exchanged)
            if key or not exchanged:  # else it follows from what was exchanged
                self.add(str(error), section, key or named)
            if key:
                exchanged.add(key)
            return None

    def _stand_in(self, section, key):
        return self._stand_ins.get((section.split()[0] if section else "", key))

    def _mended(self, section, values, keys):
        """A table with stand-ins for some keys; left out where there is none, and the default holds."""
        makers = {key: make for key in keys if (make := self._stand_in(section, key)) is not None}
        kept = {key: value for key, value in values.items() if key not in keys}
        return kept | {key: make(values, self) for key, make in makers.items()}

    def _blamed(self, call, values, exchanged):
        """The key without which an error that names none is no more, or another key's; "" if there is none."""
        keys = set(values) - exchanged
        for key in (k for k in values if k in keys):
            try:
                call(exchanged | {key})
            except InputError as error:
                if _named(error) not in keys - {key}:
                    continue
            return key
        return ""

    def rename(self, section, word, meant):
        """A key, or with "" for the section a section, stands where its misspelling does."""
        for (heading, key), line in list(self._lines.items()):
            if (heading, key) == (section, word):
                self._lines[section, meant] = line
            elif not section and heading == word:
                self._lines[meant, key] = line

    def raise_any(self):
        """Raise `InputError` with all of them, one a line, in the order of the file."""
        if self._found:
            raise InputError("\n".join(sentence for _, sentence in sorted(self._found, key=lambda found: found[0])))


def places(text) -> dict[tuple[str, str], int]:
    """{(section, key): line}, of the first occurrence, for a file that is valid TOML; (section, "") for a section's heading. Sections that
    repeat are numbered."""
    found: dict[tuple[str, str], int] = {}
    tables: list[str] = []
    section, depth, quote = "", 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        if not depth and not quote:
            heading = re.match(r"\s*(\[\[?)\s*([\w\"'.-]+)\s*\]", line)
            key = re.match(r"\s*[\"']?([\w.-]+)[\"']?\s*=", line)
            if heading:
                section = heading[2].strip("\"'")
                tables += [section] * (len(heading[1]) == 2)
                section = numbered(section, tables.count(section) - 1)
            found.setdefault((section, key[1] if key and not heading else ""), number) if heading or key else None
            line = "" if heading else line
        depth, quote = _after(line, depth, quote)
    return found


def _after(line, depth, quote):
    """Depth of brackets and the open multi-line quote after a line."""
    for token in re.findall(r"\"\"\"|'''|\"(?:\\.|[^\"\\])*\"|'[^']*'|#.*|[\[\]{}]", line):
        if token in ('"""', "'''"):
            quote = "" if quote == token else quote or token
        elif not quote and token in "[{":
            depth += 1
        elif not quote and token in "]}":
            depth -= 1
        elif token.startswith("#") and not quote:
            break
    return depth, quote


def numbered(section, k) -> str:
    """What the k-th (from 0) of several sections of a name is called here."""
    return f"{section} {k + 1}" if k > 0 else section


def _named(error):
    """The key that an error is about, in backticks at its beginning, or the argument it misses."""
    named = re.match(r"(?:\[\w+\] )?`(?:\[\w+\] |params\[')?(\w+)(?:'\])?`", str(error))
    missing = re.search(r"missing a required(?: keyword-only)? argument: '(\w+)'", str(error))
    return missing[1] if missing else named[1] if named else ""

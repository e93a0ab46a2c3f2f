"""What is personal in texts, removed or replaced by pseudonyms, before rows are handed on."""

import hmac
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from navtalk_async.privacy._finding import Finding, merged

__all__ = ["KINDS", "Privacy", "Recognizer"]

KINDS = ("emails", "phones", "cards", "ibans", "ips", "urls")
"""What `Privacy` can find."""

Recognizer = Callable[[str], Iterable[tuple[int, int, str]]]
"""Finds more in a text: where it starts, where it ends, and the word for what it is."""

SESSION_KEYS = frozenset(
    ("project", "id", "api", "status", "start_time", "end_time", "updated_at", "deleted_at", "messages")
)
MESSAGE_KEYS = frozenset(("id", "position", "role", "type", "created_at"))
"""Columns that no person has written."""

PERSON = re.compile(
    "(?:user|agent|customer|client|visitor|guest|author|owner|sender|recipient|caller|speaker|person|member"
    "|participant|account|tenant|team)s?"
)
WHO = re.compile(
    rf"(?:{PERSON.pattern})(?:ids?|names?|)|(?:first|last|full|display|nick|given|family|sur)names?"
    "|(?:created|updated|sent|owned|assigned)(?:by|to)"
)
OF_PERSON = frozenset(("id", "name"))

TOO_DEEP = "[nested too deeply]"

SMALLEST_KEY = 16
TAG_LETTERS = str.maketrans("0123456789", "ghijklmnop")
"""A pseudonym has letters alone: nothing finds a number in it."""


class Privacy:
    """What is removed from the rows that are handed on; it can be pickled.

    What is found becomes the word of its kind, `[email]`; with a key, a pseudonym, `[email:kbdmafcl…]`, the
    same for the same value, however it is spelled, in every run with the same key.

    Arguments:
        redact: the `KINDS` to find in texts, or one of them.
        pseudonymize: the key, of at least 16 bytes. With it, the ids and names of users and agents become
            pseudonyms too; ids of sessions and messages stay.
        recognizer: finds more in each text.

    Attributes:
        counts: how often each kind was replaced so far.

    Raises:
        ValueError: an unknown kind, or a key that is too short.
    """

    def __init__(
        self,
        *,
        redact: str | Sequence[str] = (),
        pseudonymize: bytes | None = None,
        recognizer: Recognizer | None = None,
    ) -> None:
        names = [redact] if isinstance(redact, str) else list(redact)
        for name in names:
            if name not in KINDS:
                raise ValueError(f"{name!r} is not a kind of personal data; choose from {', '.join(KINDS)}.")
        if pseudonymize is not None and len(pseudonymize) < SMALLEST_KEY:
            raise ValueError(f"The key of the pseudonyms has less than {SMALLEST_KEY} bytes.")
        # Imported here: the patterns take long to compile, and few need them.
        from navtalk_async.privacy import _finders  # noqa: PLC0415

        self.kinds: tuple[str, ...] = tuple(name for name in KINDS if name in names)
        self.counts: Counter[str] = Counter()
        self._key = pseudonymize
        self._find, self._normal = partial(_finders.find, self.kinds), _finders.normal
        self._names_phone = _finders.names_phone
        self._recognizer = recognizer

    def description(self) -> dict[str, Any]:
        """What it does, in JSON; the key shows as a fingerprint, which tells keys apart."""
        return {
            "redact": list(self.kinds),
            "pseudonymize": None if self._key is None else self._tag("key", ""),
            "recognizer": self._recognizer is not None,
        }

    def transcript(self, fields: dict[str, Any]) -> dict[str, Any]:
        """`session`, and its `messages`."""
        return {**self.session(fields), "messages": [self.message(each) for each in fields["messages"]]}

    def session(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The columns of a session, with the same names."""
        return self._columns(fields, SESSION_KEYS)

    def message(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The columns of a message, with the same names."""
        return self._columns(fields, MESSAGE_KEYS)

    def text(self, text: str) -> str:
        """*text*, with what was found in it replaced."""
        findings = self._find(text)
        if self._recognizer is not None:
            findings += [_checked(text, *find) for find in self._recognizer(text)]
        if not findings:
            return text
        parts, end = list[str](), 0
        for find in merged(findings):
            parts += [text[end : find.start], self._replacement(find.word, find.value)]
            end = find.end
        return "".join([*parts, text[end:]])

    def _columns(self, fields: dict[str, Any], keys: frozenset[str]) -> dict[str, Any]:
        return {
            name: value if value is None or name in keys else self._value(value, name)
            for name, value in fields.items()
        }

    def _value(self, value: Any, name: str = "", parent: str = "") -> Any:
        """*value*, which JSON can hold, of the field *name* of the object that the field *parent* holds."""
        # Of no known type below, whatever *value* is.
        inner: Any = value
        if isinstance(value, dict):
            try:
                return self._object(inner, name)
            except RecursionError:
                return TOO_DEEP
        if isinstance(value, list):
            return [self._value(each, name, parent) for each in inner]
        if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
            return value
        text = str(value)
        if self._key is not None and _names_someone(name, parent):
            return self._replacement("user", text)
        if parent and self._names_phone(name):
            found = self.text(f"tel: {text}").removeprefix("tel: ")
        else:
            found = self.text(text)
        return value if found == text else found

    def _object(self, value: dict[str, Any], parent: str) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, each in value.items():
            key = unique = self.text(name)
            number = 1
            while unique in result or (unique != name and unique in value):
                number += 1
                unique = f"{key} {number}"
            result[unique] = self._value(each, name, parent)
        return result

    def _replacement(self, word: str, value: str) -> str:
        self.counts[word] += 1
        return f"[{word}]" if self._key is None else f"[{word}:{self._tag(word, value)}]"

    def _tag(self, word: str, value: str) -> str:
        data = f"{word}\0{self._normal(word, value)}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._key or b"", data, "sha256")[:8].hex().translate(TAG_LETTERS)


def _names_someone(name: str, parent: str) -> bool:
    plain = re.sub("[^a-z]", "", name.lower())
    return WHO.fullmatch(plain) is not None or (
        plain in OF_PERSON and PERSON.fullmatch(parent.lower()) is not None
    )


def _checked(text: str, start: int, end: int, word: str) -> Finding:
    if not (0 <= start < end <= len(text)) or not re.fullmatch(r"[\w-]+", word):
        raise ValueError(f"The recognizer found {word!r} from {start} to {end} of {len(text)} characters.")
    return Finding(start, end, word, text[start:end])

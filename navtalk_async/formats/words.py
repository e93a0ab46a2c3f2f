"""The words of a text as a search finds them, and what a search asks for; the same in every index.

A word is a run of letters and digits of any script, in small letters and without diacritics: `Café`, `cafe`
and `CAFÉ` are one word. Scripts that put no spaces between words (Chinese, Japanese, Korean, Thai, Lao,
Khmer, Burmese …) and emoji have a word a character, and what is asked for in them is a phrase.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias
from unicodedata import category, normalize

__all__ = ["LONGEST_WORD", "AllOf", "AnyOf", "Phrase", "Query", "located", "matches", "parse_query", "words"]

LONGEST_WORD = 500
"""A run of more characters (data in base64, say) is cut into words of this length."""

LONGEST_QUERY = 1000
DEEPEST_QUERY = 20

UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u2e80-\u2fdf\u3005-\u3007"
    "\u3021-\u3029\u3031-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\ua4cf\ua960-\ua9ff\uaa60-\uaadf\uac00-\ud7ff"
    "\uf900-\ufaff\U00016fe0-\U00018dff\U0001aff0-\U0001b2ff\U00020000-\U0003ffff]"
)
"""The scripts that have a word a character."""

IGNORED = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed\u1ab0-\u1aff\u1dc0-\u1dff"
    "\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f\U0001f3fb-\U0001f3ff\U000e0100-\U000e01ef]"
)
"""Diacritics of Latin, Greek, Cyrillic, Hebrew and Arabic, variants, and colours of skin: as if they were not
there. The vowel signs of other scripts are part of the word."""

REPLACED = "\ufffc\ufffd"
"""They stand for what a database cannot hold, a NUL say, and are no words."""

SPACE = "\u200b"
"""The one invisible character that separates words; others, a soft hyphen say, stand inside of one."""


class _Folding(dict[int, str]):
    """What takes the place of a character: a space between words, spaces around a word of one character."""

    def __missing__(self, code: int) -> str:
        self[code] = found = "".join(map(_as_word, _folded(chr(code))))
        return found


def _folded(char: str) -> str:
    plain = IGNORED.sub("", normalize("NFKD", char))
    # Twice, for ẞ, ß and SS are one.
    return normalize("NFC", plain.lower().upper().lower())


def _as_word(char: str) -> str:
    kind = category(char)
    if char in REPLACED:
        return " "
    if kind == "So" or (kind[0] in "LNM" and UNSPACED.match(char)):
        return f" {char} "
    if kind == "Cf" and char != SPACE:
        return ""
    return char if kind[0] in "LNM" else " "


FOLDING = _Folding()

ASCII = "".join(FOLDING[code] if code < 128 else " " for code in range(256)).encode()
"""The same for texts in ASCII, in a tenth of the time: each character takes the place of one."""


def words(text: str) -> list[str]:
    """The words of *text*, in their order."""
    line = spaced(text)
    found = line.split()
    if len(line) <= LONGEST_WORD or max(map(len, found), default=0) <= LONGEST_WORD:
        return found
    return [word[at : at + LONGEST_WORD] for word in found for at in range(0, len(word), LONGEST_WORD)]


def spaced(text: str) -> str:
    """*text* in the letters of `words`, with spaces alone between them; long ones are not cut yet."""
    if text.isascii():
        return text.encode().translate(ASCII).decode()
    return normalize("NFC", text).translate(FOLDING)


def located(text: str) -> Iterator[tuple[str, int, int]]:
    """The words of *text*, which is in NFC, each with the indexes where it starts and ends."""
    letters, places = "", list[int]()
    for at, char in enumerate(text):
        folded = FOLDING[ord(char)]
        letters += folded
        places += [at] * len(folded)
    for run in re.finditer(rf"[^ ]{{1,{LONGEST_WORD}}}", letters):
        end = places[run.end() - 1] + 1
        while end < len(text) and not FOLDING[ord(text[end])]:
            end += 1
        yield run.group(), places[run.start()], end


class Phrase(NamedTuple):
    """Words that stand one behind the other; mostly one."""

    words: tuple[str, ...]
    is_prefix: bool
    """Whether the last word may go on."""


class AllOf(NamedTuple):
    """All of *parts*, of which there is at least one, and none of *without*."""

    parts: tuple["Query", ...]
    without: tuple["Query", ...]


class AnyOf(NamedTuple):
    """At least one of *parts*."""

    parts: tuple["Query", ...]


Query: TypeAlias = Phrase | AllOf | AnyOf


def parse_query(text: str) -> Query:
    """What *text* asks for.

        refund card             both words, in any order; also: refund AND card
        refund OR exchange      one of them; AND binds closer than OR
        refund NOT (card bank)  the first, and not both others
        "credit card"           next to each other; also what has no space in it: e-mail, 部署
        refund*                 words that begin so

    AND, OR and NOT are in capitals. Signs that are part of no word are ignored.

    Raises:
        ValueError: nothing can be found so; the sentence says why.
    """
    if len(text) > LONGEST_QUERY:
        raise ValueError(f"The search is longer than {LONGEST_QUERY:,} characters.")
    parser = _Parser(text)
    found = parser.any_of(0)
    if parser.next == ")":
        raise ValueError(f'There is a ")" without its "(" in {text!r}.')
    if found is None:
        raise ValueError(f"There is no word to find in {text!r}.")
    return found


QUOTES = '"\u201c\u201d\u201e'
TOKEN = re.compile(rf"\s*(?:([()])|[{QUOTES}]([^{QUOTES}]*)([{QUOTES}]?)(\*?)|([^\s(){QUOTES}]+))")
END = ""


class _Parser:
    """Reads one query; each method returns None where there is no word to find."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = TOKEN.finditer(text.rstrip())
        self.next: str | Phrase
        self._advance()

    def _advance(self) -> None:
        """Read the next token: a parenthesis, an operator, the end, or a phrase, which may have no words."""
        match = next(self._tokens, None)
        if match is None:
            self.next = END
            return
        parenthesis, quoted, closing, star, bare = match.groups()
        if parenthesis or bare in ("AND", "OR", "NOT"):
            self.next = parenthesis or bare
        elif quoted is not None:
            if not closing:
                raise ValueError(f"A quotation mark has no second one in {self._text!r}.")
            self.next = Phrase(tuple(words(quoted)), bool(star))
        else:
            self.next = self._word(bare)

    def _word(self, bare: str) -> Phrase:
        word = bare.strip("*")
        if "*" in word and any(words(word)):
            raise ValueError(f"A * stands at the end of a word, and not inside of one, as in {bare!r}.")
        return Phrase(tuple(words(word)), bare.endswith("*"))

    def any_of(self, depth: int) -> Query | None:
        if depth > DEEPEST_QUERY:
            raise ValueError(f"Parentheses are nested more than {DEEPEST_QUERY} deep.")
        if self.next in (END, ")"):
            return None
        parts = [self._all_of(depth)]
        while self.next == "OR":
            self._advance()
            parts.append(self._all_of(depth))
        found = tuple(each for each in parts if each is not None)
        return AnyOf(found) if len(found) > 1 else found[0] if found else None

    def _all_of(self, depth: int) -> Query | None:
        wanted: list[Query] = []
        unwanted: list[Query] = []
        while True:
            side, other = wanted, unwanted
            while self.next == "NOT":
                self._advance()
                side, other = other, side
            if (part := self._operand(depth)) is not None:
                side.append(part)
            if self.next == "AND":
                self._advance()
            elif not (isinstance(self.next, Phrase) or self.next in ("(", "NOT")):
                break
        if unwanted and not wanted:
            raise ValueError("NOT needs a word beside it that is to be found, as in: refund NOT card.")
        if len(wanted) == 1 and not unwanted:
            return wanted[0]
        return AllOf(tuple(wanted), tuple(unwanted)) if wanted else None

    def _operand(self, depth: int) -> Query | None:
        operand = self.next
        if not isinstance(operand, Phrase) and operand != "(":
            raise ValueError(
                f"AND, OR or NOT has no word beside it in {self._text!r}; as words, write them small."
            )
        self._advance()
        if isinstance(operand, Phrase):
            return operand if operand.words else None
        found = self.any_of(depth + 1)
        if self.next != ")":
            raise ValueError(f'There is a "(" without its ")" in {self._text!r}.')
        self._advance()
        return found


def matches(query: Query, text_words: Sequence[str]) -> bool:
    """Whether a text of these words is one that *query* asks for."""
    if isinstance(query, AnyOf):
        return any(matches(each, text_words) for each in query.parts)
    if isinstance(query, AllOf):
        return all(matches(each, text_words) for each in query.parts) and not any(
            matches(each, text_words) for each in query.without
        )
    return any(True for _ in places(query, text_words))


def places(phrase: Phrase, text_words: Sequence[str]) -> Iterator[int]:
    """The indexes in *text_words* at which *phrase* begins."""
    *first, last = phrase.words
    for at in range(len(text_words) - len(first)):
        end = text_words[at + len(first)]
        if (end.startswith(last) if phrase.is_prefix else end == last) and all(
            text_words[at + index] == word for index, word in enumerate(first)
        ):
            yield at

"""Numbers of telephones: of E.164, in links (RFC 3966), and as E.123 and North America write their own."""

import re

from navtalk_async.privacy._finding import Finding
from navtalk_async.privacy._numbers import number_runs

LENGTHS = """
290:4-5 683,690:4-7 98:4-10 352:4-11 43,598:4-13 49:4-15 500,682:5 247:5-6 676,677,678,688:5-7
47,386,686:5-8 27,64,685:5-10 31,852:5-11 61,358,971:5-12 82:5-14 298,299,672,687:6 597:6-7
40,252,355,376,421,508,681,689:6-9 48,53,95,880:6-10 375,595:6-11 39,46,359,381:6-12 63:6-13
238,239,246,248,269,291,297,592,673,674,680,691,692:7 241,599,670,675,853,961,965,975:7-8
220,231,245,265,354,385,423,967,968:7-9 1:10 7:10 44,84,230,243,254,263,267,353,372,960:7-10
501,503,507,679,886,974:7-11 86,882,972:7-12 90:7-13 62:7-15
45,216,222,223,226,227,228,232,235,236,253,257,266,350,356,357,370,371,373,374,389,505,509,800,808,973,993:8
32,36,51,213,224,233,237,250,258,264,268,377,382,387,591,962,963:8-9
20,60,378,506,850,855,856,964,970,976:8-10 55,57,65,502,504,593,977:8-11 92,383,883:8-12 66,91:8-13 81:8-13
33,34,93,94,211,212,218,221,240,242,244,249,251,255,256,260,261,262,351,590,594,596,979,992,994,995,998:9
380,881,966,996:9-10 56:9-11 41,420,870:9-12 52,58,225,229:10 54:10-11 30:10-12 234:10-14 888:11 878:12
"""
"""How many digits follow each country code (as the metadata of libphonenumber says)."""


def _sizes() -> dict[str, range]:
    sizes: dict[str, range] = {}
    for codes, _, size in (each.partition(":") for each in LENGTHS.split()):
        least, _, most = size.partition("-")
        sizes.update(dict.fromkeys(codes.split(","), range(int(least), int(most or least) + 1)))
    return sizes


SIZES = _sizes()
MAY_BEGIN_WITH_0 = frozenset(
    ("39", "225", "227", "229", "241", "242", "267", "268", "378", "501", "676", "679", "687", "853")
)
FEWEST, MOST = 7, 15

GAP = r"(?:\.(?=[0-9])|[ \t()/-]|%20){0,4}"
NUMBER = re.compile(rf"[0-9](?:{GAP}[0-9]){{0,24}}+")
AREA, LOCAL = r"[2-9][0-9]{2}", r"[2-9][0-9]{2}[ .-][0-9]{4}(?![.-]?[0-9]|[A-Za-z])"
# Each begins with a sign of its own, and looks back only then: that is far faster.
PLAIN = re.compile(
    rf"""(?:\+(?<![A-Za-z0-9+].)|%2[Bb])[ (]{{0,2}}(?=[1-9])
    |(?P<dialled>0(?<![A-Za-z0-9].)(?:(?<![0-9][ ./-].)|(?=0[0-9]{{7}}))(?:0|11))[ (]{{0,2}}(?=[1-9])
    |(?P<whole>
        1(?<![A-Za-z0-9].)(?<![0-9][./-].)[-. ](?:\({AREA}\)[ -]?|{AREA}[.-]){LOCAL}
        |[2-9](?<![A-Za-z0-9].)(?<![0-9][./-].)[0-9]{{2}}[.-]{LOCAL}
        |\((?<![A-Za-z0-9].)(?:{AREA}\)[ -]?{LOCAL}
            |0[0-9]{{1,5}}\)[ ]?[0-9](?:[ /-]?[0-9]){{3,9}}(?![0-9A-Za-z]))
    )""",
    re.VERBOSE,
)
NAME = re.compile(r"(?<![^\W\d_])([^\W\d_]++)(?:[ ._-]{1,2}(?i:number|num|no|nr)\.?)?[^\w+]{1,4}\Z")
NAMES = frozenset(
    [
        "tel",
        "phone",
        "telephone",
        "telefon",
        "telefono",
        "telefone",
        "teléfono",
        "téléphone",
        "fon",
        "fax",
        "mobile",
        "mobil",
        "móvil",
        "cell",
        "cellulare",
        "handy",
        "portable",
        "whatsapp",
        "telefonnummer",
        "rufnummer",
        "handynummer",
        "телефон",
        "тел",
        "моб",
        "هاتف",
        "جوال",
        "전화",
        "puhelin",
    ]
)
NAMES_AT_END = ("电话", "電話", "手机", "手機", "電話番号")
EXTENSION = re.compile(
    r"(?:[ ,;]{0,2}(?:ext(?:ension|n)?\.?|x)[ .:=]{0,2}[0-9]{1,7}(?![0-9])"
    r"|;[a-z-]{1,20}=[^\s;<>\"']{1,80}){1,8}",
    re.IGNORECASE,
)
GROUP = re.compile("[0-9]+")
DIALLED = re.compile(r"\A0(?:0|11)")
ANEW = re.compile("00[1-9][0-9]")
THOUSANDS = re.compile(r"[0-9]{1,3}(?:[ .][0-9]{3})+")
NAME_SIZE = 28


def phones(text: str) -> list[Finding]:
    findings: list[Finding] = []
    for start, end in number_runs(text, FEWEST - 1):
        place, number = start - 4, None
        if _is_named(text, start):
            number = _number(text, start, FEWEST - 1)
        if number is not None:
            place = number[0]
            findings.append(_extended(text, start, *number))
        while (found := PLAIN.search(text, max(0, place), end + 2)) and found.start() < end:
            if found["whole"]:
                number = found.end(), "".join(GROUP.findall(found[0]))
            else:
                number = _number(text, found.end(), FEWEST, is_dialled=found["dialled"] is not None)
            place = found.start() + 1 if number is None else number[0]
            if number is not None:
                findings.append(_extended(text, found.start(), *number))
    return findings


def _is_named(text: str, start: int) -> bool:
    """Whether a word for a telephone stands right before *start*."""
    found = NAME.search(text, max(0, start - NAME_SIZE), start)
    word = found[1].lower() if found else ""
    return word in NAMES or word.removesuffix("s") in NAMES or word.endswith(NAMES_AT_END)


def _extended(text: str, start: int, end: int, digits: str) -> Finding:
    """A number with what belongs to it: the bracket before it, an extension, parameters."""
    opened = text.count("(", start, end) - text.count(")", start, end)
    start -= opened < 0 and text[start - 1 : start] == "("
    end += opened > 0 and text[end : end + 1] == ")"
    extension = EXTENSION.match(text, end)
    return Finding(start, extension.end() if extension else end, "phone", digits)


def _number(text: str, start: int, fewest: int, *, is_dialled: bool = False) -> tuple[int, str] | None:
    """Where the number ends, and its digits. It takes as many groups as its country allows.

    Only one that is *is_dialled*, behind 00, must have the size that numbers of its country have.
    """
    is_named = fewest < FEWEST
    possible: tuple[int, str] | None = None
    plausible: tuple[int, str] | None = None
    whole = NUMBER.match(text, start)
    digits, size, before = "", 0, start
    for group in GROUP.finditer(text, start, whole.end() if whole else start):
        gap, size, last = text[before : group.start()], len(group[0]), size
        # Another number follows a long gap, dials a country anew, or counts what comes next.
        is_apart = len(gap.lstrip(")")) > 1 or "(" in gap
        is_new = gap == " " and (ANEW.match(group[0]) or size == 1 < last)
        if (plausible and is_apart) or (possible and is_new):
            break
        before = group.end()
        if group[0] == "0" and gap.endswith("(") and text[before : before + 1] == ")":
            continue  # The digit that is dialled within the country, as in +44 (0) 20.
        digits += group[0]
        if len(DIALLED.sub("", digits)) > MOST:
            break
        if len(digits) >= fewest:
            plausible = before, digits if is_named else f"+{digits}"
        if _is_possible(digits):
            possible = before, f"+{digits}"
    if is_named:
        return plausible and (plausible[0], re.sub(r"\A00(?=[1-9])", "+", plausible[1]))
    if possible or is_dialled or plausible is None or THOUSANDS.fullmatch(text, start, plausible[0]):
        return possible
    return plausible


def _is_possible(digits: str) -> bool:
    """Whether a country has numbers of this size; few have any that begin with 0."""
    for size in (1, 2, 3):
        code, number = digits[:size], digits[size:]
        if code in SIZES:
            may_begin = number[:1] != "0" or code in MAY_BEGIN_WITH_0
            return may_begin and len(digits) >= FEWEST and len(number) in SIZES[code]
    return False

"""Numbers of payment cards (ISO/IEC 7812) and of bank accounts (ISO 13616), by their checksums."""

import re
from bisect import bisect

from navtalk_async.privacy._finding import Finding

# A number starts where no longer one, no word and no decimal fraction goes on.
START = r"(?<![A-Za-z0-9+])(?<![0-9]\.)"

CARD = re.compile(
    rf"(?=[3456]|[28][0-9]|0604|1[89]|9[78]){START}"
    r"(?=([0-9]{4,19}+(?:(?:[ \t-]{1,3}|\.(?=[0-9]{3,7}(?![0-9])))[0-9]{1,19}+){0,8}))"
)
RUN = re.compile(r"[0-9][-0-9 \t()/.%]{5,}+")
DIGITS = re.compile("[0-9]+")
ISSUERS = re.compile(
    r"""(?:4(?:\d{12}|\d{15}|\d{18})                                  # Visa
    |5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}   # Mastercard
    |3[47]\d{13}|35\d{14,17}|(?:2131|1800)\d{11}                     # American Express, JCB
    |3(?:0[0-59]|6\d|[89]\d)\d{11,16}                                # Diners
    |(?:50|5[6-9]|6\d)\d{10,17}|0604\d{8}                            # Maestro, Discover, UnionPay, RuPay
    |8[12]\d{14,17}|220[0-5]\d{12,15}|(?:9792|9860|8600|1946)\d{12}  # RuPay, Mir, Troy, Humo, Uzcard, BNI
    )\Z""",
    re.VERBOSE,
)
SIZES = range(12, 20)
FOURS = re.compile(r"(?:[^0-9]|\A)[0-9]{4}[ -][0-9]{4}(?![0-9])")
BEHIND = re.compile(r"[A-Za-z0-9]|\.[0-9]")
DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def number_runs(text: str, fewest: int) -> list[tuple[int, int]]:
    """Where numbers with at least *fewest* digits may be: between characters that no number has."""
    return [run.span() for run in RUN.finditer(text) if sum(map(len, DIGITS.findall(run[0]))) >= fewest]


def cards(text: str) -> list[Finding]:
    """The digits of what may be an IBAN, right or wrong, are no card."""
    if not (runs := number_runs(text, SIZES[0])):
        return []
    findings, end, accounts = list[Finding](), 0, _like_ibans(text)
    for first, last in runs:
        for found in CARD.finditer(text, first, last):
            start = found.start()
            account = bisect(accounts, (start,)) - 1
            if start < end or (account >= 0 and start < accounts[account][1]):
                continue
            if stop := _card_end(text, *found.span(1), end):
                end = stop
                findings.append(Finding(start, end, "card", "".join(DIGITS.findall(text, start, end))))
    return findings


def _card_end(text: str, start: int, last: int, place: int) -> int | None:
    """Where the longest number of a card ends that begins at *start*; the last one ended at *place*."""
    digits, ends = "", list[tuple[int, int]]()
    for group in DIGITS.finditer(text, start, last):
        digits += group[0]
        ends.append((group.end(), len(digits)))
    for end, size in reversed(ends):
        if size in SIZES and _is_card(digits[:size]) and _is_whole(text, start, end, place, size):
            return end
    return None


def _is_whole(text: str, start: int, end: int, place: int, size: int) -> bool:
    """Whether no word or number goes on there: four digits beside four, or a dash if it has dashes."""
    if "-" in text[start:end] and "-" in (text[max(0, start - 1) : start], text[end : end + 1]):
        return False
    four = FOURS.match(text, end - 5) or FOURS.search(text[max(place, start - 6) : start + 5])
    return not (four and size + 4 in SIZES) and BEHIND.match(text, end) is None


def _is_card(digits: str) -> bool:
    """Whether an issuer has such numbers, and the last digit is the check digit of the others (Luhn)."""
    if ISSUERS.match(digits) is None:
        return False
    numbers = [int(digit) for digit in digits]
    return (sum(numbers[-1::-2]) + sum(DOUBLED[number] for number in numbers[-2::-2])) % 10 == 0


LENGTHS = """
AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29
ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20
LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29
PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20
YE30
"""
IBAN_LENGTHS = {each[:2]: int(each[2:]) for each in LENGTHS.split()}
"""The characters of an IBAN, by its country (registry of ISO 13616)."""
IBAN_START = re.compile(r"[0-9]{2}(?<=[A-Za-z]{2}..)(?:(?<![A-Za-z0-9]....)|(?i:(?<=IBAN....)))")


def ibans(text: str) -> list[Finding]:
    return [
        Finding(start, end, "iban", iban)
        for start, end, iban in _like_ibans(text)
        if int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97 == 1
    ]


def _like_ibans(text: str) -> list[tuple[int, int, str]]:
    """Where such numbers may be, by their country and size, and their characters."""
    likes: list[tuple[int, int, str]] = []
    for found in IBAN_START.finditer(text):
        start = found.start() - 2
        size = IBAN_LENGTHS.get(text[start : start + 2].upper())
        if size is not None and (rest := IBANS[size].match(text, found.end())):
            likes.append((start, rest.end(), re.sub("[^A-Z0-9]", "", text[start : rest.end()].upper())))
    return likes


IBANS = {
    size: re.compile(rf"(?:[ \t.-]{{0,2}}[A-Za-z0-9]){{{size - 4}}}(?![A-Za-z0-9])")
    for size in set(IBAN_LENGTHS.values())
}
"""What follows the country and the check digits of an IBAN, by its size."""

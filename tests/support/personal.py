"""Personal data in the spellings that standards allow, what only looks like it, and texts around both."""

import string

import phonenumbers
from hypothesis import strategies as st
from hypothesis.provisional import urls
from phonenumbers import PhoneNumberFormat, PhoneNumberType

WORDS = {"emails": "email", "phones": "phone", "cards": "card", "ibans": "iban", "ips": "ip", "urls": "url"}

AROUND = st.sampled_from(
    [
        *[
            ("", ""),
            ("see ", " ok"),
            ("(", ")"),
            ("x: ", "."),
            ("“", "”"),
            ("<", ">"),
            ("[", "]"),
            ("`", "`"),
        ],
        *[
            ("请联系", "\uff0c谢谢"),
            ("هاتف: ", " شكرا"),
            ("😀", "😀"),
            ("…", "!"),
            ("\u200e", "\u200f"),
            ("|", "|"),
        ],
        *[('{"a":"', '"}'), ("a\\n", '",'), ('{\\"a\\":\\"', '\\"}'), ("a\n", "\nb"), ("- ", ", next")],
    ]
)
"""What stands before and behind."""

GAPS = st.sampled_from(["", " ", "-", "\u00a0", "\u202f", "\u2011", "\u2013"])


def in_script(zero):
    """The digits of ASCII as those of a script that begin at *zero*."""
    return str.maketrans(string.digits, "".join(chr(zero + each) for each in range(10)))


SCRIPTS = st.sampled_from([in_script(zero) for zero in (0x30, 0x660, 0x6F0, 0x966, 0xFF10, 0x1D7CE)])


def with_luhn(digits):
    """*digits* and the check digit that makes the sum of every second one, doubled, a multiple of ten."""
    doubled = [int(each) for each in reversed(digits)]
    doubled[::2] = [each * 2 - 9 * (each > 4) for each in doubled[::2]]
    return digits + str(-sum(doubled) % 10)


def with_iban_check(country, account):
    number = "".join(str(int(each, 36)) for each in account + country + "00")
    return f"{country}{98 - int(number) % 97:02}{account}"


def grouped(text, sizes, gap):
    parts, place = [], 0
    for size in sizes:
        parts.append(text[place : place + size])
        place += size
    return gap.join(filter(None, [*parts, text[place:]]))


ISSUERS = [
    ("4", 16),
    ("4", 13),
    ("4", 19),
    ("51", 16),
    ("55", 16),
    ("2221", 16),
    ("2720", 16),
    ("34", 15),
    ("37", 15),
]
ISSUERS += [
    ("6011", 16),
    ("65", 16),
    ("3528", 16),
    ("36", 14),
    ("300", 14),
    ("62", 16),
    ("62", 19),
    ("2200", 16),
]
ISSUERS += [("50", 12), ("6304", 12), ("6759", 18)]


@st.composite
def cards(draw):
    prefix, size = draw(st.sampled_from(ISSUERS))
    rest = draw(st.text(string.digits, min_size=size - len(prefix) - 1, max_size=size - len(prefix) - 1))
    sizes = {15: (4, 6, 5), 14: (4, 6, 4)}.get(size, (4, 4, 4, 4))
    return grouped(with_luhn(prefix + rest), sizes, draw(GAPS)).translate(draw(SCRIPTS))


ACCOUNTS = {
    "DE": (18, ""),
    "NO": (11, ""),
    "GB": (14, "WEST"),
    "MT": (23, "MALT"),
    "FR": (23, ""),
    "PL": (24, ""),
}
ACCOUNTS |= {"BE": (12, ""), "NL": (10, "ABNA"), "CH": (17, ""), "RU": (29, "")}


@st.composite
def ibans(draw):
    country = draw(st.sampled_from(sorted(ACCOUNTS)))
    size, bank = ACCOUNTS[country]
    account = bank + draw(st.text(string.digits, min_size=size, max_size=size))
    iban = with_iban_check(country, account[: size + len(bank)])
    iban = draw(st.sampled_from([iban, iban.lower()]))
    return grouped(iban, [4] * 8, draw(GAPS)).translate(draw(SCRIPTS))


NUMBERS = [
    number
    for region in sorted(phonenumbers.SUPPORTED_REGIONS)
    for kind in (PhoneNumberType.FIXED_LINE, PhoneNumberType.MOBILE, PhoneNumberType.TOLL_FREE)
    if (number := phonenumbers.example_number_for_type(region, kind)) is not None
]
"""Numbers of every country, as libphonenumber gives them for examples."""


def spellings_of(number):
    """An international number as E.164, E.123, RFC 3966 and people write it."""
    plain, spaced, link = (
        phonenumbers.format_number(number, each)
        for each in (PhoneNumberFormat.E164, PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.RFC3966)
    )
    code, _, rest = spaced.partition(" ")
    yield from (
        plain,
        spaced,
        "00" + plain[1:],
        "00" + spaced[1:],
        "%2B" + plain[1:],
        link.removeprefix("tel:"),
    )
    yield from (
        f"({code}) {rest}",
        f"{code} (0) {rest}",
        f"{code}/{rest}",
        f"{code} ({rest[:2]}) {rest[2:]}",
    )
    yield from (spaced.replace(" ", gap) for gap in ("-", ".", "\u00a0", "\u2011", "\u2013"))
    yield "+" + " ".join(plain[1:])
    yield from (spaced.translate(in_script(zero)) for zero in (0x660, 0xFF10))


phones = st.sampled_from(NUMBERS).flatmap(lambda number: st.sampled_from([*spellings_of(number)]))

ATOM = st.text(string.ascii_letters + string.digits + "+_-äßéñжд", min_size=1, max_size=8)
DOMAINS = st.sampled_from(
    [
        *["example.com", "EXAMPLE.CO.UK", "bücher.example", "xn--bcher-kva.example", "例子.公司"],
        *["пример.рф", "a-b.c1.io", "[192.0.2.1]", "[IPv6:2001:db8::1]", "localhost"],
    ]
)
emails = st.one_of(
    st.emails(),
    st.builds("{}.{}@{}".format, ATOM, ATOM, DOMAINS),
    st.builds("{}%40{}".format, ATOM, DOMAINS),
    st.builds("{}\uff20{}".format, ATOM, DOMAINS),
    st.builds('"{} \\"{}"@{}'.format, ATOM, ATOM, DOMAINS),
)

ips = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.ip_addresses(v=6).map(lambda each: each.exploded.upper()),
    st.builds("::ffff:{}".format, st.ip_addresses(v=4)),
    st.builds("{}%eth0".format, st.ip_addresses(v=6)),
)

SCHEMES = st.sampled_from(["ftp", "postgresql", "HTTPS", "git+ssh"])
links = st.one_of(
    urls().filter(lambda url: url[-1].isalnum() and not set("()[]{}|").intersection(url)),
    st.builds("{}://{}:{}@example.com/{}?q=1#x".format, SCHEMES, ATOM, ATOM, ATOM),
    st.sampled_from(
        [
            *[
                "www.example.com/a(b)",
                "https:\\/\\/example.com\\/a",
                "http://[2001:db8::1]:80/x",
                "s3://bucket/key",
            ],
            *[
                "https://müller.example/straße",
                "file:///etc/passwd",
                "http://a.example/?b=[1]&c={2}",
            ],
        ]
    ),
)

PLANTED = {"emails": emails, "phones": phones, "cards": cards(), "ibans": ibans(), "ips": ips, "urls": links}


def other_digit(text, place):
    """*text* with another digit in one place: no checksum is right any more."""
    place = [index for index, char in enumerate(text) if char.isdecimal()][place]
    digit = "1" if int(text[place]) != 1 else "2"
    return f"{text[:place]}{digit}{text[place + 1 :]}"


LOOK_ALIKES = [
    *["order 4711-0815-12", "invoice 2025-001234", "ticket #1234567890", "ID 0012345678"],
    *["order 1234567890123456", "35c18b55-dede-11f0-92bc-000e1eed4a72"],
    *["12345678-1234-4123-8123-123456789012", "9780306406157", "2025-11-12 18:20:38"],
    *["2025-11-12T18:20:38.123456+01:00", "12.11.2025, 18:20", "18:20:38", "1763000000000"],
    *["+1 000 000 users", "+5%", "1+1=2", "+12345", "+0123456789", "00 12", "2000 000 000"],
    *["1,234,567,890.12", "0.4111111111111111", "3.14159265358979", "v1.2.3.4", "version 10.0.19041.1"],
    *["1.2.3", "1.2.3.4.5", "256.1.1.1", "12:34:56:78", "00:1a:2b:3c:4d:5e", "std::vector", "items[::2]"],
    *["text[::-1]", "a::b::c", "1:2:3:4:5:6:7", "@mention", "a @ b", "meet@noon", "lodash@4.17.21"],
    *["@types/node@20.1.0", "user@", "5 @ 3.50", "a@b..c", "and/or", "http:", "://", "example.com"],
    *["www.", "C:\\Users", "DE89 is a prefix", "AB12 3456 7890", "tel: none"],
    *["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "#ff00aa", "§ 1.2.3 Abs. 4"],
    *["4 x 100 m"],
]
"""What only looks like something personal."""

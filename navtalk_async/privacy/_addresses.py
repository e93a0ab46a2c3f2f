"""Email addresses, addresses of the internet protocol, and URLs."""

import re
from ipaddress import ip_address
from string import ascii_letters, digits
from unicodedata import normalize

from navtalk_async.privacy._finding import Finding

# Of email addresses (RFC 5321, 6531). Scripts without spaces between words are a local part only where
# they stand before the @ themselves: "请联系bob@example.com" is an address of bob.
PUNCTUATION = (
    r"\u0080-\u00bf\u060c\u061b\u061f\u0964\u2000-\u206f\u2e00-\u2e7f\u3000-\u3020\ufe30-\ufe6f\uff00-\uffef"
)
WIDE = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2070-\u2dff\u2e80-\u2fff\u3021-\ud7ff\ue000-\ufaff"
    r"\U0001f000-\U0003ffff"
)
LOCAL = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~.-"
NARROW = rf"(?:[{LOCAL}]|[^\x00-\x7f{PUNCTUATION}{WIDE}])"
LOCAL_REVERSED = re.compile(rf"{NARROW}{{1,256}}|(?:{NARROW}|[{WIDE}]){{1,256}}")
QUOTED = re.compile(r'"(?:[^"\\]|\\.){0,128}"\Z', re.DOTALL)
LONGEST_LOCAL = 260

SYMBOLS = r"\u2190-\u2bff\ufe0f\U0001f000-\U0001fbff"
OTHER = rf"[^\x00-\x7f{PUNCTUATION}]"
LABEL = rf"(?:[A-Za-z0-9_-]|{OTHER}){{1,63}}+"
TOP = rf"(?:[A-Za-z](?:[A-Za-z0-9-]{{0,61}}[A-Za-z0-9])?(?![A-Za-z0-9])|(?:(?![{SYMBOLS}]){OTHER}){{1,63}})"
DOMAIN = re.compile(
    rf"(?:{LABEL}\.){{1,126}}{TOP}|(?i:localhost)(?!\.?[\w-])|\[(?:(?i:IPv6:)[0-9A-Fa-f:.]{{2,45}}|[0-9.]{{7,15}})\]"
)
AT = re.compile("@|%40|&#(?:64|[xX]40);|&commat;")
# What stands before a local part in URLs and in assignments; and around an address, in quotes or Markdown.
LEAD = re.compile(r"\A\.*(?:\S*//\S*/)?(?:\S*[?&](?=[\w-]+=))?(?:[\w-]*(?:mail|user|login|from|to|cc)\w*=)?")
WRAPPERS = dict(zip("'`{|*_", "'`}|*_", strict=True))


def emails(text: str) -> list[Finding]:
    if "@" not in text and "%40" not in text and "&" not in text:
        return []
    findings, end = list[Finding](), 0
    for at in AT.finditer(text):
        domain = DOMAIN.match(text, at.end())
        if domain is None or at.start() < end:
            continue
        before = text[max(end, at.start() - LONGEST_LOCAL) : at.start()]
        if before.endswith('"'):
            local = QUOTED.search(before)
            name = local[0] if local else ""
        else:
            reverse = LOCAL_REVERSED.match(before[::-1])
            name = reverse[0][::-1] if reverse else ""
            name = LEAD.sub("", name, count=1) or name
            while len(name) > 1 and name[0] in WRAPPERS and text.startswith(WRAPPERS[name[0]], domain.end()):
                name = name[1:]
        if name:
            end = domain.end()
            findings.append(Finding(at.start() - len(name), end, "email", f"{name}@{domain[0]}"))
    return findings


def normal_email(email: str) -> str:
    local, _, domain = normalize("NFKC", email).casefold().rpartition("@")
    try:
        return f"{local}@{domain.encode('idna').decode()}"
    except UnicodeError:
        return f"{local}@{domain}"


# Of URLs (RFC 3986, 3987), also with the slashes of JSON in a text, `https:\/\/`.
URL = re.compile(r":\\?/\\?/|[Ww]{3}\.(?=[^\W_])")
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}\Z")
BEHIND = re.compile(
    r"""(?:[^\s<>"`\\\u00ab\u00bb\u2018-\u201f\u2026\u3000-\u3020\uff01\uff08\uff09\uff0c\uff1b\uff1f]|\\/)++"""
)


BEFORE_NO_WWW = frozenset(f"@.-{ascii_letters}{digits}")

TRAILING = re.compile(rf"[.,;:!?'*_~|{SYMBOLS}]")


def urls(text: str) -> list[Finding]:
    if "://" not in text and ":\\/" not in text and "www." not in text.lower():
        return []
    findings, end = list[Finding](), 0
    for found in URL.finditer(text):
        start = found.start()
        if start < end:
            continue
        if text[start] == ":":
            scheme = SCHEME.search(text, max(end, start - 32), start)
            if scheme is None:
                continue
            start = scheme.start()
        elif text[max(0, start - 1) : start] in BEFORE_NO_WWW:
            continue
        if (rest := BEHIND.match(text, found.end())) and (url := _trimmed(text[start : rest.end()])):
            end = start + len(url)
            if end > found.end():
                findings.append(Finding(start, end, "url", url))
    return findings


def normal_url(url: str) -> str:
    head, slashes, tail = url.replace("\\/", "/").rpartition("://")
    host, slash, path = tail.partition("/")
    return f"{head.lower()}{slashes}{host.lower()}{slash}{path}"


def _trimmed(url: str) -> str:
    """*url* without the punctuation of its sentence; brackets that it opens are its own."""
    end = len(url)
    opened = {close: url.count(open_) - url.count(close) for open_, close in ("()", "[]", "{}")}
    while end and (TRAILING.match(url, end - 1) or opened.get(url[end - 1], 0) < 0):
        end -= 1
        if url[end] in opened:
            opened[url[end]] += 1
    return url[:end]


# Of the internet protocol (RFC 4291, 5952).
IPV4 = re.compile(
    r"[0-9](?<![A-Za-z0-9].)(?<![0-9]\..)[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?![A-Za-z0-9])(?!\.[0-9])"
)
THREE_DOTS = re.compile(r"\.[0-9]{1,3}\.[0-9]{1,3}\.")
VERSION = re.compile(r"(?:\bv|\bver|version|release|build)[-.:= ]{0,2}\Z", re.IGNORECASE)
TWO_COLONS = re.compile("::|:[0-9A-Fa-f]{1,4}:")
GROUP = re.compile(r"[0-9A-Fa-f]{0,4}\Z")
IPV6 = re.compile(
    r"[0-9A-Fa-f:]{2,45}+(?:\.[0-9]{1,3}){0,3}(?:%(?:25)?[A-Za-z0-9_.-]{0,31}[A-Za-z0-9])?(?![A-Za-z0-9])"
)
SLICE = re.compile(r"[\w)\]]\[::|::-\Z")  # As in Python: items[::2], items[::-1].


def ips(text: str) -> list[Finding]:
    """A number of a version, behind a word for it, only looks like one."""
    findings: list[Finding] = []
    if text.count(".") > 2 and THREE_DOTS.search(text):
        findings += [
            Finding(*found.span(), "ip", ip)
            for found in IPV4.finditer(text)
            if not VERSION.search(text, max(0, found.start() - 12), found.start()) and (ip := _ip(found[0]))
        ]
    if text.count(":") < 2:
        return findings
    end = 0
    for colons in TWO_COLONS.finditer(text):
        if colons.start() >= end and (
            group := GROUP.search(text, max(0, colons.start() - 4), colons.start())
        ):
            whole = IPV6.match(text, group.start())
            end = whole.end() if whole else colons.end()
            findings += _ipv6(text, group.start(), end)
    return findings


def _ipv6(text: str, start: int, end: int) -> list[Finding]:
    """The address between, perhaps behind a word and a colon, or before a colon."""
    if text[end - 1] == ":" != text[end - 2]:
        end -= 1
    is_glued = text[max(0, start - 1) : start].isalnum() and text[start - 1].isascii()
    for begin in (start, text.find(":", start, end) + 1):
        is_possible = "::" in text[begin:end] or text.count(":", begin, end) > 5
        if is_possible and not (is_glued and begin == start) and (ip := _ip(text[begin:end])):
            is_slice = SLICE.search(text, max(0, begin - 2), end + 1)
            return [] if is_slice else [Finding(begin, end, "ip", ip)]
    return []


def _ip(text: str) -> str | None:
    address, percent, zone = text.partition("%")
    if len(address) > 45:
        return None
    try:
        found = ip_address(address)
    except ValueError:
        return None
    mapped = getattr(found, "ipv4_mapped", None)
    return f"{mapped or found}{percent}{zone.removeprefix('25')}"

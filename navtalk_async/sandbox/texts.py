"""What people say in the sandbox: texts in many scripts, with everything that breaks a careless reader."""

from random import Random

# ruff: noqa: RUF001 - letters that look like other letters are what this file is for

# Each of these has broken somebody's exporter: joined emoji, right-to-left marks, combining accents, line
# separators that JavaScript and str.splitlines() believe in, NUL (PostgreSQL refuses it), markup, formulas.
FRAGMENTS = (
    "Hello, how can I help you today?",
    "Thank You For Watching",
    "I would like to change the address of my order, please.",
    "你好，我想预约明天下午三点。",
    "ありがとうございます。もう一度お願いします。",
    "안녕하세요, 도와주셔서 감사합니다.",
    "مرحبا، كيف حالك اليوم؟ \u200fRTL\u200e",
    "שלום, מה שלומך? (12:30)",
    "नमस्ते, क्या आप मेरी मदद कर सकते हैं?",
    "สวัสดีครับ ขอบคุณมาก",
    "👩‍👩‍👧‍👦 the family, 🏳️‍🌈 the flag, 👍🏽 the thumb, 🇺🇳",
    "Zalgo: e\u0301\u0323 a\u0308\u0304 n\u0303 and cafe\u0301, not café",
    "\"quoted\", 'single', `ticks`, \\back\\slashes\\, C:\\new\\table",
    "two\nlines\r\nand\ta tab",
    "separators:\u2028line\u2029paragraph\u0085next",
    "a NUL \x00 in the middle, and \x1b[31mred\x1b[0m",
    "</script><script>alert('1')</script> & <b>bold</b> <!-- -->",
    "=SUM(1+1)*cmd|' /C calc'!A0, ;semicolon, comma,",
    "\ufeffa byte order mark, a \u00a0hard space, zero\u200bwidth",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𒀀 beyond the first plane",
    "{\"code\": 200, \"data\": null} %s %(name)s ${HOME} {{x}} '; DROP TABLE messages;--",
    "- a list\n- of **markdown**\n\n```python\nprint('hi')\n```\n| a | b |\n|---|---|",
    " leading and trailing ",
    "https://example.com/?q=a%20b&c=d#e?f",
)  # fmt: skip

LONG = 1_000_000


def text(rng: Random) -> str:
    """One message's text: seldom empty, mostly one or two fragments, sometimes a long answer."""
    dice = rng.random()
    if dice < 0.02:
        return ""
    count = 1 if dice < 0.6 else 2 if dice < 0.95 else 12
    return " ".join(FRAGMENTS[int(rng.random() * len(FRAGMENTS))] for _ in range(count))


def long_text(rng: Random) -> str:
    """A text of about a megabyte, in whatever script the dice say."""
    fragment = FRAGMENTS[int(rng.random() * len(FRAGMENTS))] + " "
    return fragment * (LONG // len(fragment.encode()) + 1)

"""What is personal in texts is gone, and what only looks like it stays."""

import json
import pickle
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from personal import (
    AROUND,
    LOOK_ALIKES,
    NUMBERS,
    PLANTED,
    WORDS,
    cards,
    ibans,
    in_script,
    other_digit,
    spellings_of,
)
from profiles import examples

from navtalk_async import Privacy
from navtalk_async.privacy import KINDS

KEY = b"0123456789abcdef"
ALL = Privacy(redact=KINDS)


def alone(kind, key=None):
    return Privacy(redact=kind, pseudonymize=key)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_planted_of_a_kind_is_gone_in_every_spelling_and_nothing_else(kind):
    @settings(max_examples=examples(150))
    @given(PLANTED[kind], AROUND)
    def law(planted, around):
        before, after = around
        assume(planted[0] != before[-1:])  # It would belong to neither.
        privacy = alone(kind)
        assert privacy.text(f"{before}{planted}{after}") == f"{before}[{WORDS[kind]}]{after}"
        assert privacy.counts == {WORDS[kind]: 1}
        assert planted not in ALL.text(f"{before}{planted}{after}")

    law()


@settings(max_examples=examples(60))
@given(st.lists(st.one_of(st.text(max_size=30), *PLANTED.values()), max_size=8))
def test_what_was_redacted_holds_nothing_more_to_redact(parts):
    for privacy in (ALL, Privacy(redact=KINDS, pseudonymize=KEY)):
        once = privacy.text(", ".join(parts))
        assert privacy.text(once) == once


def test_a_number_of_every_country_is_gone_in_every_spelling():
    for number in NUMBERS:
        for planted in spellings_of(number):
            for before in ("call ", "phone: "):
                assert alone("phones").text(f"{before}{planted}, ok") == f"{before}[phone], ok", planted


@settings(max_examples=examples(100))
@given(st.one_of(cards(), ibans()), st.integers(3, 11), AROUND)
def test_a_number_with_a_wrong_checksum_stays(number, place, around):
    assume(sum(map(str.isdecimal, number)) not in (18, 19))  # They may be 16 and what is on its back.
    text = other_digit(number, place).join(around)
    assert Privacy(redact=["cards", "ibans"]).text(text) == text


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_what_only_looks_like_it_stays(text):
    for each in (text, f"({text})", f"see {text}, ok", f'{{"a":"{text}"}}', f"\\n{text}\\n"):
        assert ALL.text(each) == each


@pytest.mark.parametrize(
    "text",
    [
        "Call (201) 555-0123 or 201-555-0199 or 1-201-555-0123 x12.",
        "tel:+1-201-555-0123;ext=5;phone-context=example.com",
        "Tel.: 030 1234567, Fax: (030) 12 34 56 78, mobile 0171/1234567, телефон: 812 123-45-67",
        '我的电话: 13912345678, phone number: 0301234567, {"phone_number": "030 123456"}',
        "(0607) 123 4567 and 0049 30 901820, 0049 30 901820",
    ],
)
def test_telephones_in_other_notations_are_gone(text):
    assert not any(char.isdigit() for char in alone("phones").text(text).replace("tel:", ""))


def test_several_numbers_in_a_row_are_told_apart():
    text = "+49 30 901820 5 people, +33 1 23 45 67 89 12 people, 4111 1111 1111 1111 12/27"
    assert ALL.text(text) == "[phone] 5 people, [phone] 12 people, [card] 12/27"
    assert (
        ALL.text("a@b.example,c@d.example;4111111111111111,5500000000000004")
        == "[email],[email];[card],[card]"
    )


@pytest.mark.parametrize(
    "spellings",
    [
        ["Bob@Example.com", "mailto:bob@example.com", "?email=bob%40example.com&a=1", "'bob@example.com'"],
        ["a@bücher.example", "a@xn--bcher-kva.example", "A@BÜCHER.example"],
        ["+49 (0) 30 / 901820", "0049 30 901820", "+4930901820", "tel:+49-30-901820"],
        ["4111 1111 1111 1111", "4111-1111-1111-1111", "4111111111111111".translate(in_script(0xFF10))],
        ["DE89 3704 0044 0532 0130 00", "de89370400440532013000", "DE89-3704-0044-0532-0130-00"],
        ["::ffff:192.0.2.1", "192.0.2.1"],
        ["2001:db8::1", "2001:0DB8:0:0:0:0:0:1"],
        ["HTTPS://Example.com/A", "https://example.com/A", "https:\\/\\/example.com\\/A"],
    ],
)
def test_a_pseudonym_is_the_same_for_every_spelling_and_run_and_another_with_another_key(spellings):
    def tags(key):
        texts = [Privacy(redact=KINDS, pseudonymize=key).text(each) for each in spellings]
        return {each[each.index("[") : each.index("]") + 1] for each in texts}

    assert len(tags(KEY)) == 1
    assert tags(KEY) != tags(KEY[::-1])


SESSION = {
    "project": "bob@example.com",
    "id": "s-1",
    "status": "completed",
    "start_time": "2025-11-12T18:20:38Z",
    "title": "Mail of bob@example.com",
    "user_id": "bob@example.com",
    "video_url": "https://example.com/v?sig=1",
    "extra": {
        "agentId": "a-7",
        "config": {"bob@example.com": [1, {"card": 4111111111111111}], "ann@example.com": "tel:+4930901820"},
        "mobilePhones": ["0171 1234567", 1711234567],
        "user": {"id": 42, "name": "Bob", "score": 1.5, "active": True},
    },
}
MESSAGE = {"id": "m-1", "position": 0, "role": "user", "content": "I am bob@example.com"}


def test_every_column_and_all_of_extra_is_redacted_but_not_the_ids_and_times():
    found = Privacy(redact=KINDS).transcript(SESSION | {"messages": [MESSAGE]})
    assert found == SESSION | {
        "title": "Mail of [email]",
        "user_id": "[email]",
        "video_url": "[url]",
        "extra": {
            "agentId": "a-7",
            "config": {"[email]": [1, {"card": "[card]"}], "[email] 2": "tel:[phone]"},
            "mobilePhones": ["[phone]", "[phone]"],
            "user": {"id": 42, "name": "Bob", "score": 1.5, "active": True},
        },
        "messages": [MESSAGE | {"content": "I am [email]"}],
    }


def test_what_is_nested_too_deeply_is_not_handed_on():
    value = "bob@example.com"
    for _ in range(5000):
        value = {"a": [value]}
    found = alone("emails").message({"id": "m-1", "extra": value, "content": "bob@example.com"})
    assert found["content"] == "[email]"
    while isinstance(found["extra"], dict):
        [found["extra"]] = found["extra"]["a"]
    assert found["extra"] == "[nested too deeply]"


def test_with_a_key_users_and_agents_have_pseudonyms_and_the_same_user_the_same():
    privacy = Privacy(pseudonymize=KEY)
    found = privacy.session(SESSION)
    people = [found["user_id"], found["extra"]["agentId"], *list(found["extra"]["user"].values())[:2]]
    assert all(each.startswith("[user:") for each in people)
    assert len(set(people)) == 4
    assert found["title"] == SESSION["title"]
    assert privacy.counts == {"user": 4}
    assert Privacy(pseudonymize=KEY).session({"user_id": "bob@example.com"}) == {"user_id": people[0]}


@pytest.mark.parametrize(
    "name", ["userId", "user_ids", "agent-name", "createdBy", "author", "lastName", "team"]
)
def test_a_field_of_extra_that_names_someone_has_a_pseudonym_and_others_none(name):
    extra = {name: "bob", "a": {name: ["bob"]}, "status": "bob", "names": "bob", "userAgent": "bob"}
    found = Privacy(pseudonymize=KEY).message({"extra": extra})["extra"]
    tag = found[name]
    assert tag.startswith("[user:")
    assert found == {name: tag, "a": {name: [tag]}, "status": "bob", "names": "bob", "userAgent": "bob"}


def test_the_description_tells_keys_apart_and_shows_none():
    described = [Privacy(redact="emails", pseudonymize=key).description() for key in (KEY, KEY[::-1], None)]
    assert len({each["pseudonymize"] for each in described}) == 3
    assert KEY.decode() not in json.dumps(described)
    assert described[2] == {"redact": ["emails"], "pseudonymize": None, "recognizer": False}


def names_of_bob(text):
    return [(place, place + 3, "name") for place in range(len(text)) if text.startswith("Bob", place)]


def test_a_recognizer_adds_its_own_finds_and_all_of_it_can_be_pickled():
    privacy = pickle.loads(pickle.dumps(Privacy(redact="emails", recognizer=names_of_bob)))
    assert privacy.text("Bob: Bob@example.com") == "[name]: [name]"
    assert privacy.counts == {"name": 2}
    with pytest.raises(ValueError, match="'name' from 5 to 99 of 3"):
        Privacy(recognizer=lambda _: [(5, 99, "name")]).text("Bob")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"redact": "email"}, "choose from emails, phones, cards, ibans, ips, urls"),
        ({"redact": ["emails", "names"]}, "'names' is not a kind"),
        ({"pseudonymize": b"short"}, "less than 16 bytes"),
    ],
)
def test_an_unknown_kind_and_a_short_key_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Privacy(**arguments)


HOSTILE = [
    "DE89 3704 0044 0532 0130 00 ",
    "4111 1111 1111 1111 ",
    *["1", "1 ", "4111 ", "DE89 ", "DE893704", "@", "a@", "a@a.", '"@a.b'],
    *["://", "a://", "http://(((", "+1", "+12345678 ", "0049 ", "1.2.3.4 ", "::", "a:"],
    *["fe80::1%", "tel 1 ", "(01) 2 ", "(201) 555-", "www.", "é@a.b ", "?&", "a=b?", "\\n"],
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_texts_take_linear_time(unit):
    def seconds(size):
        text = (unit * size)[:size]
        began = time.process_time()
        ALL.text(text)
        ALL.text(f"{text}@x.example")
        return time.process_time() - began

    assert seconds(100_000) < 20 * seconds(20_000) + 0.2

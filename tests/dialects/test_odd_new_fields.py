"""A field that the reference does not have costs no row, whatever it holds, and wherever the row stands."""

import json
from itertools import product

import msgspec
import pytest

from navtalk_async.dialects import dialect_of
from navtalk_async.models import Response

ODD = [b"1e999", b"-1e999", b"7" * 5000, b"36893488147419103232", b"1e5", b'"caf\xe9"', b"NaN", b"[1e999]"]
FIELDS = b'"createdAt":"2025-11-12 18:20:38","content":"x","role":"user"'


@pytest.mark.parametrize(("one", "other"), list(product(ODD, ODD)))
def test_an_odd_value_in_a_new_field_costs_no_row_wherever_it_stands(one, other):
    navtalk = dialect_of("navtalk")
    for values in ((b"1", one, b"2", other), (one, b"1", other, b"2")):
        rows = [b'{"id":"m%d",%s,"new":%s}' % (at, FIELDS, value) for at, value in enumerate(values)]
        body = b'{"code":200,"data":{"data":[%s],"nextCursor":null}}' % b",".join(rows)
        response = Response(status=200, headers={}, body=body)
        page = navtalk.read_messages(navtalk.list_messages("s"), response)
        assert [each.id for each in page.items] == ["m0", "m1", "m2", "m3"]
        for each in page.items:
            assert "new" in each.extra
            json.loads(each.raw, parse_constant=pytest.fail)
            msgspec.json.decode(each.raw)

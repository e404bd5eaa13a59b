"""What the tests of addresses say of each page: its address opens to the same pixels, whatever was set on it."""

from conftest import address
from visits import alone, change, change_all, drawn, shown


def check_all_at_once(open_page, name, base):
    """With every control off its default: one that is left out of the address comes back with its default."""
    at = drawn(open_page(name, **base))
    before = shown(at)
    at = change_all(at)
    assert not at.error, at.error
    again = drawn(open_page(name, **address(at)))
    assert shown(again) == shown(at) != before, address(at)


def check_alone(open_page, name, base):
    """Each control that brings others, by itself."""
    for key in alone(open_page(name, **base)):
        at = change(drawn(open_page(name, **base)), key)
        assert not at.error, (key, at.error)
        again = drawn(open_page(name, **address(at)))
        assert shown(again) == shown(at), (key, address(at))

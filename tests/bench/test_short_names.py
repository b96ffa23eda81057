import pytest

from swapline_bench.short_names import (
    name_members,
    said_by_callers,
    shorten,
    shorten_members,
    shorten_parameters,
)


def test_private_constants_are_renamed_everywhere_and_no_line_moves() -> None:
    source = '"""é"""\n_TABLE = {1: 2}\n\n\ndef f(x: int) -> int:\n    return "é" and _TABLE[x] + len(_TABLE)\n'
    assert shorten(source) == source.replace("_TABLE", "_0")


def test_annotated_constant_and_unpacked_ones_are_renamed() -> None:
    assert shorten("_B: int = 1\n_A, _C = _B, 2\n") == "_1: int = 1\n_0, _2 = _1, 2\n"


@pytest.mark.parametrize(
    "source",
    [
        "_X = const(1)\n",  # folded: it takes no name
        "X = 1\n__all__ = ()\n",
        "class A:\n    def _f(self):\n        return 1\n\n\ndef f(a):\n    return a._f()\n",
        "class _A:\n    pass\n",
        "_x = 1\ndef f(_x):\n    return _x\n",
        "_x = 1\ndef f():\n    global _x\n    _x = 2\n",
        "class A:\n    _X = 1\n",
        "from a import _x\n_x = 2\n",
    ],
)
def test_what_something_else_could_mean_keeps_its_name(source: str) -> None:
    assert shorten(source) == source


def test_attribute_of_the_same_name_keeps_it() -> None:
    assert shorten("_x = 1\n\n\ndef f(a):\n    return a._x + _x\n") == "_0 = 1\n\n\ndef f(a):\n    return a._x + _0\n"


def test_private_functions_are_renamed_unless_a_method_is_called_the_same() -> None:
    source = "async def _f():\n    return _g()\n\n\ndef _g():\n    return 1\n"
    assert shorten(source) == source.replace("_f", "_0").replace("_g", "_1")
    shared = "def _f():\n    return 1\n\n\nclass A:\n    def _f(self):\n        return _f()\n"
    assert shorten(shared) == shared


def test_private_members_have_one_short_name_in_all_files() -> None:
    base = (
        "class A:\n    def __init__(self):\n        self._seen = 1\n\n    def _look(self):\n        return self._seen\n"
    )
    driver = "import _thread\n\n\nclass B(A):\n    def run(self):\n        return self._look() + self._seen  # _look\n"
    names = name_members([base, driver])
    assert names == {"_look": "_a", "_seen": "_b"}
    assert shorten_members(base, names) == base.replace("_seen", "_b").replace("_look", "_a")
    assert shorten_members(driver, names) == driver.replace("self._look", "self._a").replace("_seen", "_b")


A = "class A:\n    def __init__(self):\n        self._first = self._second = 1\n"


def test_members_of_classes_that_have_nothing_to_do_with_each_other_share_names() -> None:
    other = "class B:\n    def _look(self):\n        self._third = 1\n"
    names = name_members([A, other])
    assert names["_first"] != names["_second"]
    assert {names["_look"], names["_third"]} == {names["_first"], names["_second"]}


@pytest.mark.parametrize(
    "other",
    [
        "class B(A):\n    def _third(self):\n        return 1\n",
        "class B(swapline.A):\n    def _third(self):\n        return 1\n",
        "class B(C):\n    def _third(self):\n        return 1\n\n\nclass C(A):\n    pass\n",
        "class B:\n    def f(self, a):\n        a._third = 1\n",
        "def f(a):\n    a._third = 1\n",
        "class B:\n    def _third(self):\n        return 1\n\n\ndef f(x):\n    return getattr(x, '_third')\n",
        "class B:\n    def _third(self):\n        return 1\n\n\ndef f(_third):\n    return _third\n",
    ],
)
def test_a_member_that_one_object_may_have_beside_another_has_a_name_of_its_own(other: str) -> None:
    names = name_members([A, other])
    assert len({names["_first"], names["_second"], names["_third"]}) == 3


def test_parameters_of_private_functions_are_numbered_unless_a_caller_says_them() -> None:
    source = (
        "class A:\n"
        "    def _look(self, rule, at=0):\n"
        "        return [rule + x for x in (at, self.rule)]\n"
        "\n"
        "    def look(self, rule):\n"
        "        return self._look(rule, at=1)\n"
    )
    assert said_by_callers([source]) == {"at"}
    assert shorten_parameters(source, {"at"}) == source.replace("_look(self, rule,", "_look(self, _p0,").replace(
        "_p0,", "_p1,"
    ).replace("[rule + x", "[_p1 + x")


@pytest.mark.parametrize(
    "source",
    [
        "def _f(x):\n    def g():\n        nonlocal x\n        x = 2\n    return g\n",
        "def _f(x):\n    import x\n",
        "def _f(x):\n    return f'{x}'\n",
        "def _f(*, x):\n    return x\n",
        "def __getattr__(x):\n    return x\n",
    ],
)
def test_parameters_that_a_statement_mentions_keep_their_names(source: str) -> None:
    assert shorten_parameters(source, set()) == source

import pytest

from swapline_bench.leave_out import leave_out

TABLE = (
    "from collections import namedtuple\n\nPair = namedtuple('Pair', ('a', 'b'))\n\n\n"
    "def make():\n    return Pair(1, 2)\n"
)


def test_what_nobody_asks_for_goes_and_then_what_only_that_one_used() -> None:
    assert leave_out({"wire.table": TABLE}) == {"wire.table": "\n\n\n\n\n\n\n"}


@pytest.mark.parametrize(
    "user",
    [
        "from wire.table import make\n\nmake()\n",
        "from wire import table\n\ntable.make()\n",
        "__import__('wire.table').make()\n",
        "call_once('table', 'make')\n",
        "def f():\n    make = call_once('table', 'make')\n    return make\n\n\nf()\n",
        "import wire.table\n\nwire.table.make()\n",
    ],
)
def test_what_another_file_asks_for_stays(user: str) -> None:
    assert leave_out({"wire.table": TABLE, "node.user": user}) == {"wire.table": TABLE, "node.user": user}


def test_what_a_file_that_stays_as_it_is_asks_for_stays() -> None:
    assert leave_out({"wire.table": TABLE}, ["from wire.table import make\n"]) == {"wire.table": TABLE}


@pytest.mark.parametrize(
    "user",
    [
        "class A:\n    def f(self):\n        return self.make\n",
        "def f(make):\n    return make\n\n\nf(1)\n",
        "MAKE = 'make'\nprint(MAKE)\n",
    ],
)
def test_a_member_a_variable_or_a_constant_of_the_same_name_asks_for_nothing(user: str) -> None:
    assert leave_out({"wire.table": TABLE, "node.user": user})["wire.table"].strip() == ""


def test_a_function_that_only_calls_itself_goes() -> None:
    assert leave_out({"wire.table": "def f(x):\n    return f(x - 1)\n"}) == {"wire.table": "\n\n"}


@pytest.mark.parametrize(
    "source",
    [
        "X = connect()\n",
        "class A:\n    pass\n",
        "@register\ndef f():\n    return 1\n",
        "def __getattr__(name):\n    return 1\n",
        "X, Y = 1, 2\n",
        "X = [f() for f in (connect,)]\n",
    ],
)
def test_what_may_have_an_effect_stays(source: str) -> None:
    assert leave_out({"wire.table": source}) == {"wire.table": source}


def test_drivers_keep_their_functions_and_lose_imports_that_they_do_not_use() -> None:
    source = "from wire.table import (\n    make,\n    take,\n)\n\n\ndef u16(data):\n    return make(data)\n"
    table = "def make(x):\n    return x\n"
    left = leave_out({"swapline_node.drivers.bms": source, "wire.table": table})
    assert left["swapline_node.drivers.bms"] == source.replace("(\n    make,\n    take,\n)", "make\n\n\n")
    assert left["wire.table"] == table


def test_an_import_that_only_annotations_read_goes() -> None:
    source = (
        "from wire.table import Pair\n\n\nclass A:\n    x: Pair = 1\n\n"
        "    def f(self, pair: Pair) -> Pair:\n        return pair\n"
    )
    assert leave_out({"node.user": source})["node.user"] == source.replace("from wire.table import Pair", "")

"""Bench files: what is allowed, what is said of a mistake, whether what they name is there, and who uses it."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from swapline_bench.desk import bench_file, resource_check
from swapline_bench.desk.bench_file import BENCHES, VIRTUAL, BenchFile, BenchFileError, DeskError, Table, load
from swapline_bench.desk.driver import features_of, find_lacks
from swapline_bench.desk.feature import COUNTED, DEVICES, FEATURES
from swapline_bench.desk.lock import LockError, Locks, runtime_folder
from swapline_bench.desk.resource_check import check_resources
from swapline_bench.services import free_port

PAGE = Path(__file__).parents[2] / "docs" / "hil.md"
START = '[bench]\nname = "desk"\n[node]\nboard = "linux"\ndriver = "process"\n'
BOARD = """
[bench]
name = "desk"
[node]
board = "esp32"
driver = "board"
[node.console]
port = "{console}"
[node.flash]
kind = "mpremote"
[node.power]
kind = "command"
on = ["true"]
off = ["true"]
[[lines]]
name = "bay1"
adapter = "{adapter}"
node_port = 1
tx_pin = 17
rx_pin = 16
devices = [{{ simulator = "bms", bay = 1 }}]
[broker]
host = "0.0.0.0"
advertise = "10.0.0.2"
[network]
ssid = "desk"
"""
DESK = BOARD.format(console="/dev/ttyUSB0", adapter="/dev/ttyUSB1")
SECOND = '[[lines]]\nname = "b"\nadapter = "/dev/ttyUSB2"\nnode_port = {port}\ntx_pin = {tx}\nrx_pin = 26\n'


def parse(text: str) -> BenchFile:
    return bench_file.parse(tomllib.loads(text), path=Path("desk.toml"), text=text)


# ---- the file


@pytest.mark.parametrize("path", sorted(BENCHES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_bench_files_that_come_along_are_right(path: Path) -> None:
    file = load(path)
    assert file.path == path
    assert file.bench.name == path.stem
    assert file.bench.description


def test_the_virtual_bench_lacks_nothing() -> None:
    file = load(VIRTUAL)
    assert features_of(file) == set(FEATURES)
    assert find_lacks(file, [*FEATURES, *DEVICES, "lines:9", "bays:5"]) == []
    assert not file.bench.exclusive
    assert list(file.ports()) == []


def test_a_file_without_kinds_is_a_process_in_a_folder() -> None:
    file = parse(START)
    assert (file.node.flash.kind, file.node.power.kind, file.broker.kind) == ("folder", "process", "mosquitto")
    assert parse(START + "[node.flash]\n").node.flash.kind == "folder"


MISTAKES = [
    ("", r"bench: is missing: add the table \[bench\]\."),
    (START.replace("name", "title"), r"bench\.name: is missing: add it to bench\."),
    (DESK.replace('kind = "command"\n', ""), r"node\.power\.kind: is missing; it is one of 'process', 'relay', 'comm"),
    (START + "[lines]\nname = 'a'\n", r"lines: is a list, of one or more: \[\[lines\]\]\."),
    (
        DESK.replace('"bms"', '"jbd"'),
        r"\.simulator: 'jbd' is not allowed; which BMS it is, a test says: simulator = 'bms'",
    ),
    (DESK.replace('"bms"', '"gnss"'), r"'gnss' is not allowed; the receiver's line is named by \[gnss\] line"),
    (
        DESK.replace("/dev/ttyUSB1", "/dev/\\u0000"),
        r"lines\[1\]\.adapter: '/dev/\\x00' is not allowed; string should match",
    ),
    (DESK.replace("node_port = 1", 'node_port = "1"'), r"line 'bay1' needs node_port, the number of the board's UART"),
    (
        DESK.replace("rx_pin = 16\n", ""),
        r"line 'bay1' needs tx_pin and rx_pin: those that an ESP32's UART has by itself",
    ),
    (DESK + SECOND.format(port=1, tx=25), r"UART 1 is named twice: for line bay1 and for line b"),
    (DESK + SECOND.format(port=2, tx=16), r"pin 16 is named twice: for rx_pin of line bay1 and for tx_pin of line b"),
    (
        DESK.replace('host = "0.0.0.0"\nadvertise = "10.0.0.2"\n', ""),
        r"a board cannot reach the broker at 127\.0\.0\.1: \[broker\] host = '0\.0\.0\.0', and advertise = ",
    ),
    (DESK.replace('ssid = "desk"\n', ""), r"the board's radio needs the name of its network: \[network\] ssid"),
    (START + "[netwrk]\n", r"netwrk: unknown key; did you mean 'network'\? \(known here: bench, node, lines"),
    (START + "[broker]\nhosts = 'x'\n", r"broker\.hosts: unknown key; did you mean 'host'\?"),
    (
        START + "[node.power]\nkind = 'reley'\n",
        r"node\.power\.kind: 'reley' is not allowed; allowed: 'process', 'relay'",
    ),
    (
        START + "[node.power]\nkind = 'process'\nchannel = 1\n",
        r"node\.power\.channel: unknown key \(known here: kind\)",
    ),
    (START + "[[lines]]\nname = 'a'\nadaptor = 'pty'\n", r"lines\[1\]\.adaptor: unknown key; did you mean 'adapter'\?"),
    (
        START + "[[lines]]\nname = 'a'\ndevices = [{ simulator = 'bms', bai = 1 }]\n",
        r"lines\[1\]\.devices\[1\]\.bai: unknown key; did you mean 'bay'\?",
    ),
    (START + "[[lines]]\nname = 'a'\ndevices = [{ simulator = 'bms' }]\n", r"needs the bay or slot that it sits in"),
    (START + "[[lines]]\nname = 'a'\nadapter = '/dev/ttyUSB0'\n", r"line 'a' needs node_port: the node's own port"),
    (START + "[[lines]]\nname = 'a'\n[[lines]]\nname = 'a'\n", r"two lines have the name 'a'"),
    (START + "[[lines]]\nname = 'a b'\n", r"'a b' is no name for a line"),
    (START + "[gnss]\nline = 'g'\n", r"\[gnss\] sits on line 'g', which no \[\[lines\]\] has"),
    (START + "[gnss]\nfeed = 'replay'\n", r"gnss: feed 'replay' needs file = 'NMEA log'"),
    (START + "[broker]\nkind = 'external'\n", r"broker: an external broker needs its port: port = 1883"),
    (START + "[broker]\nhost = '0.0.0.0'\n", r"broker: host 0\.0\.0\.0 needs advertise: the address at which the node"),
    (
        START + "[broker]\nport = 1883\n",
        r"broker: port is an external broker's: one that the bench starts takes a free",
    ),
    (START + "[broker]\nport = 70000\n", r"broker\.port: 70000 is not allowed; input should be less than or equal"),
    (START.replace("linux", "rp2"), r"node: driver 'process' runs board 'linux', and not 'rp2': use driver 'board'"),
    (START.replace("process", "board"), r"node: driver 'board' needs \[node\.console\]"),
    (START + "[node.power]\nkind = 'none'\n", r"node: driver 'process' has no console, its flash is"),
    (
        BOARD.format(console="/dev/ttyUSB0", adapter="/dev/ttyUSB1").replace("mpremote", "folder"),
        r"node: driver 'board' needs \[node\.flash\] of kind 'mpremote' or 'esptool'",
    ),
    (
        BOARD.format(console="/dev/ttyUSB0", adapter="/dev/ttyUSB0"),
        r"/dev/ttyUSB0 is named twice: for line bay1 and for the node's console",
    ),
    (START.replace('"desk"', "3"), r"bench\.name: 3 is not allowed; input should be a valid string"),
    ("bench = 1\n", r"bench: 1 is not allowed; it is a table: \[bench\]\."),
]


@pytest.mark.parametrize(("text", "sentence"), MISTAKES, ids=lambda value: value[-40:])
def test_a_mistake_is_named_with_key_value_and_what_is_allowed(text: str, sentence: str) -> None:
    with pytest.raises(BenchFileError) as caught:
        parse(text)
    assert re.search(sentence, str(caught.value)), str(caught.value)
    assert all(line.startswith("desk.toml: ") and line.endswith(".") for line in str(caught.value).splitlines())


def test_a_file_that_is_not_there_or_no_toml_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BenchFileError, match=r"no such bench file; those that come along are .*virtual"):
        load(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("[bench\n")
    with pytest.raises(BenchFileError, match=r"broken\.toml: is not TOML: .*line 1"):
        load(tmp_path / "broken.toml")


def tables(model: type[BaseModel] = BenchFile, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield table and key of everything that a bench file may say."""
    for key, field in model.model_fields.items():
        inner = [one for one in flatten(field.annotation) if isinstance(one, type) and issubclass(one, Table)]
        for table in inner:
            yield from tables(table, f"{place}.{key}" if place else key)
        if not inner:
            yield place, key


def flatten(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in get_args(annotation):
        yield from flatten(inner)


def test_the_page_describes_every_key_and_nothing_else() -> None:
    rows = re.findall(r"^\| `\[+([a-z_.]+)\]+` \| `([a-z_]+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(set(rows)) == sorted(set(tables()))


def test_the_page_describes_every_feature() -> None:
    page = PAGE.read_text(encoding="utf-8")
    words = {**FEATURES, **DEVICES, **{f"{word}:N": sentence for word, sentence in COUNTED.items()}}
    missing = [word for word, sentence in words.items() if f"| `{word}` | {sentence} |" not in page]
    assert missing == []


# ---- what a bench lacks


def test_what_a_bench_lacks_is_said_in_a_sentence() -> None:
    file = parse(
        START + "[[lines]]\nname = 'a'\ndevices = [{ simulator = 'bms', bay = 1 }]\n[network]\ncontrol = 'none'\n"
    )
    assert find_lacks(file, ["power", "bays:1", "lines:1"]) == []
    assert find_lacks(file, ["bays:2", "vcu", "network"]) == [
        "bench desk has 1, not 2, lines for battery modules",
        "bench desk lacks 'vcu': a line for the vehicle controller",
        "bench desk lacks 'network': the link between node and broker goes through the bench, which can impair it",
    ]


@pytest.mark.parametrize(("word", "near"), [("brownout", "brown_out"), ("line:2", "lines:N"), ("lines:two", "lines:N")])
def test_a_need_that_no_bench_can_have_names_the_nearest(word: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean '{near}'"):
        find_lacks(load(VIRTUAL), [word])


# ---- whether it is there


def test_everything_for_the_virtual_bench_is_installed(require: Any) -> None:
    require("mosquitto")
    assert check_resources(load(VIRTUAL)) == []


def test_a_port_that_is_not_there_or_no_port_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("no port")
    text = BOARD.format(console=tmp_path / "ttyUSB7", adapter=tmp_path / "notes")
    file = parse(text.replace('kind = "command"\non = ["true"]\noff = ["true"]', 'kind = "none"'))
    sentences = [sentence for sentence in check_resources(file) if str(tmp_path) in sentence]
    assert len(sentences) == 2
    assert re.search(r"notes \(line bay1\) is no serial port: correct its name \(those that are: .*\)\.", sentences[0])
    assert re.search(r"ttyUSB7 \(the node's console\) is not there: plug it in, or correct its name", sentences[1])


def test_a_console_that_comes_with_the_boards_power_is_waited_for_and_not_missed(tmp_path: Path) -> None:
    """The last run has switched the board off, and a chip's own USB with it."""
    assert not check_resources(parse(BOARD.format(console=tmp_path / "ttyACM0", adapter="/dev/null")))


def test_a_port_that_a_process_has_open_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has a terminal open is found in /proc; a test has no /dev/ttyUSB0, so both are made up."""
    (tmp_path / "4711" / "fd").mkdir(parents=True)
    (tmp_path / "4711" / "comm").write_text("screen\n")
    (tmp_path / "4711" / "fd" / "3").symlink_to("/dev/tty")
    monkeypatch.setattr(resource_check, "PROCESSES", tmp_path)
    file = parse(BOARD.format(console="/dev/tty", adapter="/dev/null"))
    assert (
        "/dev/tty (the node's console) is in use by screen (process 4711): end that, or name another port."
        in check_resources(file)
    )


def test_a_broker_cannot_be_started_where_this_computer_is_not() -> None:
    (sentence,) = check_resources(parse(START + "[broker]\nhost = '192.0.2.1'\n"))
    assert sentence.startswith("broker.host: 192.0.2.1 is no address of this computer (")


def test_a_program_a_file_a_variable_and_a_broker_that_are_missing_are_named(tmp_path: Path) -> None:
    board, _, _ = BOARD.partition("[broker]")
    text = board.format(console="/dev/tty", adapter="/dev/null").replace('on = ["true"]', 'on = ["switch-it-on", "1"]')
    text += f"""
[gnss]
line = "bay1"
feed = "replay"
file = "{tmp_path}/trip.nmea"
[broker]
kind = "external"
host = "127.0.0.1"
port = {free_port()}
[network]
ssid = "desk"
password_env = "NOBODY_SETS_THIS"
"""
    sentences = "\n".join(check_resources(parse(text)))
    assert "node.power.on: the program 'switch-it-on' is not there: install it, or correct its name." in sentences
    assert f"gnss.file: {tmp_path}/trip.nmea is not there" in sentences
    assert "network.password_env: the environment has no NOBODY_SETS_THIS: set it to" in sentences
    assert re.search(r"The broker at 127\.0\.0\.1:\d+ does not answer \(.*refused\): start it", sentences)


# ---- who uses it

HOLD = """
import sys
from pathlib import Path
from swapline_bench.desk.lock import Locks
Locks(["Bench desk", "Port /dev/ttyUSB0"], folder=Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_says_who_holds_it_and_goes_with_its_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            locks = Locks(["Bench other", "Port /dev/ttyUSB0"], folder=tmp_path)
            said = rf"Port /dev/ttyUSB0 is in use by process {holder.pid} \(-c .*\) since 20\d\d-.*: wait until"
            with pytest.raises(LockError, match=said):
                locks.acquire()
            with Locks(["Bench other"], folder=tmp_path):
                pass  # what could be had was let go of again
        finally:
            holder.kill()
    with Locks(["Bench desk", "Port /dev/ttyUSB0"], folder=tmp_path):
        pass


def test_two_users_in_one_process_are_told_apart(tmp_path: Path) -> None:
    with (
        Locks(["Bench desk"], folder=tmp_path),
        pytest.raises(LockError, match=f"in use by process {os.getpid()} "),
        Locks(["Bench desk"], folder=tmp_path),
    ):
        pass


def test_the_runtime_folder_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime_folder() == tmp_path / "swapline"
    assert runtime_folder().stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "swapline").write_text("in the way")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "file"))
    with pytest.raises(DeskError, match=r"cannot be used: .*; set XDG_RUNTIME_DIR to a folder of yours"):
        runtime_folder()

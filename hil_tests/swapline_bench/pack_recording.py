"""Recorded battery packs as the other side of a serial line, and what their publishers decoded."""

import json
import re
import struct
from pathlib import Path

from swapline_bench.capture import read_capture_file
from swapline_bench.faces import jk
from swapline_bench.faces.modbus import crc16
from swapline_bench.replay import Exchange, read_frames

# What esphome-jbd-bms calls a sensor in its tests -> our signal.
PUBLISHED_NAMES = {
    "total": "voltage_v",
    "current": "current_a",
    "cap_rem": "capacity_remaining_ah",
    "nominal": "capacity_full_ah",
    "cycles": "cycles",
    "soc": "soc_pct",
    "strings": "cell_count",
    "err_bitmask": "protections",
    "op_bitmask": "switches",
    "bal_bitmask": "balancing",
    "min_v": "cell_voltage_min_v",
    "max_v": "cell_voltage_max_v",
    "avg": "cell_voltage_mean_v",
    "min_cell": "cell_voltage_min_cell",
    "max_cell": "cell_voltage_max_cell",
    **{f"t[{i}]": f"temperature_{i + 1}_c" for i in range(3)},
    **{f"cells[{i}]": f"cell_{i + 1:02d}_v" for i in range(4)},
}
JBD_BARCODE = bytes.fromhex("dda5a200ff5e77")
JBD_BASIC = bytes.fromhex("dda50300fffd77")
JBD_CELLS = bytes.fromhex("dda50400fffc77")
JBD_NAME = bytes.fromhex("dda50500fffb77")
JBD_REFUSED = bytes.fromhex("dda28000ff8077")  # status 80: this board has no such register
JBD_CODE = "BD-SP04S034-L4S-200A-B-U"  # the last 24 characters of the recorded hardware name


def jbd_frame(register: int, payload: bytes) -> bytes:
    """Return a JBD answer around a payload that was published without its frame."""
    body = bytes((0, len(payload))) + payload
    return bytes((0xDD, register)) + body + struct.pack(">H", -sum(body) & 0xFFFF) + b"\x77"


def modbus_frame(body: bytes) -> bytes:
    return body + crc16(body)


JK_ALL = bytes.fromhex("4e5700130000000006030000000000006800000129")
JK_14S_CODE = "BT3072020120000200521001"  # the name that its publishers entered

SEPLOS_TRANSCRIPT = "transcript_seplos_v3_sg16s200a.json"
SEPLOS_CODE = "SP57B-A2506120022"  # the serial number among the recorded names
SEPLOS_NAMES = modbus_frame(bytes.fromhex("010417000033"))
SEPLOS_PACK = modbus_frame(bytes.fromhex("010410000011"))
SEPLOS_CELLS = modbus_frame(bytes.fromhex("01041100001a"))


class PackRecordings:
    """Captures and published vectors of battery packs."""

    def __init__(self, recordings: Path) -> None:
        self.captures = recordings / "bms" / "captures"
        self.vectors = recordings / "bms" / "vectors"
        frames = json.loads((self.vectors / "esphome-jbd-bms__jbd_bms__frames.json").read_text())["frames"]
        self.jbd = {frame["name"]: bytes.fromhex(frame["hex"]) for frame in frames}
        self.jbd_notes = {frame["name"]: " ".join(frame["notes"]) for frame in frames}

    def jbd_published(self, frame: str) -> dict[str, float]:
        """Return what the publishers' tests expect of a frame, by our signals."""
        name = "esphome-jbd-bms__jbd_bms__jbd_bms_test.expected.json"
        values = {}
        for test in json.loads((self.vectors / name).read_text())["tests"]:
            for expected in test["expect"] if test["frame"] == [frame] else ():
                match = re.match(r"([\w\[\]]+)\.state, (-?[\d.]+)f", expected)
                if match and match[1] in PUBLISHED_NAMES:
                    values[PUBLISHED_NAMES[match[1]]] = float(match[2])
        return values

    def jbd_capture(self) -> list[Exchange]:
        return read_capture_file(self.captures / "JBD-SP04S034-L4S-200A-B-U.txt").exchanges

    def jbd_variants(self) -> list[Exchange]:
        """Return every published basic info, in turn, from a board that has no barcode."""
        names = [name for name in self.jbd if name.startswith("BASICINFO")]
        return [
            Exchange(JBD_BARCODE, JBD_REFUSED),
            Exchange(JBD_NAME, jbd_frame(5, self.jbd["HWVER_FRAME"])),
            Exchange(JBD_CELLS, jbd_frame(4, self.jbd["CELLINFO_FRAME"])),
            *(Exchange(JBD_BASIC, jbd_frame(3, self.jbd[name])) for name in names),
        ]

    def jbd_spliced(self) -> list[Exchange]:
        """Return damaged basic infos: with what a real serial bridge spliced into JK frames; cut; flipped."""
        junk = json.loads((self.vectors / "batmon-ha__jk_issue377.json").read_text())["data"]
        splices = [bytes.fromhex(junk[name].removeprefix("hex:")) for name in ("JUNK_AFTER_02", "JUNK_AFTER_03")]
        good = jbd_frame(3, self.jbd["BASICINFO_FRAME"])
        damaged = [splice + good for splice in splices]
        damaged += [good[:cut] + splice + good[cut:] for splice in splices for cut in (3, 9, 20, len(good) - 2)]
        damaged += [good[:cut] for cut in (1, 4, 12, len(good) - 1)]
        damaged += [good[:8] + bytes((good[8] ^ 1 << bit,)) + good[9:] for bit in range(8)]
        return [
            *(exchange for exchange in self.jbd_variants() if exchange.request != JBD_BASIC),
            *(Exchange(JBD_BASIC, answer) for answer in damaged),
        ]

    def jk(self) -> list[Exchange]:
        """Return three boards' answers, in turn: a capture of 13 cells, and the two published frames of 14."""
        return [*self._jk_capture("JK-B2A24S20P-10.07-UART-TTL.txt"), *self.jk_published()]

    def jk_published(self) -> list[Exchange]:
        """Return the frames whose values were published; the first was published without its head and tail."""
        (frame,) = json.loads((self.vectors / "esphome-jk-bms__jk_bms__common.json").read_text())["frames"]
        return [
            Exchange(JK_ALL, jk.frame(jk.READ_ALL, bytes.fromhex(frame["hex"]))),
            Exchange(JK_ALL, self._hex("batmon-ha__jk_uart_fixtures.json", "MPP_SOLAR_14S_RESPONSE")),
        ]

    def jk_damaged(self) -> list[Exchange]:
        """Return a capture with a typing error, frames of another protocol, and frames that a real bridge spliced."""
        names = json.loads((self.vectors / "batmon-ha__jk_issue377.json").read_text())["data"]
        strange = [self._hex("batmon-ha__jk_issue377.json", name) for name in names]
        good = self._jk_capture("JK-B2A24S20P-10.07-UART-TTL.txt")[0].response
        assert good is not None
        splices = [splice for splice in strange if len(splice) < len(strange[0])]
        spliced = [good[:cut] + splice + good[cut:] for splice in splices for cut in (0, 3, 40, 200, len(good) - 2)]
        typed = self._jk_capture("JK-BD6A17S6P-7.1.0H-UART-TTL.txt")
        return [*typed, *(Exchange(JK_ALL, answer) for answer in [*strange, *spliced])]

    def _jk_capture(self, name: str) -> list[Exchange]:
        return read_capture_file(self.captures / name).exchanges

    def _hex(self, file: str, name: str) -> bytes:
        return bytes.fromhex(json.loads((self.vectors / file).read_text())["data"][name].removeprefix("hex:"))

    def seplos(self) -> list[Exchange]:
        """Return the recorded pack as the node asks it: everything at its address 1.

        Recorded at address 1 are pack and cells. The names were asked at address 0, which means the only pack there;
        they are put to address 1 here. The refusal of the state block was recorded for another count of coils.
        """
        transcript = read_capture_file(self.vectors / SEPLOS_TRANSCRIPT).exchanges
        recorded = {e.request: e.response for e in transcript}
        names = recorded[modbus_frame(bytes.fromhex("000417000033"))]
        refusal = recorded[modbus_frame(bytes.fromhex("010112000900"))]
        assert names is not None
        return [
            *(e for e in transcript if e.request[0] == 1),
            Exchange(SEPLOS_NAMES, modbus_frame(b"\x01" + names[1:-2])),
            Exchange(modbus_frame(bytes.fromhex("010112000090")), refusal),
        ]

    def seplos_damaged(self) -> list[Exchange]:
        """Return a pack whose every answer but its names is one of the recorded lines that fail their CRC."""
        lines = read_frames(self.captures / "SP05B2312190075-all-frames.txt")
        damaged = list(dict.fromkeys(line for line in lines if crc16(line[:-2]) != line[-2:]))
        assert len(damaged) == 47
        intact = [exchange for exchange in self.seplos() if exchange.request == SEPLOS_NAMES]
        return [*intact, *(Exchange(request, line) for line in damaged for request in (SEPLOS_PACK, SEPLOS_CELLS))]

    def two_packs(self) -> list[Exchange]:
        """Return the recorded bus. Pack 2 kept silent 7 times of 8: it does so here whatever it is asked."""
        recorded = read_capture_file(self.vectors / "transcript_jbd_up16s_two_packs.json").exchanges
        first = [exchange for exchange in recorded if exchange.request[0] == 1]
        second = [exchange for exchange in recorded if exchange.request[0] == 2]
        answered = next(exchange for exchange in second if exchange.response is not None)
        silences = [e if e.response is not None else Exchange(answered.request, None) for e in second]
        return [*first, *silences, *(e for e in second if e.request != answered.request)]

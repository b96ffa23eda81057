"""What a virtual board does when power comes: mount its flash as an ESP32 does, then run boot.py and main.py from it.

Runs in MicroPython. Arguments: the board's folder on the host, and "boot" (the firmware) or "run" (its idle
interpreter, which sees that folder as /host). The folder holds the flash's content, the registers through which the
bench and the board's hardware speak (`REGISTERS`), and `snippet.py`, which runs before the firmware, or alone.
"""

# ruff: noqa: BLE001, PLC0415, PTH123, S102, SIM115, T201, UP031 (a script for MicroPython; the firmware is on the flash)

import gc
import os
import socket
import struct
import sys
import time

import vfs
from micropython import const

_AF_UNIX = const(1)
_BLOCK_BYTES = const(4096)
_CHUNK_BYTES = const(512)
_EIO = const(-5)  # an answer, not an exception: one that passes through LittleFS would leave its files half closed
_PAGE_BYTES = const(256)
_EXIT_RESET = const(75)  # the firmware asked for a reset: the bench starts the board again
_EXIT_IDLE = const(76)  # main.py ended by an error: a board sits at its prompt until its watchdog bites

# power-good input, reset cause, every write fails, reserved, erase of a block in us, program of a page in us,
# the operation to be cut (0: none), operations until now
REGISTERS = "<BBBBIIII"
_OPERATIONS_OFFSET = const(16)
_REGISTERS_BYTES = const(20)


class Registers:
    """A file of a few bytes that both sides have open."""

    def __init__(self, path):
        self._file = open(path, "r+b")
        self._bytes = bytearray(_REGISTERS_BYTES)

    def read(self):
        self._file.seek(0)
        self._file.readinto(self._bytes)
        return struct.unpack(REGISTERS, self._bytes)

    def write_operations(self, count):
        self._file.seek(_OPERATIONS_OFFSET)
        self._file.write(struct.pack("<I", count))


class Flash:
    """A NOR flash in a file: erased to ones, in blocks. What is written is there even if the process is killed.

    Without `registers` nothing is slow, counted or cut: then it is the bench that writes.
    """

    def __init__(self, path, registers):
        self._file = open(path, "r+b")
        self._registers = registers
        self._blocks = self._file.seek(0, 2) // _BLOCK_BYTES
        self._ones = b"\xff" * _CHUNK_BYTES

    def readblocks(self, block, buffer, offset=0):
        self._file.seek(block * _BLOCK_BYTES + offset)
        self._file.readinto(buffer)
        return 0

    def writeblocks(self, block, buffer, offset=0):
        return self._operate(block * _BLOCK_BYTES + offset, buffer, len(buffer))

    def ioctl(self, operation, block):
        if operation == 4:
            return self._blocks
        if operation == 5:
            return _BLOCK_BYTES
        if operation == 6:
            return self._operate(block * _BLOCK_BYTES, None, _BLOCK_BYTES)
        return 0

    def _operate(self, place, data, length):
        """Program `data`, or erase a block where it is None."""
        if self._registers is None:
            self._write(place, data, length)
            return 0
        _, _, is_failing, _, erase_us, program_us, cut_at, operations = self._registers.read()
        operations += 1
        self._registers.write_operations(operations)
        if is_failing:
            return _EIO
        is_cut = operations == cut_at
        self._write(place, data, length // 2 if is_cut else length)
        if is_cut:
            print("board: power is cut in flash operation %d" % operations)
            while True:
                time.sleep(1)  # the bench has read it and kills this process
        if data is None:
            time.sleep_us(erase_us)
        else:
            time.sleep_us((length + _PAGE_BYTES - 1) // _PAGE_BYTES * program_us)
        return 0

    def _write(self, place, data, length):
        self._file.seek(place)
        if data is not None:
            self._file.write(memoryview(data)[:length])
            return
        for _ in range(length // _CHUNK_BYTES):
            self._file.write(self._ones)


class Watchdog:
    """The chip's watchdog: the bench, which hears of it as systemd would and resets the board."""

    def __init__(self, timeout_ms):
        self._socket = socket.socket(_AF_UNIX, socket.SOCK_DGRAM)
        name = "\0" + os.getenv("NOTIFY_SOCKET")[1:]
        self._socket.connect(struct.pack("<H", _AF_UNIX) + name.encode())
        self._socket.send(b"READY=1\nWATCHDOG_USEC=%d000" % timeout_ms)

    def feed(self):
        self._socket.send(b"WATCHDOG=1")


def mount(flash):
    """Make the flash the root; a blank one is formatted, as a board's interpreter does at its first start."""
    try:
        file_system = vfs.VfsLfs2(flash)
    except OSError:
        vfs.VfsLfs2.mkfs(flash)
        file_system = vfs.VfsLfs2(flash)
    vfs.umount("/")
    vfs.mount(file_system, "/")
    os.chdir("/")
    sys.path[:] = ["", ".frozen", "/lib"]


def fit_board(flash, registers):
    """Have the unmodified firmware find this board where it looks for the computer that it runs on."""
    from swapline_node.boards import linux
    from swapline_node.boards.cause import note_cause, take_cause
    from swapline_node.boards.flash import mount_journal

    host = vfs.VfsPosix("/")  # ttys are the host's; every other file of the firmware is on the flash

    class HostOs:
        stat = host.stat
        getenv = os.getenv

    linux.open = host.open
    linux.os = HostOs

    class Board(linux.Board):
        name = "virtual"

        def __init__(self):
            super().__init__()
            mount_journal(None, flash)

        def power_good(self, pin):
            return None if pin is None else bool(registers.read()[0])

        def reset_cause(self):
            return take_cause(registers.read()[1])

        def watchdog(self, timeout_ms):
            return Watchdog(timeout_ms) if timeout_ms else linux.NoWatchdog()

        def unique_id(self):
            return "virtual"

        def restart(self, cause):
            note_cause(cause)
            sys.exit(_EXIT_RESET)

    linux.Board = Board


def run_firmware(flash, registers, snippet):
    fit_board(flash, registers)
    import boot  # noqa: F401

    if snippet:
        exec(snippet, globals())
    gc.collect()
    from main import main

    main()


def start():
    folder, action = sys.argv[1:3]
    with open(folder + "/snippet.py") as file:
        snippet = file.read()
    if action == "run":
        host = vfs.VfsPosix(folder)
        mount(Flash(folder + "/flash", None))
        vfs.mount(host, "/host")
        exec(snippet, globals())
        return
    registers = Registers(folder + "/registers")
    flash = Flash(folder + "/flash", registers)
    mount(flash)
    try:
        run_firmware(flash, registers, snippet)
    except Exception as error:
        sys.print_exception(error)
        sys.exit(_EXIT_IDLE)


start()

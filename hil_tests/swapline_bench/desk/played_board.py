"""The inside of a played board; runs in MicroPython's unix port, started by `raw_repl_player`.

It is what a board's interpreter does with its serial console: run `boot.py` and `main.py`, then read commands, for
people (friendly REPL) and for programs (raw REPL, raw paste). It executes for real, in a file system whose root is the
board's folder. MicroPython's own `shared/runtime/pyexec.c` is what it follows, to the byte where `mpremote` looks.

Arguments: the platform, the file descriptor on which it tells the player what it does, how it was started (`hard`,
`raw` or `friendly`, the latter two being soft resets), the reset cause, the serial ports as JSON.
"""

import json
import os
import sys
import time

import vfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CTRL_A, CTRL_B, CTRL_C, CTRL_D, CTRL_E = b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"
WINDOW_BYTES = 128  # of raw paste: half of a board's input buffer
BANNER = 'MicroPython v1.29.0-preview; played board (%s)\r\nType "help()" for more information.\r\n'
RAW_BANNER = b"raw REPL; CTRL-B to exit\r\n"


class Repl:
    """The console: what stands in `modes` runs until it says which one is next."""

    def __init__(self, platform: str, control: "Any") -> None:
        self.platform = platform
        self.control = control
        self._in: "Any" = sys.stdin.buffer
        self._out: "Any" = sys.stdout.buffer
        self.names: "dict[str, Any]" = {"__name__": "__main__"}

    def tell(self, word: str) -> None:
        """Tell the player what the board does."""
        self.control.write(word.encode() + b"\n")

    def write(self, data: bytes) -> None:
        """Write to the console."""
        self._out.write(data)

    def read(self) -> bytes:
        """Return the next character that was typed."""
        while True:
            try:
                byte: bytes = self._in.read(1)
            except KeyboardInterrupt:
                continue  # for the program that has just ended
            if not byte:
                self.end("gone")
            return byte

    def end(self, how: str) -> None:
        """Ask the player for a reset and wait for it."""
        self.tell(how)
        while True:
            time.sleep(1)

    def execute(self, code: str, *, kind: str = "exec") -> "Any":
        """Run code as the board does, and return the exception that ended it, if any."""
        self.tell("busy")
        try:
            exec(compile(code, "<stdin>", kind), self.names)  # noqa: S102 - that is what a REPL is for
        except SystemExit:
            self.soft_reset("friendly")
        except BaseException as error:  # noqa: BLE001 - Ctrl-C included: it ends the program, not the board
            return error
        finally:
            self.tell("idle")
        return None

    def run_file(self, name: str) -> None:
        """Run a file of the board if it is there."""
        try:
            with open(name) as file:
                code = file.read()
        except OSError:
            return
        self.show(self.execute(code))

    def show(self, error: "Any") -> None:
        """Print an exception as a board does."""
        if error is not None:
            printer: "Any" = sys
            printer.print_exception(error)

    def soft_reset(self, mode: str) -> None:
        """Start the interpreter anew; the hardware goes on."""
        self.write(b"\r\nMPY: soft reboot\r\n")
        self.end("soft_" + mode)

    def friendly(self) -> None:
        """Read commands of people until Ctrl-A."""
        self.write((BANNER % self.platform).encode())
        line = b""
        self.write(b">>> ")
        while True:
            byte = self.read()
            if byte == CTRL_A:
                self.write(b"\r\n")
                return
            if byte == CTRL_D and not line:
                self.soft_reset("friendly")
            if byte in (b"\r", CTRL_B, CTRL_C):
                self.write(b"\r\n")
                if byte == b"\r" and line.strip():
                    self.show(self.execute(line.decode(), kind="single"))
                elif byte == CTRL_B:
                    self.write((BANNER % self.platform).encode())
                line = b""
                self.write(b">>> ")
            elif byte >= b" ":
                line += byte
                self.write(byte)

    def raw(self) -> None:
        """Read commands of programs until Ctrl-B."""
        self.write(RAW_BANNER + b">")
        line = bytearray()
        while True:
            byte = self.read()
            if byte == CTRL_A and line[:1] == CTRL_E and len(line) == 2:
                self.enter_raw_paste(line[1:])
                line = bytearray()
            elif byte == CTRL_A:
                self.write(RAW_BANNER + b">")
                line = bytearray()
            elif byte == CTRL_B:
                self.write(b"\r\n")
                return
            elif byte == CTRL_C:
                line = bytearray()
            elif byte == CTRL_D:
                self.write(b"OK")
                if not line:
                    self.soft_reset("raw")
                self.answer(line)
                line = bytearray()
            else:
                line += byte

    def enter_raw_paste(self, command: "bytearray") -> None:
        """Take code in portions that the sender may not exceed, which is quick and cannot overrun the board."""
        if command != b"A":
            self.write(b"R\x00>")
            return
        self.write(b"R\x01" + bytes((WINDOW_BYTES, 0)) + b"\x01")
        code = bytearray()
        room = WINDOW_BYTES
        while (byte := self.read()) != CTRL_D:
            if byte == CTRL_C:
                self.write(CTRL_D + b">")
                return
            code += byte
            room -= 1
            if room == 0:
                self.write(b"\x01")
                room = WINDOW_BYTES
        self.write(CTRL_D)
        self.answer(code)

    def answer(self, code: "bytearray") -> None:
        """Run a program's command: its output, its error and the prompt, each behind a Ctrl-D."""
        error = self.execute(code.decode())
        self.write(CTRL_D)
        if error is not None:
            self.show(error)
        self.write(CTRL_D + b">")


def open_folder() -> None:
    """Make the current directory the root of the file system, with the machine's devices in it and nothing else."""
    folder: str = os.getcwd()
    file_systems: "Any" = vfs
    file_systems.umount("/")
    file_systems.mount(file_systems.VfsPosix(folder), "/")
    file_systems.mount(file_systems.VfsPosix("/dev"), "/dev")
    os.chdir("/")
    sys.path[:] = ["", ".frozen", "/lib"]


def main() -> None:
    """Be a board."""
    platform, descriptor, start, cause, ports = sys.argv[1:6]
    opened: "Any" = open(int(descriptor), "wb")  # noqa: SIM115 - open as long as the board runs
    repl = Repl(platform, opened)
    if platform != "linux":
        import played_hardware  # type: ignore[import-not-found]  # noqa: PLC0415 - a file beside this one

        played_hardware.install(repl, platform, int(cause), json.loads(ports))
    open_folder()
    repl.run_file("boot.py")
    if start != "raw":
        repl.run_file("main.py")
        repl.friendly()
    while True:
        repl.raw()
        repl.friendly()


if __name__ == "__main__":
    main()

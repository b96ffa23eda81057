"""A flash for LittleFS under MicroPython: blocks of 4 KiB in RAM, each operation recorded, power cut at any of them."""

BLOCK_BYTES = 4096
ERASED = bytes([0xFF]) * BLOCK_BYTES


EIO = -5  # an answer, not an exception: one that passes through LittleFS would leave its files half closed


class Flash:
    """A flash whose content begins as `blocks`, which it never changes: it writes into copies.

    With `cut_at` the n-th erase or program operation is left half done, and every later one fails.
    """

    def __init__(self, blocks, cut_at=0):
        self.blocks = list(blocks)
        self.cut_at = cut_at
        self.operations = 0
        self.reads = 0
        self.log = None  # a list: (block, offset, bytes), offset -1 for an erase
        self._own = set()

    def change(self, block, offset, data):
        """Write into the flash, on a copy of the block if it is not this flash's own yet."""
        if block not in self._own:
            self.blocks[block] = bytearray(self.blocks[block])
            self._own.add(block)
        self.blocks[block][offset : offset + len(data)] = data

    def _operate(self, block, offset, data):
        self.operations += 1
        if 0 < self.cut_at < self.operations:
            return EIO
        if self.log is not None:
            self.log.append((block, offset, bytes(data)))
        if self.operations == self.cut_at:
            self.change(block, offset, memoryview(data)[: len(data) // 2])
            return EIO
        self.change(block, offset, data)
        return 0

    def readblocks(self, block, buffer, offset=0):
        self.reads += 1
        buffer[:] = memoryview(self.blocks[block])[offset : offset + len(buffer)]
        return 0

    def writeblocks(self, block, buffer, offset=0):
        return self._operate(block, offset, buffer)

    def ioctl(self, operation, block):
        if operation == 4:
            return len(self.blocks)
        if operation == 5:
            return BLOCK_BYTES
        if operation == 6:
            return self._operate(block, 0, ERASED)
        return 0

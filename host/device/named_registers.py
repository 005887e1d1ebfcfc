"""A board's registers by name, from the overlay's one register table."""

from __future__ import annotations

from bacmac.host.device.board import Board
from bacmac.host.manifest.registers import RegisterMap


class NamedRegisters:
    """Reads and writes go to the board; names that the table lacks are a KeyError."""

    def __init__(self, board: Board, table: RegisterMap) -> None:
        self._board, self._table = board, table

    def read(self, name: str) -> int:
        """A 32-bit register."""
        return self._board.read_register(self._table.register(name).offset)

    def write(self, name: str, value: int) -> None:
        """A 32-bit register."""
        self._board.write_register(self._table.register(name).offset, value)

    def flag(self, register: str, field: str) -> bool:
        """Whether a field is not 0."""
        return self.value(register, field) != 0

    def value(self, register: str, field: str) -> int:
        """A field of a register."""
        place = self._table.register(register).field(field)
        return (self.read(register) & place.mask) >> place.lsb

    def command(self, *fields: str) -> None:
        """Write these bits of CTRL at one time."""
        register = self._table.register("CTRL")
        self.write("CTRL", sum(register.field(name).mask for name in fields))

    def counter(self, name: str) -> int:
        """A 64-bit counter; reading its low word latches the high one."""
        low = self.read(f"{name}_LO")
        return self.read(f"{name}_HI") << 32 | low

    def fields(self, name: str, value: int) -> dict[str, int]:
        """The fields of a value that was read of a register."""
        fields = self._table.register(name).fields
        return {field.name: (value & field.mask) >> field.lsb for field in fields}

    def describe(self, name: str) -> str:
        """A register's value and its fields, in one line."""
        value = self.read(name)
        fields = (f"{field}={part}" for field, part in self.fields(name, value).items())
        return " ".join((f"{name} {value:#010x}", *fields))

"""The register map: one table from which the host, the emulated slave and the .hwh are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Access = Literal["read-only", "read-write", "write-only"]


@dataclass(frozen=True)
class Field:
    """Bits lsb .. lsb + width - 1 of a register."""

    name: str
    lsb: int
    width: int
    description: str

    @property
    def mask(self) -> int:
        """The field's bits in place."""
        return ((1 << self.width) - 1) << self.lsb


@dataclass(frozen=True)
class Register:
    """One 32-bit word at a byte offset."""

    name: str
    offset: int
    access: Access
    reset: int
    description: str
    fields: tuple[Field, ...] = ()

    def field(self, name: str) -> Field:
        """The field of that name; KeyError when there is none."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(f"register {self.name} has no field {name}")


@dataclass(frozen=True)
class RegisterMap:
    """All registers of the accelerator's AXI4-Lite slave."""

    name: str
    version: int
    size_bytes: int
    registers: tuple[Register, ...]

    def register(self, name: str) -> Register:
        """The register of that name; KeyError when there is none."""
        for register in self.registers:
            if register.name == name:
                return register
        raise KeyError(f"register map {self.name} has no register {name}")

"""What this processor can do, as the kernel names it: the same answer in every process, busy or idle.

Which routine multiplies is chosen by it. A measurement at the start would follow this machine more closely, but another
program that runs at that moment turns it around: a node stays at half its speed until it is started again, and a training
that is resumed no longer ends in the same numbers.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Processor:
    """One CPU.

    Attributes:
        vendor: As in /proc/cpuinfo ("GenuineIntel", "AuthenticAMD"); empty where there is none to read (ARM, macOS).
        flags: Names of its instruction sets, in lower case ("avx2", "avx512_bf16"); empty in the same places.
    """

    vendor: str = ""
    flags: frozenset[str] = frozenset()

    @property
    def multiplies_bfloat16(self) -> bool:
        """It has instructions for products of bfloat16; elsewhere they are emulated, and slower than float32."""
        return bool(self.flags & {"avx512_bf16", "amx_bf16"})

    @property
    def slow_with_mkl(self) -> bool:
        """MKL runs 256-bit kernels on it though it computes with 512 bits: MKL does so on all that are not Intel's."""
        return "avx512f" in self.flags and self.vendor != "GenuineIntel"


def read_processor(text: str) -> Processor:
    """The first processor of a text in the form of /proc/cpuinfo on x86; what is missing stays empty."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return Processor(fields.get("vendor_id", ""), frozenset(fields.get("flags", "").lower().split()))


@functools.lru_cache(maxsize=1)
def this_processor() -> Processor:
    """The processor of this machine; one without abilities where the kernel does not list them."""
    try:
        return read_processor(_CPUINFO.read_text(errors="replace"))
    except OSError:
        return Processor()

"""Machine profiles, which convert work in reference seconds into puzzle evaluations, and their files.

A reference second is one second of one core of the profile's machine. Clients import this module; it needs no numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeltoll.errors import CalibrationError
from modeltoll.json_document import StrictObject, decode_document, encode_document, read_bytes, write_bytes
from modeltoll.records import MachineProfile

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["DEFAULT_PROFILE", "PROFILES", "decode_profile", "encode_profile", "load_profile", "save_profile"]

FORMAT = "modeltoll-machine"
VERSION = 1
_REMEDY = "make a new one with 'modeltoll bench-puzzle --save'"
_SLOWEST, _FASTEST = 1e-3, 1e12  # plausible evaluations per second of a core
_MAXIMUM_KIB = 2**32 - 1  # of argon2id

DEFAULT_PROFILE = MachineProfile(
    name="xeon-2core-2026-11",
    source=(
        "virtual machine, 2 cores of an Intel Xeon (family 6, model 207), CPython 3.11.7, argon2-cffi 25.1.0; "
        "2026-11-23; the solver's own rates, as 'modeltoll bench-puzzle --save' takes them: the fastest of many runs "
        "of 0.06 to 0.12 s (4 evaluations and more), since other work shared the machine; 64 and 128 KiB: the rate at "
        "256 KiB times the median ratio to it in 75 alternating runs, 2.63 and 1.77 (2026-11-29)"
    ),
    sha256=2_012_000.0,
    squarings=89_845.0,
    argon2id={
        64: 15560.0,
        128: 10470.0,
        256: 5917.1,
        512: 3163.7,
        1024: 1625.1,
        2048: 785.6,
        4096: 382.5,
        8192: 192.3,
        16384: 98.43,
        32768: 43.83,
        65536: 19.23,
        131072: 9.156,
        262144: 3.976,
    },
)
PROFILES = {profile.name: profile for profile in (DEFAULT_PROFILE,)}


def encode_profile(profile: MachineProfile) -> bytes:
    """The profile as ASCII JSON, one member per line."""
    return encode_document(
        {
            "format": FORMAT,
            "version": VERSION,
            "name": profile.name,
            "source": profile.source,
            "sha256": profile.sha256,
            "squarings": profile.squarings,
            "argon2id": {str(kib): rate for kib, rate in sorted(profile.argon2id.items())},
        }
    )


def _rate(members: StrictObject, name: str, *, optional: bool = False) -> float:
    rate = members.number(name)
    if optional and rate == 0:
        return rate
    if not _SLOWEST <= rate <= _FASTEST:
        raise members.fault(name, f"must lie in {_SLOWEST:g}..{_FASTEST:g} evaluations per second")
    return rate


def _rates(members: StrictObject) -> dict[int, float]:
    rates = {}
    for name in members.names():
        if not (name.isascii() and name.isdigit() and len(name) < 11 and 8 <= int(name) <= _MAXIMUM_KIB):
            raise members.fault(name, f"must be a memory of 8..{_MAXIMUM_KIB} KiB")
        rates[int(name)] = _rate(members, name)
    return rates


def _profile(members: StrictObject) -> MachineProfile:
    if members.text("format") != FORMAT:
        raise members.fault("format", f"must be {FORMAT!r}")
    if members.integer("version") != VERSION:
        raise members.fault("version", f"must be {VERSION}")
    profile = MachineProfile(
        name=members.text("name"),
        source=members.text("source"),
        sha256=_rate(members, "sha256"),
        squarings=_rate(members, "squarings", optional=True) if "squarings" in members.names() else 0.0,
        argon2id=_rates(members.object("argon2id")),
    )
    if profile.name == "" or not profile.argon2id:
        raise CalibrationError("'name' must not be empty, nor 'argon2id'")
    return profile


def decode_profile(data: bytes, where: str = "the machine profile") -> MachineProfile:
    """Parse and validate a document; ``where`` names it in error messages.

    Raises:
        CalibrationError: not a valid profile; the message names the member and the remedy.
    """
    return decode_document(data, _profile, where, _REMEDY)


def save_profile(profile: MachineProfile, path: Path) -> None:
    """Write the file atomically.

    Raises:
        CalibrationError: it cannot be written.
    """
    write_bytes(path, encode_profile(profile))


def load_profile(path: Path) -> MachineProfile:
    """Read a profile's file.

    Raises:
        CalibrationError: it cannot be read, or is not valid.
    """
    return decode_profile(read_bytes(path), str(path))

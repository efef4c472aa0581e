"""Identity: accounts and partitions, command ids that a gateway can recognise as issued, and what derives from them."""

import hashlib
import hmac
import os
import re
import time
import zlib
from typing import NewType

AccountId = NewType("AccountId", str)
AssetCode = NewType("AssetCode", str)
CommandId = NewType("CommandId", str)
HoldId = NewType("HoldId", str)
Partition = NewType("Partition", int)
Principal = NewType("Principal", str)

# Whose the mixer's own commands are; no API key can have this principal.
MIXER = Principal("tellerline:mixer")

ACCOUNT_ID = re.compile(r"[a-z0-9][a-z0-9._:-]{0,63}", re.ASCII)
ASSET_CODE = re.compile(r"[A-Z][A-Z0-9._-]{0,15}", re.ASCII)
SYSTEM_ACCOUNT_ID = re.compile(
    rf"(?:world|house|fees|fx|suspense):{ASSET_CODE.pattern}:[0-9]{{1,3}}"
    rf"|transit:{ASSET_CODE.pattern}:[0-9]{{1,3}}:(?:in|out):[0-9]{{1,3}}",
    re.ASCII,
)
UUID_TEXT = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
# Accounts of the ledger itself carry their partition as the last part of their name.
PARTITIONED_PREFIXES = ("world:", "house:", "fees:", "fx:", "suspense:", "transit:")
# Names that clients may not choose or name without `admin`. A mix's account is placed by its hash like a client's.
SYSTEM_PREFIXES = (*PARTITIONED_PREFIXES, "mix:")
PARTITIONS_MAX = 256
CONTENT_BYTES = 13
MAC_BYTES = 3


def partition_of(account: AccountId, partitions: int) -> Partition:
    """The partition 0 … P-1 that owns the account: the same in every process, so never by Python's `hash`."""
    if account.startswith(PARTITIONED_PREFIXES):
        suffix = account.rpartition(":")[2]
        if (
            suffix.isdecimal()
            and suffix.isascii()
            and len(suffix) <= len(str(PARTITIONS_MAX))
            and int(suffix) < partitions
        ):
            return Partition(int(suffix))
    return Partition(zlib.crc32(account.encode()) % partitions)


def system_account(role: str, asset: AssetCode, partition: Partition) -> AccountId:
    """The ledger's own account `role:asset:partition`; role is world, house, fees, fx or suspense."""
    return AccountId(f"{role}:{asset}:{partition}")


def transit_account(asset: AssetCode, peer: Partition, side: str, partition: Partition) -> AccountId:
    """What is on its way between `partition` and `peer`; side is "out" at the source, "in" at the destination."""
    return AccountId(f"transit:{asset}:{peer}:{side}:{partition}")


def subkey(secret: str, purpose: str) -> bytes:
    """A key of its own for each purpose, so that no MAC of one can stand in for another's."""
    return hmac.digest(secret.encode(), f"tellerline:{purpose}".encode(), "sha256")


class CommandIds:
    """Issues and recognises command ids: UUIDv8 of 98 bits of content, 24 of a MAC over them and the owner (ADR 9).

    Both by keyed BLAKE2b (RFC 7693 §2.9): one pass, at half of what HMAC costs.
    """

    def __init__(self, secret: str) -> None:
        self._name_key = subkey(secret, "command-name")
        self._mac_key = subkey(secret, "command-mac")

    def of_key(self, principal: Principal, key: str) -> CommandId:
        """The id of the command that this principal sends under this idempotency key, at any gateway, at any time."""
        owner = principal.encode()
        name = len(owner).to_bytes(4) + owner + key.encode()
        return self._sealed(owner, hashlib.blake2b(name, key=self._name_key, digest_size=CONTENT_BYTES).digest())

    def fresh(self, principal: Principal) -> CommandId:
        """A new id that sorts by time of issue, for a command of this principal without a key."""
        return self._sealed(principal.encode(), (time.time_ns() // 1_000_000).to_bytes(6) + os.urandom(7))

    def is_issued(self, text: str, principal: Principal) -> bool:
        """Whether a gateway with our secret has made this id for this principal. 1 in 2^24 of forged ids passes."""
        if not UUID_TEXT.fullmatch(text):
            return False
        raw = bytes.fromhex(text.replace("-", ""))
        return hmac.compare_digest(self._mac(principal.encode(), raw[:CONTENT_BYTES]), raw[CONTENT_BYTES:])

    def _mac(self, owner: bytes, body: bytes) -> bytes:
        return hashlib.blake2b(body + owner, key=self._mac_key, digest_size=MAC_BYTES).digest()

    def _sealed(self, owner: bytes, body: bytes) -> CommandId:
        raw = bytearray(body)
        raw[6] = (raw[6] & 0x0F) | 0x80  # version 8, RFC 9562 §5.8
        raw[8] = (raw[8] & 0x3F) | 0x80  # variant 10
        raw += self._mac(owner, bytes(raw))
        return CommandId(_uuid_text(raw))


def derived_id(command: CommandId, purpose: str) -> str:
    """A UUIDv8 that is a function of the command: what a gateway generates for it, any other generates alike."""
    raw = bytearray(hashlib.sha256(f"tellerline:{purpose}:{command}".encode()).digest()[:16])
    raw[6] = (raw[6] & 0x0F) | 0x80
    raw[8] = (raw[8] & 0x3F) | 0x80
    return _uuid_text(raw)


def _uuid_text(raw: bytearray) -> str:
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

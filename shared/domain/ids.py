"""Ids: account ids and their partitions, command ids that a gateway can verify as issued, and ids derived from them."""

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

# The principal of the mixer's own commands; no API key can have it.
MIXER = Principal("tellerline:mixer")
# The principal for whom the ids of resolutions are made, so that they do not depend on who asks for one.
OPERATOR = Principal("tellerline:operator")

ACCOUNT_ID = re.compile(r"[a-z0-9][a-z0-9._:-]{0,63}", re.ASCII)
ASSET_CODE = re.compile(r"[A-Z][A-Z0-9._-]{0,15}", re.ASCII)
SYSTEM_ACCOUNT_ID = re.compile(
    rf"(?:world|house|fees|fx|suspense):{ASSET_CODE.pattern}:[0-9]{{1,3}}"
    rf"|transit:{ASSET_CODE.pattern}:[0-9]{{1,3}}:(?:in|out):[0-9]{{1,3}}",
    re.ASCII,
)
UUID_TEXT = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
# System accounts: the last part of the name is the partition.
PARTITIONED_PREFIXES = ("world:", "house:", "fees:", "fx:", "suspense:", "transit:")
# Ids that clients may not use without `admin`. A mix's account gets its partition by hash, like a client's.
SYSTEM_PREFIXES = (*PARTITIONED_PREFIXES, "mix:")
PARTITIONS_MAX = 256
CONTENT_BYTES = 13
MAC_BYTES = 3


def partition_of(account: AccountId, partitions: int) -> Partition:
    """The partition that owns the account, below `partitions`. By CRC-32: Python's `hash` differs between processes."""
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
    """The account in `partition` for amounts in transit; `side` is "out" to the peer, or "in" from it."""
    return AccountId(f"transit:{asset}:{peer}:{side}:{partition}")


def subkey(secret: str, purpose: str) -> bytes:
    """A separate key for each purpose, so that a MAC made for one is never valid for another."""
    return hmac.digest(secret.encode(), f"tellerline:{purpose}".encode(), "sha256")


class CommandIds:
    """Issues and verifies command ids: UUIDv8 with 98 bits of content and a 24-bit MAC over content and owner (ADR 9).

    Both derive from the ledger's naming key, which never changes: with another one a repeated request would be a new
    command. Content of a keyed id and MAC are keyed BLAKE2b (RFC 7693 §2.9), which costs half of HMAC.
    """

    def __init__(self, naming_key: str) -> None:
        # Each copy of these begins with the key.
        self._names = hashlib.blake2b(key=subkey(naming_key, "command-name"), digest_size=CONTENT_BYTES)
        self._macs = hashlib.blake2b(key=subkey(naming_key, "command-mac"), digest_size=MAC_BYTES)

    def of_key(self, principal: Principal, key: str) -> CommandId:
        """The id of this principal's command with this idempotency key: the same at every gateway, at any time."""
        owner = principal.encode()
        name = self._names.copy()
        name.update(len(owner).to_bytes(4) + owner + key.encode())
        return self._sealed(owner, name.digest())

    def fresh(self, principal: Principal) -> CommandId:
        """A new id, sorted by time of issue, for a command of this principal without an idempotency key."""
        return self._sealed(principal.encode(), (time.time_ns() // 1_000_000).to_bytes(6) + os.urandom(7))

    def is_issued(self, text: str, principal: Principal) -> bool:
        """Whether a gateway with this naming key issued the id to this principal. A forged id passes once in 2^24."""
        if not UUID_TEXT.fullmatch(text):
            return False
        raw = bytes.fromhex(text.replace("-", ""))
        return hmac.compare_digest(self._mac(principal.encode(), raw[:CONTENT_BYTES]), raw[CONTENT_BYTES:])

    def _mac(self, owner: bytes, body: bytes) -> bytes:
        mac = self._macs.copy()
        mac.update(body + owner)
        return mac.digest()

    def _sealed(self, owner: bytes, body: bytes) -> CommandId:
        raw = bytearray(body)
        raw[6] = (raw[6] & 0x0F) | 0x80  # version 8, RFC 9562 §5.8
        raw[8] = (raw[8] & 0x3F) | 0x80  # variant 10
        raw += self._mac(owner, bytes(raw))
        return CommandId(_uuid_text(raw))


def derived_id(command: CommandId, purpose: str) -> str:
    """A UUIDv8 that depends only on command and purpose, so that every process derives the same one."""
    raw = bytearray(hashlib.sha256(f"tellerline:{purpose}:{command}".encode()).digest()[:16])
    raw[6] = (raw[6] & 0x0F) | 0x80
    raw[8] = (raw[8] & 0x3F) | 0x80
    return _uuid_text(raw)


def _uuid_text(raw: bytearray) -> str:
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

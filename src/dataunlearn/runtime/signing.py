"""Ed25519 signatures over the files of a folder, and what is no longer as it was signed.

The signed statement lists every file with its SHA-256. Who checks it learns that the holder of the
private key made the statement, and which files were altered, added or taken away since. Whose key
it is cannot be read from the folder: its fingerprint must be compared by another way.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from dataunlearn.runtime.files import file_hash, write_atomically
from dataunlearn.runtime.lock import HOLDER_FILE, LOCK_FILE
from dataunlearn.runtime.text_files import decode_file, parse_json

KEY_FILE, PUBLIC_KEY_FILE = "signing_key.pem", "signing_key.pub.pem"
SIGNATURE_FILE = "signature.json"
_KEYS = ("statement", "public_key", "signature")
_OWNER_ALONE = 0o600


class NotSignedError(ValueError):
    """A folder carries no signature that can be read."""


@dataclass(frozen=True)
class SigningKey:
    """A private key.

    Attributes:
        private: The key.
    """

    private: Ed25519PrivateKey

    @property
    def public(self) -> bytes:
        """The public half, 32 bytes."""
        return self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def fingerprint(self) -> str:
        """What a person compares; see :func:`fingerprint`."""
        return fingerprint(self.public)


@dataclass(frozen=True)
class Checked:
    """What a check of a signed folder found.

    Attributes:
        genuine: Whether the signature is that of the key that stands beside it.
        fingerprint: That key's.
        facts: What was stated beside the files.
        made: When, in UTC.
        altered: Files that are not what was signed.
        missing: Files that are not there any more.
        added: Files that were not there then.
    """

    genuine: bool
    fingerprint: str
    facts: Mapping[str, Any]
    made: str
    altered: tuple[str, ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether the signature is genuine and every signed file is as it was."""
        return self.genuine and not self.altered and not self.missing


def fingerprint(public: bytes) -> str:
    """SHA-256 over a public key's 32 bytes, in groups of four hexadecimal digits."""
    digits = hashlib.sha256(public).hexdigest()
    return " ".join(digits[at : at + 4] for at in range(0, len(digits), 4))


def signing_key(folder: Path) -> SigningKey:
    """The key in a folder, made on first use; its file is for its owner alone (mode 600).

    Raises:
        ValueError: If the file is no private Ed25519 key, or others may read it.
    """
    path = folder / KEY_FILE
    public = folder / PUBLIC_KEY_FILE
    if not path.exists() and public.exists():
        raise ValueError(
            f"{path} is gone, while its public half, {public}, is there: put it back; or remove "
            "that for a new key, and tell whoever checks reports the new fingerprint"
        )
    if not path.exists():
        _make_key(path)
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise ValueError(
            f"{path} can be read by others (mode {mode:o}), so that anyone might have signed with "
            f"it: chmod 600 {path} if nobody did, or remove it for a new key"
        )
    try:
        found = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is no private key: {error}") from error
    if not isinstance(found, Ed25519PrivateKey):
        raise ValueError(f"{path} is no Ed25519 key")
    return SigningKey(found)


def sign_folder(folder: Path, key: SigningKey, facts: Mapping[str, Any]) -> Path:
    """Sign all files of a folder, its own earlier signature and hidden files excepted.

    Args:
        folder: The folder.
        key: Who signs.
        facts: JSON values that are stated with the files.

    Returns:
        The file with statement, public key and signature.
    """
    statement = {
        "schema": 1,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "facts": dict(facts),
        "files": {name: file_hash(folder / name) for name in _names(folder)},
    }
    content = {
        "statement": statement,
        "public_key": base64.b64encode(key.public).decode(),
        "signature": base64.b64encode(key.private.sign(_canonical(statement))).decode(),
    }
    path = folder / SIGNATURE_FILE
    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False).encode())
    return path


def check_folder(folder: Path) -> Checked:
    """Compare a folder with what was signed.

    Raises:
        NotSignedError: If it has no signature, or one that cannot be read.
    """
    statement, public, signature = _read(folder / SIGNATURE_FILE)
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, _canonical(statement))
        genuine = True
    except (InvalidSignature, ValueError):
        genuine = False
    signed: dict[str, str] = statement["files"]
    there = _names(folder)
    return Checked(
        genuine,
        fingerprint(public),
        statement["facts"],
        statement["made"],
        tuple(n for n in signed if n in there and _differs(folder / n, signed[n])),
        tuple(name for name in signed if name not in there),
        tuple(name for name in _everything(folder) if name not in signed),
    )


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    private = Ed25519PrivateKey.generate()
    content = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _OWNER_ALONE)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(handle, _OWNER_ALONE)
        file.write(content)
        file.flush()
        os.fsync(handle)
    os.replace(temporary, path)
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_atomically(path.with_name(PUBLIC_KEY_FILE), public)


def _names(folder: Path) -> list[str]:
    """What is signed of a folder: its files, without hidden ones."""
    return [
        name
        for name in _everything(folder)
        if (folder / name).is_file() and not any(part.startswith(".") for part in Path(name).parts)
    ]


def _differs(path: Path, digest: str) -> bool:
    """Whether a file is not what was signed; a link is none, wherever it leads."""
    return path.is_symlink() or file_hash(path) != digest


def _everything(folder: Path) -> list[str]:
    """All files and links of a folder, hidden ones too, but what a running process leaves there."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    names = (path.relative_to(folder).as_posix() for path in found)
    return sorted(name for name in names if name not in (SIGNATURE_FILE, LOCK_FILE, HOLDER_FILE))


def _canonical(statement: Mapping[str, Any]) -> bytes:
    """The bytes that are signed: JSON with sorted keys, no spaces, in UTF-8."""
    return json.dumps(
        statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def _read(path: Path) -> tuple[dict[str, Any], bytes, bytes]:
    if not path.is_file():
        raise NotSignedError(f"{path.parent} is not signed: it has no {path.name}")
    content = parse_json(decode_file(path), str(path))
    try:
        statement, public, signature = (content[key] for key in _KEYS)
        files = statement["files"]
        whole = all(isinstance(statement[key], dict) for key in ("files", "facts"))
        whole = whole and all(isinstance(value, str) for value in (*files, *files.values()))
        whole = whole and isinstance(statement["made"], str)
        keys = (base64.b64decode(value, validate=True) for value in (public, signature))
        found = (statement, *keys)
    except (KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise NotSignedError(f"{path} is damaged: it is no signature of ours") from error
    if not whole:
        raise NotSignedError(f"{path} is damaged: its statement is not of our form")
    return found[0], found[1], found[2]

"""A signed folder: what is found when a byte of it is another."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from dataunlearn.runtime.signing import (
    KEY_FILE,
    PUBLIC_KEY_FILE,
    SIGNATURE_FILE,
    NotSignedError,
    check_folder,
    fingerprint,
    sign_folder,
    signing_key,
)


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    """A folder with three files and a signature; its key lies beside it."""
    folder = tmp_path / "run"
    (folder / "model" / "unet").mkdir(parents=True)
    (folder / "report.json").write_text('{"verdict": "ü"}')
    (folder / "report.html").write_text("<p>page</p>")
    (folder / "model" / "unet" / "weights").write_bytes(bytes(range(256)))
    (folder / ".lock").write_text("")
    sign_folder(folder, signing_key(tmp_path), {"requests": [1, 2]})
    return folder


def test_untouched_is_whole(signed: Path) -> None:
    found = check_folder(signed)
    assert found.whole
    assert found.genuine
    assert (found.altered, found.missing, found.added) == ((), (), ())
    assert found.facts == {"requests": [1, 2]}
    assert found.fingerprint == signing_key(signed.parent).fingerprint


@pytest.mark.parametrize("name", ["report.json", "report.html", "model/unet/weights"])
def test_one_bit_is_found_and_named(signed: Path, name: str) -> None:
    content = bytearray((signed / name).read_bytes())
    content[len(content) // 2] ^= 1
    (signed / name).write_bytes(bytes(content))
    found = check_folder(signed)
    assert not found.whole
    assert found.genuine
    assert found.altered == (name,)


def test_missing_and_added_files_are_named(signed: Path) -> None:
    (signed / "report.html").rename(signed / "other.html")
    found = check_folder(signed)
    assert found.missing == ("report.html",)
    assert found.added == ("other.html",)
    assert not found.whole


@pytest.mark.parametrize("change", ["facts", "files", "made"])
def test_an_altered_statement_is_not_genuine(signed: Path, change: str) -> None:
    path = signed / SIGNATURE_FILE
    content = json.loads(path.read_text())
    if change == "files":
        content["statement"]["files"]["report.json"] = "0" * 64
    elif change == "facts":
        content["statement"]["facts"] = {"requests": [1]}
    else:
        content["statement"]["made"] = "2020-01-01T00:00:00Z"
    path.write_text(json.dumps(content))
    found = check_folder(signed)
    assert not found.genuine
    assert not found.whole


def test_another_key_has_another_fingerprint(signed: Path, tmp_path: Path) -> None:
    sign_folder(signed, signing_key(tmp_path / "forger"), {"requests": [1, 2]})
    found = check_folder(signed)
    assert found.genuine
    assert found.fingerprint != signing_key(tmp_path).fingerprint


def test_openssl_agrees(signed: Path) -> None:
    """The signature, the keys and the signed bytes are what another program takes them for."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl")
    content = json.loads((signed / SIGNATURE_FILE).read_text())
    text = json.dumps(
        content["statement"], sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    (signed.parent / "statement").write_bytes(text.encode())
    (signed.parent / "signature").write_bytes(base64.b64decode(content["signature"]))
    command = [openssl, "pkeyutl", "-verify", "-pubin", "-inkey", PUBLIC_KEY_FILE, "-rawin"]
    command += ["-in", "statement", "-sigfile", "signature"]
    done = subprocess.run(command, cwd=signed.parent, capture_output=True, text=True, check=False)
    assert "Verified Successfully" in done.stdout, done.stderr


def test_key_is_its_owners_alone(tmp_path: Path) -> None:
    first = signing_key(tmp_path / "project")
    path = tmp_path / "project" / KEY_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert signing_key(tmp_path / "project").public == first.public
    path.chmod(0o644)
    with pytest.raises(ValueError, match="can be read by others"):
        signing_key(tmp_path / "project")


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / KEY_FILE
    path.write_text("no key")
    path.chmod(0o600)
    with pytest.raises(ValueError, match="no private key"):
        signing_key(tmp_path)


def test_fingerprint_is_the_hash_of_the_public_half() -> None:
    # SHA-256 of 32 zero bytes, known from elsewhere.
    assert fingerprint(bytes(32)).startswith("6668 7aad f862 bd77")


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"statement": {}, "public_key": "", "signature": ""}', "nul"]
)
def test_damaged_signatures_are_refused(signed: Path, text: str) -> None:
    (signed / SIGNATURE_FILE).write_text(text)
    with pytest.raises(ValueError, match=r"signature\.json"):
        check_folder(signed)


def test_unsigned_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotSignedError, match="not signed"):
        check_folder(tmp_path)


def test_a_lost_key_is_not_replaced_in_silence(tmp_path: Path) -> None:
    signing_key(tmp_path)
    (tmp_path / KEY_FILE).unlink()
    with pytest.raises(ValueError, match="put it back"):
        signing_key(tmp_path)


def test_hidden_files_and_links_are_additions(signed: Path) -> None:
    (signed / ".evil.html").write_text("x")
    (signed / "etc").symlink_to("/etc")
    assert check_folder(signed).added == (".evil.html", "etc")


def test_a_link_to_the_same_content_is_altered(signed: Path) -> None:
    (signed / "report.json").rename(signed.parent / "elsewhere")
    (signed / "report.json").symlink_to(signed.parent / "elsewhere")
    assert check_folder(signed).altered == ("report.json",)

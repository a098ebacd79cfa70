"""The tables of a ledger, and how its file is opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path

LEDGER_FILE = "ledger.sqlite"
SCHEMA = 2
TABLES = """
CREATE TABLE project (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    model TEXT NOT NULL, model_sha256 TEXT NOT NULL, keep TEXT NOT NULL,
    scheduler TEXT, image_size INTEGER, resize INTEGER NOT NULL, created TEXT NOT NULL,
    retention_days INTEGER NOT NULL,
    head INTEGER NOT NULL REFERENCES versions (id)
);
CREATE TABLE requests (
    id INTEGER PRIMARY KEY,
    reference TEXT NOT NULL UNIQUE, reason TEXT NOT NULL, received TEXT NOT NULL,
    added TEXT NOT NULL, source TEXT NOT NULL
);
CREATE TABLE pictures (
    request INTEGER NOT NULL REFERENCES requests (id), position INTEGER NOT NULL,
    name TEXT NOT NULL, digest TEXT NOT NULL, file_sha256 TEXT,
    PRIMARY KEY (request, position)
);
CREATE TABLE versions (
    id INTEGER PRIMARY KEY,
    parent INTEGER REFERENCES versions (id),
    state TEXT NOT NULL CHECK (state IN ('begun', 'made', 'given up', 'purged')),
    began TEXT NOT NULL, weights_sha256 TEXT NOT NULL, settings TEXT NOT NULL,
    verdict TEXT NOT NULL, seconds TEXT NOT NULL
);
CREATE TABLE answers (
    version INTEGER NOT NULL REFERENCES versions (id),
    request INTEGER NOT NULL REFERENCES requests (id),
    PRIMARY KEY (version, request)
);
CREATE TABLE verifications (
    id INTEGER PRIMARY KEY,
    version INTEGER NOT NULL REFERENCES versions (id),
    request INTEGER NOT NULL REFERENCES requests (id),
    effort TEXT NOT NULL, at TEXT NOT NULL, memory TEXT NOT NULL, words TEXT NOT NULL,
    numbers TEXT NOT NULL, seconds REAL NOT NULL
);
CREATE TABLE events (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, what TEXT NOT NULL, details TEXT NOT NULL,
    hash TEXT NOT NULL
);
"""


class LedgerError(ValueError):
    """A ledger that is missing, damaged, or of another version."""


def connect(folder: Path) -> sqlite3.Connection:
    """Open the ledger of a project folder; every change is on disk when its transaction ends.

    Raises:
        LedgerError: If there is none, or it is damaged or of another version.
    """
    require_ledger(folder)
    path = folder / LEDGER_FILE
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        _set_up(connection)
        _check(connection, path)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise LedgerError(f"{path} is damaged or no ledger ({error}); put back a copy") from error
    except LedgerError:
        connection.close()
        raise
    return connection


def require_ledger(folder: Path) -> None:
    """Refuse a folder without a ledger; nothing is written into it.

    Raises:
        LedgerError: If it has none.
    """
    if not has_ledger(folder):
        raise LedgerError(
            f"{folder} has no ledger: the first request makes one, request add --project {folder} "
            "--model MODEL --keep IMAGES --images IMAGES --reference NAME"
        )


def has_ledger(folder: Path) -> bool:
    """Whether a project folder has a ledger; one whose making was cut off is empty, and none."""
    path = folder / LEDGER_FILE
    if not path.is_file():
        return False
    connection = sqlite3.connect(path)
    try:
        tables, version = (
            connection.execute(query).fetchone()[0]
            for query in ("SELECT count(*) FROM sqlite_master", "PRAGMA user_version")
        )
    except sqlite3.DatabaseError:
        return True  # a damaged one
    finally:
        connection.close()
    return bool(tables or version)


def create(folder: Path) -> sqlite3.Connection:
    """Make an empty ledger; whoever calls fills in the project within one transaction.

    Raises:
        LedgerError: If there is one.
    """
    path = folder / LEDGER_FILE
    if has_ledger(folder):
        raise LedgerError(f"{path} is there already")
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    _set_up(connection)
    return connection


def make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables, within the transaction that is open."""
    for statement in TABLES.split(";"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _set_up(connection: sqlite3.Connection) -> None:
    connection.row_factory = sqlite3.Row
    for setting in ("foreign_keys = ON", "journal_mode = DELETE", "synchronous = EXTRA"):
        connection.execute(f"PRAGMA {setting}")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    found = connection.execute("PRAGMA quick_check").fetchone()[0]
    if found != "ok":
        raise LedgerError(f"{path} is damaged ({found}); put back a copy")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA:
        raise LedgerError(
            f"{path} has schema {version} and this version reads {SCHEMA}; open it with the "
            "version of dataunlearn that made it"
        )

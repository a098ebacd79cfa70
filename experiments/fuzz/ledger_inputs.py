"""Projects of removal requests, signed folders and differences, with something wrong in them."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from file_inputs import spoil_file
from sandbox import Sandbox
from spoil import ODD_TEXTS, odd_value

from dataunlearn.requests.schema import LEDGER_FILE

TABLES = ("project", "requests", "pictures", "versions", "answers", "verifications", "events")
READING = ("list", "show", "apply", "verify", "rollback", "withdraw", "purge")


def ledgers(sandbox: Sandbox, folder: Path, draw: random.Random) -> list[str]:
    """An action of ``request`` on a project whose ledger or folder was damaged, or altered."""
    project = folder / "project"
    shutil.copytree(sandbox.project, project)
    for _ in range(draw.choice((0, 1, 1, 2))):
        if draw.random() < 0.6:
            alter(project / LEDGER_FILE, draw)
        else:
            files = [path for path in sorted(project.rglob("*")) if path.is_file()]
            spoil_file(draw.choice(files), files, draw)
    return request(sandbox, project, draw)


def request(sandbox: Sandbox, project: Path, draw: random.Random) -> list[str]:
    """An action, with odd values now and then."""
    action = draw.choice((*READING, "add"))
    own = {
        "add": ["--images", str(sandbox.forget / "1.png"), "--reference", "about one"],
        "show": [],
        "rollback": ["--to", "0"],
        "purge": ["--days", "0"],
    }.get(action, [])
    if action in ("show", "withdraw"):
        own = [str(draw.choice((1, 2, 0, -1, 2**63)))]
    if action == "withdraw":
        own += ["--why", draw.choice(("a mistake", "", " "))]
    odd = {
        "add": ("images", "prompts", "reference", "reason", "received", "model", "retention_days"),
        "apply": ("unlearning", "duplicates", "effort", "most_drift", "rehearse"),
        "verify": ("requests", "effort"),
        "rollback": ("to",),
        "withdraw": ("why",),
        "purge": ("days",),
    }.get(action, ())
    if odd and draw.random() < 0.5:
        value = draw.choice(ODD_TEXTS) if draw.random() < 0.5 else odd_value(draw)
        text = value if isinstance(value, str) else json.dumps(value)
        own.append(f"--{draw.choice(odd)}={text}")
    device = ["--device", "cpu"] if action in ("add", "apply", "verify") else []
    return ["request", action, *own, "--project", str(project), *device]


def alter(ledger: Path, draw: random.Random) -> None:
    """Change, take out or double a row, or change a table, as who can write to it may."""
    if not ledger.is_file():
        return
    connection = sqlite3.connect(ledger)
    try:
        table = draw.choice(TABLES)
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        way = draw.randrange(6)
        if way == 0:
            connection.execute(f"DELETE FROM {table} WHERE rowid % 2 = 1")
        elif way == 1:
            connection.execute(f"DROP TABLE {table}")
        elif way == 2:
            connection.execute(f"PRAGMA user_version = {draw.choice((0, 1, 3, 99, -1))}")
        else:
            value: Any = odd_value(draw)
            if not isinstance(value, (str, int, float, type(None))):
                value = json.dumps(value)
            if isinstance(value, int) and abs(value) >= 2**63:
                value = str(value)
            column = draw.choice(columns)
            connection.execute(f"UPDATE {table} SET {column} = ?", (_storable(value),))
        connection.commit()
    except (sqlite3.Error, OverflowError, UnicodeEncodeError):
        connection.rollback()  # a change that the tables do not take
    finally:
        connection.close()


def _storable(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def signed(sandbox: Sandbox, folder: Path, draw: random.Random) -> list[str]:
    """``check`` of a signed version, one of whose files was damaged."""
    out = folder / "out"
    shutil.copytree(sandbox.project / "versions" / "0001", out)
    files = [path for path in sorted(out.rglob("*")) if path.is_file()]
    chosen = out / "signature.json" if draw.random() < 0.6 else draw.choice(files)
    spoil_file(chosen, files, draw)
    return ["check", str(out)]


def differences(sandbox: Sandbox, folder: Path, draw: random.Random) -> list[str]:
    """A difference between two versions that was damaged, or is applied to something else."""
    file = folder / "difference.safetensors"
    shutil.copy(sandbox.difference, file)
    if draw.random() < 0.8:
        spoil_file(file, [sandbox.forget / "0.png"], draw)
    models = (sandbox.pixel_model, sandbox.project / "versions" / "0001" / "model")
    model = draw.choice((*models, sandbox.text_model))
    action = draw.choice(("apply", "take-back"))
    given = ["--model", str(model), "--difference", str(file)]
    return ["difference", action, *given, "--out", str(folder / "out")]

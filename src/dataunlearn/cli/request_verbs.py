"""What ``dataunlearn request`` and ``dataunlearn check`` do."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataunlearn.cli.accelerator import make_accelerator
from dataunlearn.cli.runs import print_out, say
from dataunlearn.runtime.exit_codes import ALTERED, NOT_AS_IF_NEVER_SEEN, NOT_FORGOTTEN

if TYPE_CHECKING:
    from dataunlearn.runtime.signing import Checked
    from dataunlearn.verification.config import Effort

# An option, with its value where that is plain to see.
_OPTION = re.compile(r"--([a-z_]+(?:\.[a-z_]+)*)(?: (true|false|strong|\d[\d.]*\d|\d)\b)?")


def request(action: str, **settings: Any) -> int:
    """One of the actions of ``dataunlearn request``."""
    own = {name: value for name, value in settings[action].items() if name != "config"}
    try:
        return ACTIONS[action](**own)
    except ValueError as error:
        told = as_apply_takes_it(str(error)) if action == "apply" else str(error)
        if told == str(error):
            raise
        raise ValueError(told) from error
    except sqlite3.Error as error:
        raise ValueError(
            f"the ledger in {own['project']} is damaged ({error}); put back a copy"
        ) from error


def as_apply_takes_it(text: str) -> str:
    """Words that name options of ``unlearn`` as ``request apply`` takes them: in --unlearning."""
    from dataclasses import fields

    from dataunlearn.requests.config import Applying
    from dataunlearn.unlearning.config import Settings

    own = {field.name for field in fields(Settings)} - {field.name for field in fields(Applying)}

    def told(found: re.Match[str]) -> str:
        path, value = found[1].split("."), found[2] or "..."
        if path[0] not in own:
            return found[0]
        said = json.dumps(value) if value.isalpha() and value not in ("true", "false") else value
        for name in reversed(path):
            said = f'{{"{name}": {said}}}'
        return f"--unlearning '{said}'"

    return _OPTION.sub(told, text)


def add(*, project: Path, device: str | None, **settings: Any) -> int:
    """Put a request into the ledger."""
    import dataclasses

    from dataunlearn.requests.adding import add_request
    from dataunlearn.requests.config import NewProject, NewRequest
    from dataunlearn.requests.words import counted

    names = [field.name for field in dataclasses.fields(NewProject)]
    described = NewProject(**{name: settings.pop(name) for name in names})
    where = str(make_accelerator(device).device)
    added = add_request(project, NewRequest(**settings), described, say=say, device=where)
    say(f"Request {added.id} ({added.reference}): {counted(len(added.pictures), 'picture')}.")
    say(f"Answer it: dataunlearn request apply --project {project}")
    return 0


def show_list(*, project: Path) -> int:
    """Show the ledger."""
    from dataunlearn.requests.ledger import Ledger
    from dataunlearn.requests.words import listing

    with Ledger(project) as ledger:
        print_out(listing(ledger))
    return 0


def show(*, project: Path, number: int) -> int:
    """Show a request."""
    from dataunlearn.requests.ledger import Ledger
    from dataunlearn.requests.words import shown

    with Ledger(project) as ledger:
        print_out(shown(ledger, ledger.request(number)))
    return 0


def apply(*, project: Path, device: str | None, **settings: Any) -> int:
    """Answer the open requests."""
    from dataunlearn.requests.applying import apply_requests
    from dataunlearn.requests.config import Applying
    from dataunlearn.requests.drift import is_too_far
    from dataunlearn.requests.ledger import Ledger
    from dataunlearn.requests.models import version_folder
    from dataunlearn.requests.words import counted

    accelerator = make_accelerator(device)
    how = Applying(**settings)
    found = apply_requests(project, how, accelerator=accelerator, say=say)
    if found.version is None:
        return 0
    version = found.version
    say(as_apply_takes_it(str(version.verdict.get("text", ""))))
    folder = version_folder(project, version)
    say(f"New model: {folder / 'model'}\nReport:    {folder / 'report.html'}")
    known = [v.request for v in found.verified if v.still_known]
    if found.accepted:
        with Ledger(project) as ledger:
            left = counted(len(ledger.open), "open request")
        say(f"Version {version.id} is the head; {left}.")
        return NOT_FORGOTTEN if known else int(version.verdict.get("exit_code", 0))
    if is_too_far(version.verdict):
        say(
            f"It is further from the first model than --most_drift {how.most_drift:g} allows: "
            f"{version.verdict['drift']['words']}. "
            """--unlearning '{"anchor": {"weight": 1}}' holds it nearer."""
        )
    harder = """To push harder: --unlearning '{"strength": "strong"}', or more steps."""
    say(
        f"Version {version.id} is not the head, and its requests stay open. "
        f"{harder + ' ' if version.verdict.get('memory') == 'still known' or known else ''}"
        f"To take it as it is: dataunlearn request apply --project {project} --accept"
    )
    return NOT_FORGOTTEN if known else NOT_AS_IF_NEVER_SEEN


def verify(*, project: Path, device: str | None, requests: list[int] | None, effort: Effort) -> int:
    """Verify answered requests in the head again."""
    from dataunlearn.requests.checking import verify_head
    from dataunlearn.requests.words import counted

    found = verify_head(
        project, requests, accelerator=make_accelerator(device), say=say, effort=effort
    )
    known = [each for each in found if each.still_known]
    say(f"Still known to the head: {len(known)} of {counted(len(found), 'answered request')}.")
    if known:
        return NOT_FORGOTTEN
    return 0 if all(each.memory == "as if never seen" for each in found) else NOT_AS_IF_NEVER_SEEN


def rollback(*, project: Path, to: int) -> int:
    """Go back to an earlier version."""
    from dataunlearn.requests.going_back import roll_back

    opened = roll_back(project, to)
    say(f"Version {to} is the head again.")
    for each in opened:
        say(f"Request {each.id} ({each.reference}) is open again.")
    return 0


def withdraw(*, project: Path, number: int, why: str) -> int:
    """Take back an open request."""
    from dataunlearn.requests.going_back import withdraw as take_back

    found = take_back(project, number, why, say=say)
    say(f"Request {found.id} ({found.reference}) is withdrawn; its record stays.")
    return 0


def purge(*, project: Path, days: int | None) -> int:
    """Remove what still holds or knows the pictures of answered requests."""
    from dataunlearn.requests.purging import purge as purge_traces

    found = purge_traces(project, days, say=say)
    if not found.requests:
        say("No answered request is old enough: --days 0 takes all.")
    for number in found.versions:
        say(f"The model of version {number} is removed: it still knew a picture.")
    for each in found.left:
        say(f"Not this project's to remove: {each}")
    return 0


def check(run_dir: Path) -> int:
    """Compare a signed folder, or all of a project, with signatures; 6 if anything was altered."""
    from dataunlearn.requests.schema import LEDGER_FILE

    if not (run_dir / LEDGER_FILE).is_file():
        return 0 if _checked(run_dir).whole else ALTERED
    return 0 if _is_whole(run_dir) else ALTERED


def _is_whole(project: Path) -> bool:
    """Whether ledger and signed versions are as they were, and belong together."""
    from dataunlearn.requests.ledger import Ledger
    from dataunlearn.requests.models import version_folder
    from dataunlearn.requests.records import VersionState
    from dataunlearn.requests.replay import faults

    with Ledger(project) as ledger:
        versions = [version for version in ledger.versions if version.parent is not None]
        fault, hashes = faults(ledger)
    ended = [v for v in versions if v.state in (VersionState.MADE, VersionState.PURGED)]
    whole = [not fault]
    say(fault or "The ledger is as its record of events tells.")
    if not ended:
        say(f"No version of {project} is made yet.")
    for version in ended:
        folder = version_folder(project, version)
        say(f"Version {version.id}, {folder}")
        whole.append(_is_version_whole(folder, hashes))
    return all(whole)


def _is_version_whole(folder: Path, hashes: Collection[str]) -> bool:
    """Whether a version's files are as they were signed, beside a ledger with these events.

    A signature that is missing is an alteration. Without events the ledger is known to be altered.
    """
    from dataunlearn.runtime.signing import SIGNATURE_FILE

    if not (folder / SIGNATURE_FILE).is_file():
        say(f"missing: {SIGNATURE_FILE}")
        return False
    found = _checked(folder)
    if not hashes or found.facts.get("ledger") in hashes:
        return found.whole
    say("The ledger lacks the newest event of when this was signed: it was altered or replaced.")
    return False


def _checked(run_dir: Path) -> Checked:
    """A signed folder compared with its signature, and what was found said."""
    from dataunlearn.runtime.signing import check_folder

    found = check_folder(run_dir)
    for word, names in (("altered", found.altered), ("missing", found.missing)):
        for name in names:
            say(f"{word}: {name}")
    for name in found.added:
        say(f"not signed: {name}")
    if not found.genuine:
        say("The signature is not of this statement and key: signature.json was altered.")
    elif found.whole:
        say(f"Every signed file is as it was on {found.made}.")
    say(f"Key: {found.fingerprint}")
    say("Whose key that is, the folder cannot say: compare it with what its owner tells you.")
    return found


ACTIONS: Mapping[str, Callable[..., int]] = {
    "add": add,
    "list": show_list,
    "show": show,
    "apply": apply,
    "verify": verify,
    "rollback": rollback,
    "withdraw": withdraw,
    "purge": purge,
}

"""A command that was started for another process ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

CHILD = """
import signal, sys, time
from pathlib import Path
from dataunlearn.runtime.orphan import end_with_parent
def stop(number, frame):
    Path(sys.argv[1]).write_text("asked to stop")
    sys.exit()
signal.signal(signal.SIGTERM, stop)
end_with_parent()
Path(sys.argv[2]).touch()
time.sleep(60)
"""
PARENT = """
import subprocess, sys, time
from dataunlearn.runtime.orphan import child_environment
subprocess.Popen([sys.executable, "-c", *sys.argv[1:]], env=child_environment())
time.sleep(60)
"""


def wait_for(path: Path) -> None:
    until = time.monotonic() + 30
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert path.exists()


def test_a_child_is_asked_to_stop_when_its_parent_is_killed(tmp_path: Path) -> None:
    stopped, ready = tmp_path / "stopped", tmp_path / "ready"
    command = [sys.executable, "-c", PARENT, CHILD, str(stopped), str(ready)]
    with subprocess.Popen(command) as parent:
        wait_for(ready)
        assert not stopped.exists()
        os.kill(parent.pid, signal.SIGKILL)
    wait_for(stopped)

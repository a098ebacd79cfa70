"""``dataunlearn`` and ``python -m dataunlearn``, for launchers such as ``accelerate launch -m``."""

from __future__ import annotations

from dataunlearn.runtime.interrupt import end_at_once_on_interrupt


def main() -> None:
    """Entry point of the command; what takes time to import is imported here."""
    end_at_once_on_interrupt()
    from dataunlearn.cli.main import main as run_command

    run_command()


if __name__ == "__main__":
    main()

"""``python -m dataunlearn``: the command, for launchers such as ``accelerate launch -m``."""

from dataunlearn.cli.main import main

if __name__ == "__main__":
    main()

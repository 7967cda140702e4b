"""``python -m etl`` is ``hydra``."""

from etl.cli import main

main(prog_name="hydra")

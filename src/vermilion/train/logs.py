"""What a run writes down: a CSV file always, TensorBoard's files where it is installed.

H W of a picture.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vermilion.errors import MissingExtraError

_BEFORE = (
    "step", "seen", "loss", "learning_rate", "grad_norm", "per_second", "validation_loss",
)  # fmt: skip


class Log:
    """Rows of figures, one a step that is logged.

    Args:
        folder: of the run.
        step: steps that are done; what was logged after them, before a crash, is taken out.
        tensorboard: whether to write TensorBoard's files; None: where it is installed.
        columns: of the family, see `task.Task`.

    Raises:
        MissingExtraError: TensorBoard is asked for and not installed.
    """

    def __init__(
        self, folder: Path, step: int, tensorboard: bool | None, columns: tuple[str, ...] = ()
    ) -> None:
        self.path = folder / "log.csv"
        self.columns = (*_BEFORE, *columns, "seconds")
        self._trim(step)
        self._board = self._open_board(folder, step, tensorboard)

    def _trim(self, step: int) -> None:
        rows = []
        if self.path.exists():
            with self.path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    if (row.get("step") or "").isdigit() and int(row["step"]) <= step:
                        rows.append({name: row.get(name) or "" for name in self.columns})
        with self.path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(rows)

    def _open_board(self, folder: Path, step: int, wanted: bool | None) -> Any:
        installed = find_spec("tensorboard") is not None
        if wanted and not installed:
            raise MissingExtraError("TensorBoard's log", "train")
        if wanted is False or not installed:
            return None
        module = import_module("torch.utils.tensorboard")
        return module.SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def row(self, figures: Mapping[str, float]) -> None:
        """Write figures down, by column; "step" is one of them."""
        cells = {n: f"{v:.7g}" if isinstance(v, float) else v for n, v in figures.items()}
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self.columns, extrasaction="ignore").writerow(cells)
        if self._board is not None:
            for name, value in figures.items():
                if name != "step":
                    self._board.add_scalar(name, value, int(figures["step"]))

    def picture(self, pixels: NDArray[np.uint8], step: int) -> None:
        """Show a sample, (H, W, 3 or 4), where TensorBoard is."""
        if self._board is not None:
            self._board.add_image("samples", pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Finish the files."""
        if self._board is not None:
            self._board.close()

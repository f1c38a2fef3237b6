"""Tables of figures as Markdown and CSV."""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass

Cell = str | int | float | None
"""None and NaN mean that there is no such figure."""


@dataclass(frozen=True)
class Table:
    """Rows under named columns. `digits` says how many decimals the numbers of a column have, where it is not 2.

    Raises:
        ValueError: a row has more or fewer cells than there are columns.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    digits: Mapping[str, int]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"Each row must have {len(self.columns)} cells, but got {len(row)}: {row}.")

    def markdown(self) -> str:
        """The table as GitHub shows it: numbers to the right, a dash for what is missing."""
        numeric = [all(not isinstance(row[k], str) for row in self.rows) for k in range(len(self.columns))]
        lines = [self.columns, tuple("---:" if right else "---" for right in numeric)]
        lines += [tuple(self._shown(row, k) for k in range(len(row))) for row in self.rows]
        escaped = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
        return "\n".join(f"| {' | '.join(cells)} |" for cells in escaped) + "\n"

    def csv(self) -> str:
        """The table as a spreadsheet reads it: full precision, nothing for what is missing."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([["" if missing(cell) else cell for cell in row] for row in self.rows])
        return buffer.getvalue()

    def _shown(self, row: tuple[Cell, ...], k: int) -> str:
        cell = row[k]
        if missing(cell):
            return "–"
        return f"{cell:.{self.digits.get(self.columns[k], 2)}f}" if isinstance(cell, float) else str(cell)


def missing(cell: Cell) -> bool:
    """Whether there is no such figure."""
    return cell is None or (isinstance(cell, float) and math.isnan(cell))

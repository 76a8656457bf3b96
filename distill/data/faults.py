"""How a dataset is refused: the error keeps and counts all faults, and its message shows the first ten."""

from distill.errors import DataError

SHOWN = 10


class Refused(DataError):
    """A dataset with faults: its location and the list of all faults."""

    def __init__(self, where: str, faults: list[str]):
        lines = [f"  {fault}" for fault in faults[:SHOWN]]
        if len(faults) > SHOWN:
            lines.append(f"  and {len(faults) - SHOWN} more; `stillhouse data check` lists them all")
        count = f"{len(faults)} fault{'s' * (len(faults) > 1)}"
        super().__init__(f"dataset {where}: {count}:\n" + "\n".join(lines))
        self.where, self.faults = where, faults


def refuse(where: str, faults: list[str]) -> None:
    """Raise one DataError that lists the faults of `where`; return if there are none."""
    if faults:
        raise Refused(where, faults)

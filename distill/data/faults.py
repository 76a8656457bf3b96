"""How a dataset is refused: every fault found is counted, the first ten are shown."""

from distill.errors import DataError

SHOWN = 10


def refuse(where: str, faults: list[str]) -> None:
    """Raise one DataError that lists the faults of `where`; return if there are none."""
    if not faults:
        return
    lines = [f"  {fault}" for fault in faults[:SHOWN]]
    if len(faults) > SHOWN:
        lines.append(f"  and {len(faults) - SHOWN} more")
    raise DataError(f"dataset {where}: {len(faults)} fault{'s' * (len(faults) > 1)}:\n" + "\n".join(lines))

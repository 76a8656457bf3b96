"""`stillhouse compare RUN RUN ...`: accuracy against budget of runs of one dataset, as a table and a plot.

Baselines come from earlier `stillhouse evaluate RUN`; the papers' figures are shown where the dataset is known.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from cluster.commands import common


def main(runs: list[str], store: str | None, out: Path, json: Path | None) -> None:
    from cluster import comparing, comparing_plot
    from cluster.store import open_store
    from distill.errors import StoreError

    url, _, _ = common.places(store)
    found = comparing.gather(runs, open_store(url))
    picture, text = (out.with_name(f"{out.name}.{ending}") for ending in ("png", "md"))
    comparing_plot.plot(found, picture)
    try:
        text.write_text(comparing.markdown(found, picture.name), encoding="utf8")
    except OSError as error:
        raise StoreError(f"{text}: {error.strerror}; name a file that can be written") from None
    common.console.print(_table(found))
    for note in _notes(found):
        common.console.print(note, soft_wrap=True)
    common.console.print(f"plot      {picture.absolute()}\ntable     {text.absolute()}", soft_wrap=True)
    common.write_json(json, asdict(found))


def _table(found) -> Table:
    from cluster.comparing import baseline_title, percent

    table = Table(title=f"{found.dataset}: test accuracy, %", title_justify="left")
    for name in ("run", "method", "images per class", "distilled", "n", *map(baseline_title, found.baselines)):
        table.add_column(name, justify="left" if name in ("run", "method") else "right")
    for e in found.entries:
        beside = (percent(e.baselines.get(name)) for name in found.baselines)
        table.add_row(e.run_id, e.method, f"{e.ipc:.3g}", percent(e.score), str(e.score["n"]), *beside)
    return table


def _notes(found) -> Iterator[str]:
    """What the reader of the table must know."""
    without = [e.run_id for e in found.entries if not e.baselines]
    if without:
        yield f"no baselines are stored for {', '.join(without)}: `stillhouse evaluate RUN` adds them"
    flattered = [e.run_id for e in found.entries if e.selection != "validation"]
    if flattered:
        yield f"[yellow]chosen on the TEST images, so flattered: {', '.join(flattered)}[/]"
    if len({(e.network, e.protocol) for e in found.entries}) > 1:
        yield "[yellow]these runs were judged with different networks or protocols[/]"

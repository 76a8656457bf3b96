"""`stillhouse compare RUN RUN ...`: accuracy against budget of runs of one dataset, as a table and a plot.

Baselines come from earlier `stillhouse evaluate RUN`; the papers' figures are shown if the dataset is known.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cluster.cli import common
from cluster.cli.options import Json, Store, app


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs of one dataset, in the store.")],
    store: Store = None,
    out: Annotated[Path, typer.Option(metavar="NAME", help="Writes NAME.png and NAME.md.")] = Path("compare"),
    json: Json = None,
):
    """Set runs side by side: accuracy against budget with baselines and the papers' figures, table and plot."""
    from cluster.results import comparing, comparing_plot
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
    """A row for each score, those of a run together: narrow enough for a terminal, however many baselines there are."""
    from cluster.results.baselines import title
    from distill.text import percent

    table = Table(title=f"{escape(found.dataset)}: test accuracy, %", title_justify="left")
    for name, justify in (("run", "left"), ("per class", "right"), ("trained on", "left"), ("%", "right")):
        table.add_column(name, justify=justify, overflow="fold")
    table.add_column("n", justify="right")
    for e in found.entries:
        table.add_row(e.run_id, f"{e.ipc:.3g}", e.method, f"[bold]{percent(e.score)}[/]", str(e.score["n"]))
        for name, value in e.differing_settings.items():
            table.add_row("", "", f"[dim]{escape(f'{name} = {value}')}[/]", "", "")
        for name in found.baselines:
            if score := e.baselines.get(name):
                table.add_row("", "", title(name), percent(score), str(score["n"]))
        table.add_section()
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

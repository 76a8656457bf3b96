"""Data to HTML: every value is escaped, and a content security policy lets nothing run but what is in the package.

Styles and scripts stand in the page and the policy names their SHA-256, so that a page works from `file:`, from any
server and by itself. Pages have no style attributes and no handlers in the markup.
"""

import base64
import hashlib
from importlib import resources

import jinja2
from markupsafe import Markup

from cluster.gallery import charts
from cluster.results.baselines import TITLES
from distill.text import percent

SCRIPTS = {
    "index": ("index.js",),
    "result": ("stage.js", "result.js"),
    "compare": ("stage.js", "compare.js"),
    "swatch": ("cloth.js", "swatch.js"),
}
"""The scripts of each kind of page."""


def render(kind: str, home: str | None, **values) -> str:
    """A page of a kind; `home` is the URL of the index, None for a page that stands alone."""
    style, theme = _static("site.css"), _static("theme.js")
    script = Markup("\n").join(_static(name) for name in SCRIPTS[kind])
    return (
        _environment()
        .get_template(f"{kind}.html.j2")
        .render(home=home, csp=policy([style], [theme, script]), style=style, theme=theme, script=script, **values)
    )


def policy(styles: list[str], scripts: list[str]) -> str:
    """A content security policy for these styles and scripts, and pictures of the same place."""
    return "; ".join([
        "default-src 'none'", "img-src 'self' data: blob:", f"style-src {_hashes(styles)}",
        f"script-src {_hashes(scripts)}", "base-uri 'none'", "form-action 'none'",
    ])  # fmt: skip


def _hashes(texts: list[str]) -> str:
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(t.encode()).digest()).decode()}'" for t in texts)


def _static(name: str) -> Markup:
    """A file of the package: ours, so it is put into the page as it is."""
    return Markup((resources.files("cluster.gallery") / "static" / name).read_text(encoding="utf8").strip())  # noqa: S704 - a file of ours


def _environment() -> jinja2.Environment:
    loader = jinja2.PackageLoader("cluster.gallery", "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = percent
    environment.globals |= {"bar": charts.bar, "titles": TITLES}
    return environment

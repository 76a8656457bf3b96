"""A static site of distilled sets: an index, a page per result, comparisons, and textures on garments.

    build(["digits-0123", "fabric@best"], Path("site"), store_url, tracking_uri)

Pages need no network and no server: they work from `file:`, from any bucket, and as an artifact of an MLflow run.

    sources.py    results by name: a run of the store, a registered model, a folder
    result.py     what a page shows, as plain data
    views.py      a set class by class, at any step: which pixels stand for a class
    posters.py    class regions and patches of an image that holds several classes
    examples.py   real images of each class
    assets.py     the files that pages link to, or the same inside the page
    charts.py     bars and curves as SVG
    downloads.py  the set as safetensors, Parquet and PNG
    pages.py      data to HTML, with the content security policy
    site.py       all of it, into one folder
"""

from cluster.gallery.site import build

__all__ = ["build"]

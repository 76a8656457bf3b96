"""The order of classes on a poster (PoCO): which classes are neighbours and so share pixels.

    d = distances(classes, "clip-table")            # (c, c), from class names, from a file or from the images
    grid = layout(d, rows, columns, "optimal")      # class indices, row by row
    score(d, grid)                                  # higher: neighbours are more similar

`stillhouse order cifar10` shows it. An embedding is one file in distill/order/embeddings/; a layout is one file here.
"""

from distill.order.embeddings import EMBEDDINGS, distances
from distill.order.grid import Grid, score, shape_of
from distill.order.layouts import LAYOUTS, given, layout

__all__ = ["EMBEDDINGS", "LAYOUTS", "Grid", "distances", "given", "layout", "score", "shape_of"]

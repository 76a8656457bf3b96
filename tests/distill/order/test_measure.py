"""Distances between embeddings against SciPy's."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from distill.errors import RecipeError
from distill.order.measure import measure


@pytest.mark.parametrize("kind", ["cosine", "euclidean"])
@pytest.mark.parametrize("shape", [(5, 7), (20, 60_000)])
def test_they_are_scipys(kind, shape):
    x = np.random.default_rng(0).normal(size=shape)
    apart = measure(x, kind)
    np.testing.assert_allclose(apart, cdist(x, x, kind), atol=1e-6)
    assert (apart == apart.T).all() and (np.diag(apart) == 0).all() and (apart >= 0).all()


def test_what_has_no_distance_is_refused():
    with pytest.raises(RecipeError, match="class 1 .*NaN"):
        measure(np.array([[1.0, 2], [np.nan, 1]]), "cosine")
    with pytest.raises(RecipeError, match="class 1 .*zeros"):
        measure(np.array([[1.0, 2], [0, 0]]), "cosine")
    with pytest.raises(RecipeError, match="cosine, euclidean"):
        measure(np.ones((2, 2)), "manhattan")

"""What people call the baselines of an evaluation, in tables, plots and messages."""

TITLES = {
    "random": "random real images",
    "herding": "herding",
    "kmeans-nearest": "k-means, nearest",
    "kmeans-farthest": "k-means, farthest",
    "forgetting": "forgetting",
    "entropy-high": "entropy, high",
    "entropy-low": "entropy, low",
    "full": "all training images",
}
"""In the order in which tables show them."""


def title(name: str) -> str:
    """A baseline's name for people; of one that this version does not know, the name itself."""
    return TITLES.get(name, name)

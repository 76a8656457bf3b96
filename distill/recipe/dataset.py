"""Settings of the datasets: one class for each reader in distill/data/."""

from typing import Annotated, Literal

from pydantic import Field

from distill.recipe.settings import Fraction, Settings


class DatasetSettings(Settings):
    preprocess: Literal["standardize", "zca", "none"] = "standardize"
    """What networks see: per-channel mean 0 and deviation 1, ZCA-whitened (kind a, eps 0.1), or [0, 1] as it is."""
    validation: Fraction = 0.1
    """Part of the training images held out for selection; never trained on."""
    limit: Annotated[int, Field(ge=0)] = 0
    """Use only the first so many training images (0: all)."""
    limit_test: Annotated[int, Field(ge=0)] = 0
    """Use only the first so many test images (0: all)."""


class Digits(DatasetSettings):
    """scikit-learn's 1,797 digits, 8x8 grey: needs no download. 360 of them, fixed, are the test part."""

    kind: Literal["digits"] = "digits"


class Parquet(DatasetSettings):
    """Hugging Face image Parquet: encoded image bytes, ClassLabel names in the schema metadata."""

    kind: Literal["parquet"] = "parquet"
    path: str
    """Folder with `train*.parquet` and `test*.parquet`. A relative path is looked up in $STILLHOUSE_DATA, else here."""
    image: str = "image"
    """Column of the images: a struct with `bytes`, or plain binary."""
    label: str = "label"
    """Column of the integer labels."""


Dataset = Annotated[Digits | Parquet, Field(discriminator="kind")]

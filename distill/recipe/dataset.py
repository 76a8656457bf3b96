"""Settings of the datasets: one class for each reader in distill/data/."""

from typing import Annotated, Literal

from pydantic import Field

from distill.recipe.settings import Fraction, Settings

Subset = Literal["imagenette", "imagewoof", "imagemeow", "imagesquawk", "imagefruit", "imageyellow", "imageblub"]


class DatasetSettings(Settings):
    preprocess: Literal["standardize", "zca", "zca-podd", "none"] = "standardize"
    """What networks see: per-channel mean 0 and deviation 1; ZCA-whitened (kind a, of the MTT family, eps 0.1); images
    normalised one by one, then ZCA-whitened (kind b, of RaT-BPTT and PoDD); or [0, 1] as it is."""
    validation: Fraction = 0.1
    """Part of the training images held out for selection; never trained on."""
    limit: Annotated[int, Field(ge=0)] = 0
    """Use only the first so many training images (0: all)."""
    limit_test: Annotated[int, Field(ge=0)] = 0
    """Use only the first so many test images (0: all)."""
    size: Annotated[int, Field(ge=0, le=1024)] = 0
    """Side in pixels that images are brought to (0: as they are, which must then be one size)."""
    resize: Literal["shorter", "stretch", "none"] = "shorter"
    """How `size` is reached: the shorter side is resized and the centre cut out; both sides are resized; or the centre
    is cut out of the image as it is."""


class Digits(DatasetSettings):
    """scikit-learn's 1,797 digits, 8x8 grey: needs no download. 360 of them, fixed, are the test part."""

    kind: Literal["digits"] = "digits"


class Files(DatasetSettings):
    """Base of the datasets that lie somewhere."""

    path: str
    """A relative path is looked up in $STILLHOUSE_DATA, else here; `s3://bucket/prefix` is copied to each machine."""


class Parquet(Files):
    """Hugging Face image Parquet, a folder (train*.parquet, test*.parquet) or one file; ClassLabel names are used."""

    kind: Literal["parquet"] = "parquet"
    image: str = "image"
    """Column of the images: a struct with `bytes`, or plain binary."""
    label: str = "label"
    """Column of the integer labels."""
    test_part: Fraction = 0.2
    """Part of each class that tests where `path` is one file; always the same images."""


class Folder(Files):
    """Images in a folder for each class: train/<class>/*.jpg with test/ or val/ beside it, or <class>/*.jpg alone."""

    kind: Literal["folder"] = "folder"
    test_part: Fraction = 0.2
    """Part of each class that tests where there is neither test/ nor val/; always the same images."""
    subset: Subset | None = None
    """Ten named classes of an ImageNet folder (train/n01440764/..., val/n01440764/...)."""


class Cifar(Files):
    """CIFAR-10 or CIFAR-100 as its authors publish it: the python or binary .tar.gz, or the folder out of it."""

    kind: Literal["cifar"] = "cifar"
    labels: Literal["fine", "coarse"] = "fine"
    """The 100 classes of CIFAR-100 or its 20 groups."""


class Idx(Files):
    """MNIST, Fashion-MNIST and their like: a folder of train-*-ubyte and t10k-*-ubyte files, .gz or not."""

    kind: Literal["idx"] = "idx"
    classes: tuple[str, ...] = ()
    """Names of the classes in label order (empty: their numbers)."""


class TinyImagenet(Files):
    """Tiny ImageNet as published: train/<wnid>/images, val/val_annotations.txt, wnids.txt, words.txt."""

    kind: Literal["tiny_imagenet"] = "tiny_imagenet"


class Cub(Files):
    """CUB-200-2011 as published: images.txt, image_class_labels.txt, train_test_split.txt, classes.txt, images/."""

    kind: Literal["cub"] = "cub"
    size: Annotated[int, Field(ge=0, le=1024)] = 32
    """Side in pixels that images are brought to."""


class Npz(Files):
    """NumPy arrays x_train, y_train, x_test, y_test in one .npz file, or as .npy files in a folder."""

    kind: Literal["npz"] = "npz"
    classes: tuple[str, ...] = ()
    """Names of the classes in label order (empty: an array `classes` of texts, else their numbers)."""
    layout: Literal["auto", "nhwc", "nchw"] = "auto"
    """Where the channels are; auto looks for the axis of 1 or 3."""


Dataset = Annotated[
    Digits | Parquet | Folder | Cifar | Idx | TinyImagenet | Cub | Npz,
    Field(discriminator="kind"),
]

"""Settings of the datasets: one class for each reader in distill/data/."""

from typing import Annotated, Literal

from pydantic import Field

from distill.recipe.settings import Count, Fraction, Settings

Subset = Literal["imagenette", "imagewoof", "imagemeow", "imagesquawk", "imagefruit", "imageyellow", "imageblub"]


class DatasetSettings(Settings):
    preprocess: Literal["standardize", "zca", "zca-podd", "none"] = "standardize"
    """standardize: per-channel mean 0 and standard deviation 1; zca: ZCA whitening with eps 0.1, as in the MTT family;
    zca-podd: each image normalised, then ZCA whitening, as in RaT-BPTT and PoDD; none: pixels in [0, 1]."""
    validation: Fraction = 0.1
    """Fraction of the training images held out for selection; never trained on."""
    limit: Annotated[int, Field(ge=0)] = 0
    """Use only the first `limit` training images (0: all)."""
    limit_test: Annotated[int, Field(ge=0)] = 0
    """Use only the first `limit_test` test images (0: all)."""
    limit_class: Annotated[int, Field(ge=0)] = 0
    """Use at most this many training images of each class, the first ones (0: all); evens out classes of very different
    sizes."""
    size: Annotated[int, Field(ge=0, le=1024)] = 0
    """Resize images to this many pixels per side (0: keep their size, which must then be the same for all)."""
    resize: Literal["shorter", "stretch", "none"] = "shorter"
    """shorter: resize the shorter side to `size`, then crop the centre; stretch: resize both sides to `size`; none:
    crop the centre without resizing."""


class Digits(DatasetSettings):
    """scikit-learn's 1,797 digits, 8x8 greyscale, no download. The test split is always the same 360 images."""

    kind: Literal["digits"] = "digits"


class Files(DatasetSettings):
    """Base of the datasets that are read from a path."""

    path: str
    """File, folder or `s3://bucket/prefix`. A relative path is looked up in $STILLHOUSE_DATA, then in the current
    folder; data on S3 are copied to each machine."""


class Parquet(Files):
    """Hugging Face image Parquet: a folder (train*.parquet, test*.parquet) or one file; uses ClassLabel names."""

    kind: Literal["parquet"] = "parquet"
    image: str = "image"
    """Image column: a struct with `bytes`, or plain binary."""
    label: str = "label"
    """Column of the integer labels."""
    test_part: Fraction = 0.2
    """Fraction of each class used as test images if `path` is one file; always the same images."""


class Folder(Files):
    """One folder of images per class: train/<class>/*.jpg next to test/ or val/, or just <class>/*.jpg."""

    kind: Literal["folder"] = "folder"
    test_part: Fraction = 0.2
    """Fraction of each class used as test images if neither test/ nor val/ exists; always the same images."""
    subset: Subset | None = None
    """A 10-class subset of an ImageNet folder (train/n01440764/..., val/n01440764/...)."""


class Cifar(Files):
    """CIFAR-10 or CIFAR-100 as its authors publish it: the python or binary .tar.gz, or its extracted folder."""

    kind: Literal["cifar"] = "cifar"
    labels: Literal["fine", "coarse"] = "fine"
    """CIFAR-100 labels: the 100 classes or the 20 superclasses."""


class Idx(Files):
    """MNIST, Fashion-MNIST and similar: a folder of train-*-ubyte and t10k-*-ubyte files, gzipped or not."""

    kind: Literal["idx"] = "idx"
    classes: tuple[str, ...] = ()
    """Class names in label order (empty: class numbers)."""


class TinyImagenet(Files):
    """Tiny ImageNet as published: train/<wnid>/images, val/val_annotations.txt, wnids.txt, words.txt."""

    kind: Literal["tiny_imagenet"] = "tiny_imagenet"


class Cub(Files):
    """CUB-200-2011 as published: images.txt, image_class_labels.txt, train_test_split.txt, classes.txt, images/."""

    kind: Literal["cub"] = "cub"
    size: Annotated[int, Field(ge=0, le=1024)] = 32
    """Resize images to this many pixels per side."""


class Npz(Files):
    """NumPy arrays x_train, y_train, x_test, y_test in one .npz file, or as .npy files in a folder."""

    kind: Literal["npz"] = "npz"
    classes: tuple[str, ...] = ()
    """Class names in label order (empty: from a string array `classes` in the file, else class numbers)."""
    layout: Literal["auto", "nhwc", "nchw"] = "auto"
    """Axis order of the images; auto takes the axis of length 1 or 3 for the channels."""


class CarRacingFrames(DatasetSettings):
    """Frames of the game CarRacing and the actions of a scripted driver, six classes, recorded on this machine once.

    Needs `pip install 'stillhouse[carracing]'`. Training, held-out and test frames are of different episodes.
    """

    kind: Literal["carracing"] = "carracing"
    size: Annotated[int, Field(ge=16, le=96)] = 32
    """Pixels per side; the simulator's images have 96."""
    frames: Count = 12000
    """Training frames, held-out ones included: whole episodes are recorded until there are as many."""
    frames_test: Count = 2000
    """Test frames, likewise."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Probability, at each frame, that a random action replaces the driver's for 2 to 8 frames while recording. Labels
    remain the driver's choices, so the frames show how to recover."""
    recording: Annotated[int, Field(ge=0)] = 0
    """Seed of the tracks and of the noise."""


Dataset = Annotated[
    Digits | Parquet | Folder | Cifar | Idx | TinyImagenet | Cub | Npz | CarRacingFrames,
    Field(discriminator="kind"),
]

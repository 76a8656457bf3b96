"""Names of ImageNet's classes: the seven subsets of the literature, and readable names of class numbers (wnids)."""

import re
from pathlib import Path

from distill.data.texts import shown
from distill.errors import DataError

WNID = re.compile(r"n\d{8}")
NAMES = ("words.txt", "LOC_synset_mapping.txt", "synset_words.txt")  # as Tiny ImageNet, Kaggle and Caffe call them

SUBSETS: dict[str, dict[str, str]] = {
    "imagenette": {
        "n01440764": "tench",
        "n02102040": "English_springer",
        "n02979186": "cassette_player",
        "n03000684": "chain_saw",
        "n03028079": "church",
        "n03394916": "French_horn",
        "n03417042": "garbage_truck",
        "n03425413": "gas_pump",
        "n03445777": "golf_ball",
        "n03888257": "parachute",
    },
    "imagewoof": {
        "n02096294": "Australian_terrier",
        "n02093754": "Border_terrier",
        "n02111889": "Samoyed",
        "n02088364": "beagle",
        "n02086240": "Shih-Tzu",
        "n02089973": "English_foxhound",
        "n02087394": "Rhodesian_ridgeback",
        "n02115641": "dingo",
        "n02099601": "golden_retriever",
        "n02105641": "Old_English_sheepdog",
    },
    "imagemeow": {
        "n02123045": "tabby",
        "n02123159": "tiger_cat",
        "n02123394": "Persian_cat",
        "n02123597": "Siamese_cat",
        "n02124075": "Egyptian_cat",
        "n02129165": "lion",
        "n02129604": "tiger",
        "n02128925": "jaguar",
        "n02128757": "snow_leopard",
        "n02127052": "lynx",
    },
    "imagesquawk": {
        "n01806143": "peacock",
        "n02007558": "flamingo",
        "n01818515": "macaw",
        "n02051845": "pelican",
        "n02056570": "king_penguin",
        "n01614925": "bald_eagle",
        "n01843383": "toucan",
        "n01518878": "ostrich",
        "n01860187": "black_swan",
        "n01819313": "sulphur-crested_cockatoo",
    },
    "imagefruit": {
        "n07753275": "pineapple",
        "n07753592": "banana",
        "n07745940": "strawberry",
        "n07747607": "orange",
        "n07749582": "lemon",
        "n07768694": "pomegranate",
        "n07753113": "fig",
        "n07720875": "bell_pepper",
        "n07718472": "cucumber",
        "n07742313": "Granny_Smith",
    },
    "imageyellow": {
        "n02206856": "bee",
        "n12057211": "yellow_lady's_slipper",
        "n07753592": "banana",
        "n07749582": "lemon",
        "n12144580": "corn",
        "n04146614": "school_bus",
        "n03530642": "honeycomb",
        "n02129165": "lion",
        "n01773157": "black_and_gold_garden_spider",
        "n01531178": "goldfinch",
    },
    "imageblub": {
        "n02606052": "rock_beauty",
        "n02607072": "anemone_fish",
        "n01664065": "loggerhead",
        "n02655020": "puffer",
        "n01498041": "stingray",
        "n01910747": "jellyfish",
        "n02317335": "starfish",
        "n02526121": "eel",
        "n01914609": "sea_anemone",
        "n01983481": "American_lobster",
    },
}
"""wnid: class name, in the order of the labels 0..9 of each subset (Cazenavette et al. 2022)."""


def names_file(root: Path) -> Path | None:
    """The file with class names in a folder, if there is one."""
    return next((root / name for name in NAMES if (root / name).is_file()), None)


def readable(root: Path, wnids: list[str]) -> tuple[str, ...]:
    """Class names of wnids from a list of them in `root`, the first word of each; other names as they are.

    DataError if such a list is there and does not name a class.
    """
    file = names_file(root)
    if file is None or not all(WNID.fullmatch(wnid) for wnid in wnids):
        return tuple(shown(wnid) for wnid in wnids)
    lines = file.read_text(encoding="utf8", errors="replace").splitlines()
    words = dict(re.split(r"\s+", line.strip(), maxsplit=1) for line in lines if " " in line or "\t" in line)
    missing = [wnid for wnid in wnids if wnid not in words or "\ufffd" in words[wnid]]
    if missing:
        raise DataError(f"{file} does not name {', '.join(missing[:5])} in UTF-8: complete it or remove it")
    return tuple(words[wnid].partition(",")[0].strip() for wnid in wnids)

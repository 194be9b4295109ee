"""The ten ImageNet subsets of the GLaD and LD3M papers, by WordNet id, in the order of their labels.

The published code lists positions in the sorted list of the 1,000 ImageNet classes (GLaD `utils.py`, class `Config`).
A position means another class as soon as a folder is missing, so this table lists ids. The ids are those on which two
lists of the ILSVRC-2012 classes agree (Keras' `imagenet_class_index.json` and Kaggle's `LOC_synset_mapping.txt`); the
names were compared with torchvision's categories at these positions.
"""

from __future__ import annotations

import hashlib

#: subset -> ((WordNet id, name), ...), label 0 first.
SUBSETS: dict[str, tuple[tuple[str, str], ...]] = {
    "a": (
        ("n02111129", "Leonberg"),
        ("n02489166", "proboscis monkey"),
        ("n11879895", "rapeseed"),
        ("n02457408", "three-toed sloth"),
        ("n03042490", "cliff dwelling"),
        ("n12057211", "yellow lady's slipper"),
        ("n02342885", "hamster"),
        ("n03447447", "gondola"),
        ("n02071294", "killer whale"),
        ("n02013706", "limpkin"),
    ),
    "b": (
        ("n02006656", "spoonbill"),
        ("n06359193", "web site"),
        ("n01820546", "lorikeet"),
        ("n02116738", "African hunting dog"),
        ("n13044778", "earthstar"),
        ("n04487081", "trolleybus"),
        ("n01872401", "echidna"),
        ("n02112018", "Pomeranian"),
        ("n03841143", "odometer"),
        ("n02025239", "ruddy turnstone"),
    ),
    "c": (
        ("n03393912", "freight car"),
        ("n01833805", "hummingbird"),
        ("n03344393", "fireboat"),
        ("n03208938", "disk brake"),
        ("n01828970", "bee eater"),
        ("n02606052", "rock beauty"),
        ("n02129165", "lion"),
        ("n02017213", "European gallinule"),
        ("n02280649", "cabbage butterfly"),
        ("n01531178", "goldfinch"),
    ),
    "d": (
        ("n01518878", "ostrich"),
        ("n02111889", "Samoyed"),
        ("n01534433", "junco"),
        ("n02112706", "Brabancon griffon"),
        ("n01592084", "chickadee"),
        ("n02389026", "sorrel"),
        ("n02276258", "admiral"),
        ("n01622779", "great grey owl"),
        ("n01829413", "hornbill"),
        ("n02277742", "ringlet"),
    ),
    "e": (
        ("n04277352", "spindle"),
        ("n01843383", "toucan"),
        ("n01860187", "black swan"),
        ("n02056570", "king penguin"),
        ("n03992509", "potter's wheel"),
        ("n03924679", "photocopier"),
        ("n04153751", "screw"),
        ("n01774750", "tarantula"),
        ("n03857828", "oscilloscope"),
        ("n02281787", "lycaenid"),
    ),
    "nette": (
        ("n01440764", "tench"),
        ("n02102040", "English springer"),
        ("n02979186", "cassette player"),
        ("n03000684", "chain saw"),
        ("n03028079", "church"),
        ("n03394916", "French horn"),
        ("n03417042", "garbage truck"),
        ("n03425413", "gas pump"),
        ("n03445777", "golf ball"),
        ("n03888257", "parachute"),
    ),
    "woof": (
        ("n02096294", "Australian terrier"),
        ("n02093754", "Border terrier"),
        ("n02111889", "Samoyed"),
        ("n02088364", "beagle"),
        ("n02086240", "Shih-Tzu"),
        ("n02089973", "English foxhound"),
        ("n02087394", "Rhodesian ridgeback"),
        ("n02115641", "dingo"),
        ("n02099601", "golden retriever"),
        ("n02105641", "Old English sheepdog"),
    ),
    "birds": (
        ("n01806143", "peacock"),
        ("n02007558", "flamingo"),
        ("n01818515", "macaw"),
        ("n02051845", "pelican"),
        ("n02056570", "king penguin"),
        ("n01614925", "bald eagle"),
        ("n01843383", "toucan"),
        ("n01518878", "ostrich"),
        ("n01860187", "black swan"),
        ("n01819313", "sulphur-crested cockatoo"),
    ),
    "fruits": (
        ("n07753275", "pineapple"),
        ("n07753592", "banana"),
        ("n07745940", "strawberry"),
        ("n07747607", "orange"),
        ("n07749582", "lemon"),
        ("n07768694", "pomegranate"),
        ("n07753113", "fig"),
        ("n07720875", "bell pepper"),
        ("n07718472", "cucumber"),
        ("n07742313", "Granny Smith"),
    ),
    "cats": (
        ("n02123045", "tabby"),
        ("n02123159", "tiger cat"),
        ("n02123394", "Persian cat"),
        ("n02123597", "Siamese cat"),
        ("n02124075", "Egyptian cat"),
        ("n02129165", "lion"),
        ("n02129604", "tiger"),
        ("n02128925", "jaguar"),
        ("n02128757", "snow leopard"),
        ("n02127052", "lynx"),
    ),
}

#: Other common names of the subsets.
ALIASES = {
    "imagenette": "nette",
    "imagewoof": "woof",
    "imagesquawk": "birds",
    "squawk": "birds",
    "imagefruit": "fruits",
    "fruit": "fruits",
    "imagemeow": "cats",
    "meow": "cats",
}


def subset_hash(name: str) -> str:
    """Eight hexadecimal digits of a hash of a subset's ids in label order: equal hashes mean equal labels."""
    ids = ",".join(wordnet_id for wordnet_id, _ in SUBSETS[name])
    return hashlib.sha256(ids.encode()).hexdigest()[:8]

"""Categories of the drawings, which are the classes that priors are trained on, and the classes of the tasks."""

from __future__ import annotations

#: Category -> Unicode subgroups. Every drawing is in one.
CATEGORIES = {
    "faces": "face-smiling face-affection face-tongue face-hand face-neutral-skeptical face-sleepy face-unwell face-hat "
    "face-glasses face-concerned face-negative",
    "costume-faces": "face-costume cat-face monkey-face",
    "hearts-emotion": "heart emotion",
    "hands-body": "hand-fingers-open hand-fingers-partial hand-single-finger hand-fingers-closed hands hand-prop body-parts",
    "people": "person person-gesture",
    "roles": "person-role",
    "fantasy": "person-fantasy",
    "activity": "person-activity person-sport person-resting",
    "mammals": "animal-mammal",
    "birds": "animal-bird",
    "water-cold": "animal-amphibian animal-reptile animal-marine",
    "bugs": "animal-bug",
    "plants": "plant-flower plant-other",
    "fruit": "food-fruit",
    "vegetables": "food-vegetable",
    "meals": "food-prepared food-asian",
    "sweets": "food-sweet",
    "drinks": "drink dishware",
    "landscapes": "place-map place-geographic place-other",
    "buildings": "place-building place-religious",
    "ground-vehicles": "transport-ground",
    "air-water-vehicles": "transport-water transport-air",
    "clocks": "time hotel",
    "sky-weather": "sky-weather",
    "events": "event award-medal",
    "sport": "sport",
    "games-crafts": "game arts-crafts",
    "clothing": "clothing",
    "music": "sound music musical-instrument",
    "devices": "phone computer light-video",
    "paper": "book-paper mail writing money",
    "office": "office lock",
    "tools": "tool",
    "science": "science medical",
    "household": "household other-object",
    "signs": "transport-sign warning flag",
    "arrows": "arrow av-symbol",
    "emblems": "religion zodiac",
    "symbols": "gender math punctuation currency other-symbol alphanum",
    "shapes": "geometric",
}
#: Subgroups that are left out: 259 flags of countries, families, letters and digits, silhouettes, parts of other emoji.
LEFT_OUT = {"country-flag", "subdivision-flag", "family", "keycap", "person-symbol", "skin-tone", "hair-style", ""}
#: Labels whose category is not that of their subgroup.
MOVED = {
    "skull": "costume-faces",
    "skull and crossbones": "costume-faces",
    "bus stop": "signs",
    "construction": "signs",
    "horizontal traffic light": "signs",
    "police car light": "signs",
    "stop sign": "signs",
    "vertical traffic light": "signs",
}

#: Task -> class -> categories whose drawings it has. The ten classes of `main` are fixed.
TASKS = {
    "main": {
        "birds-fish-bugs": "birds water-cold bugs",
        "clothing": "clothing",
        "faces": "faces",
        "food-drink": "meals sweets drinks",
        "hands": "hands-body",
        "mammals": "mammals",
        "people": "people roles activity fantasy",
        "places": "landscapes buildings",
        "plants-fruit": "plants fruit vegetables",
        "vehicles": "ground-vehicles air-water-vehicles",
    },
    "nature": {
        "birds-fish-bugs": "birds water-cold bugs",
        "mammals": "mammals",
        "plants-fruit": "plants fruit vegetables",
        "sky-weather": "sky-weather",
    },
    "people": {
        "activity": "activity",
        "clothing": "clothing",
        "faces": "faces",
        "hands": "hands-body",
        "people": "people roles fantasy",
    },
    "things": {
        "clothing": "clothing",
        "devices-music": "devices music",
        "household": "household clocks",
        "paper-office": "paper office",
        "sport-games": "sport games-crafts",
        "tools-science": "tools science",
    },
    "travel": {
        "places": "landscapes buildings",
        "signs": "signs",
        "sky-weather": "sky-weather",
        "vehicles": "ground-vehicles air-water-vehicles",
    },
}
#: Drawings that a class of a task has at most.
MOST_DRAWINGS = 66
#: Labels that the classes of the tasks leave out: in the category by Unicode's order, and not what the class is called.
NOT_IN_TASKS = frozenset(
    [
        "feather",
        "wing",
        "spider web",
        "microbe",
        "coral",
        "spiral shell",
        "fuel pump",
        "motorway",
        "oil drum",
        "railway track",
        "wheel",
        "station",
        "anchor",
        "ring buoy",
        "seat",
        "barber pole",
        "carousel horse",
        "compass",
        "globe showing americas",
        "globe showing asia-australia",
        "globe showing europe-africa",
        "globe with meridians",
        "world map",
        "map of japan",
        "brick",
        "rock",
        "wood",
        "hot springs",
        "amphora",
        "chopsticks",
        "fork and knife",
        "fork and knife with plate",
        "kitchen knife",
        "spoon",
        "jar",
        "ice",
        "baby bottle",
        "gem stone",
        "lipstick",
        "prayer beads",
        "hair pick",
        "ring",
        "brain",
        "anatomical heart",
        "lungs",
        "tooth",
        "bone",
        "eye",
        "eyes",
        "tongue",
        "mouth",
        "biting lip",
        "ear",
        "ear with hearing aid",
        "nose",
        "pig nose",
        "paw prints",
        "thermometer",
        "luggage",
        "bellhop bell",
    ]
)


def category_of(label: str, subgroup: str) -> str | None:
    """The category of a label, or None if its subgroup is left out.

    Raises:
        SystemExit: the subgroup is in no list.
    """
    if label in MOVED:
        return MOVED[label]
    if subgroup in LEFT_OUT:
        return None
    for category, subgroups in CATEGORIES.items():
        if subgroup in subgroups.split():
            return category
    raise SystemExit(f"no category for the subgroup {subgroup!r} of {label!r}: add it to CATEGORIES or LEFT_OUT")

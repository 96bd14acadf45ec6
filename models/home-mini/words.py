"""Words of homes: rooms, floors, device names, items, messages.

Every pool is a pair (train, held_out). What is held out never occurs in training text, so that a score
on it says whether the model reads names from the prompt or has learned them by heart. So that it must read them,
training also names things with words that have nothing to do with them: common ones (vocabulary.txt) and made-up ones.
"""

import random
import re
from pathlib import Path

Pool = tuple[list[str], list[str]]


def _list(text: str) -> list[str]:
    """The entries of a text that are parted by bars."""
    return [word.strip() for word in text.split("|")]


ROOMS: Pool = (
    _list("""Kitchen|Living Room|Bedroom|Bathroom|Hallway|Office|Garage|Garden|Dining Room|Guest Room|Basement|
    Attic|Laundry Room|Nursery|Kids Room|Master Bedroom|Study|Porch|Terrace|Balcony|Entrance|Workshop|
    Pantry|Closet|Library|Gym|Playroom|Shower|Lounge|Front Yard|Back Yard|Driveway|Shed|Stairs|Cellar|
    Corridor|Game Room|Music Room|Utility Room|Boiler Room|Main Bedroom|Small Bathroom|Guest Bathroom|
    Upstairs Hall|Kitchenette|Family Room|Cloakroom|Changing Room|Reading Corner|Bar|Showroom|Meeting Room|
    Reception|Counter|Storage|Server Room|Break Room|Waiting Room|Warehouse|Shop Floor|Roof Deck|Patio|
    Winter Garden|Hobby Room|Tool Room|Wine Cellar|Spare Room|Toilet|Lobby|Carport|Pool"""),
    _list("""Conservatory|Sunroom|Den|Mudroom|Greenhouse|Parlour|Veranda|Sauna|Scullery|Box Room|Loft|Foyer|
    Theater|Snug|Studio|Drawing Room|Powder Room|Craft Room|Vestibule|Gazebo"""),
)

PEOPLE: Pool = (
    "Anna Ben Clara David Emma Felix Grace Henry Ida Jack Karl Laura Max Nina Oscar Paul Rosa Sam Tom Vera "
    "Lily Leo Mia Noah Olivia Peter Julia Simon Eva Lucas".split(),
    "Hugo Iris Jonas Matilda Otto Sofia Theo Wanda Zoe Arthur".split(),
)

FLOORS: Pool = (
    ["Ground Floor", "First Floor", "Second Floor", "Upstairs", "Downstairs", "Top Floor", "Lower Floor", "Main Floor"],
    ["Third Floor", "Upper Floor", "Mezzanine", "Garden Floor"],
)

# What may stand before the kind of a device: "Reading" Lamp.
QUALIFIERS: Pool = (
    _list("""Ceiling|Floor|Reading|Corner|Desk|Wall|Night|Main|Small|Big|Left|Right|Old|New|Blue|Green|Red|White|Black|
    Front|Back|Side|Window|Door|Shelf|Cabinet|Mirror|Sofa|Bed|Table|Counter|Stove|Piano|Plant|Tree|Path|Pool|Gate|
    Wooden|Glass|Round|Tall|Long|Short|Upper|Lower|Inner|Outer|East|West|North|South|Hanging|Standing|Party|
    Christmas|Work|Study|Movie|Art|Picture|Fish Tank|Workbench|Closet|Stair|Step|Bunk Bed|Dresser|Fireplace|
    Island|Sink|Fridge|Coffee|Bar|Guest|Baby|Dog|Cat|Bird|Garden|Patio"""),
    _list("""Arc|Globe|Pendant|Vanity|Bookcase|Copper|Square|Marble|Hearth|Orchid|Easel|Bench|Alcove|Swing|Rear|Tiny|
    Velvet|Paper|Moon|Canopy"""),
)

# Kinds of device by domain; the first of each row is the plain one.
KINDS: dict[str, Pool] = {
    "light": (
        ["Light", "Lamp", "Lights", "Spots", "Lantern", "LED Strip", "Bulb", "Chandelier", "Spotlight", "Downlights"],
        ["Sconce", "Uplight", "Floodlight", "Glow"],
    ),
    "switch": (
        ["Plug", "Switch", "Outlet", "Coffee Maker", "Kettle", "Heater", "Pump", "Fountain", "Charger", "Humidifier",
         "Dehumidifier", "Sprinkler", "Washing Machine", "Dryer", "Dishwasher", "Printer", "Router", "Aquarium", "Boiler",
         "Oven", "Toaster", "Freezer", "Radio Plug", "Air Purifier"],
        ["Espresso Machine", "Water Feature", "Towel Rail", "Diffuser", "Compressor", "Irrigation"],
    ),
    "fan": (["Fan", "Ceiling Fan", "Ventilator", "Extractor"], ["Exhaust Fan", "Air Circulator"]),
    "climate": (["Thermostat", "Heating", "Radiator", "Air Conditioner", "AC", "Climate"], ["Heat Pump", "Floor Heating"]),
    "cover": (["Blinds", "Curtain", "Shutter", "Shade", "Garage Door", "Awning", "Blind", "Curtains", "Gate", "Shutters"],
              ["Drapes", "Skylight", "Roller"]),
    "lock": (["Door", "Lock", "Gate Lock", "Door Lock", "Padlock"], ["Deadbolt", "Latch"]),
    "media_player": (
        ["TV", "Speaker", "Radio", "Soundbar", "Stereo", "Television", "Music Player", "Receiver", "Projector", "Speakers"],
        ["Jukebox", "Hi-Fi", "Boombox"],
    ),
    "vacuum": (["Vacuum", "Robot", "Vacuum Cleaner", "Robot Vacuum", "Hoover"], ["Sweeper", "Dustbot"]),
    "sensor": (["Sensor"], ["Probe"]),
    "binary_sensor": (["Window", "Door Sensor", "Motion Sensor", "Window Sensor", "Contact"], ["Hatch", "Leak Sensor"]),
    "scene": (
        ["Movie Night", "Good Morning", "Good Night", "Party", "Dinner", "Relax", "Reading", "Away", "Home", "Romantic",
         "Focus", "Bright", "Sunset", "Breakfast", "Bedtime", "Holiday", "Cleaning", "Gaming", "Guests", "Yoga", "Welcome"],
        ["Cosy Evening", "Candlelight", "Siesta", "Workout", "Concert", "Storytime"],
    ),
    "todo": (["Shopping List", "Groceries", "To-do List", "Tasks", "Chores", "Packing List", "Wish List", "Hardware Store"],
             ["Errands", "Market List", "Weekend Jobs"]),
}

COVER_CLASSES = {  # what is said of several covers -> device class
    "blinds": "blind", "curtains": "curtain", "shutters": "shutter", "shades": "shade", "awnings": "awning",
}

COLORS: Pool = (
    ["red", "green", "blue", "yellow", "orange", "purple", "pink", "white", "cyan", "magenta", "gold", "violet",
     "warm white", "turquoise", "light blue", "dark red"],
    ["teal", "lavender", "crimson", "indigo"],
)

ITEMS: Pool = (
    _list("""milk|bread|eggs|butter|apples|bananas|cheese|tomatoes|potatoes|onions|rice|pasta|coffee|tea|sugar|flour|salt|
    toilet paper|dish soap|batteries|light bulbs|dog food|cat food|orange juice|olive oil|carrots|chicken|fish|yogurt|
    cereal|chocolate|cookies|water|beer|wine|shampoo|toothpaste|soap|paper towels|garlic|lemons|oranges|grapes|salad|
    cucumber|peppers|mushrooms|ham|honey|jam|two bottles of water|a loaf of bread|ice cream|frozen pizza|nails|paint|
    screws|tape|a new broom|call the plumber|water the plants|pay the rent|clean the windows|fix the chair|
    wash the car|book the dentist|mow the lawn|feed the fish|take out the trash|birthday card|wrapping paper|
    trash bags|sponges|napkins|candles|matches|printer paper|pens|stamps|socks"""),
    _list("""kale|avocados|sunscreen|cat litter|almond milk|blueberries|sourdough|tuna|vinegar|cinnamon|oat flakes|
    sharpen the knives|return the books|descale the kettle|firewood|mustard|lentils|a bag of ice"""),
)

TIMER_NAMES: Pool = (
    _list("pizza|pasta|eggs|tea|laundry|bread|cake|rice|oven|chicken|nap|homework|coffee|potatoes|workout|break|cookies|"
          "soup|dryer|steak|roast|meditation|bath|reading|parking"),
    _list("lasagna|noodles|muffins|stretching|dumplings|ribs|polenta"),
)

MESSAGES: Pool = (
    _list("""dinner is ready|the taxi is here|time to go to bed|breakfast is on the table|we are leaving in ten minutes|
    come downstairs please|the movie is starting|i am home|lunch is ready|please be quiet|the guests are here|
    it is time for school|the bus is coming|clean up your toys|the cake is done|wake up everyone|grandma is on the phone|
    we have to leave now|the food is here|somebody is at the door|turn down the music|the shop closes in five minutes|
    the washing machine is done|good night everybody|meeting starts now|tea is ready|the dog needs a walk|
    put on your shoes|it is snowing|the car is ready|the game is on|the kids are back|come and help me in the garden|
    the pool is open|the baby is sleeping|please come to the table|happy birthday"""),
    _list("""the soup is getting cold|your parcel has arrived|rehearsal begins at noon|please feed the rabbits|
    the train leaves soon|coats on everyone|pancakes are served|the plumber is waiting outside"""),
)

# What made-up words may be made of; nothing of the held-out words.
_REAL = sorted({part for pool in (ROOMS, QUALIFIERS, *KINDS.values()) for name in pool[0] for part in name.split() if part.isalpha() and len(part) > 3}
               | set(PEOPLE[0]))

_ONSETS: Pool = (list("bdfgklmnprstv") + ["br", "dr", "gr", "kr", "st", "tr", "sh", "ch", "pl"], list("hjwz") + ["fl", "sk", "gl", "th"])
_VOWELS = ["a", "e", "i", "o", "u", "a", "e", "o", "ai", "ee"]
_CODAS = ["", "", "", "n", "r", "l", "s", "m", "k", "x"]


_HELD_OUT = {word for pool in (ROOMS, PEOPLE, FLOORS, QUALIFIERS, *KINDS.values(), COLORS, ITEMS, TIMER_NAMES)
             for word in re.findall("[a-z]+", " ".join(pool[1]).lower())}
_VOCABULARY = [word for word in (Path(__file__).parent / "vocabulary.txt").read_text().split() if word not in _HELD_OUT]
# Words that training may name things with, and with the held-out ones all that may stand in a name; the tokenizer cuts
# them like words that nobody has seen.
TRAINED = {word for pool in (ROOMS, PEOPLE, FLOORS, QUALIFIERS, *KINDS.values(), COLORS, ITEMS, TIMER_NAMES)
           for word in re.findall("[a-z]+", " ".join(pool[0]).lower())} | set(_VOCABULARY)
NAMING = TRAINED | _HELD_OUT
NAMING -= set("the of a to in on for with all any is it are be and".split())


# Words of sentences with which names may begin that have nothing to do with them: "the" of "Theodora", "in" of "Indira".
_BEGINNINGS = "a all an and at be by can do for get he in is it me must my no not of off on or out put set so that the this to turn up we you".split()


def pick(rng: random.Random, pool: Pool, held_out: bool) -> str:
    """A word of the pool; for held-out text one of the words that training never saw."""
    return rng.choice(pool[1] if held_out else pool[0])


def made_up(rng: random.Random, held_out: bool) -> str:
    """A word that does not exist: "Velora", or a real one with a letter changed: "Kutchen"."""
    if held_out:
        return _unheard(rng)
    if rng.random() < 0.12:
        return (rng.choice(_BEGINNINGS) + _sounds(rng)).capitalize()
    if rng.random() < 0.4:
        word = list(rng.choice(_REAL if rng.random() < 0.5 else _VOCABULARY))
        i = rng.randrange(len(word))
        letters = "aeiou" if word[i].lower() in "aeiou" else "bcdfghjklmnpqrstvwxyz"
        word[i] = rng.choice(letters)
        if rng.random() < 0.5:
            word.insert(rng.randrange(1, len(word)), rng.choice("aeioulnrst"))
        return "".join(word).capitalize()
    return _sounds(rng).capitalize()


def _unheard(rng: random.Random) -> str:
    """Syllables of a held-out home, the first with a sound of its own."""
    n = rng.choice((2, 2, 3))
    onsets = _ONSETS[0] + _ONSETS[1]
    syllables = [rng.choice(onsets) + rng.choice(_VOWELS) for _ in range(n)]
    syllables[0] = rng.choice(_ONSETS[1]) + rng.choice(_VOWELS)
    return ("".join(syllables) + rng.choice(_CODAS)).capitalize()


def _sounds(rng: random.Random) -> str:
    """Syllables of many kinds, so that any tail of a word is met."""
    onsets = [*_ONSETS[0], *_ONSETS[1], "", "c", "qu", "bl", "cl", "cr", "fr", "pr", "sl", "sm", "sn", "sp", "sw", "tw", "wh", "y", "ph", "scr", "str"]
    vowels = [*_VOWELS, "y", "ou", "ea", "oo", "ie", "au", "oa", "ei", "ue", "eu"]
    codas = [*_CODAS, "t", "d", "p", "ng", "nd", "st", "ck", "ll", "rt", "w", "f", "b", "g", "th", "sh", "nt", "mp", "rn", "lt", "ss", "tt", "z", "ch"]
    word = "".join(rng.choice(onsets) + rng.choice(vowels) + (rng.choice(codas) if rng.random() < 0.4 else "") for _ in range(rng.choice((1, 2, 2, 2))))
    if rng.random() < 0.25:
        word += rng.choice(("ing", "er", "le", "ed", "ery", "ight", "ture", "tion", "ble", "ory", "ator", "y", "es", "s", "ment", "age", "ful", "ly", "ance", "ile"))
    return word if len(word) > 2 else word + rng.choice(("nox", "rel", "do"))


def common(rng: random.Random) -> str:
    """A common word, or now and then one that does not exist; in small letters. For training."""
    return rng.choice(_VOCABULARY) if rng.random() < 0.65 else made_up(rng, False).lower()


def title(rng: random.Random, most: int = 2) -> str:
    """A name of one to `most` such words, with capitals. For training."""
    return " ".join(common(rng).capitalize() for _ in range(rng.randint(1, most)))


_SMALL_WORDS = "the the a is are in on at to of and for with your my our has will please we you it they not".split()


def message(rng: random.Random, held_out: bool) -> str:
    """What is to be announced; in training mostly words at random, which can only be copied."""
    if held_out or rng.random() < 0.3:
        return pick(rng, MESSAGES, held_out)
    said = [rng.choice(_SMALL_WORDS) if rng.random() < 0.4 else common(rng) for _ in range(rng.randint(1, 7))]
    return " ".join([*said, common(rng)])


def item(rng: random.Random, held_out: bool) -> str:
    """What goes on a list; in training mostly words at random."""
    if held_out or rng.random() < 0.3:
        return pick(rng, ITEMS, held_out)
    before = rng.choice(("", "", "", "", "a ", "two ", "some ", "the ", "a bag of ", "a box of ", "new ", f"{common(rng)} the ", f"{common(rng)} the "))
    return before + " ".join(common(rng) for _ in range(rng.choice((1, 1, 2, 2, 3))))


def timer_name(rng: random.Random, held_out: bool) -> str:
    if held_out or rng.random() < 0.3:
        return pick(rng, TIMER_NAMES, held_out)
    return " ".join(common(rng) for _ in range(rng.choice((1, 1, 1, 2))))


def color(rng: random.Random, held_out: bool) -> str:
    """A color; in training many are words that name none."""
    if held_out or rng.random() < 0.6:
        return pick(rng, COLORS, held_out and rng.random() < 0.5)
    return rng.choice(("", "", "", "light ", "dark ", "warm ", "pale ")) + common(rng)

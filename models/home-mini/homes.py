"""Homes: floors, areas and devices, and the ways in which a system turn tells of them."""

import random
from dataclasses import dataclass, field

import words
from words import made_up, pick

# How common a domain is, and how many devices of it a home has at most.
DOMAINS = {
    "light": (10, 6), "switch": (4, 3), "fan": (1, 1), "climate": (3, 2), "cover": (3, 3), "lock": (2, 2),
    "media_player": (4, 3), "vacuum": (1, 1), "sensor": (4, 3), "binary_sensor": (2, 2), "scene": (2, 3), "todo": (2, 2),
}

SENSOR_CLASSES = {  # device class -> (unit, lowest, highest, decimals)
    "temperature": ("°C", 14, 29, 1), "humidity": ("%", 30, 75, 0), "battery": ("%", 5, 100, 0), "power": ("W", 3, 900, 0),
}


@dataclass
class Device:
    name: str
    domain: str
    area: str | None = None
    device_class: str | None = None
    state: str = ""


@dataclass
class Home:
    areas: list[str]
    floors: dict[str, list[str]]
    devices: list[Device]
    names: set[str] = field(default_factory=set)

    def of(self, *domains: str) -> list[Device]:
        return [d for d in self.devices if d.domain in domains]

    def in_area(self, area: str, *domains: str) -> list[Device]:
        return [d for d in self.of(*domains) if d.area == area]


def _area(rng: random.Random, held_out: bool) -> str:
    if not held_out and rng.random() < 0.45:
        return _any_area(rng)
    r = rng.random()
    if r < 0.66:
        return pick(rng, words.ROOMS, held_out)
    if r < 0.78:
        owner = pick(rng, words.PEOPLE, held_out)
        return f"{owner}'s {rng.choice(('Room', 'Bedroom', 'Office', 'Bathroom', 'Closet') if not held_out else ('Room', 'Den', 'Bedroom'))}"
    if r < 0.9:
        return f"{made_up(rng, held_out)} {rng.choice(('Room', 'Hall', 'Corner', 'Suite') if not held_out else ('Room', 'Wing', 'Hall'))}"
    return made_up(rng, held_out)


def _any_area(rng: random.Random) -> str:
    """A room with a name from anywhere: "Orchid", "Velora Marble Hall", "Zibber's Den"."""
    r = rng.random()
    kind = rng.choice(words.ROOMS[0]) if rng.random() < 0.5 else words.title(rng, 1)
    if r < 0.2:
        return f"{words.title(rng, 1)}'s {kind}"
    if r < 0.55:
        return f"{words.title(rng, 1)} {kind}"
    return words.title(rng, 2)


def _any_device(rng: random.Random, domain: str, area: str | None) -> str:
    """A device whose name tells nothing of what it is: its domain is to be read in the list."""
    kind = words.title(rng, 2)
    if rng.random() < 0.3:
        kind = pick(rng, words.KINDS[domain], False)
    r = rng.random()
    if area and r < 0.3:
        return f"{area} {kind}"
    if r < 0.4:
        return f"{words.title(rng, 1)}'s {kind}"
    if r < 0.55:
        return f"{kind} {rng.randint(1, 9)}"
    if r < 0.62:
        return f"{kind.split()[0]}-{words.title(rng, 1)}"
    return f"{words.title(rng, 1)} {kind}" if r < 0.85 else kind


def _device_name(rng: random.Random, domain: str, area: str | None, held_out: bool) -> str:
    """A name in the ways people choose them; half of a held-out home's names have a kind that training knows."""
    if not held_out and rng.random() < 0.5:
        if domain in ("scene", "todo"):
            return words.title(rng, 2) + rng.choice(("", "", "", " List" if domain == "todo" else " Time"))
        return _any_device(rng, domain, area)
    kind = pick(rng, words.KINDS[domain], held_out and rng.random() < 0.5)
    if domain in ("scene", "todo"):
        return kind if rng.random() < 0.8 else f"{made_up(rng, held_out)} {'Scene' if domain == 'scene' else 'List'}"
    r = rng.random()
    if area and r < 0.3:
        return f"{area} {kind}"
    if area and r < 0.4:
        return f"{area} {pick(rng, words.QUALIFIERS, held_out)} {kind}"
    if r < 0.7:
        return f"{pick(rng, words.QUALIFIERS, held_out)} {kind}"
    if r < 0.78:
        return f"{pick(rng, words.PEOPLE, held_out)}'s {kind}"
    if r < 0.9:
        return f"{made_up(rng, held_out)} {kind}"
    if r < 0.94:
        return f"{kind} {rng.randint(1, 4)}"
    if r < 0.97 and domain in ("vacuum", "media_player", "light", "switch"):
        return made_up(rng, held_out)
    return kind


def _state(rng: random.Random, device: Device) -> str:
    match device.domain:
        case "light" | "switch" | "fan":
            return rng.choice(("on", "off"))
        case "cover":
            return rng.choice(("open", "closed"))
        case "lock":
            return rng.choice(("locked", "unlocked"))
        case "binary_sensor":
            return rng.choice(("open", "closed")) if device.device_class != "motion" else rng.choice(("motion", "clear"))
        case "media_player":
            return rng.choice(("playing", "paused", "idle", "off"))
        case "vacuum":
            return rng.choice(("docked", "cleaning"))
        case "climate":
            return rng.choice(("heat", "cool", "off", "auto"))
        case "sensor":
            unit, low, high, decimals = SENSOR_CLASSES[device.device_class or "temperature"]
            value = rng.uniform(low, high)
            return f"{value:.{decimals}f} {unit}" if unit != "%" else f"{value:.0f}%"
        case _:
            return "unknown"


def home(rng: random.Random, held_out: bool) -> Home:
    """A home of 2 to 7 areas and 3 to 18 devices."""
    areas: list[str] = []
    for _ in range(rng.choice((2, 3, 3, 4, 4, 5, 6, 7))):
        area = _area(rng, held_out)
        if area not in areas:
            areas.append(area)
    floors: dict[str, list[str]] = {}
    if rng.random() < 0.25 and len(areas) > 2:
        names = rng.sample(words.FLOORS[held_out], 2)
        if not held_out:
            names = [name if rng.random() < 0.4 else words.title(rng, 1) + rng.choice((" Floor", " Floor", " Level", "", "", "")) for name in names]
        if names[0] == names[1] or set(names) & set(areas):
            names = rng.sample(words.FLOORS[held_out], 2)
        cut = rng.randint(1, len(areas) - 1)
        floors = {names[0]: areas[:cut], names[1]: areas[cut:]}
    made = Home(areas, floors, [])
    counts: dict[str, int] = {}
    domains, weights = list(DOMAINS), [w for w, _ in DOMAINS.values()]
    n_devices = rng.choice((3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 18))
    for _ in range(n_devices * 2):
        if len(made.devices) >= n_devices:
            break
        domain = rng.choices(domains, weights)[0]
        if counts.get(domain, 0) >= DOMAINS[domain][1]:
            continue
        area = None if domain in ("scene", "todo") or rng.random() < 0.04 else rng.choice(areas)
        device = Device("", domain, area)
        name = _device_name(rng, domain, area, held_out)
        if domain == "sensor":
            device.device_class = rng.choice(list(SENSOR_CLASSES))
            title = device.device_class.capitalize()
            name = f"{area} {title}" if area and rng.random() < 0.6 else f"{name.removesuffix(' Sensor')} {title}"
        elif domain == "binary_sensor":
            device.device_class = "motion" if "Motion" in name else "window" if "Window" in name else "door"
        lower = name.lower()
        if lower in made.names or lower in {place.lower() for place in (*areas, *floors)}:
            continue
        made.names.add(lower)
        counts[domain] = counts.get(domain, 0) + 1
        device.name = name
        device.state = _state(rng, device)
        made.devices.append(device)
    return made


INSTRUCTIONS = [
    "You are a voice assistant for a smart home. Answer in plain text and keep it short.",
    "You control the devices of this home. Use the tools to act.",
    "You are the assistant of this home. Call a tool to control a device, and answer briefly.",
    "You help people at home with their devices. Be brief and truthful.",
    "Control the home with the tools given. When a device is not listed, say so.",
    "You are a helpful assistant in a smart home.",
    "",
]
HEADINGS = ["Devices:", "An overview of the areas and the devices in this home:", "Static Context: devices in this home:",
            "These devices are available:", "Home:"]

ASSIST_HEADINGS = ["Static Context: the areas and the devices of this smart home, an overview:", "Static Context: An overview of areas and devices in the home:",
                   "An overview of the areas and the devices in this smart home:", "Static Context:"]

# What clients write in long instructions, of which nothing matters here; {t}: the name of some tool, {w}: some words.
LONG_INSTRUCTIONS = [
    "It is {n}:{m}:{m} on 20{n}-{n}-{m}.", "You talk to the people of a smart home that runs Home Assistant.", "Be truthful about the world.",
    "Use plain text, keep to the point.", "Always call the intent tools to control Home Assistant.", "A lock is locked by {t} and unlocked by {t}.",
    "For a device it is best to pass name and domain alone.", "For an area, pass its name and a domain.",
    "If somebody wants all devices of a kind, ask for the area, unless there is one such device only.", "Timers cannot be started from this device.",
    "To tell the current state of the home you have the `{t}` tool.", "Do not say that you are unable to if live data is needed.",
    "For what exists (\"{w}?\"), see the list below.", "For a CURRENT state, value or mode (\"{w}?\", \"{w}?\"):", "    {d}. Know that this needs live data.",
    "    {d}. You MUST call `{t}`. It gives what is true now ({w}, {w}).", "    {d}. Answer with what the tool says (as in \"{w} is [value from the tool].\").",
    "Questions that are not about the home are answered from what you know.", "You are in area {w} and commands without a place mean this area.",
    "Never {w}.", "Prefer {w} to {w}.", "{w}: {w}.",
]


def _long_instructions(rng: random.Random) -> str:
    some = rng.sample(LONG_INSTRUCTIONS, rng.randint(5, len(LONG_INSTRUCTIONS)))
    filled = []
    for text in some:
        while "{" in text:
            kind = text[text.index("{") + 1]
            value = {"n": lambda: str(rng.randint(10, 28)), "m": lambda: str(rng.randint(10, 59)), "d": lambda: str(rng.randint(1, 5)),
                     "t": lambda: rng.choice(("HassTurnOn", "HassTurnOff", "GetLiveContext", "HassGetState", f"Get{words.title(rng, 1)}")),
                     "w": lambda: " ".join(words.common(rng) for _ in range(rng.randint(1, 5)))}[kind]()
            text = text.replace("{" + kind + "}", value, 1)
        filled.append(text)
    return rng.choice((" ", "\n", "\n")).join(filled) + rng.choice(("", "\n"))


def describe(rng: random.Random, home: Home, assist: bool = False) -> str:
    """The system turn's text: instructions and the home in one of four layouts. `assist`: as Home Assistant writes it."""
    devices = home.devices[:]
    rng.shuffle(devices)
    layout = "yaml" if assist else rng.choices(("yaml", "rooms", "lines", "dashes"), (5, 3, 2, 2))[0]
    lines: list[str] = []
    floor_of = {area: floor for floor, areas in home.floors.items() for area in areas}
    with_state = layout in ("lines", "dashes") and rng.random() < 0.3
    match layout:
        case "yaml":
            for d in devices:
                lines.append(f"- names: {d.name}")
                lines.append(f"  domain: {d.domain}")
                if d.area:
                    floor = f"\n  floor: {floor_of[d.area]}" if d.area in floor_of else ""
                    lines.append(f"  areas: {d.area}{floor}")
        case "rooms":
            if not home.floors:
                lines.extend(_by_area(home.areas, devices))
            for floor, areas in home.floors.items():
                lines.append(f"{floor}:")
                lines.extend(_by_area(areas, devices))
            loose = [f"{d.name} ({d.domain})" for d in devices if not d.area]
            if loose:
                lines.append("Others: " + ", ".join(loose))
        case "lines":
            for d in devices:
                floor = f", {floor_of[d.area]}" if d.area in floor_of else ""
                where = f", {d.area}{floor}" if d.area else ""
                lines.append(f"{d.name}: {d.domain}{where}" + (f", {d.state}" if with_state else ""))
        case "dashes":
            for d in devices:
                floor = f" - {floor_of[d.area]}" if d.area in floor_of else ""
                where = f" - {d.area}{floor}" if d.area else ""
                lines.append(f"{d.domain} - {d.name}{where}" + (f" - {d.state}" if with_state else ""))
    # Areas without devices are known too.
    listed = {d.area for d in devices}
    bare = [a for a in home.areas if a not in listed]
    if bare and layout != "rooms":
        lines.append("Areas without devices: " + ", ".join(bare))
    heading = rng.choice(HEADINGS) if rng.random() < 0.8 else ""
    instructions = rng.choice(INSTRUCTIONS) if rng.random() < 0.85 else ""
    if assist:
        instructions, heading = _long_instructions(rng), rng.choice(ASSIST_HEADINGS)
    parts = [instructions, heading, "\n".join(lines)]
    return "\n".join(part for part in parts if part)


def _by_area(areas: list[str], devices: list[Device]) -> list[str]:
    lines = []
    for area in areas:
        inside = [f"{d.name} ({d.domain})" for d in devices if d.area == area]
        lines.append(f"{area}: " + (", ".join(inside) or "nothing"))
    return lines

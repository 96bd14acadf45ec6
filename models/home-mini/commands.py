"""Commands: what a person says, and the tool calls that answer it.

A maker takes the scene (home, random numbers, whether held-out patterns are wanted) and gives a command, or None
where the home has nothing for it. The rules of what is called, the same throughout:

- a device named as in the home's list: {name}, spelled as listed;
- things of a kind in a room: {area, domain}, covers also {device_class}; on a floor: {domain, floor};
- everything in a room: {area};
- brightness, color, temperature or volume in a room: {area} and the setting;
- locks are locked with HassTurnOn and unlocked with HassTurnOff; muting is volume 0.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sentences as s
import words
from homes import Device, Home

Args = dict[str, Any]
Call = tuple[str, Args]


@dataclass
class Command:
    """What is said and what it asks for. `action`, `device`, `area` and `value` serve corrections and answers."""

    say: str
    calls: list[Call]
    category: str
    action: str
    subject: str = ""
    value: Any = None
    device: Device | None = None
    area: str | None = None


@dataclass
class Scene:
    rng: random.Random
    home: Home
    held_out: bool

    def pattern(self, patterns: s.Patterns) -> str:
        if self.held_out:
            return self.rng.choice(patterns.held_out)
        combined = patterns.combined and self.rng.random() < 0.6
        return self.rng.choice(patterns.combined if combined else patterns.train)

    def device(self, *domains: str) -> Device | None:
        devices = self.home.of(*domains)
        return self.rng.choice(devices) if devices else None

    def area(self) -> str:
        return self.rng.choice(self.home.areas)


def spoken(scene: Scene, name: str) -> str:
    """A name as people say it: mostly in small letters and with an article."""
    text = name if scene.rng.random() < 0.12 else name.lower()
    owned = "'" in text.split()[0]
    return f"the {text}" if not owned and scene.rng.random() < 0.6 else text


def _fill(pattern: str, *, area: str | None = None, scene: Scene, **rest: Any) -> str:
    if area is not None:
        text = area if scene.rng.random() < 0.12 else area.lower()
        if "'" in area.split()[0]:
            pattern = pattern.replace("the {a}", "{a}")
        rest["a"] = text
    return pattern.format(**rest).replace("the the ", "the ")


_UNITS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen""".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def number(scene: Scene, n: int | float) -> str:
    """A number in digits, sometimes in words: more often in training, which has to teach ninety words of them."""
    if isinstance(n, float) or scene.rng.random() > (0.08 if scene.held_out else 0.25) or n > 99:
        return f"{n:g}"
    if n < 20:
        return _UNITS[n]
    return _TENS[n // 10 - 2] + (f" {_UNITS[n % 10]}" if n % 10 else "")


def percent(rng: random.Random) -> int:
    return rng.choice((rng.randint(1, 20) * 5, rng.randint(1, 10) * 10, rng.randint(1, 100)))


def degrees(rng: random.Random) -> int | float:
    return rng.choice((rng.randint(15, 26), rng.randint(15, 26), rng.randint(10, 30), rng.randint(60, 80), rng.randint(15, 25) + 0.5))


_SWITCHED = ("light", "switch", "fan", "climate", "media_player", "light")


def device_on_off(scene: Scene) -> Command | None:
    device = scene.device(*_SWITCHED)
    return device and on_off(scene, device, scene.rng.choice(("on", "off")))


def on_off(scene: Scene, device: Device, action: str) -> Command:
    pattern = scene.pattern(s.ON if action == "on" else s.OFF)
    tool = "HassTurnOn" if action == "on" else "HassTurnOff"
    return Command(pattern.format(n=spoken(scene, device.name)), [(tool, {"name": device.name})],
                   "lights" if device.domain == "light" else "switches", action, device.name, device=device)


def lock(scene: Scene) -> Command | None:
    device = scene.device("lock")
    if not device:
        return None
    action = scene.rng.choice(("lock", "unlock"))
    pattern = scene.pattern(s.LOCK if action == "lock" else s.UNLOCK)
    tool = "HassTurnOn" if action == "lock" else "HassTurnOff"
    return Command(pattern.format(n=spoken(scene, device.name)), [(tool, {"name": device.name})], "locks", action, device.name, device=device)


def cover(scene: Scene) -> Command | None:
    device = scene.device("cover")
    if not device:
        return None
    action = scene.rng.choice(("open", "close"))
    pattern = scene.pattern(s.OPEN if action == "open" else s.CLOSE)
    tool = "HassTurnOn" if action == "open" else "HassTurnOff"
    return Command(pattern.format(n=spoken(scene, device.name)), [(tool, {"name": device.name})], "blinds", action, device.name, device=device)


def scene_on(scene: Scene) -> Command | None:
    device = scene.device("scene")
    if not device:
        return None
    name = device.name if scene.rng.random() < 0.2 else device.name.lower()
    return Command(scene.pattern(s.SCENE).format(n=name), [("HassTurnOn", {"name": device.name})], "scenes", "scene", device.name, device=device)


_AREA_KINDS = {"lights": "light", "fans": "fan", "plugs": "switch", "switches": "switch"}


def area_on_off(scene: Scene) -> Command | None:
    rng = scene.rng
    k = rng.choice(("lights", "lights", "lights", "lights", "light", "fans", "plugs", "switches"))
    area, action = scene.area(), rng.choice(("on", "off"))
    if f"{area} {k}".lower() in scene.home.names:
        return None
    domain = "light" if k == "light" else _AREA_KINDS[k]
    pattern = scene.pattern(s.AREA_ON if action == "on" else s.AREA_OFF)
    if k == "light" and ("all " in pattern or " are " in pattern):
        return None
    tool = "HassTurnOn" if action == "on" else "HassTurnOff"
    return Command(_fill(pattern, area=area, scene=scene, k=k), [(tool, {"area": area, "domain": [domain]})], "rooms", action,
                   f"the {k} in {area}", area=area)


def area_cover(scene: Scene) -> Command | None:
    rng = scene.rng
    k = rng.choice(list(words.COVER_CLASSES))
    area, action = scene.area(), rng.choice(("open", "close"))
    if f"{area} {k}".lower() in scene.home.names:
        return None
    pattern = scene.pattern(s.AREA_OPEN if action == "open" else s.AREA_CLOSE)
    tool = "HassTurnOn" if action == "open" else "HassTurnOff"
    args = {"area": area, "device_class": [words.COVER_CLASSES[k]], "domain": ["cover"]}
    return Command(_fill(pattern, area=area, scene=scene, k=k), [(tool, args)], "rooms", action, f"the {k} in {area}", area=area)


def floor_on_off(scene: Scene) -> Command | None:
    if not scene.home.floors:
        return None
    floor, action = scene.rng.choice(list(scene.home.floors)), scene.rng.choice(("on", "off"))
    k = scene.rng.choice(("lights", "lights", "lights", "fans", "plugs"))
    pattern = scene.pattern(s.FLOOR_ON if action == "on" else s.FLOOR_OFF)
    if floor in ("Upstairs", "Downstairs"):
        pattern = pattern.replace("on the {f}", "{f}")
    tool = "HassTurnOn" if action == "on" else "HassTurnOff"
    return Command(pattern.format(f=floor.lower(), k=k), [(tool, {"domain": [_AREA_KINDS[k]], "floor": floor})], "floors", action,
                   f"the {k} on {floor}")


def area_all_off(scene: Scene) -> Command:
    area = scene.area()
    return Command(_fill(scene.pattern(s.ALL_OFF), area=area, scene=scene), [("HassTurnOff", {"area": area})], "rooms", "off",
                   f"everything in {area}", area=area)


def _valued(scene: Scene, patterns: s.Patterns, domain: str, tool: str, key: str, value: Any, said: str, category: str, action: str) -> Command | None:
    """A command that sets a value of a device; the patterns without "the" before {n} work for any name."""
    device = scene.device(domain)
    return device and set_value(scene, patterns, device, tool, key, value, said, category, action)


def set_value(scene: Scene, patterns: s.Patterns, device: Device, tool: str, key: str, value: Any, said: str, category: str, action: str) -> Command:
    say = scene.pattern(patterns).format(n=spoken(scene, device.name), v=said).replace("the the ", "the ")
    return Command(say, [(tool, dict(sorted({"name": device.name, key: value}.items())))], category, action, device.name, value, device)


def _area_valued(scene: Scene, patterns: s.Patterns, tool: str, key: str, value: Any, said: str, category: str, action: str) -> Command | None:
    area = scene.area()
    if not scene.held_out and f"{area} lights".lower() in scene.home.names:
        return None
    say = _fill(scene.pattern(patterns), area=area, scene=scene, v=said)
    return Command(say, [(tool, dict(sorted({"area": area, key: value}.items())))], category, action, area, value, area=area)


def brightness(scene: Scene) -> Command | None:
    v = percent(scene.rng)
    if scene.rng.random() < 0.35:
        return _area_valued(scene, s.AREA_BRIGHTNESS, "HassLightSet", "brightness", v, number(scene, v), "brightness", "brightness")
    return _valued(scene, s.BRIGHTNESS, "light", "HassLightSet", "brightness", v, number(scene, v), "brightness", "brightness")


def color(scene: Scene) -> Command | None:
    v = words.color(scene.rng, scene.held_out)
    if scene.rng.random() < 0.35:
        return _area_valued(scene, s.AREA_COLOR, "HassLightSet", "color", v, v, "colors", "color")
    return _valued(scene, s.COLOR, "light", "HassLightSet", "color", v, v, "colors", "color")


def temperature(scene: Scene) -> Command | None:
    v = degrees(scene.rng)
    if scene.rng.random() < 0.55:
        return _area_valued(scene, s.AREA_TEMPERATURE, "HassClimateSetTemperature", "temperature", v, number(scene, v), "heating", "temperature")
    return _valued(scene, s.TEMPERATURE, "climate", "HassClimateSetTemperature", "temperature", v, number(scene, v), "heating", "temperature")


def position(scene: Scene) -> Command | None:
    v = percent(scene.rng)
    return _valued(scene, s.POSITION, "cover", "HassSetPosition", "position", v, number(scene, v), "positions", "position")


def volume(scene: Scene) -> Command | None:
    rng = scene.rng
    r = rng.random()
    if r < 0.15:
        return _valued(scene, s.MUTE, "media_player", "HassSetVolume", "volume_level", 0, "", "volume", "volume")
    v = percent(rng)
    if r < 0.4:
        return _area_valued(scene, s.AREA_VOLUME, "HassSetVolume", "volume_level", v, number(scene, v), "volume", "volume")
    return _valued(scene, s.VOLUME, "media_player", "HassSetVolume", "volume_level", v, number(scene, v), "volume", "volume")


_MEDIA = {"pause": ("HassMediaPause", s.PAUSE, s.PAUSE_HERE), "unpause": ("HassMediaUnpause", s.UNPAUSE, s.UNPAUSE_HERE),
          "next": ("HassMediaNext", s.NEXT, s.NEXT_HERE)}


def media(scene: Scene) -> Command | None:
    rng = scene.rng
    action = rng.choice(list(_MEDIA))
    tool, named, here = _MEDIA[action]
    r = rng.random()
    if r < 0.35:
        return Command(scene.pattern(here), [(tool, {})], "media", action)
    if r < 0.5:
        area = scene.area()
        say = _fill(scene.pattern(here) + " in the {a}", area=area, scene=scene)
        return Command(say, [(tool, {"area": area})], "media", action, area=area)
    device = scene.device("media_player")
    if not device:
        return None
    return Command(scene.pattern(named).format(n=spoken(scene, device.name)), [(tool, {"name": device.name})], "media", action, device.name, device=device)


def vacuum(scene: Scene) -> Command | None:
    if scene.rng.random() < 0.4:
        area = scene.area()
        return Command(_fill(scene.pattern(s.AREA_VACUUM), area=area, scene=scene), [("HassVacuumStart", {"area": area})], "vacuum", "vacuum", area, area=area)
    device = scene.device("vacuum")
    if not device:
        return None
    return Command(scene.pattern(s.VACUUM).format(n=spoken(scene, device.name)), [("HassVacuumStart", {"name": device.name})], "vacuum", "vacuum",
                   device.name, device=device)


def duration(scene: Scene) -> tuple[str, Args]:
    """A length of time as said and as the timer's parameters, digit for digit."""
    rng = scene.rng

    def part(n: int, unit: str) -> str:
        if n == 1 and rng.random() < 0.6:
            return f"{'an' if unit == 'hour' else 'a'} {unit}"
        return f"{number(scene, n)} {unit}{'s' if n != 1 else ''}"

    r = rng.random()
    if r < 0.5:
        n = rng.choice((rng.randint(1, 20), rng.randint(1, 12) * 5, rng.randint(1, 90)))
        return part(n, "minute"), {"minutes": n}
    if r < 0.62:
        n = rng.choice((rng.randint(1, 12) * 5, rng.randint(2, 90)))
        return part(n, "second"), {"seconds": n}
    if r < 0.76:
        n = rng.randint(1, 8)
        return part(n, "hour"), {"hours": n}
    if r < 0.88:
        h, m = rng.randint(1, 5), rng.randint(1, 11) * 5
        return f"{part(h, 'hour')} and {part(m, 'minute')}", {"hours": h, "minutes": m}
    if r < 0.94:
        m, sec = rng.randint(1, 20), rng.randint(1, 11) * 5
        return f"{part(m, 'minute')} and {part(sec, 'second')}", {"minutes": m, "seconds": sec}
    return rng.choice((("half an hour", {"minutes": 30}), ("a quarter of an hour", {"minutes": 15}), ("an hour and a half", {"hours": 1, "minutes": 30})))


def timer(scene: Scene) -> Command:
    said, args = duration(scene)
    if scene.rng.random() < 0.4:
        x = words.timer_name(scene.rng, scene.held_out)
        return Command(scene.pattern(s.NAMED_TIMER).format(v=said, x=x), [("HassStartTimer", dict(sorted((args | {"name": x}).items())))], "timers", "timer", x, said)
    return Command(scene.pattern(s.TIMER).format(v=said), [("HassStartTimer", args)], "timers", "timer", "", said)


def cancel_timer(scene: Scene) -> Command:
    rng = scene.rng
    r = rng.random()
    if r < 0.35:
        return Command(scene.pattern(s.CANCEL), [("HassCancelTimer", {})], "timers", "cancel")
    if r < 0.7:
        x = words.timer_name(rng, scene.held_out)
        return Command(scene.pattern(s.CANCEL_NAMED).format(x=x), [("HassCancelTimer", {"name": x})], "timers", "cancel", x)
    unit, most = rng.choice((("minute", 60), ("minute", 60), ("hour", 6), ("second", 90)))
    n = rng.randint(1, most)
    return Command(scene.pattern(s.CANCEL_TIME).format(v=f"{number(scene, n)} {unit}"), [("HassCancelTimer", {f"start_{unit}s": n})], "timers", "cancel")


def list_add(scene: Scene) -> Command | None:
    device = scene.device("todo")
    if not device:
        return None
    rng = scene.rng
    x = words.item(rng, scene.held_out) if rng.random() < 0.8 else words.made_up(rng, scene.held_out).lower()
    name = device.name if rng.random() < 0.12 else device.name.lower()
    article = rng.choice(("the ", "my ", "the "))
    say = scene.pattern(s.LIST_ADD).format(x=x, n=article + name)
    return Command(say, [("HassListAddItem", {"item": x, "name": device.name})], "lists", "list", x, device=device)


def broadcast(scene: Scene) -> Command:
    x = words.message(scene.rng, scene.held_out)
    return Command(scene.pattern(s.BROADCAST).format(x=x), [("HassBroadcast", {"message": x})], "broadcasts", "broadcast", x)


# Questions, answered with what the tool tells: see answers.py.

_STATES = {"light": ("on", "off"), "switch": ("on", "off"), "fan": ("on", "off"), "cover": ("open", "closed"), "lock": ("locked", "unlocked"),
           "binary_sensor": ("open", "closed"), "media_player": ("playing", "paused"), "vacuum": ("docked", "cleaning")}
QUANTITIES = {"temperature": "temperature", "humidity": "humidity", "battery": "battery level", "power": "power"}


def is_state(scene: Scene) -> Command | None:
    device = scene.device(*_STATES)
    if not device or device.device_class == "motion":
        return None
    v = scene.rng.choice(_STATES[device.domain])
    say = scene.pattern(s.IS_STATE).format(n=spoken(scene, device.name), v=v)
    return Command(say, [("HassGetState", {"name": device.name})], "questions", "is", device.name, v, device)


def what_state(scene: Scene) -> Command | None:
    device = scene.device(*_STATES, "climate")
    if not device:
        return None
    say = scene.pattern(s.WHAT_STATE).format(n=spoken(scene, device.name))
    return Command(say, [("HassGetState", {"name": device.name})], "questions", "what", device.name, device=device)


def sensor(scene: Scene) -> Command | None:
    device = scene.device("sensor")
    if not device:
        return None
    say = scene.pattern(s.SENSOR).format(n=spoken(scene, device.name))
    return Command(say, [("HassGetState", {"name": device.name})], "questions", "what", device.name, device=device)


def area_sensor(scene: Scene) -> Command | None:
    area = scene.area()
    quantity = "temperature" if scene.rng.random() < 0.6 else scene.rng.choice(list(QUANTITIES))
    if f"{area} {quantity}".lower() in scene.home.names:
        return None
    warm = quantity == "temperature" and scene.rng.random() < 0.4
    say = _fill(scene.pattern(s.AREA_WARM if warm else s.AREA_SENSOR), area=area, scene=scene, k=QUANTITIES[quantity])
    args = {"area": area, "device_class": [quantity], "domain": ["sensor"]}
    return Command(say, [("HassGetState", args)], "questions", "area", area, quantity, area=area)


def area_lights(scene: Scene) -> Command:
    area = scene.area()
    return Command(_fill(scene.pattern(s.AREA_LIGHTS_ON), area=area, scene=scene), [("HassGetState", {"area": area, "domain": ["light"]})], "questions", "any",
                   area, area=area)


Maker = Callable[[Scene], Command | None]
ACTIONS: dict[Maker, int] = {
    device_on_off: 16, area_on_off: 9, area_all_off: 2, floor_on_off: 8, lock: 4, cover: 4, area_cover: 3, scene_on: 4, brightness: 7, color: 5,
    temperature: 8, position: 4, volume: 6, media: 6, vacuum: 4, timer: 7, cancel_timer: 4, list_add: 6, broadcast: 4,
}
# In training what is seldom possible, for want of the tool or the thing, stands out where it is: so that of each kind there is enough.
TRAINED_ACTIONS = ACTIONS | {
    device_on_off: 9, area_on_off: 4, floor_on_off: 14, lock: 5, cover: 5, area_cover: 2, scene_on: 6, brightness: 13, color: 10, temperature: 13,
    position: 16, volume: 14, media: 8, vacuum: 11, timer: 6, cancel_timer: 3, list_add: 24,
}
QUESTIONS: dict[Maker, int] = {is_state: 5, what_state: 3, sensor: 3, area_sensor: 4, area_lights: 2}


def command(scene: Scene, makers: dict[Maker, int]) -> Command:
    """A command that the home allows, by weight."""
    while True:
        made = scene.rng.choices(list(makers), list(makers.values()))[0](scene)
        if made:
            return made

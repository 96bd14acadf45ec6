"""The tools of a home: Home Assistant's built-in intents as it offers them to language models.

A declaration varies from home to home in what a real one varies in: its wording, which optional parameters are
listed, whether parameters are described, and a prefix before the name.
"""

import json
import random
from typing import Any

from words import common, made_up, title

STRING: dict[str, Any] = {"type": "string"}
STRINGS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
INTEGER: dict[str, Any] = {"type": "integer"}
NUMBER: dict[str, Any] = {"type": "number"}

# Which things a call is for.
TARGET = {"name": STRING, "area": STRING, "floor": STRING}
WIDE_TARGET = TARGET | {"domain": STRINGS, "device_class": STRINGS}

PERCENT = {"type": "integer", "minimum": 0, "maximum": 100}

# Name -> (parameters, required, descriptions to choose from).
TOOLS: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "HassTurnOn": (WIDE_TARGET, [], [
        "Turns on, opens or presses a device. Locks a lock.", "Turns on or opens a device or entity. For locks, this locks.",
        "Switches something on, opens it, activates a scene or locks a lock.", "Turn on"]),
    "HassTurnOff": (WIDE_TARGET, [], [
        "Turns off or closes a device. Unlocks a lock.", "Turns off or closes a device or entity. For locks, this unlocks.",
        "Switches something off, closes it or unlocks a lock.", "Turn off"]),
    "HassLightSet": (TARGET | {"domain": STRINGS, "color": STRING, "temperature": INTEGER, "brightness": PERCENT}, [], [
        "Sets the brightness percentage or color of a light.", "Sets brightness or color of a light", "Changes a light"]),
    "HassClimateSetTemperature": (TARGET | {"temperature": NUMBER}, ["temperature"], [
        "Sets the target temperature of a climate device or area.", "Sets the temperature of a thermostat or room",
        "Sets a target temperature"]),
    "HassGetState": (WIDE_TARGET | {"state": STRING}, [], [
        "Gets or checks the state of an entity.", "Tells the state of a device, a sensor or an area", "Reads a state"]),
    "HassSetPosition": (WIDE_TARGET | {"position": PERCENT}, ["position"], [
        "Sets the position of a device or entity.", "Moves a cover to a position in percent", "Sets a position"]),
    "HassSetVolume": (TARGET | {"volume_level": PERCENT}, ["volume_level"], [
        "Sets the volume percentage of a media player.", "Sets the volume of a player or area", "Sets the volume"]),
    "HassMediaPause": (TARGET, [], ["Pauses a media player.", "Pauses what is playing", "Pause"]),
    "HassMediaUnpause": (TARGET, [], ["Resumes a media player.", "Goes on playing", "Resume"]),
    "HassMediaNext": (TARGET, [], ["Skips a media player to the next item.", "Goes to the next track", "Next"]),
    "HassStartTimer": ({"hours": INTEGER, "minutes": INTEGER, "seconds": INTEGER, "name": STRING}, [], [
        "Starts a new timer.", "Starts a timer, with a name if one is given", "Starts a timer"]),
    "HassCancelTimer": ({"start_hours": INTEGER, "start_minutes": INTEGER, "start_seconds": INTEGER, "name": STRING, "area": STRING}, [], [
        "Cancels a timer.", "Stops a timer, found by its name or its time", "Cancels a timer"]),
    "HassListAddItem": ({"item": STRING, "name": STRING}, ["item", "name"], [
        "Adds an item to a todo list.", "Puts an item on a list", "Add to a list"]),
    "HassVacuumStart": (TARGET, [], ["Starts a vacuum cleaner.", "Starts a vacuum", "Starts cleaning"]),
    "HassBroadcast": ({"message": STRING}, ["message"], [
        "Broadcasts a message through the home.", "Says a message on all speakers", "Announce"]),
}

PARAMETER_TEXTS = {
    "name": ["Name of a device", "Name of the entity"], "area": ["Name of an area", "The room"], "floor": ["Name of a floor"],
    "brightness": ["Brightness in percent"], "color": ["Name of a color"], "temperature": ["Temperature in degrees"],
    "position": ["Position in percent"], "volume_level": ["Volume in percent"], "item": ["What to add"], "message": ["What to say"],
}

HELD_OUT_PREFIXES = ["hass__", "api_"]


def prefix(rng: random.Random) -> str:
    """What a client may put before names: mostly letters of no meaning, so that it is read from the declarations."""
    r = rng.random()
    if r < 0.2:
        return rng.choice(("intent__", "assist__", "home__", "ha_", "tool_", "homeassistant_", "mcp__home__"))
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(1, 6))) if r < 0.6 else made_up(rng, False).lower()
             for _ in range(1 if rng.random() < 0.8 else 2)]
    made = "".join(word + rng.choice(("_", "_", "__", "__", "-", ".")) for word in words)
    return made if made not in HELD_OUT_PREFIXES else "x_"


def declaration(name: str, prefix: str = "", rng: random.Random | None = None, floors: bool = True) -> dict[str, Any]:
    """The function that a client declares; without `rng` in its full form, `floors` says whether homes have any."""
    parameters, required, texts = TOOLS[name]
    properties = {key: dict(value) for key, value in parameters.items()}
    text = texts[0]
    if rng:
        text = rng.choice(texts)
        if rng.random() < 0.5:
            properties.pop("state", None)
        if not floors:
            properties.pop("floor", None)
        if rng.random() < 0.15:
            for key in properties:
                if key in PARAMETER_TEXTS:
                    properties[key]["description"] = rng.choice(PARAMETER_TEXTS[key])
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    return {"type": "function", "function": {"name": prefix + name, "description": text, "parameters": schema}}


def other(rng: random.Random) -> dict[str, Any]:
    """A tool of which the model knows nothing, and which it leaves alone."""
    name = rng.choice(("GetLiveContext", "HassCancelAllTimers", "HassRespond", "Get" + title(rng, 1), "Hass" + title(rng, 2).replace(" ", "")))
    text = " ".join(common(rng) for _ in range(rng.randint(2, 12))).capitalize()
    properties = {common(rng): {"type": rng.choice(("string", "integer"))} for _ in range(rng.choice((0, 0, 1, 2)))}
    return {"type": "function", "function": {"name": name, "description": text, "parameters": {"type": "object", "required": [], "properties": properties}}}


def assist(declared: dict[str, Any]) -> dict[str, Any]:
    """A declaration as Home Assistant makes it: lists without what their items are, and an empty list of what is required."""
    function = declared["function"]
    parameters = function["parameters"]
    properties = {key: {k: v for k, v in value.items() if k != "items"} for key, value in parameters["properties"].items()}
    parameters = {"type": "object", "required": parameters.get("required", []), "properties": properties}
    return {"type": "function", "function": function | {"parameters": parameters}}


def main() -> None:
    """Writes the declarations of `pled demo`, whose home has no floors: `python tools.py > ../../src/cli/demo/tools.json`."""
    made = [declaration(name)["function"] for name in TOOLS]
    for function in made:
        function["parameters"]["properties"].pop("floor", None)
    print("[\n" + ",\n".join(" " + json.dumps(function) for function in made) + "\n]")


if __name__ == "__main__":
    main()

"""What tools give back, in the shapes that clients use, and what the model then says."""

import random
from typing import Any

import sentences as s
import words
from commands import Command
from homes import SENSOR_CLASSES, Home

Result = dict[str, Any] | str


def action_result(rng: random.Random, command: Command, call: tuple[str, dict[str, Any]], fails: bool, assist: bool = False) -> Result:
    """The result of an action: Home Assistant's own shape, a plain object, or a word. `assist`: to the letter Home Assistant's."""
    if assist:
        return _assist_result(rng, call[1], fails)
    name = str(call[1].get("name") or call[1].get("area") or "")
    r = rng.random()
    if fails:
        if r < 0.4:
            return {"success": False, "error": rng.choice(("timeout", "device is unavailable", "unknown error", "not reachable"))}
        if r < 0.8:
            return {"response_type": "error", "speech": {}, "data": {"code": rng.choice(("failed_to_handle", "no_valid_targets"))}}
        return rng.choice(("error: timeout", "failed", "error", "device is unavailable"))
    if r < 0.4:
        return {"success": True}
    if r < 0.8:
        targets = [{"name": name, "type": "area" if "area" in call[1] and "name" not in call[1] else "entity"}] if name else []
        result: dict[str, Any] = {"response_type": "action_done", "data": {"success": targets, "failed": []}}
        return result | ({"speech": {}} if rng.random() < 0.5 else {})
    return rng.choice(("ok", "done", "success"))


def _assist_result(rng: random.Random, arguments: dict[str, Any], fails: bool) -> Result:
    """What Home Assistant's intents give: all keys, and of what was reached also the things inside."""
    if fails:
        return {"speech": {}, "response_type": "error", "data": {"code": rng.choice(("failed_to_handle", "no_valid_targets", "no_intent_match"))}}
    reached = []
    for kind in ("area", "floor", "name"):
        if kind in arguments:
            name = str(arguments[kind])
            place = {"name": name, "type": "entity" if kind == "name" else kind}
            domain = (arguments.get("domain") or [rng.choice(("light", "switch", "cover", "media_player", "climate"))])[0]
            reached.append(place | {"id": f"{domain}.{_id(name)}" if kind == "name" else _id(name)})
            if kind != "name":
                for _ in range(rng.choice((0, 1, 1, 2, 3))):
                    inside = f"{name} {words.title(rng, 1)}" if rng.random() < 0.5 else words.title(rng, 2)
                    reached.append({"name": inside, "type": "entity", "id": f"{domain}.{_id(inside)}"})
    data: dict[str, Any] = {"targets": [], "success": reached, "failed": []}
    return {"speech": {}, "response_type": "action_done", "data": data}


def _id(name: str) -> str:
    """A name as Home Assistant makes ids of it."""
    return "".join(c if c.isalnum() else "_" for c in name.lower())


def _reading(rng: random.Random, device_class: str) -> str:
    unit, low, high, decimals = SENSOR_CLASSES[device_class]
    value = f"{rng.uniform(low, high):.{decimals}f}"
    return f"{value}%" if unit == "%" else f"{value} {unit}"


def query_result(rng: random.Random, command: Command, home: Home) -> tuple[Result, str]:
    """What a question's tool gives, and the answer in words."""
    if command.action == "any":
        lights = home.in_area(command.area or "", "light") or []
        states = [(d.name, rng.choice(("on", "off"))) for d in lights] or [("Light", rng.choice(("on", "off")))]
        lit = any(state == "on" for _, state in states)
        answer = f"Yes, in {command.area} a light is on." if lit else f"No, in {command.area} no light is on."
        return _listed(rng, states), answer
    if command.action == "area":
        state = _reading(rng, command.value)
        return _listed(rng, [(f"{command.area} {command.value.capitalize()}", state)]), f"It's {state} in {command.area}."
    device = command.device
    assert device
    state = device.state if rng.random() < 0.5 and device.domain != "sensor" else _fresh(rng, command)
    result = _listed(rng, [(device.name, state)])
    if command.action == "is":
        return result, f"Yes, {device.name} is {state}." if state == command.value else f"No, {device.name} is {state}."
    return result, f"{device.name} is {state}."


def _fresh(rng: random.Random, command: Command) -> str:
    device = command.device
    assert device
    if device.domain == "sensor":
        return _reading(rng, device.device_class or "temperature")
    pairs = {"cover": ("open", "closed"), "lock": ("locked", "unlocked"), "binary_sensor": ("open", "closed"), "media_player": ("playing", "paused"),
             "vacuum": ("docked", "cleaning"), "climate": ("heat", "off")}
    return rng.choice(pairs.get(device.domain, ("on", "off")))


def _listed(rng: random.Random, states: list[tuple[str, str]]) -> Result:
    items = [{"name": name, "state": state} for name, state in states]
    r = rng.random()
    if r < 0.3 and len(items) == 1:
        return items[0]
    if r < 0.5 and len(items) == 1:
        return {"state": items[0]["state"]}
    if r < 0.75:
        return {"response_type": "query_answer", "data": {"success": items, "failed": []}}
    if r < 0.9:
        return {"success": True, "result": items}
    return "; ".join(f"{name}: {state}" for name, state in states)


def confirmation(command: Command) -> str:
    """What is said of a command that was carried out."""
    if command.action == "volume" and command.value == 0:
        return "Muted."
    return s.CONFIRM[command.action].format(n=command.subject, v=command.value, x=command.subject)

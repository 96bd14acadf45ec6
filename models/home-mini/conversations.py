"""Conversations: a home, its tools, and turns of commands, questions, corrections and small talk.

Run as a program it writes the held-out cases: `python conversations.py | gzip -9n > heldout.jsonl.gz`.
"""

import json
import random
from collections.abc import Iterator
from typing import Any

import answers
import commands as c
import offtopic
import sentences as s
import tools
from commands import Call, Command, Scene
from homes import Home, describe, home

Message = dict[str, Any]


class Talk:
    """One conversation as it grows. The messages have the shape of OpenAI's and transformers' chat messages."""

    def __init__(self, rng: random.Random, held_out: bool, assist: bool = False):
        """`assist`: instructions, declarations and results as Home Assistant's assist API makes them."""
        self.rng = rng
        self.assist = assist
        self.home: Home = home(rng, held_out)
        self.scene = Scene(rng, self.home, held_out)
        if held_out:
            self.prefix = rng.choice(tools.HELD_OUT_PREFIXES) if rng.random() < 0.15 else ""
        else:
            self.prefix = tools.prefix(rng) if rng.random() < 0.3 else ""
        names = list(tools.TOOLS)
        r = rng.random()
        if r < 0.02:
            names = []
        elif r < 0.87:
            # A home's domains need some tools more than others.
            names = rng.sample(names, rng.choice((2, 3, 4, 5, 6, 7, 8, 10)))
            if not held_out and rng.random() < 0.5 and "HassGetState" not in names:
                names.append("HassGetState")
            if rng.random() < 0.7:
                names = list(dict.fromkeys(["HassTurnOn", "HassTurnOff", *names]))
        if rng.random() < 0.5:
            rng.shuffle(names)
        self.tools = names
        self.declared = [tools.declaration(n, self.prefix, rng, bool(self.home.floors) or rng.random() < 0.5) for n in names]
        if assist:
            self.declared = [tools.assist(one) for one in self.declared] + [tools.other(rng) for _ in range(rng.choice((1, 1, 2, 3)))]
            rng.shuffle(self.declared)
        text = describe(rng, self.home, assist)
        self.messages: list[Message] = [{"role": "system", "content": text}] if text else []

    def polite(self, text: str) -> str:
        """Words around a sentence, capitals and stops, as people and speech recognisers write them."""
        rng = self.rng
        r = rng.random()
        if r < 0.12:
            text = rng.choice(s.POLITE_BEFORE) + text
        elif r < 0.22:
            text += rng.choice(s.POLITE_AFTER)
        r = rng.random()
        if r < 0.3:
            text = text[0].upper() + text[1:]
        if r < 0.2 and text[-1] not in ".?!":
            question = text.lower().startswith(("is ", "are ", "what", "how", "can ", "could ", "would ", "did ", "do ", "who", "which"))
            text += "?" if question else rng.choice((".", ".", ".", "!"))
        return text

    def say(self, text: str, polite: bool = True, free_end: bool = False) -> None:
        """`free_end`: the sentence ends in words of the user's own, to which anything after it would belong."""
        if not self.scene.held_out:
            text = self.surrounded(text, free_end)
        self.messages.append({"role": "user", "content": self.polite(text) if polite else text})

    def surrounded(self, text: str, free_end: bool) -> str:
        """Words before and after a sentence that mean nothing for it, so that they are learned to be passed over."""
        rng = self.rng
        r = rng.random()
        if r < 0.08:
            text = rng.choice(s.OPENERS) + text
        elif r < 0.12:
            text = f"{c.words.common(rng)}{rng.choice((' ', ', ', ', '))}{text}"
        r = rng.random()
        if r < 0.08 and not free_end:
            text += rng.choice(s.CLOSERS)
        return text

    def answer(self, text: str) -> None:
        self.messages.append({"role": "assistant", "content": text})

    def can(self, command: Command) -> bool:
        return all(tool in self.tools for tool, _ in command.calls)

    def call(self, calls: list[Call], results: list[answers.Result]) -> None:
        """The model's calls and what came back."""
        made = [{"id": f"call_{len(self.messages)}_{i}", "type": "function", "function": {"name": self.prefix + tool, "arguments": args}}
                for i, (tool, args) in enumerate(calls)]
        self.messages.append({"role": "assistant", "content": "", "tool_calls": made})
        for one, result in zip(made, results):
            content = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
            self.messages.append({"role": "tool", "tool_call_id": one["id"], "content": content})

    def do(self, command: Command) -> None:
        """A command's calls, their results and the word on them; or that there is no tool."""
        if not self.can(command):
            self.answer(s.NO_TOOL)
            return
        if command.category == "questions":
            result, words = answers.query_result(self.rng, command, self.home)
            self.call(command.calls, [result])
            self.answer(words)
            return
        fails = self.rng.random() < 0.06
        self.call(command.calls, [answers.action_result(self.rng, command, call, fails, self.assist) for call in command.calls])
        self.answer(s.FAILED if fails else answers.confirmation(command))

    def pick(self, makers: dict[c.Maker, int]) -> Command:
        """A command, nearly always one for which there is a tool."""
        if makers is c.ACTIONS and not self.scene.held_out:
            makers = c.TRAINED_ACTIONS
        for _ in range(12):
            made = c.command(self.scene, makers)
            if self.can(made) or self.rng.random() < 0.015:
                return made
        return c.command(self.scene, makers)

    # Turns.

    def single(self) -> Command:
        made = self.pick(c.ACTIONS)
        self.say(made.say, free_end=made.action in ("broadcast", "list", "timer"))
        self.do(made)
        return made

    def question(self) -> Command:
        made = self.pick(c.QUESTIONS)
        self.say(made.say)
        self.do(made)
        return made

    def inquired(self) -> None:
        """A question; where no tool answers it, mostly a command instead."""
        if "HassGetState" in self.tools or self.rng.random() < 0.15:
            self.question()
        else:
            self.single()

    def several(self) -> list[Call] | None:
        """Two or three commands in a sentence. Gives the calls, or None where the tools do not suffice."""
        rng = self.rng
        shared = rng.random() < 0.35 and self._shared()
        if shared:
            (say, calls), free_end = shared, False
        else:
            made = [self.pick(c.ACTIONS) for _ in range(2 if rng.random() < 0.8 else 3)]
            calls = [call for one in made for call in one.calls]
            # A message and a list's item would swallow what follows.
            swallow = any(one.action in ("broadcast", "list") for one in made[:-1])
            if swallow or not all(map(self.can, made)) or len({json.dumps(call) for call in calls}) < len(calls):
                return None
            say = made[0].say
            for one in made[1:]:
                say += self.join() + one.say
            free_end = made[-1].action in ("broadcast", "list")
        self.say(say, free_end=free_end)
        self.call(calls, [answers.action_result(rng, None, call, False, self.assist) for call in calls])  # type: ignore[arg-type]
        self.answer(s.DONE)
        return calls

    def join(self) -> str:
        """What stands between two commands; in training now and then words that nobody would put there."""
        rng = self.rng
        if not self.scene.held_out and rng.random() < 0.22:
            between = " ".join(c.words.common(rng) for _ in range(rng.choice((1, 1, 2))))
            return f"{rng.choice((' ', ', ', ', and '))}{between} "
        return self.scene.pattern(s.JOINS)

    def _shared(self) -> tuple[str, list[Call]] | None:
        """One verb for two things: "turn off the desk lamp and the radio", "dim the lights in the hall and the den to 20%"."""
        rng, scene = self.rng, self.scene
        on = rng.random() < 0.5
        tool = "HassTurnOn" if on else "HassTurnOff"
        if tool not in self.tools:
            return None
        if rng.random() < 0.5:
            devices = self.home.of("light", "switch", "fan", "media_player")
            if len(devices) < 2:
                return None
            both = rng.sample(devices, 2)
            n = " and ".join(c.spoken(scene, d.name) for d in both)
            return scene.pattern(s.ON if on else s.OFF).format(n=n), [(tool, {"name": d.name}) for d in both]
        if len(self.home.areas) < 2:
            return None
        areas = rng.sample(self.home.areas, 2)
        if any(f"{a} lights".lower() in self.home.names for a in areas):
            return None
        a = f"{areas[0].lower()} and the {areas[1].lower()}"
        if "'" in a:
            return None
        verb = rng.choice(("turn on the lights in the {a}", "switch on the lights in the {a}", "lights on in the {a}"))
        verb = verb if on else verb.replace(" on", " off")
        return verb.format(a=a), [(tool, {"area": area, "domain": ["light"]}) for area in areas]

    def corrected(self) -> Command | None:
        """A command and what follows on it. Gives the last one, or None where the home has nothing for it."""
        rng = self.rng
        first = self.pick(c.ACTIONS)
        if not self.can(first):
            return None
        then = self.follow(first)
        if not then or not self.can(then):
            return None
        self.say(first.say, free_end=first.action in ("broadcast", "list", "timer"))
        self.do(first)
        self.say(then.say, polite=rng.random() < 0.3)
        self.do(then)
        return then

    def follow(self, first: Command) -> Command | None:
        """What may be said after a command: the other one, another value, also that, back again."""
        rng, scene = self.rng, self.scene
        tool, args = first.calls[0]
        kinds = []
        if first.device and first.action not in ("list", "broadcast", "scene"):
            kinds += ["other", "other", "meant", "also"]
        if first.area and not first.device:
            kinds += ["meant", "also"]
        if first.action in ("brightness", "temperature", "position", "volume", "color") and first.value != 0 or (first.action == "timer" and "name" not in args):
            kinds += ["instead", "instead", "instead"]
        if first.action in ("on", "off") and (first.device or first.area):
            kinds += ["back"]
        if not kinds:
            return None
        kind = rng.choice(kinds)
        if kind == "other":
            device = first.device
            assert device
            same = [d for d in self.home.of(device.domain) if d is not device]
            near = [d for d in same if d.area == device.area]
            others = near if len(near) == 1 else same
            if len(others) != 1:
                return None
            return self._again(first, {"name": others[0].name}, scene.pattern(s.OTHER_ONE), others[0].name)
        if kind in ("meant", "also"):
            patterns = s.MEANT if kind == "meant" else s.ALSO
            if first.device:
                others = [d for d in self.home.of(first.device.domain) if d is not first.device]
                if not others:
                    return None
                other = rng.choice(others)
                return self._again(first, {"name": other.name}, scene.pattern(patterns).format(n=c.spoken(scene, other.name)), other.name)
            areas = [a for a in self.home.areas if a != first.area and "'" not in a]
            if not areas:
                return None
            area = rng.choice(areas)
            n = rng.choice(("the {}", "in the {}", "the {}")).format(area.lower())
            return self._again(first, {"area": area}, scene.pattern(patterns).format(n=n), area)
        if kind == "back":
            action = "off" if first.action == "on" else "on"
            tool = "HassTurnOff" if first.action == "on" else "HassTurnOn"
            return Command(scene.pattern(s.BACK).format(v=action), [(tool, dict(args))], "corrections", action, first.subject, device=first.device,
                           area=first.area)
        return self._instead(first)

    def _again(self, first: Command, target: dict[str, str], say: str, subject: str) -> Command:
        tool, args = first.calls[0]
        changed = dict(sorted((args | target).items()))
        if "domain" in args and "area" in target:
            subject = f"{first.subject.rsplit(' in ', 1)[0]} in {target['area']}"
        elif first.action == "off" and first.subject.startswith("everything"):
            subject = f"everything in {target['area']}"
        return Command(say, [(tool, changed)], "corrections", first.action, subject, first.value)

    def _instead(self, first: Command) -> Command:
        rng, scene = self.rng, self.scene
        tool, args = first.calls[0]
        if first.action == "timer":
            said, changed = c.duration(scene)
            return Command(scene.pattern(s.INSTEAD).format(v=said), [(tool, changed)], "corrections", "timer", "", said)
        key = {"brightness": "brightness", "temperature": "temperature", "position": "position", "volume": "volume_level", "color": "color"}[first.action]
        if key == "color":
            value: Any = c.words.color(rng, scene.held_out)
            said = value
        else:
            value = c.degrees(rng) if key == "temperature" else c.percent(rng)
            unit = rng.choice(("", "", " degrees" if key == "temperature" else " percent"))
            said = c.number(scene, value) + unit
        return Command(scene.pattern(s.INSTEAD).format(v=said), [(tool, dict(sorted((args | {key: value}).items())))], "corrections", first.action,
                       first.subject, value)

    def decline(self) -> None:
        self.say(offtopic.request(self.rng))
        self.answer(s.DECLINE)

    def absent(self) -> bool:
        """A device or a room that the home lacks."""
        rng = self.rng
        elsewhere = home(rng, self.scene.held_out)
        scene = Scene(rng, elsewhere, self.scene.held_out)
        made = c.command(scene, c.ACTIONS | c.QUESTIONS)
        names = [a.lower() for a in self.home.areas] + list(self.home.names) + [f.lower() for f in self.home.floors]
        target = str(made.calls[0][1].get("name") or made.calls[0][1].get("area") or made.calls[0][1].get("floor") or "").lower()
        if made.action in ("timer", "cancel", "broadcast") or not target or not self.can(made):
            return False
        if any(target in name or name in target for name in names) or (made.device and made.device.area and made.device.area in self.home.areas):
            return False
        self.say(made.say)
        self.answer(s.NO_DEVICE)
        return True

    def about(self) -> None:
        """What a thing is, or where. To find a name in the list and to read what stands beside it is what commands need; here the
        answer is nothing but that."""
        rng, home = self.rng, self.home
        places = [(area, "a room") for area in home.areas] + [(floor, "a floor") for floor in home.floors]
        if not home.devices or rng.random() < 0.2:
            name, what = rng.choice(places)
            pattern, words = rng.choice(s.THING), f"{name} is {what}."
        else:
            device = rng.choice(home.devices)
            name = device.name
            if rng.random() < 0.7 or not device.area:
                pattern, words = rng.choice(s.KIND_OF), f"{name} is a {device.domain}."
            else:
                pattern, words = rng.choice(s.PLACE_OF), f"{name} is in {device.area}."
        self.say(pattern.format(n=c.spoken(self.scene, name)))
        self.answer(words)

    def small_talk(self) -> None:
        patterns, reply = self.rng.choice(s.SMALL_TALK)
        self.say(self.scene.pattern(patterns), polite=self.rng.random() < 0.4)
        self.answer(reply)

    def case(self, category: str, calls: list[Call] | None = None, text: str | None = None) -> dict[str, Any]:
        expected = [{"name": self.prefix + tool, "arguments": args} for tool, args in calls or []]
        return {"category": category, "tools": self.declared, "messages": self.messages, "calls": expected, "text": text}


def turn(talk: Talk, about: float) -> None:
    """A turn of training, or two that belong together; `about`: the share of those that ask what a thing is."""
    rng = talk.rng
    if rng.random() < about:
        talk.about()
        return
    r = rng.random()
    if r < 0.42:
        talk.single()
    elif r < 0.56:
        talk.inquired()
    elif r < 0.73:
        talk.several()
    elif r < 0.85:
        talk.corrected()
    elif r < 0.92:
        talk.decline()
    elif r < 0.97:
        talk.absent()
    else:
        talk.small_talk()


def conversation(rng: random.Random, assist: float, about: float) -> dict[str, Any]:
    """A conversation of several turns that share the home; `assist`: how often as Home Assistant has them, `about`: as in `turn`."""
    talk = Talk(rng, held_out=False, assist=assist > 0 and rng.random() < assist)
    for _ in range(rng.choice((6, 8, 10, 12, 14)) // (2 if talk.assist else 1)):
        turn(talk, about)
    return talk.case("train")


def generate(seed: int, split: str = "train", assist: float = 0.0, about: float = 0.1) -> Iterator[dict[str, Any]]:
    """Endless conversations of the training kind, as `conversation` says, or the held-out cases (those of `seed` 0 are the published ones)."""
    rng = random.Random(f"{split} {seed}")
    if split == "heldout":
        yield from held_out_cases(rng)
    while split == "train":
        made = conversation(rng, assist, about)
        if any(m["role"] == "assistant" for m in made["messages"]):
            yield made


# How many talks a home gets, of which training takes what fits.
MOST_BRANCHES = 24


def trees(seed: int, assist: float, about: float) -> Iterator[dict[str, Any]]:
    """Endless homes with their tools, and of each many short talks that know nothing of each other: a `case` whose messages are the system's, and
    `branches`, lists of the messages that follow on them."""
    rng = random.Random(f"trees {seed}")
    while True:
        talk = Talk(rng, held_out=False, assist=assist > 0 and rng.random() < assist)
        stem, branches = talk.messages, []
        for _ in range(MOST_BRANCHES):
            talk.messages = stem[:]
            for _ in range(rng.choice((1, 1, 1, 1, 1, 1, 1, 2, 2, 4))):
                turn(talk, about)
            branch = talk.messages[len(stem) :]
            calls = [i for i, m in enumerate(branch) if m.get("tool_calls")]
            # What is said after a call is soon learned: half of the talks end with their last call.
            if calls and rng.random() < 0.5:
                branch = branch[: calls[-1] + 1]
            if branch:
                branches.append(branch)
        talk.messages = stem
        yield talk.case("train") | {"branches": branches}


def held_out_cases(rng: random.Random, per_category: int = 30) -> Iterator[dict[str, Any]]:
    """Cases with rooms, names and patterns that training never saw. The last user's turn is to be answered."""
    for category in sorted({m.__name__ for m in c.ACTIONS} | {m.__name__ for m in c.QUESTIONS}):
        maker = {m.__name__: m for m in c.ACTIONS | c.QUESTIONS}[category]
        done = 0
        while done < per_category:
            talk = Talk(rng, held_out=True)
            made = maker(talk.scene)
            if not made or not talk.can(made):
                continue
            talk.say(made.say)
            done += 1
            yield talk.case(made.category, made.calls)
    for category, turn in (("several commands", Talk.several), ("corrections", Talk.corrected)):
        done = 0
        while done < per_category * 4:
            talk = Talk(rng, held_out=True)
            made = turn(talk)
            if not made:
                continue
            last = max(i for i, m in enumerate(talk.messages) if m["role"] == "user")
            talk.messages = talk.messages[: last + 1]
            done += 1
            yield talk.case(category, made if isinstance(made, list) else made.calls)
    done = 0
    while done < per_category * 2:
        talk = Talk(rng, held_out=True)
        made = talk.question()
        if not talk.can(made):
            continue
        text = talk.messages.pop()["content"]
        done += 1
        yield talk.case("answers from results", text=text)
    done = 0
    while done < per_category:
        talk = Talk(rng, held_out=True)
        if talk.absent():
            text = talk.messages.pop()["content"]
            done += 1
            yield talk.case("absent devices", text=text)
    for _ in range(per_category):
        talk = Talk(rng, held_out=True)
        talk.small_talk()
        text = talk.messages.pop()["content"]
        yield talk.case("small talk", text=text)
    for sentences in offtopic.HELD_OUT.values():
        for sentence in sentences:
            talk = Talk(rng, held_out=True)
            talk.say(sentence, polite=False)
            yield talk.case("out of reach", text=s.DECLINE)


if __name__ == "__main__":
    for case in generate(0, "heldout"):
        print(json.dumps(case, ensure_ascii=False))

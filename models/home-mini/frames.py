"""Sentence patterns by combination: what is asked for, in the frames in which people ask.

Writing every pattern down gives some hundred, and a small model learns them by heart. Here the core of a request
("lock {n}", or of {n} that it be "locked") stands once and the ways to ask for anything stand once; their products are
thousands, so that a way of asking is learned apart from what is asked for. No product is a held-out pattern, nor is the
core of one: those stay unseen.
"""

from collections.abc import Collection
from typing import NamedTuple


class Patterns(NamedTuple):
    """Patterns of an intent: written down for training, held out from it, and combined for training."""

    train: list[str]
    held_out: list[str]
    combined: list[str] = []


# {c}: a request in the imperative.
REQUESTS = """{c}|please {c}|can you {c}|could you {c}|would you {c}|go ahead and {c}|i want you to {c}|i need you to {c}|let's {c}|
you should {c}|i'd like you to {c}|be so kind and {c}|{c} for me|{c} right away|just {c}|kindly {c}|it's time to {c}|time to {c}|
don't forget to {c}|why don't you {c}|help me and {c}|could you kindly {c}|would you please {c}|can you just {c}|now {c}|
i want to {c}|i would like to {c}|can we {c}|may i ask you to {c}|you can {c} now|quickly {c}|will you {c}|do {c}|
i think you should {c}|somebody should {c}|it would be nice if you {c}|{c} if you can|try to {c}|we have to {c}|remember to {c}"""
# {s}: a thing, {g}: how it is to be, {be}: is or are.
WISHES = """i want {s} {g}|i'd like {s} {g}|get {s} {g}|have {s} {g}|make sure {s} {be} {g}|please have {s} {g}|i need {s} {g}|let's have {s} {g}|
{s} {g}|{s} should be {g}|see to it that {s} {be} {g}|i would like to have {s} {g}|i want to have {s} {g}|could we have {s} {g}|
can i get {s} {g}|it would be nice to have {s} {g}|we need {s} {g}|i prefer {s} {g}|can you get {s} {g}|could you have {s} {g}|
would you get {s} {g}|please get {s} {g}|go ahead and get {s} {g}|i wish {s} would be {g}|{s} must be {g}|i want {s} to be {g}|
i'd love {s} {g}|take care that {s} {be} {g}|you should have {s} {g}|it's better with {s} {g}|do get {s} {g}|
please see that {s} {be} {g}|keep {s} {g}"""


def _entries(text: str) -> list[str]:
    return [entry.strip() for entry in text.split("|")]


def grown(patterns: Patterns, requests: str, goals: str = "", subjects: str = "{n}", be: str = "is", never: Collection[str] = ()) -> Patterns:
    """The patterns with combinations: every request of `requests` and every wish that one of `subjects` be one of `goals`.

    `never`: more patterns that stay out, as cores and written down too."""
    out = {*patterns.held_out, *never}
    cores = [core for core in _entries(requests) if core and core not in out]
    made = [frame.replace("{c}", core) for frame in _entries(REQUESTS) for core in cores]
    made += [frame.replace("{s}", subject).replace("{g}", goal).replace("{be}", be)
             for frame in _entries(WISHES) for subject in _entries(subjects) for goal in _entries(goals) if goal]
    return Patterns([pattern for pattern in patterns.train if pattern not in out], patterns.held_out,
                    [pattern for pattern in dict.fromkeys(made) if pattern not in out])


def products(verbs: str, endings: str) -> str:
    """Cores by combination: every one of `verbs` with every one of `endings`."""
    return "|".join(verb + ending for verb in _entries(verbs) for ending in endings.split("|"))

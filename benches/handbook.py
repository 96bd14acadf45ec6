"""Token ids of natural text in two languages, for `cargo bench --bench row_cache`.

    python3 benches/handbook.py target/release/pled MODEL.gguf FOLDER

FOLDER is usr/share/doc/debian-handbook/html of Debian's package debian-handbook (the Debian Administrator's Handbook, GPL-2+ or
CC-BY-SA-3.0): `apt-get download debian-handbook`, then `dpkg-deb -x`. Of MODEL only the vocabulary matters. Writes en.ids, de.ids and
both.ids, which takes 2000 tokens of each in turn, into the working directory. Nothing but Python and pled is needed.
"""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

# Language -> how many characters of its paragraphs.
CHARACTERS = {"en-US": 320_000, "de-DE": 300_000}
IN_TURN = 2000
# What one argument of a program may hold is 128 KiB.
ARGUMENT_BYTES = 60_000


class Paragraphs(HTMLParser):
    """Collects the text of a page's paragraphs, one a line."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.parts: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "p" or (tag == "div" and ("class", "para") in attrs):
            self.end()
            self.parts = []

    def handle_endtag(self, tag: str) -> None:
        if tag == "p":
            self.end()

    def handle_data(self, data: str) -> None:
        if self.parts is not None:
            self.parts.append(data)

    def end(self) -> None:
        line = " ".join("".join(self.parts or []).split())
        if line:
            self.lines.append(line)
        self.parts = None


def text(folder: Path, n_characters: int) -> str:
    lines = []
    for page in sorted(folder.glob("*.html")):
        paragraphs = Paragraphs()
        paragraphs.feed(page.read_text())
        paragraphs.end()
        lines += paragraphs.lines
    return "\n".join(lines)[:n_characters]


def ids(pled: str, model: str, text: str) -> list[str]:
    """Ids of the text, cut between its lines where it is too long for one call."""
    made: list[str] = []
    lines = text.split("\n")
    while lines:
        piece = [lines.pop(0)]
        while lines and len("\n".join([*piece, lines[0]]).encode()) < ARGUMENT_BYTES:
            piece.append(lines.pop(0))
        command = [pled, "tokenize", "--model", model, "--ids", "\n".join(piece)]
        made += subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().split(",")
    return made


def main() -> None:
    pled, model, folder = sys.argv[1:]
    english, german = (ids(pled, model, text(Path(folder) / language, n)) for language, n in CHARACTERS.items())
    both: list[str] = []
    for at in range(0, min(len(english), len(german)), IN_TURN):
        both += english[at : at + IN_TURN] + german[at : at + IN_TURN]
    for name, made in (("en", english), ("de", german), ("both", both)):
        Path(f"{name}.ids").write_text(",".join(made))
        print(f"{name}.ids: {len(made)} tokens")


if __name__ == "__main__":
    main()

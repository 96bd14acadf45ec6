"""Answers of generated forms, held against a validator that is not ours.

    python schemas.py http://127.0.0.1:50051 [N]

For each of N schemas (24 unless N says otherwise) of the kind that tools declare, pled is asked at temperature 1 for
a text and for a call, with room for the answer and with little. What comes to its end must be valid; what does not must
have exactly as many tokens as were allowed. The model should be one that was trained: others hardly come to an end.
"""

import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import ollama
import openai

base = sys.argv[1].rstrip("/")
n_schemas = int(sys.argv[2]) if len(sys.argv) > 2 else 24
# Enough for what the generator asks for, unless the model dwells on white space or escapes.
MOST_TOKENS = 400
NAMES = ["name", "area", "on", "brightness_pct", "Zeit", "x-y", "items", "temperature", "a b"]
WORDS = ["kitchen", 'bath "room"', "Küche", "a, b", "{}", "", "back\\slash"]
PATTERNS = [
    "^[A-Z]{2}[0-9]{3}$",
    r"^\d{4}-\d{2}-\d{2}$",
    "^(on|off|auto)$",
    "^[^@ ]{1,9}@[a-z]{1,9}[.]com$",
    "^#([0-9a-f]{6})$",
]


def value(r, depth):
    kind = r.randrange(8 if depth == 0 else 13)
    if kind == 0:
        return {"type": "string", "maxLength": r.randint(1, 12)}
    if kind == 1:
        return {"type": "string", "minLength": 1, "maxLength": 8, "description": "a word"}
    if kind == 2:
        return {"type": "string", "enum": r.sample(WORDS, r.randint(1, len(WORDS)))}
    if kind == 3:
        return {"type": "string", "pattern": r.choice(PATTERNS)}
    if kind == 4:
        least = r.randint(-1000, 1000)
        return {"type": "integer", "minimum": least, "maximum": least + r.randrange(500)}
    if kind == 5:
        least = r.randrange(100) / 4 - 12
        return {"type": "number", r.choice(["minimum", "exclusiveMinimum"]): least, "maximum": least + 7.5}
    if kind == 6:
        return {"type": r.choice(["integer", "number", ["integer", "null"]])}
    if kind == 7:
        return {"type": "boolean"}
    if kind in (8, 9):
        least = r.randrange(3)
        most = least + r.randrange(3)
        return {"type": "array", "items": value(r, depth - 1), "minItems": least, "maxItems": most}
    if kind == 10:
        return {"anyOf": [value(r, depth - 1), {"type": "null"}]}
    if kind == 11:
        return {"anyOf": [value(r, depth - 1), value(r, depth - 1)]}
    return schema(r, depth - 1)


def schema(r, depth):
    properties = {r.choice(NAMES): value(r, depth) for _ in range(r.randint(1, 5))}
    required = [name for name in properties if r.random() < 0.6]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def check(is_right, *what):
    if not is_right:
        raise AssertionError(f"not as expected: {what}")


def taken(reason, n_tokens, most):
    """Whether the answer came to its end."""
    check(n_tokens <= most, n_tokens, most)
    if reason == "length":
        check(n_tokens == most, n_tokens, most)
        return False
    check(reason in ("stop", "tool_calls"), reason)
    return True


def tried(seed):
    """Answers that came to their end, and those that did not."""
    r = random.Random(seed)
    wanted = schema(r, 2)
    validator = jsonschema.Draft202012Validator(wanted)
    client = openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=20)
    local = ollama.Client(host=base)
    model = client.models.list().data[0].id
    question = [{"role": "user", "content": "turn on the kitchen light"}]
    form = {"type": "json_schema", "json_schema": {"name": "s", "strict": True, "schema": wanted}}
    tool = {"type": "function", "function": {"name": "act", "description": "acts", "parameters": wanted}}
    choice = {"type": "function", "function": {"name": "act"}}
    finished = cut = 0
    for most in (MOST_TOKENS, r.randint(1, 30)):
        asked = {"model": model, "messages": question, "max_tokens": most, "temperature": 1.0, "seed": seed}
        said = client.chat.completions.create(**asked, response_format=form)
        demanded = {"tools": [tool], "tool_choice": choice, "parallel_tool_calls": False}
        called = client.chat.completions.create(**asked, **demanded)
        options = {"temperature": 1.0, "seed": seed + 1, "num_predict": most}
        done = local.generate(model=model, prompt="The answer is", raw=True, format=wanted, options=options)
        answers = []
        if taken(said.choices[0].finish_reason, said.usage.completion_tokens, most):
            answers.append(said.choices[0].message.content)
        calls = called.choices[0].message.tool_calls or []
        if taken(called.choices[0].finish_reason, called.usage.completion_tokens, most):
            check(len(calls) == 1 and calls[0].function.name == "act", called)
            answers.append(calls[0].function.arguments)
        else:
            check(not calls, called)
        if taken(done.done_reason, done.eval_count, most):
            answers.append(done.response)
        for answer in answers:
            errors = [error.message for error in validator.iter_errors(json.loads(answer))]
            check(not errors, seed, wanted, answer, errors)
        finished += len(answers)
        cut += 3 - len(answers)
    return finished, cut


with ThreadPoolExecutor(4) as pool:
    counts = list(pool.map(tried, range(n_schemas)))
finished, cut = (sum(column) for column in zip(*counts))
print(f"{n_schemas} schemas: {finished} answers came to their end, all valid; {cut} were cut off where they had to be")
check(finished > 2 * n_schemas and cut > 0, finished, cut)

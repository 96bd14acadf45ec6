"""Uses the official Python clients of OpenAI and Ollama against a running pled.

    python official.py http://127.0.0.1:50051

Works with any model, also with one whose text means nothing: it looks at shapes, not at what is said.
"""

import json
import sys

import ollama
import openai

base = sys.argv[1].rstrip("/")
# Small: the models of the tests have room for 256 tokens.
PARAMETERS = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
TOOL = {"type": "function", "function": {"name": "light", "description": "Switch", "parameters": PARAMETERS}}
QUESTION = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello, who are you?"}]


def check(is_right, *what):
    if not is_right:
        raise SystemExit(f"not as expected: {what}")


def refused(call, *kinds):
    try:
        call()
    except kinds as e:
        return e
    raise SystemExit(f"not refused: {kinds}")


def valid(text):
    """Whether it is JSON of the one form that is asked for here."""
    value = json.loads(text)
    return list(value) == ["on"] and isinstance(value["on"], bool)


def openai_client():
    client = openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0)
    models = client.models.list().data
    check(len(models) == 1, models)
    model = models[0].id
    check(client.models.retrieve(model).id == model, model)
    refused(lambda: client.models.retrieve("other"), openai.NotFoundError)
    knows_tools = "tools" in ollama.Client(host=base).show(model).capabilities

    chat = client.chat.completions
    asked = {"model": model, "messages": QUESTION, "max_tokens": 12, "temperature": 0.0, "seed": 7}
    whole = chat.create(**asked, logprobs=True, top_logprobs=2)
    choice = whole.choices[0]
    check(choice.message.role == "assistant", choice)
    check(choice.finish_reason in ("stop", "length"), choice)
    check(whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens, whole.usage)
    check(all(len(t.top_logprobs) == 2 for t in choice.logprobs.content), choice.logprobs)

    text, reasons, usage = "", [], None
    chunks = list(chat.create(**asked, stream=True, stream_options={"include_usage": True}))
    check(chunks[0].choices[0].delta.role == "assistant", chunks[0])
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
    check(text == whole.choices[0].message.content, text, whole)
    check(reasons == [whole.choices[0].finish_reason], reasons)
    check(usage.total_tokens == whole.usage.total_tokens, usage)

    with chat.create(**(asked | {"max_tokens": 1000}), stream=True) as stream:
        next(iter(stream))
    # The place of the stream that was left is free for this.
    if knows_tools:
        answer = chat.create(**asked, tools=[TOOL], tool_choice="auto").choices[0].message
        for call in answer.tool_calls or []:
            json.loads(call.function.arguments)
        function = {"name": "light", "arguments": '{"on": true}'}
        call = {"id": "1", "type": "function", "function": function}
        messages = QUESTION + [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": '{"ok": true}'},
        ]
        chat.create(**(asked | {"messages": messages}), tools=[TOOL])
        named = {"type": "function", "function": {"name": "light"}}
        for choice in ("required", named):
            demanded = asked | {"max_tokens": 60}
            answer = chat.create(**demanded, tools=[TOOL], tool_choice=choice, parallel_tool_calls=False).choices[0]
            check(answer.finish_reason == "tool_calls" and len(answer.message.tool_calls) == 1, answer)
            check(valid(answer.message.tool_calls[0].function.arguments), answer)
    strict = {"name": "switch", "strict": True, "schema": PARAMETERS | {"additionalProperties": False}}
    for form in ({"type": "json_schema", "json_schema": strict}, {"type": "json_object"}):
        answer = chat.create(**(asked | {"max_tokens": 60}), response_format=form).choices[0]
        text = answer.message.content
        check(text.startswith("{"), text)
        check(form["type"] == "json_object" or answer.finish_reason == "stop" and valid(text), answer)
    e = refused(lambda: chat.create(**(asked | {"temperature": -1})), openai.BadRequestError)
    check(e.param == "temperature", e)

    done = client.completions.create(model=model, prompt="Once", max_tokens=5, temperature=0, logprobs=1)
    check(done.choices[0].finish_reason in ("stop", "length"), done)
    pieces = client.completions.create(model=model, prompt="Once", max_tokens=5, temperature=0, stream=True)
    check("".join(piece.choices[0].text for piece in pieces) == done.choices[0].text, done)
    print(f"openai {openai.__version__}: {model}", "with tools" if knows_tools else "without tools")


def ollama_client():
    client = ollama.Client(host=base)
    model = client.list().models[0].model
    check(client.ps().models[0].model == model, model)
    shown = client.show(model)
    check(shown.details.format == "gguf" and shown.modelinfo, shown)
    refused(lambda: client.show("other"), ollama.ResponseError)

    options = {"temperature": 0, "num_predict": 12, "seed": 7, "num_ctx": 8192}
    asked = {"model": model, "messages": QUESTION, "options": options, "keep_alive": -1}
    whole = client.chat(**asked)
    check(whole.done and whole.done_reason in ("stop", "length"), whole)
    check(whole.eval_count > 0 and whole.prompt_eval_count > 0 and whole.total_duration > 0, whole)
    pieces = list(client.chat(**asked, stream=True))
    check("".join(piece.message.content for piece in pieces) == whole.message.content, pieces)
    check(pieces[-1].done and pieces[-1].eval_count == whole.eval_count, pieces[-1])
    if "tools" in shown.capabilities:
        client.chat(**asked, tools=[TOOL])
        call = {"function": {"name": "light", "arguments": {"on": True}}}
        messages = QUESTION + [
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": '{"ok": true}', "tool_name": "light"},
        ]
        client.chat(**(asked | {"messages": messages}), tools=[TOOL])
    done = client.generate(model=model, prompt="Once", options=options)
    pieces = client.generate(model=model, prompt="Once", options=options, stream=True)
    check("".join(piece.response for piece in pieces) == done.response, done)
    client.generate(model=model, prompt="Once", raw=True, options=options)
    form = PARAMETERS | {"additionalProperties": False}
    longer = asked | {"options": options | {"num_predict": 60}}
    answer = client.chat(**longer, format=form)
    check(answer.done_reason == "stop" and valid(answer.message.content), answer)
    check(client.chat(**longer, format="json").message.content.startswith("{"), longer)
    done = client.generate(model=model, prompt="Once", format=form, options=options | {"num_predict": 60})
    check(valid(done.response), done)
    e = refused(lambda: client.chat(**(asked | {"options": {"temperature": -1}})), ollama.ResponseError)
    check(e.status_code == 400 and "options.temperature" in e.error, e)
    print(f"ollama: {model}")


openai_client()
ollama_client()

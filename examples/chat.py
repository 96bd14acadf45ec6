"""A conversation over gRPC from Python, streamed, with tools.

    pip install grpcio grpcio-tools                                        # in a virtual environment
    python examples/chat.py 127.0.0.1:50051 "turn on the kettle"
    python examples/chat.py pled.home:50051 "turn on the kettle" ca.pem    # encrypted, by an authority of one's own

Needs Python 3.10 or newer. A token in PLED_TOKEN is sent along; without ca.pem it travels as it is, and whoever is between
can read it.

The messages are generated from proto/ into a temporary folder at each start; a program that stays generates them once:
`python -m grpc_tools.protoc -I proto --python_out=. --grpc_python_out=. proto/pled/v1/*.proto`.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

if len(sys.argv) not in (3, 4):
    sys.exit(f"usage: python {sys.argv[0]} HOST:PORT SENTENCE [CA.pem]")

import grpc  # noqa: E402

proto = Path(__file__).resolve().parent.parent / "proto"
generated = tempfile.TemporaryDirectory()
files = [str(file) for file in sorted(proto.glob("pled/v1/*.proto"))]
outputs = [f"--python_out={generated.name}", f"--grpc_python_out={generated.name}"]
subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{proto}", *outputs, *files], check=True)
sys.path.insert(0, generated.name)
from pled.v1 import chat_pb2, generation_pb2_grpc  # noqa: E402

USER, SYSTEM = chat_pb2.CHAT_ROLE_USER, chat_pb2.CHAT_ROLE_SYSTEM
HOME = "You control this home.\nKitchen: Kitchen Light (light), Kettle (switch)"
DEVICE = json.dumps({"type": "object", "properties": {"name": {"type": "string"}, "area": {"type": "string"}}})
TOOLS = [
    chat_pb2.ChatTool(name="HassTurnOn", description="Turns on or opens a device.", parameters_json_schema=DEVICE),
    chat_pb2.ChatTool(name="HassTurnOff", description="Turns off or closes a device.", parameters_json_schema=DEVICE),
]


def message(role, text):
    return chat_pb2.ChatMessage(role=role, parts=[chat_pb2.ChatPart(text=text)])


address, sentence, authority = sys.argv[1], sys.argv[2], sys.argv[3:]
token = os.environ.get("PLED_TOKEN")
metadata = [("authorization", f"Bearer {token}")] if token else []
if authority:
    opened = grpc.secure_channel(address, grpc.ssl_channel_credentials(Path(authority[0]).read_bytes()))
else:
    opened = grpc.insecure_channel(address)
with opened as channel:
    request = chat_pb2.ChatRequest(messages=[message(SYSTEM, HOME), message(USER, sentence)], tools=TOOLS)
    try:
        for event in generation_pb2_grpc.GenerationServiceStub(channel).ChatStream(request, timeout=120, metadata=metadata):
            match event.WhichOneof("event"):
                case "delta":
                    print(event.delta.text, end="", flush=True)
                case "tool_call":
                    print(f"call {event.tool_call.name} {event.tool_call.arguments_json}")
                case "done":
                    usage = event.done.usage
                    print(f"\n{usage.prompt_tokens} tokens of prompt, {usage.completion_tokens} of answer")
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")

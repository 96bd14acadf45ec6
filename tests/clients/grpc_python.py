"""Uses pled by Python's own gRPC: health, the services as reflection describes them, with no generated code, and the example.

    python grpc_python.py http://127.0.0.1:50051
"""

import subprocess
import sys
from pathlib import Path

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

channel = grpc.insecure_channel(sys.argv[1].removeprefix("http://"))
pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))


def check(is_right, *what):
    if not is_right:
        raise SystemExit(f"not as expected: {what}")


def call(service, method, **fields):
    """A method by its name, as reflection tells of it; what it gives is an iterator if it streams."""
    described = pool.FindServiceByName(f"pled.v1.{service}").methods_by_name[method]
    request, response = GetMessageClass(described.input_type), GetMessageClass(described.output_type)
    kind = channel.unary_stream if described.server_streaming else channel.unary_unary
    path = f"/{described.containing_service.full_name}/{method}"
    made = kind(path, request_serializer=request.SerializeToString, response_deserializer=response.FromString)
    return made(request(**fields), timeout=60)


health = health_pb2_grpc.HealthStub(channel)
for service in ("", "pled.v1.GenerationService"):
    status = health.Check(health_pb2.HealthCheckRequest(service=service)).status
    check(status == health_pb2.HealthCheckResponse.SERVING, service, status)

services = ProtoReflectionDescriptorDatabase(channel).get_services()
check({"pled.v1.GenerationService", "pled.v1.AdminService", "grpc.health.v1.Health"} <= set(services), services)

models = call("ModelService", "ListModels").models
check(len(models) == 1 and models[0].name, models)
short = {"stopping": {"max_tokens": 12}, "sampling": {"temperature": 0.0}}
asked = short | {"text": "Once upon a time"}
whole = call("GenerationService", "Generate", **asked)
check(whole.usage.completion_tokens > 0, whole)
heard = list(call("GenerationService", "GenerateStream", **asked))
check("".join(event.delta.text for event in heard if event.HasField("delta")) == whole.text, whole, heard)
check(heard[-1].HasField("done"), heard[-1])
message = {"role": "CHAT_ROLE_USER", "parts": [{"text": "Hello"}]}
answer = call("GenerationService", "Chat", messages=[message], **short)
check(answer.usage.completion_tokens > 0, answer)
try:
    call("GenerationService", "Generate", **(asked | {"sampling": {"temperature": -1.0}}))
    raise SystemExit("a negative temperature was not refused")
except grpc.RpcError as e:
    check(e.code() == grpc.StatusCode.INVALID_ARGUMENT and "temperature" in e.details(), e)

example = Path(__file__).resolve().parent.parent.parent / "examples/chat.py"
says = [sys.executable, example, sys.argv[1].removeprefix("http://"), "turn on the kettle"]
shown = subprocess.run(says, capture_output=True, text=True, timeout=120)
check(shown.returncode == 0 and " of answer" in shown.stdout, shown)
check('call HassTurnOn {"name":"Kettle"}' in shown.stdout, shown)
helped = subprocess.run(says[:2], capture_output=True, text=True, timeout=120)
check(helped.returncode != 0 and helped.stderr.startswith("usage: "), helped)
print(f"grpcio {grpc.__version__}: {len(services)} services by reflection")

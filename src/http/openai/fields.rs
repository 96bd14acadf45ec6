//! What fields are called here that the rooms below know by their gRPC names.

use super::super::conversation::in_function;
use super::answer::Kind;
use super::request::Body;

/// The names of one request's fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    max_tokens: &'static str,
    top_logprobs: &'static str,
}

impl Names {
    pub(super) fn of(kind: Kind, body: &Body) -> Self {
        Self {
            max_tokens: if body.max_completion_tokens.is_some() {
                "max_completion_tokens"
            } else {
                "max_tokens"
            },
            top_logprobs: if kind == Kind::Text { "logprobs" } else { "top_logprobs" },
        }
    }

    pub(super) fn name(&self, field: &str) -> String {
        match field {
            "stopping.max_tokens" => return self.max_tokens.to_owned(),
            "top_logprobs" => return self.top_logprobs.to_owned(),
            "thinking" => return "reasoning_effort".to_owned(),
            "tool_choice.mode" => return "tool_choice".to_owned(),
            "tool_choice.name" => return "tool_choice.function.name".to_owned(),
            "text" => return "prompt".to_owned(),
            "session" => return "user".to_owned(),
            "request_id" => return "x-request-id".to_owned(),
            _ => {}
        }
        if let Some(plain) = field.strip_prefix("sampling.").or_else(|| field.strip_prefix("stopping.")) {
            return plain.to_owned();
        }
        in_function(field).unwrap_or_else(|| field.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_the_names_of_the_dialect() {
        let names = Names { max_tokens: "max_tokens", top_logprobs: "top_logprobs" };
        for (grpc, here) in [
            ("sampling.top_p", "top_p"),
            ("stopping.stop", "stop"),
            ("stopping.max_tokens", "max_tokens"),
            ("messages[3].role", "messages[3].role"),
            ("messages[3].tool_calls[1].arguments_json", "messages[3].tool_calls[1].function.arguments"),
            ("messages[3].tool_calls[1].name", "messages[3].tool_calls[1].function.name"),
            ("messages[3].tool_calls[1].id", "messages[3].tool_calls[1].id"),
            ("messages[3].tool_calls", "messages[3].tool_calls"),
            ("tools[0].parameters_json_schema", "tools[0].function.parameters"),
            ("tools[0].type", "tools[0].type"),
            ("thinking", "reasoning_effort"),
            ("tool_choice.mode", "tool_choice"),
            ("tool_choice.name", "tool_choice.function.name"),
            ("response_format.json_schema.schema", "response_format.json_schema.schema"),
        ] {
            assert_eq!(names.name(grpc), here);
        }
    }
}

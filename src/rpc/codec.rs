//! Protobuf as tonic-prost speaks it, with a bound on what a request may unfold to.
//!
//! A message's bytes are bounded, what is made of them is not: an empty element of a repeated field takes two bytes on the
//! wire and a hundred in memory, and four mebibytes of them would become hundreds. So the fields are counted before anything
//! is made of them, down the messages that the protocol's descriptors name: a text is one field, whatever its bytes look like.
//!
//! Answers are not counted: pled's own commands decode what the server that they were told of says, and the pieces of a long
//! text are many.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::LazyLock;

use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{Message, Name};
use prost_types::{DescriptorProto, FileDescriptorSet};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstDecoder, ProstEncoder};

use super::pb;
use crate::serving::Problem;

/// Fields of a message and of the messages in it, at most. A conversation of a thousand messages has some six thousand.
const MAX_FIELDS: usize = 1 << 16;
/// Messages in messages that are looked into. prost refuses what is deeper.
const MAX_DEPTH: usize = 100;

/// How the messages that a server decodes are named, and no others, as buf's rules for names want it.
const REQUEST: &str = "Request";

/// [`tonic_prost::ProstCodec`] whose decoder refuses requests of more than [`MAX_FIELDS`] fields.
#[derive(Debug)]
pub(super) struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + Send + 'static, U: Message + Default + Name + Send + 'static> Codec for BoundedCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(ProstDecoder::default())
    }
}

/// The decoder of [`BoundedCodec`].
#[derive(Debug)]
pub(super) struct BoundedDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default + Name> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        if U::NAME.ends_with(REQUEST) {
            // tonic hands over a whole message in one piece; of several pieces the first alone would be counted.
            debug_assert_eq!(buffer.chunk().len(), buffer.remaining());
            if n_fields_of::<U>(buffer.chunk()) > MAX_FIELDS {
                let problem =
                    format!("has more than {MAX_FIELDS} fields, counting those of the messages in it");
                return Err(Problem::field(U::NAME, problem).into());
            }
        }
        self.0.decode(buffer)
    }
}

/// The fields of a message of type `U`, with those of the messages in it; of too many, one too many. What is no message counts
/// up to where that shows: so far prost decodes it too, before it refuses it in its words.
fn n_fields_of<U: Name>(bytes: &[u8]) -> usize {
    let schema = &*SCHEMA;
    let kind = schema.kinds.get(&U::full_name()).copied();
    let mut n_fields = 0;
    let _ = schema.count_fields(bytes, kind, MAX_DEPTH, &mut n_fields);
    n_fields
}

/// Which fields of which messages are messages.
struct Schema {
    /// By the full name: the index into `messages`.
    kinds: HashMap<String, usize>,
    /// For each message the numbers of the few fields that hold messages, and which.
    messages: Vec<Vec<(u32, usize)>>,
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    Schema::new(&FileDescriptorSet::decode(pb::DESCRIPTORS).expect("the build wrote the descriptors"))
});

impl Schema {
    fn new(files: &FileDescriptorSet) -> Schema {
        let mut found = Vec::new();
        for file in &files.file {
            collect(file.package(), &file.message_type, &mut found);
        }
        let kinds: HashMap<String, usize> = found.iter().map(|(name, _)| name.clone()).zip(0..).collect();
        let inner = |message: &DescriptorProto| {
            let fields = message.field.iter();
            // Type names in descriptors begin with a dot. Those of enumerations are not among the messages.
            fields
                .filter_map(|f| {
                    Some((f.number().try_into().ok()?, *kinds.get(f.type_name().strip_prefix('.')?)?))
                })
                .collect()
        };
        let messages = found.iter().map(|(_, message)| inner(message)).collect();
        Schema { kinds, messages }
    }

    /// Adds to `n` the fields of a message of that kind, with those of the messages in it, `depth` levels down. `None` if it is
    /// no message, or has too many: the rest of it is not looked at.
    fn count_fields(&self, mut bytes: &[u8], kind: Option<usize>, depth: usize, n: &mut usize) -> Option<()> {
        while !bytes.is_empty() {
            let (tag, wire) = decode_key(&mut bytes).ok()?;
            *n += 1;
            if *n > MAX_FIELDS {
                return None;
            }
            if wire != WireType::LengthDelimited {
                skip_field(wire, tag, &mut bytes, DecodeContext::default()).ok()?;
                continue;
            }
            let length = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
            let (inner, rest) = bytes.split_at_checked(length)?;
            bytes = rest;
            let inner_kind =
                kind.and_then(|kind| self.messages[kind].iter().find(|(field, _)| *field == tag));
            if let (Some((_, kind)), 1..) = (inner_kind, depth) {
                self.count_fields(inner, Some(*kind), depth - 1, n)?;
            }
        }
        Some(())
    }
}

/// Puts all messages, also those within messages, into `found`, by their full names.
fn collect<'a>(scope: &str, messages: &'a [DescriptorProto], found: &mut Vec<(String, &'a DescriptorProto)>) {
    for message in messages {
        let name = format!("{scope}.{}", message.name());
        collect(&name, &message.nested_type, found);
        found.push((name, message));
    }
}

#[cfg(test)]
mod tests {
    use super::super::pb;
    use super::*;

    fn counted<M: Message + Name>(message: &M) -> usize {
        n_fields_of::<M>(&message.encode_to_vec())
    }

    fn text(text: &str) -> pb::ChatPart {
        pb::ChatPart { part: Some(pb::chat_part::Part::Text(text.to_owned())) }
    }

    #[test]
    fn fields_are_counted_through_the_levels() {
        let message =
            pb::ChatMessage { role: 2, parts: vec![text("How warm is it?"); 3], ..Default::default() };
        // The role, and three parts of a text each.
        assert_eq!(counted(&message), 7);
        let request = pb::ChatRequest { messages: vec![message; 10], ..Default::default() };
        assert_eq!(counted(&request), 80);
    }

    #[test]
    fn empty_elements_count_wherever_they_stand() {
        let parts = pb::ChatMessage { parts: vec![pb::ChatPart::default(); 500], ..Default::default() };
        let calls = pb::ChatMessage { tool_calls: vec![pb::ToolCall::default(); 500], ..Default::default() };
        assert_eq!(counted(&pb::ChatRequest { messages: vec![parts, calls], ..Default::default() }), 1002);
        let stopping = pb::StoppingCriteria { stop: vec![String::new(); 500], ..Default::default() };
        assert_eq!(counted(&pb::GenerateRequest { stopping: Some(stopping), ..Default::default() }), 501);
    }

    #[test]
    fn long_texts_and_lists_of_tokens_are_few_fields() {
        // The bytes of the second one are fields of a message, if one looks for some.
        for long in ["Turn on the light. ", "xx"] {
            let prompt = Some(pb::generate_request::Prompt::Text(long.repeat(100_000)));
            assert_eq!(counted(&pb::GenerateRequest { prompt, ..Default::default() }), 1);
        }
        let ids = pb::PromptTokens { ids: (0..130_000).collect() };
        let request = pb::GenerateRequest {
            prompt: Some(pb::generate_request::Prompt::Tokens(ids)),
            ..Default::default()
        };
        assert_eq!(counted(&request), 2);
    }

    #[test]
    fn counting_ends_when_there_are_too_many() {
        for n_messages in [MAX_FIELDS - 1, MAX_FIELDS, MAX_FIELDS + 1, 10 * MAX_FIELDS] {
            let messages = vec![pb::ChatMessage::default(); n_messages];
            let request = pb::ChatRequest { messages, ..Default::default() };
            assert_eq!(counted(&request), n_messages.min(MAX_FIELDS + 1));
        }
    }

    /// A request by another name would not be counted, and an answer by this one would be.
    #[test]
    fn requests_and_they_alone_are_named_so() {
        let files = FileDescriptorSet::decode(pb::DESCRIPTORS).unwrap();
        let services = files.file.iter().flat_map(|file| &file.service);
        let methods: Vec<_> = services.flat_map(|service| &service.method).collect();
        assert!(methods.len() >= 16, "{}", methods.len());
        for method in methods {
            assert!(method.input_type().ends_with(REQUEST), "{method:?}");
            assert!(!method.output_type().ends_with(REQUEST), "{method:?}");
        }
    }

    #[test]
    fn what_is_no_message_counts_up_to_where_that_shows() {
        let parts = pb::ChatMessage { parts: vec![pb::ChatPart::default(); 500], ..Default::default() };
        let good = pb::ChatRequest { messages: vec![parts], ..Default::default() }.encode_to_vec();
        // A field of seven bytes of which two came; a tag 0; a varint without an end.
        for (end, n) in [(&[0x0a, 7, 1, 2][..], 502), (&[0x02, 0], 501), (&[0x08, 0x80], 502)] {
            assert_eq!(n_fields_of::<pb::ChatRequest>(&[&good, end].concat()), n);
        }
    }
}

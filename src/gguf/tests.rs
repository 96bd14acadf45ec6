use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use super::sample::{Sample, string};
use super::*;
use crate::quant::BlockFormat;

fn parse(bytes: &[u8]) -> Result<Gguf, GgufError> {
    read(&mut Cursor::new(bytes), bytes.len() as u64)
}

/// The error of a file that must not be accepted, as text.
fn refusal(sample: &Sample) -> String {
    parse(&sample.build()).expect_err("must be refused").to_string()
}

fn fixture(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)).unwrap()
}

#[test]
fn reads_a_real_file() {
    let bytes = fixture("gemma4-ple/model-q4_0.gguf");
    let gguf = parse(&bytes).unwrap();
    let m = &gguf.metadata;
    assert_eq!(gguf.version(), 3);
    assert_eq!(gguf.alignment(), 32);
    assert_eq!(m.len(), 37);
    assert_eq!(m.str("general.architecture").unwrap(), "gemma4");
    assert_eq!(m.u32("gemma4.block_count").unwrap(), 7);
    assert_eq!(m.f32("gemma4.final_logit_softcapping").unwrap(), 30.0);
    assert!(m.opt_bool("tokenizer.ggml.add_bos_token").unwrap().unwrap());
    assert_eq!(
        m.opt_u32_array("gemma4.feed_forward_length").unwrap().unwrap(),
        [64, 64, 64, 64, 128, 128, 128]
    );
    let pattern = m.opt_bool_array("gemma4.attention.sliding_window_pattern").unwrap().unwrap();
    assert_eq!(pattern[..4], [true, true, true, false]);
    let tokens = m.opt_strings("tokenizer.ggml.tokens").unwrap().unwrap();
    assert_eq!((tokens.len(), tokens.get(0), tokens.get(4)), (384, &b"<pad>"[..], &b"<mask>"[..]));
    assert_eq!(tokens.iter().nth(5), Some(&b"<|tool>"[..]));
    assert_eq!(m.opt_f32_array("tokenizer.ggml.scores").unwrap().unwrap().len(), 384);

    assert_eq!(gguf.tensors().len(), 125);
    let table = gguf.tensor("per_layer_token_embd.weight").unwrap();
    assert_eq!(table.dims(), [224, 384]);
    assert_eq!(table.format(), Some(BlockFormat::Q4_0));
    assert_eq!(table.n_elements(), 224 * 384);
    assert_eq!(table.n_bytes, Some(224 / 32 * 18 * 384));
    // The table ends at byte 17496, so the data section begins at 17504.
    assert_eq!(table.offset, 17504 + 26176);
    assert!(gguf.tensor("per_layer_token_embd").is_none());
    for t in gguf.tensors() {
        assert_eq!(gguf.tensor(&t.name), Some(t));
    }
}

#[test]
fn versions_2_and_3_only() {
    let sample = Sample::new().u32("a", 1);
    for (version, outcome) in [
        (1, Some("GGUF version 1 is not supported (2 and 3 are)")),
        (2, None),
        (3, None),
        (4, Some("GGUF version 4 is not supported (2 and 3 are)")),
        (0x0300_0000, Some("big-endian GGUF files are not supported")),
    ] {
        let result = parse(&sample.build_version(version)).map(|g| g.version()).map_err(|e| e.to_string());
        assert_eq!(result, outcome.map_or(Ok(version), |e| Err(e.to_owned())));
    }
    let message = parse(b"PK\x03\x04 and so on").unwrap_err().to_string();
    assert_eq!(message, "not a GGUF file: it begins with PK\\x03\\x04, not with \"GGUF\"");
}

#[test]
fn every_truncation_is_an_error() {
    let whole = Sample::new()
        .str("general.architecture", b"gemma4")
        .array("tokens", 8, 2, &[string(b"a"), string(b"bc")].concat())
        .array("scores", 6, 3, &[0; 12])
        .tensor("x", &[32, 2], 2, 0)
        .data(36)
        .build();
    parse(&whole).unwrap();
    for len in 0..whole.len() {
        let message = parse(&whole[..len]).expect_err("truncated").to_string();
        assert!(!message.is_empty());
        // The same when the length is said right but the input ends early.
        if len < whole.len() - 36 - 31 {
            let mut short = Cursor::new(&whole[..len]);
            let e = read(&mut short, whole.len() as u64).expect_err("input ended");
            assert!(matches!(e, GgufError::Io { .. }), "{e}");
        }
    }
}

#[test]
fn every_value_type() {
    let gguf = parse(
        &Sample::new()
            .key("u8", 0, &[200])
            .key("i8", 1, &[200])
            .key("u16", 2, &60_000u16.to_le_bytes())
            .key("i16", 3, &(-2i16).to_le_bytes())
            .u32("u32", u32::MAX)
            .key("i32", 5, &(-3i32).to_le_bytes())
            .key("f32", 6, &1.5f32.to_le_bytes())
            .key("bool", 7, &[1])
            .str("str", "Gemma ü".as_bytes())
            .key("u64", 10, &u64::MAX.to_le_bytes())
            .key("i64", 11, &7i64.to_le_bytes())
            .key("f64", 12, &2.5f64.to_le_bytes())
            .key("inf", 6, &f32::INFINITY.to_le_bytes())
            .key("big f64", 12, &1e300f64.to_le_bytes())
            .str("not utf-8", b"\xff\xfe")
            .array("i16s", 3, 2, &[1, 0, 255, 255])
            .array("f64s", 12, 1, &f64::NEG_INFINITY.to_le_bytes())
            .array("bools", 7, 3, &[1, 0, 1])
            .array("none", 8, 0, &[])
            .build(),
    )
    .unwrap();
    let m = &gguf.metadata;
    assert_eq!(m.u32("u8").unwrap(), 200);
    assert_eq!(m.get("i8"), Some(&Value::I8(-56)));
    assert_eq!(m.u32("u16").unwrap(), 60_000);
    assert_eq!(m.u32("u32").unwrap(), u32::MAX);
    assert_eq!(m.u64("u64").unwrap(), u64::MAX);
    assert_eq!(m.u32("i64").unwrap(), 7);
    assert_eq!((m.f32("f32").unwrap(), m.f32("f64").unwrap()), (1.5, 2.5));
    assert_eq!(m.opt_bool("bool").unwrap(), Some(true));
    assert_eq!(m.str("str").unwrap(), "Gemma ü");
    assert_eq!(m.opt_f32_array("f64s").unwrap(), Some(vec![f32::NEG_INFINITY]));
    assert_eq!(m.opt_bool_array("bools").unwrap(), Some(&[true, false, true][..]));
    assert_eq!(m.opt_i32_array("i16s").unwrap(), Some(vec![1, -1]));
    assert!(m.opt_strings("none").unwrap().unwrap().is_empty());
    assert_eq!(m.opt_u32("absent").unwrap(), None);

    let messages = [
        (m.u32("i16").unwrap_err(), "key `i16` is -2, expected an integer from 0 to 4294967295"),
        (
            m.u32("u64").unwrap_err(),
            "key `u64` is 18446744073709551615, expected an integer from 0 to 4294967295",
        ),
        (m.u32("absent").unwrap_err(), "key `absent` is missing"),
        (m.u32("f32").unwrap_err(), "key `f32` is f32, expected an integer"),
        (m.f32("inf").unwrap_err(), "key `inf` is inf, expected a finite f32"),
        (m.f32("big f64").unwrap_err(), "key `big f64` is inf, expected a finite f32"),
        (m.opt_bool("u8").unwrap_err(), "key `u8` is u8, expected bool"),
        (
            m.str("not utf-8").unwrap_err(),
            "key `not utf-8` is a string with invalid utf-8 sequence of 1 bytes from index 0, expected UTF-8",
        ),
        (
            m.opt_u32_array("i16s").unwrap_err(),
            "key `i16s` is an array with -1, expected integers from 0 to 4294967295",
        ),
        (m.opt_u32_array("bools").unwrap_err(), "key `bools` is array of bool, expected array of integers"),
        (m.opt_strings("f64s").unwrap_err(), "key `f64s` is array of f64, expected array of strings"),
    ];
    for (e, text) in messages {
        assert_eq!(e.to_string(), text);
    }
}

#[test]
fn strings_can_be_taken_out() {
    let elements = [string(b"\xff"), string(b""), string(b"abc")].concat();
    let mut gguf = parse(&Sample::new().array("t", 8, 3, &elements).u32("u", 1).build()).unwrap();
    let taken = gguf.metadata.take_strings("t").unwrap().unwrap();
    assert_eq!(taken.iter().collect::<Vec<_>>(), [&b"\xff"[..], b"", b"abc"]);
    assert_eq!(taken, [&b"\xff"[..], b"", b"abc"].iter().collect());
    assert_eq!(gguf.metadata.take_strings("t").unwrap(), None);
    assert!(gguf.metadata.take_strings("u").is_err());
    assert_eq!(gguf.metadata.u32("u").unwrap(), 1);
}

#[test]
fn malformed_keys_are_named() {
    let huge = 1u64 << 60;
    let cases = [
        (Sample::new().u32("a", 1).u32("a", 2), "key `a` occurs twice"),
        (
            Sample::new().u32("", 1),
            "key number 0: the name at byte 32 is \"\", not printable ASCII of at least one character",
        ),
        (
            Sample::new().u32("a\n", 1),
            "key number 0: the name at byte 32 is \"a\\n\", not printable ASCII of at least one character",
        ),
        (
            Sample::new().u32("ü", 1),
            "key number 0: the name at byte 32 is \"ü\", not printable ASCII of at least one character",
        ),
        (
            Sample::new().u32(&"k".repeat(257), 1),
            "key number 0: string length is 257 at byte 24, the limit is 256",
        ),
        (Sample::new().key("a", 13, &[0; 8]), "key `a`: value type 13 at byte 33 does not exist"),
        (Sample::new().key("a", 7, &[2]), "key `a`: the bool at byte 37 is 2, neither 0 nor 1"),
        (Sample::new().array("a", 7, 3, &[1, 0, 9]), "key `a`: the bool at byte 51 is 9, neither 0 nor 1"),
        (
            Sample::new().array("a", 9, 1, &[0; 16]),
            "key `a`: arrays of arrays are not supported (at byte 37)",
        ),
        (Sample::new().array("a", 77, 0, &[]), "key `a`: value type 77 at byte 37 does not exist"),
        (
            Sample::new().array("a", 6, huge, &[0; 64]),
            "key `a`: array length is 1152921504606846976 at byte 41, the limit is 268435456",
        ),
        (
            Sample::new().array("a", 6, 17, &[0; 64]),
            "key `a`: 68 bytes are needed at byte 49, but the file has 64 left",
        ),
        (
            Sample::new().array("a", 8, 9, &[0; 64]),
            "key `a`: 72 bytes are needed at byte 49, but the file has 64 left",
        ),
        (
            Sample::new().key("a", 8, &u64::MAX.to_le_bytes()),
            "key `a`: string length is 18446744073709551615 at byte 37, the limit is 16777216",
        ),
        (
            Sample::new().u32("general.alignment", 0),
            "key `general.alignment`: 0 is not a power of two that fits 32 bits",
        ),
        (
            Sample::new().u32("general.alignment", 48),
            "key `general.alignment`: 48 is not a power of two that fits 32 bits",
        ),
        (
            Sample::new().str("general.alignment", b"32"),
            "key `general.alignment` is string, expected an integer",
        ),
    ];
    for (sample, message) in cases {
        assert_eq!(refusal(&sample), message);
    }
    // Counts in the header.
    for (at, count, message) in [
        (8, huge, "header: tensors is 1152921504606846976 at byte 8, the limit is 65536"),
        (16, 65_537, "header: keys is 65537 at byte 16, the limit is 65536"),
        (16, 60_000, "header: 840000 bytes are needed at byte 24, but the file has 17 left"),
        (8, 60_000, "header: 1980000 bytes are needed at byte 16, but the file has 25 left"),
    ] {
        let mut bytes = Sample::new().u32("a", 1).build();
        bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
        assert_eq!(parse(&bytes).unwrap_err().to_string(), message);
    }
}

#[test]
fn malformed_tensors_are_named() {
    let one = |dims: &[u64], type_id, offset| Sample::new().tensor("x", dims, type_id, offset).data(640);
    let long = "n".repeat(64);
    let cases = [
        (one(&[], 0, 0), "tensor `x`: 0 dimensions at byte 33, not 1 to 4"),
        (one(&[1; 5], 0, 0), "tensor `x`: 5 dimensions at byte 33, not 1 to 4"),
        (one(&[32, 0], 0, 0), "tensor `x`: shape [32, 0] of type F32 has a dimension of zero"),
        (
            one(&[0, 1 << 63], 99, 0),
            "tensor `x`: shape [0, 9223372036854775808] of type 99 has a dimension of zero",
        ),
        (one(&[31], 2, 0), "tensor `x`: shape [31] of type Q4_0 does not divide its rows into whole blocks"),
        (
            one(&[128, 2], 14, 0),
            "tensor `x`: shape [128, 2] of type Q6_K does not divide its rows into whole blocks",
        ),
        (
            one(&[1 << 32, 1 << 32], 0, 0),
            "tensor `x`: shape [4294967296, 4294967296] of type F32 has more elements than 64 bits count",
        ),
        (
            one(&[1 << 63], 0, 0),
            "tensor `x`: shape [9223372036854775808] of type F32 has more bytes than 64 bits count",
        ),
        (one(&[32], 0, 33), "tensor `x`: offset 33 in the data section is not a multiple of 32"),
        (one(&[161], 0, 0), "tensor `x`: 644 bytes at offset 0 of the data section end beyond its 640 bytes"),
        (
            one(&[8], 0, 640),
            "tensor `x`: 32 bytes at offset 640 of the data section end beyond its 640 bytes",
        ),
        (
            one(&[8], 0, u64::MAX - 31),
            "tensor `x`: 32 bytes at offset 18446744073709551584 of the data section end beyond its 640 bytes",
        ),
        (
            one(&[8], 99, 640),
            "tensor `x`: 1 bytes at offset 640 of the data section end beyond its 640 bytes",
        ),
        // No type is known to take less than a bit for an element.
        (
            one(&[1 << 62], 99, 0),
            "tensor `x`: 576460752303423488 bytes at offset 0 of the data section end beyond its 640 bytes",
        ),
        (one(&[8], 0, 0).tensor("y", &[8], 0, 0), "tensors `x` and `y` overlap at byte 96"),
        (one(&[9], 0, 64).tensor("y", &[17], 0, 0), "tensors `y` and `x` overlap at byte 160"),
        (one(&[8], 99, 0).tensor("y", &[9], 0, 0), "tensors `x` and `y` overlap at byte 96"),
        (one(&[8], 0, 0).tensor("x", &[8], 0, 32), "tensor `x` occurs twice"),
        (
            Sample::new().tensor(&long, &[8], 0, 0).data(32),
            "tensor number 0: string length is 64 at byte 24, the limit is 63",
        ),
        (
            Sample::new().tensor("", &[8, 1], 0, 0).data(32),
            "tensor number 0: the name at byte 32 is \"\", not printable ASCII of at least one character",
        ),
    ];
    for (sample, message) in cases {
        assert_eq!(refusal(&sample), message);
    }
}

#[test]
fn what_is_tolerated() {
    // Any order, gaps, bytes after the last tensor, an unknown type, no padding without tensors.
    let gguf = parse(
        &Sample::new()
            .u32("a", 1)
            .tensor("late", &[8], 0, 64)
            .tensor("early", &[3], 30, 0)
            .tensor("odd", &[5, 5], 10, 96)
            .data(256)
            .build(),
    )
    .unwrap();
    let odd = gguf.tensor("odd").unwrap();
    assert_eq!((odd.format(), odd.n_bytes, odd.type_id), (None, None, 10));
    assert_eq!(gguf.tensor("early").unwrap().n_bytes, Some(6));
    assert_eq!(gguf.tensors().iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["late", "early", "odd"]);
    parse(&Sample::new().u32("a", 1).build()).unwrap();
    parse(&Sample::new().build()).unwrap();
}

#[test]
fn alignment_is_the_files_own() {
    let sample = |alignment: u32, offset| {
        Sample::new()
            .alignment(alignment as usize)
            .u32("general.alignment", alignment)
            .tensor("x", &[2], 0, 0)
            .tensor("y", &[2], 0, offset)
            .data(264)
    };
    let gguf = parse(&sample(256, 256).build()).unwrap();
    assert_eq!((gguf.alignment(), gguf.tensor("y").unwrap().offset), (256, 512));
    assert_eq!(
        refusal(&sample(256, 32)),
        "tensor `y`: offset 32 in the data section is not a multiple of 256"
    );
    let gguf = parse(&sample(1, 8).build()).unwrap();
    assert_eq!(gguf.tensor("y").unwrap().offset % 32, (gguf.tensor("x").unwrap().offset + 8) % 32);
}

#[test]
fn input_in_small_pieces() {
    /// Gives three bytes at a time and is interrupted before each.
    struct Trickle<'a>(&'a [u8], bool);
    impl Read for Trickle<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            let n = out.len().min(3);
            self.0.read(&mut out[..n])
        }
    }
    let bytes = fixture("gemma3/model-q4_0.gguf");
    let slow = read(&mut Trickle(&bytes, false), bytes.len() as u64).unwrap();
    let quick = parse(&bytes).unwrap();
    assert_eq!(slow.tensors(), quick.tensors());
    assert!(slow.metadata.iter().eq(quick.metadata.iter()));
}

#[test]
fn a_directory_over_the_limit_is_refused() {
    // An input without end that says it is long enough: the reader must stop by itself, and soon.
    let start = Sample::new().array("a", 0, MAX_DIRECTORY_BYTES, &[]).build();
    let mut input = Cursor::new(&start).chain(std::io::repeat(0));
    let message = read(&mut input, 1 << 40).unwrap_err().to_string();
    assert_eq!(message, "key `a`: the directory is longer than 268435456 bytes (at byte 49)");
}

fn part(no: u16, count: u16, total: i32, tensor: &str) -> Gguf {
    let sample = Sample::new()
        .str("general.architecture", if no == 0 { b"gemma4" } else { b"other" })
        .key("split.no", 2, &no.to_le_bytes())
        .key("split.count", 2, &count.to_le_bytes())
        .key("split.tensors.count", 5, &total.to_le_bytes());
    parse(&sample.tensor(tensor, &[8], 0, 0).data(32).build()).unwrap()
}

#[test]
fn parts_are_joined() {
    assert_eq!(part(0, 3, 3, "a").n_parts().unwrap(), 3);
    let whole = join(vec![part(0, 3, 3, "b"), part(1, 3, 3, "c"), part(2, 3, 3, "a")]).unwrap();
    assert_eq!(whole.metadata.str("general.architecture").unwrap(), "gemma4");
    let places: Vec<_> = whole.tensors().iter().map(|t| (t.name.as_str(), t.part)).collect();
    assert_eq!(places, [("b", 0), ("c", 1), ("a", 2)]);
    assert_eq!(whole.tensor("a").unwrap().part, 2);

    let single = parse(&Sample::new().tensor("x", &[8], 0, 0).data(32).build()).unwrap();
    assert_eq!(single.n_parts().unwrap(), 1);
    assert_eq!(join(vec![single]).unwrap().tensors().len(), 1);
    // Parts that were merged into one file.
    let merged = Sample::new().u32("split.no", 0).u32("split.count", 0).u32("split.tensors.count", 9);
    let merged = parse(&merged.tensor("x", &[8], 0, 0).data(32).build()).unwrap();
    assert_eq!(merged.n_parts().unwrap(), 1);
    assert_eq!(join(vec![merged]).unwrap().tensors().len(), 1);
}

#[test]
fn parts_that_do_not_belong_together() {
    let cases = [
        (vec![part(0, 3, 3, "a")], "part 0: key `split.count` is 3, expected 1"),
        (vec![part(0, 2, 2, "a"), part(0, 2, 2, "b")], "part 1: key `split.no` is 0, expected 1"),
        (vec![part(1, 2, 2, "a"), part(0, 2, 2, "b")], "part 0: key `split.no` is 1, expected 0"),
        (vec![part(0, 2, 2, "a"), part(1, 3, 2, "b")], "part 1: key `split.count` is 3, expected 2"),
        (
            vec![part(0, 2, 5, "a"), part(1, 2, 5, "b")],
            "the parts hold 2 tensors, key `split.tensors.count` says 5",
        ),
        (vec![part(0, 2, 2, "a"), part(1, 2, 2, "a")], "tensor `a` occurs twice"),
    ];
    for (parts, message) in cases {
        assert_eq!(join(parts).unwrap_err().to_string(), message);
    }
    let endless = parse(&Sample::new().u32("split.count", 70_000).build()).unwrap();
    assert!(endless.n_parts().unwrap_err().to_string().contains("split.count"));
}

#[test]
fn part_names() {
    let first = Path::new("/m/gemma-00001-of-00012.gguf");
    assert_eq!(part_name(first, 0).as_deref(), Some(first));
    assert_eq!(part_name(first, 11), Some(PathBuf::from("/m/gemma-00012-of-00012.gguf")));
    assert_eq!(part_name(first, 12), None);
    for other in [
        "gemma.gguf",
        "-00001-of-00002",
        "x-0001-of-0002.gguf",
        "x-00000-of-00002.gguf",
        "x-00003-of-00002.gguf",
        "x-0000a-of-00002.gguf",
        "x-00001-of-000+2.gguf",
        "00001-of-00002.gguf",
        "..",
    ] {
        assert_eq!(part_name(Path::new(other), 0), None, "{other}");
    }
}

//! Any bytes: the GGUF reader returns, without a panic and within the allocation limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pled::gguf;

fuzz_target!(|data: &[u8]| {
    // The file is as long as it says, or lies: with plenty of room told, tensors are placed even if the
    // input is only a directory, which is all that can be found interesting here.
    for told in [data.len() as u64, 1 << 40] {
        let mut input = data;
        match gguf::read(&mut input, told) {
            Ok(gguf) => use_directory(gguf, told),
            Err(e) => assert!(!e.to_string().is_empty()),
        }
    }
});

fn use_directory(gguf: gguf::Gguf, told: u64) {
    for t in gguf.tensors() {
        assert!(t.n_elements() > 0);
        assert!(t.offset + t.n_bytes.unwrap_or(1) <= told);
        assert!(gguf.tensor(&t.name).is_some());
    }
    let m = &gguf.metadata;
    for (key, _) in m.iter() {
        let _ = (m.opt_u32(key), m.opt_u64(key), m.opt_f32(key), m.opt_bool(key), m.opt_str(key));
        let _ = (m.opt_u32_array(key), m.opt_i32_array(key), m.opt_f32_array(key), m.opt_bool_array(key));
        for text in m.opt_strings(key).ok().flatten().into_iter().flatten() {
            std::hint::black_box(text);
        }
    }
    let _ = gguf::join(vec![gguf]);
}

//! Files for tests, written field by field so that each field can be wrong.

/// A GGUF file under construction.
pub(super) struct Sample {
    keys: Vec<u8>,
    n_keys: u64,
    tensors: Vec<u8>,
    n_tensors: u64,
    alignment: usize,
    data_len: usize,
}

impl Sample {
    pub(super) fn new() -> Self {
        Self { keys: vec![], n_keys: 0, tensors: vec![], n_tensors: 0, alignment: 32, data_len: 0 }
    }

    /// Alignment of the data section; does not write the key.
    pub(super) fn alignment(mut self, alignment: usize) -> Self {
        self.alignment = alignment;
        self
    }

    /// A key with the bytes of its value as they are.
    pub(super) fn key(mut self, name: &str, type_id: u32, value: &[u8]) -> Self {
        self.keys.extend(string(name.as_bytes()));
        self.keys.extend(type_id.to_le_bytes());
        self.keys.extend(value);
        self.n_keys += 1;
        self
    }

    pub(super) fn u32(self, name: &str, value: u32) -> Self {
        self.key(name, 4, &value.to_le_bytes())
    }

    pub(super) fn str(self, name: &str, value: &[u8]) -> Self {
        self.key(name, 8, &string(value))
    }

    pub(super) fn array(self, name: &str, type_id: u32, n: u64, elements: &[u8]) -> Self {
        self.key(name, 9, &[&type_id.to_le_bytes()[..], &n.to_le_bytes(), elements].concat())
    }

    /// A row of the tensor table with its offset in the data section.
    pub(super) fn tensor(mut self, name: &str, dims: &[u64], type_id: u32, offset: u64) -> Self {
        self.tensors.extend(string(name.as_bytes()));
        self.tensors.extend((dims.len() as u32).to_le_bytes());
        self.tensors.extend(dims.iter().flat_map(|d| d.to_le_bytes()));
        self.tensors.extend(type_id.to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
        self.n_tensors += 1;
        self
    }

    /// Length of the data section in bytes.
    pub(super) fn data(mut self, len: usize) -> Self {
        self.data_len = len;
        self
    }

    pub(super) fn build(&self) -> Vec<u8> {
        self.build_version(3)
    }

    pub(super) fn build_version(&self, version: u32) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(version.to_le_bytes());
        out.extend(self.n_tensors.to_le_bytes());
        out.extend(self.n_keys.to_le_bytes());
        out.extend(&self.keys);
        out.extend(&self.tensors);
        if self.data_len > 0 {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
            out.resize(out.len() + self.data_len, 0xab);
        }
        out
    }
}

/// A string as the format writes it: length, then bytes.
pub(super) fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat()
}

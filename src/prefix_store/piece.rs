//! The format of a piece.
//!
//! Little-endian: eight bytes of magic, whose last two are the version; the fingerprint of the model, 64 bits; tokens
//! of a block, tokens, parts, 32 bits each; the tokens, all from the first of the prompt on; of each part its block,
//! its kind, the CRC32C of its bytes, 32 bits each, and their number, 64 bits; the CRC32C of all that is before it.
//! Then the bytes of the parts, one after the other, and nothing else.
//!
//! A piece has all tokens before its blocks, so that it proves by itself what it belongs to.

use std::ops::Range;
use std::path::Path;

use super::index::PartKind;
use crate::storage::{DataFile, StorageError};

const KIND: [u8; 6] = *b"pledkv";
const VERSION: [u8; 2] = *b"01";
const PRELUDE_BYTES: usize = 28;
const PART_BYTES: usize = 20;
const SUM_BYTES: usize = 4;
/// More than any context has.
const MAX_TOKENS: usize = 1 << 20;
/// More than any model keeps of a block in the layers of one kind.
const MAX_PART_BYTES: u64 = 64 << 20;

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPiece {
    /// All tokens from the first of the prompt to the end of the last block.
    pub tokens: Vec<u32>,
    /// At least one.
    pub parts: Vec<NewPart>,
}

/// Keys and values of a block, of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPart {
    /// Index of the block in the prompt.
    pub block: usize,
    /// Of which layers.
    pub kind: PartKind,
    /// What is kept.
    pub bytes: Vec<u8>,
}

/// Where a part lies in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) block: usize,
    pub(super) kind: PartKind,
    /// In the file. Unit: bytes.
    pub(super) place: Range<u64>,
    sum: u32,
}

/// What stands before the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) tokens: Vec<u32>,
    pub(super) parts: Vec<Part>,
    pub(super) n_bytes: u64,
}

/// What a file has to agree with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) fingerprint: u64,
    pub(super) block_tokens: usize,
}

/// Why a file is no piece that can be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum PieceError {
    #[error("is no piece of a prefix")]
    Foreign,
    #[error("was written for another model, with other settings, or by another version")]
    Other,
    #[error("is damaged: {0}")]
    Damaged(&'static str),
    #[error(transparent)]
    Unreadable(#[from] StorageError),
}

impl NewPiece {
    /// Bytes of the file.
    pub(super) fn n_bytes(&self) -> u64 {
        let parts: usize = self.parts.iter().map(|part| part.bytes.len()).sum();
        (header_bytes(self.tokens.len(), self.parts.len()) + parts) as u64
    }

    /// What stands before the bytes.
    pub(super) fn header(&self, identity: Identity) -> Vec<u8> {
        let mut out = Vec::with_capacity(header_bytes(self.tokens.len(), self.parts.len()));
        out.extend(KIND);
        out.extend(VERSION);
        out.extend(identity.fingerprint.to_le_bytes());
        for n in [identity.block_tokens, self.tokens.len(), self.parts.len()] {
            out.extend((n as u32).to_le_bytes());
        }
        out.extend(self.tokens.iter().flat_map(|token| token.to_le_bytes()));
        for NewPart { block, kind, bytes } in &self.parts {
            for n in [*block as u32, kind.code(), crc32c::crc32c(bytes)] {
                out.extend(n.to_le_bytes());
            }
            out.extend((bytes.len() as u64).to_le_bytes());
        }
        let sum = crc32c::crc32c(&out);
        out.extend(sum.to_le_bytes());
        out
    }
}

fn header_bytes(n_tokens: usize, n_parts: usize) -> usize {
    PRELUDE_BYTES + 4 * n_tokens + PART_BYTES * n_parts + SUM_BYTES
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

impl Header {
    /// Reads what stands before the bytes, and checks that the file ends where they do.
    pub(super) fn read(path: &Path, identity: Identity) -> Result<Self, PieceError> {
        let file = DataFile::open(path)?;
        let mut prelude = [0; PRELUDE_BYTES];
        if file.len() < PRELUDE_BYTES as u64 {
            return Err(PieceError::Damaged("it is too short"));
        }
        file.read_exact_at(&mut prelude, 0)?;
        if prelude[..6] != KIND {
            return Err(PieceError::Foreign);
        }
        let block_tokens = u32_at(&prelude, 16) as usize;
        let is_ours = prelude[6..8] == VERSION
            && u64_at(&prelude, 8) == identity.fingerprint
            && block_tokens == identity.block_tokens;
        if !is_ours {
            return Err(PieceError::Other);
        }
        let (n_tokens, n_parts) = (u32_at(&prelude, 20) as usize, u32_at(&prelude, 24) as usize);
        if n_tokens == 0 || n_tokens > MAX_TOKENS || n_parts == 0 || n_parts > 2 * MAX_TOKENS {
            return Err(PieceError::Damaged("its counts cannot be"));
        }
        let n_header = header_bytes(n_tokens, n_parts);
        if file.len() < n_header as u64 {
            return Err(PieceError::Damaged("it ends too early"));
        }
        let mut bytes = vec![0; n_header];
        file.read_exact_at(&mut bytes, 0)?;
        let (body, sum) = bytes.split_at(n_header - SUM_BYTES);
        if crc32c::crc32c(body).to_le_bytes() != sum {
            return Err(PieceError::Damaged("the checksum of its head is wrong"));
        }
        let (tokens, parts) = body[PRELUDE_BYTES..].split_at(4 * n_tokens);
        let mut header = Self {
            tokens: tokens.chunks_exact(4).map(|token| u32_at(token, 0)).collect(),
            parts: Vec::with_capacity(n_parts),
            n_bytes: n_header as u64,
        };
        let n_blocks = n_tokens.div_ceil(block_tokens);
        for part in parts.chunks_exact(PART_BYTES) {
            let (block, kind) = (u32_at(part, 0) as usize, PartKind::of_code(u32_at(part, 4)));
            let n_bytes = Some(u64_at(part, 12)).filter(|&n| n <= MAX_PART_BYTES);
            let end = n_bytes.and_then(|n| header.n_bytes.checked_add(n)).filter(|&end| end <= file.len());
            let (Some(kind), Some(end)) = (kind.filter(|_| block < n_blocks), end) else {
                return Err(PieceError::Damaged("a part of it cannot be"));
            };
            header.parts.push(Part { block, kind, place: header.n_bytes..end, sum: u32_at(part, 8) });
            header.n_bytes = end;
        }
        match header.n_bytes == file.len() {
            true => Ok(header),
            false => Err(PieceError::Damaged("it is longer than it should be")),
        }
    }

    /// The same as reading what was just written.
    pub(super) fn of(piece: &NewPiece) -> Self {
        let mut at = header_bytes(piece.tokens.len(), piece.parts.len()) as u64;
        let part = |part: &NewPart| {
            let place = at..at + part.bytes.len() as u64;
            at = place.end;
            Part { block: part.block, kind: part.kind, place, sum: crc32c::crc32c(&part.bytes) }
        };
        let parts = piece.parts.iter().map(part).collect();
        Self { tokens: piece.tokens.clone(), parts, n_bytes: piece.n_bytes() }
    }
}

impl Part {
    /// Its bytes, proven.
    pub(super) fn read(&self, file: &DataFile) -> Result<Vec<u8>, PieceError> {
        if self.place.end > file.len() {
            return Err(PieceError::Damaged("it ends too early"));
        }
        let mut bytes = vec![0; (self.place.end - self.place.start) as usize];
        file.read_bulk(self.place.start, &mut bytes)?;
        match crc32c::crc32c(&bytes) == self.sum {
            true => Ok(bytes),
            false => Err(PieceError::Damaged("the checksum of a part is wrong")),
        }
    }
}

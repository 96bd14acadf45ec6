use super::{Block32, BlockFormat, Coarse3};
use std::path::PathBuf;

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/quant-blocks").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The values of a version 1 .npy file of little-endian f32.
fn npy_f32(bytes: &[u8]) -> Vec<f32> {
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00", "not a version 1 .npy file");
    let header_len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..10 + header_len]).unwrap();
    assert!(header.contains("'<f4'") && header.contains("'fortran_order': False"), "{header}");
    let (values, rest) = bytes[10 + header_len..].as_chunks::<4>();
    assert!(rest.is_empty());
    values.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Every format: those of files, and the one that is made in memory.
pub(crate) fn every_format() -> impl Iterator<Item = BlockFormat> {
    BlockFormat::ALL.into_iter().chain([BlockFormat::Coarse3])
}

/// Blocks of a format and their exact values, as the reference package computes them; for [`Coarse3`], which it does not
/// know, those of its own.
pub(crate) fn reference_blocks(format: BlockFormat) -> (Vec<u8>, Vec<f32>) {
    if format == BlockFormat::Coarse3 {
        let input = npy_f32(&fixture("input.npy"));
        let (rows, _) = input.as_chunks::<32>();
        let mut blocks = vec![0; rows.len() * Coarse3::BYTES];
        for (x, block) in rows.iter().zip(blocks.chunks_exact_mut(Coarse3::BYTES)) {
            Coarse3::quantize(x, block);
        }
        let mut values = vec![0.0; 32 * rows.len()];
        format.dequantize(&blocks, &mut values);
        return (blocks, values);
    }
    if format == BlockFormat::F32 {
        let values = npy_f32(&fixture("input.npy"));
        return (values.iter().flat_map(|v| v.to_le_bytes()).collect(), values);
    }
    (fixture(&format!("{}.bin", format.name())), npy_f32(&fixture(&format!("{}.npy", format.name()))))
}

#[test]
fn dequantize_is_bit_exact() {
    for format in BlockFormat::ALL {
        let (blocks, expected) = reference_blocks(format);
        assert!(expected.len() >= 512, "{} has too few values", format.name());
        let mut values = vec![f32::NAN; expected.len()];
        format.dequantize(&blocks, &mut values);
        for (i, (got, want)) in values.iter().zip(&expected).enumerate() {
            assert_eq!(got.to_bits(), want.to_bits(), "{} element {i}: {got} for {want}", format.name());
        }
    }
}

#[test]
fn ids_and_sizes() {
    for format in BlockFormat::ALL {
        assert_eq!(format.ggml_id().and_then(BlockFormat::from_ggml_id), Some(format));
        let n = format.block_len();
        assert_eq!(format.row_bytes(0), Some(0));
        assert_eq!(format.row_bytes(3 * n), Some(3 * format.block_bytes()));
        if n > 1 {
            assert_eq!(format.row_bytes(n + 1), None);
        }
    }
    assert_eq!(BlockFormat::from_ggml_id(10), None);
    assert_eq!(BlockFormat::from_ggml_id(u32::MAX), None);
    assert_eq!(BlockFormat::F32.row_bytes(usize::MAX), None);
}

#[test]
fn every_tensor_type_has_one_name() {
    let names: Vec<String> = (0..100).map(super::type_name).collect();
    let known: Vec<&String> = names.iter().filter(|name| name.parse::<u32>().is_err()).collect();
    assert_eq!(known.len(), BlockFormat::ALL.len() + super::OTHER_TYPES.len());
    assert!(known.iter().enumerate().all(|(i, name)| !known[..i].contains(name)), "{known:?}");
    assert_eq!([&names[10], &names[12], &names[99]], ["Q2_K", "Q4_K", "99"]);
    assert!(BlockFormat::names().starts_with("F32, F16, BF16, Q4_0, "));
    assert!(BlockFormat::names().ends_with(", IQ4_NL or IQ4_XS"));
}

#[test]
#[should_panic(expected = "17 bytes for 32 elements of Q4_0")]
fn dequantize_refuses_wrong_lengths() {
    BlockFormat::Q4_0.dequantize(&[0; 17], &mut [0.0; 32]);
}

//! Mutated files: a result or an error, never a panic.

use std::{fs, path::Path};

use proptest::{prelude::*, sample::Index};
use qins_quant::{FloatDtype, checkpoint::FORMAT_VERSION};

use crate::common::{Home, Shards, read};

/// A mutation of a file.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    Flip(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    /// Replaces a run of digits with another number, which random byte flips rarely produce.
    Number(Index, u64),
}

pub(crate) fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let number = prop_oneof![Just(0), Just(1 << 40), Just(1 << 62), Just(u64::MAX), 0..100_u64, any::<u64>()];
    let edit = prop_oneof![
        4 => (any::<Index>(), 1..=255_u8).prop_map(|(at, bits)| Edit::Flip(at, bits)),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Insert(at, byte)),
        1 => any::<Index>().prop_map(Edit::Remove),
        4 => (any::<Index>(), number).prop_map(|(at, number)| Edit::Number(at, number)),
    ];
    prop::collection::vec(edit, 1..4)
}

fn apply(bytes: &mut Vec<u8>, edit: &Edit) {
    match edit {
        Edit::Flip(at, bits) => *at.get_mut(bytes) ^= bits,
        Edit::Insert(at, byte) => bytes.insert(at.index(bytes.len()), *byte),
        Edit::Remove(at) => drop(bytes.remove(at.index(bytes.len()))),
        Edit::Number(at, number) => {
            let from = at.index(bytes.len());
            let Some(start) = bytes[from..].iter().position(u8::is_ascii_digit).map(|i| from + i) else { return };
            let length = bytes[start..].iter().take_while(|b| b.is_ascii_digit()).count();
            bytes.splice(start..start + length, number.to_string().into_bytes());
        }
    }
}

/// Mutates the header and corrects its length, so that mutations get past that check.
pub(crate) fn edit_header_bytes(path: &Path, edits: &[Edit]) {
    let file = fs::read(path).unwrap();
    let (header, data) = file[8..].split_at(u64::from_le_bytes(file[..8].try_into().unwrap()) as usize);
    let mut header = header.to_vec();
    edits.iter().for_each(|edit| apply(&mut header, edit));
    fs::write(path, [&(header.len() as u64).to_le_bytes(), &*header, data].concat()).unwrap();
}

pub(crate) fn edit_file(path: &Path, edits: &[Edit]) {
    let mut file = fs::read(path).unwrap();
    edits.iter().for_each(|edit| apply(&mut file, edit));
    fs::write(path, file).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn mutated_encoded_checkpoint_is_read_or_rejected(
        edits in edits(), file in 0..3_usize,
        (shards, grouped) in prop_oneof![Just((Shards::One, false)), Just((Shards::Two, false)), Just((Shards::One, true))],
    ) {
        let home = if grouped { Home::grouped() } else { Home::encoded(shards) };
        let dir = home.path("encoded");
        let weights = if shards == Shards::One { "model.safetensors" } else { "a-1-of-2.safetensors" };
        match file {
            0 => edit_header_bytes(&dir.join(weights), &edits),
            1 => edit_file(&dir.join(weights), &edits),
            _ if shards == Shards::Two => edit_file(&dir.join("model.safetensors.index.json"), &edits),
            _ => edit_file(&dir.join("config.json"), &edits),
        }
        if let Err(error) = read(&dir) {
            prop_assert!(error.to_string().contains("/encoded/"), "{}", error);
        }
    }

    #[test]
    fn mutated_plain_checkpoint_converts_whole_or_leaves_nothing(
        edits in edits(), in_header in any::<bool>(),
    ) {
        let home = Home::new(FloatDtype::F16, Shards::One);
        let path = home.path("plain/model.safetensors");
        if in_header { edit_header_bytes(&path, &edits) } else { edit_file(&path, &edits) }
        match home.convert("plain", "out") {
            // A linear may have been renamed; the result must be readable.
            Ok(()) => {
                let out = crate::common::open(&home.path("out")).unwrap();
                prop_assert_eq!(out.quantization().unwrap().format_version, FORMAT_VERSION);
                prop_assert_eq!(home.list(), ["out", "plain"]);
            }
            Err(_) => prop_assert_eq!(home.list(), ["plain"]),
        }
    }
}

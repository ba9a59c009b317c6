//! An exported checkpoint in Transformers gives the logits of the encoded one here. Those logits are from a file that
//! `tools/export/logits.py` writes (see there); without one, the test prints that it is skipped.

use std::{fs, path::PathBuf};

use qins_burn::{Session, decoder::Logits, load};
use qins_quant::{checkpoint::Checkpoint, checkpoint::Files};
use safetensors::SafeTensors;

use crate::common::{device, floats, max_abs_diff, values};

/// For FP32 logits of some tens, with another order of summation in all blocks.
const BOUND: f32 = 1e-3;

#[test]
fn exported_checkpoint_in_transformers_equals_encoded_here() {
    let [encoded, logits] = ["QINS_EXPORT_ENCODED", "QINS_EXPORT_LOGITS"].map(std::env::var_os);
    let (Some(encoded), Some(logits)) = (encoded, logits) else {
        eprintln!("skipped: set QINS_EXPORT_ENCODED and QINS_EXPORT_LOGITS as described in tools/export/logits.py");
        return;
    };
    let checkpoint = Checkpoint::open(Files::Directory(PathBuf::from(encoded))).unwrap();
    let model = load(&checkpoint, None, &device(), |_, _| {}).unwrap().model;
    let bytes = fs::read(logits).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let prompts = file.names().iter().filter(|name| name.starts_with("ids.")).count();
    assert!(prompts > 0);
    for n in 0..prompts {
        let ids = file.tensor(&format!("ids.{n}")).unwrap();
        let ids: Vec<u32> = ids.data().as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        let expected = floats(&file, &format!("logits.{n}"));
        let found = values(Session::new(&model, ids.len()).extend(&ids, Logits::All).unwrap());
        let off = max_abs_diff(&found, &expected);
        eprintln!("prompt {n}: {} tokens, largest difference {off:.1e}", ids.len());
        assert!(off <= BOUND, "prompt {n}: {off}");
        // Control: the logits of the preceding position differ by more.
        let vocabulary = expected.len() / ids.len();
        let shifted = max_abs_diff(&found[vocabulary..], &expected[..expected.len() - vocabulary]);
        assert!(shifted > 1000.0 * BOUND, "prompt {n}: the control passed, {shifted}");
    }
}

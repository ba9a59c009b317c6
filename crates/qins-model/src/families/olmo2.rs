//! OLMo 2: norms after the attention and the MLP, and of queries and keys over all heads.

use serde_json::Value;

use crate::{ModelConfig, NormPlacement, QkNorm, config::Fields};

pub(super) fn describe(_: &Value, fields: Fields) -> Result<ModelConfig, String> {
    let biases = fields.biases(&["attention_bias"])?;
    let (norms, qk_norm) = (NormPlacement::After, QkNorm::AllHeads);
    Ok(ModelConfig { biases, norms, qk_norm, ..fields.model(fields.rope(10_000.0)?)? })
}

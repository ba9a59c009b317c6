//! Gemma 2: norms before and after, soft caps, and every other block with a sliding window.

use qins_quant::json;
use serde_json::Value;

use crate::{ModelConfig, Softcaps, config::Fields, families::gemma::Gemma};

pub(super) fn describe(config: &Value, mut fields: Fields) -> Result<ModelConfig, String> {
    fields.assume_window(config);
    let layers = fields.windows(|layer| layer.is_multiple_of(2))?;
    let own: Gemma = json::typed(config)?;
    let softcaps = own.softcaps(config, Softcaps { attention: Some(50.0), logits: Some(30.0) })?;
    let rope = own.head(config, &mut fields)?.rope(10_000.0)?;
    Ok(ModelConfig { layers, softcaps, ..own.model(&fields, rope)? })
}

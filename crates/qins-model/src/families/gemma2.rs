//! Gemma 2: norms before and after, soft caps, and every other block with a sliding window.

use qins_quant::json;
use serde_json::Value;

use crate::{
    ModelConfig, Softcaps,
    config::{Fields, positive},
    families::gemma::Gemma,
};

pub(super) fn describe(config: &Value, mut fields: Fields) -> Result<ModelConfig, String> {
    fields.assume_window(config);
    let layers = fields.windows(|layer| layer.is_multiple_of(2))?;
    let own: Gemma = json::typed(config)?;
    // Given as null, there is none; not given, there is.
    let cap = |name: &str, given: Option<f64>, default: f32| match given {
        None if config.get(name).is_none() => Ok(Some(default)),
        given => given.map(|cap| positive(name, cap)).transpose(),
    };
    let softcaps = Softcaps {
        attention: cap("attn_logit_softcapping", own.attn_logit_softcapping, 50.0)?,
        logits: cap("final_logit_softcapping", own.final_logit_softcapping, 30.0)?,
    };
    let rope = own.head(&mut fields)?.rope(10_000.0)?;
    Ok(ModelConfig { layers, softcaps, ..own.model(&fields, rope)? })
}

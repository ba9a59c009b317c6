//! Gemma 3, text: Gemma 2 with norms of each head of queries and keys in the place of soft caps, five blocks in six with a sliding window and
//! a rotation of its own.

use qins_quant::json;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    LayerRope, ModelConfig, QkNorm, RopeScaling, Softcaps,
    config::{Fields, RopeFields},
    families::gemma::Gemma,
};

/// What Gemma 3 has for itself.
#[derive(Deserialize)]
struct Local {
    sliding_window_pattern: Option<usize>,
    #[serde(rename = "_sliding_window_pattern")]
    saved_pattern: Option<usize>,
    rope_local_base_freq: Option<f64>,
}

pub(super) fn describe(config: &Value, mut fields: Fields) -> Result<ModelConfig, String> {
    fields.assume_window(config);
    let own: Gemma = json::typed(config)?;
    let given: Local = json::typed(config)?;
    // Transformers saves it with an underscore.
    let every = given.sliding_window_pattern.or(given.saved_pattern).unwrap_or(6);
    if every == 0 {
        return Err("expected a sliding_window_pattern of at least 1, found 0".to_owned());
    }
    let mut layers = fields.windows(|layer| !(layer + 1).is_multiple_of(every))?;
    for layer in layers.iter_mut().filter(|layer| layer.window.is_some()) {
        layer.rope = LayerRope::Local;
    }
    own.head(config, &mut fields)?;
    let global = fields.rope_model(1_000_000.0)?;
    let local = fields.rope_model(given.rope_local_base_freq.unwrap_or(10_000.0))?;
    let rope = match fields.rope.of_type("full_attention", global)? {
        Some(rope) => rope,
        None => fields.rope.settings(global)?,
    };
    let local_rope = match fields.rope.of_type("sliding_attention", local)? {
        Some(rope) => rope,
        None => RopeFields::default().settings(local)?,
    };
    if let Some(base) = given.rope_local_base_freq.filter(|base| *base != local_rope.theta) {
        let found = local_rope.theta;
        return Err(format!(
            "expected rope_local_base_freq and the rope_theta of sliding_attention to agree, found {base} and {found}"
        ));
    }
    if let RopeScaling::LongRope(_) = local_rope.scaling {
        return Err("expected a rotation of blocks with a window that does not depend on the length, found `longrope`"
            .to_owned());
    }
    let softcaps = own.softcaps(config, Softcaps::default())?;
    let model = own.model(&fields, rope)?;
    Ok(ModelConfig { layers, softcaps, qk_norm: QkNorm::PerHead, local_rope: Some(local_rope), ..model })
}

//! Calibration: the mean squares of each linear's inputs, which weight the errors of its columns.

use std::collections::BTreeMap;

use crate::{
    Error, Projections, Session,
    decoder::{CausalLm, Logits},
    generate::expect_readable,
    layer::ActivationStats,
};

/// Mean square of each linear's inputs over all positions of all texts, `[in]` per linear, by the names that
/// [`linears`](qins_model::linears) gives them.
///
/// A text is a sequence of token ids, read by itself in one pass. The embedding has no inputs, since tokens are looked up in
/// it, and is absent, unless the head is tied to it: then `model.embed_tokens` has the inputs of the head.
/// `progress` is called with the number of texts read and their total.
///
/// # Errors
/// Before reading: when there are no texts, when a text is empty, longer than the model's context or has an id
/// outside the vocabulary, or when a linear is encoded. After reading: when a mean square is not finite, or the device failed.
/// The model is left unchanged in any case.
pub fn calibrate(
    model: &mut dyn CausalLm,
    texts: &[Vec<u32>],
    progress: impl FnMut(usize, usize),
) -> Result<BTreeMap<String, Vec<f32>>, Error> {
    if texts.is_empty() {
        return Err(Error::NoTexts);
    }
    texts.iter().try_for_each(|ids| expect_readable(model.config(), 0, ids))?;
    let read = start_recording(model).and_then(|()| read(model, texts, progress));
    // On errors too: otherwise every later token would be recorded.
    let all_stats = stop_recording(model)?;
    read?;
    let mut seen = BTreeMap::new();
    for (module, stats) in all_stats {
        let Some(means) = stats.mean_squares()? else { continue };
        if let Some(channel) = means.iter().position(|mean| !mean.is_finite()) {
            return Err(Error::Inputs { module, channel, found: means[channel] });
        }
        seen.insert(module, means);
    }
    Ok(seen)
}

fn read(model: &dyn CausalLm, texts: &[Vec<u32>], mut progress: impl FnMut(usize, usize)) -> Result<(), Error> {
    for (done, ids) in texts.iter().enumerate() {
        progress(done, texts.len());
        // All logits, so that the head gets all positions.
        Session::new(model, ids.len()).extend(ids, Logits::All)?;
    }
    progress(texts.len(), texts.len());
    Ok(())
}

fn start_recording(module: &mut (impl Projections + ?Sized)) -> Result<(), Error> {
    module.visit_projections("model", &mut |_, name, projection| match projection.scheme() {
        None => {
            projection.stats = Some(ActivationStats::default());
            Ok(())
        }
        Some(scheme) => Err(Error::Encoded { module: name.to_owned(), scheme }),
    })
}

/// In computation order, so that an overflow is reported where it first occurs.
fn stop_recording(module: &mut (impl Projections + ?Sized)) -> Result<Vec<(String, ActivationStats)>, Error> {
    let mut all_stats = Vec::new();
    module.visit_projections("model", &mut |_, name, projection| {
        all_stats.extend(projection.stats.take().map(|stats| (name.to_owned(), stats)));
        Ok(())
    })?;
    Ok(all_stats)
}

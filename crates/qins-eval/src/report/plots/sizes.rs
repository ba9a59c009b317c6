//! The size of each variant's weights as stored.

use super::{
    super::{
        Report,
        format::{bits, bytes},
    },
    Plot,
    bars::{self, Bar},
    candidates,
};

pub(super) fn plot(report: &Report) -> Option<Plot> {
    let bar = |name: String, look: String, n: u64, text: String| Bar { name, look, value: n as f64, range: None, text };
    let plain = report.model.weight_bytes;
    let plain = bar("plain checkpoint".to_owned(), "grey".to_owned(), plain, bytes(plain));
    let encoded = candidates(report).into_iter().filter(|(c, ..)| {
        // Other arithmetic and the repeated baseline have plain weights.
        c.settings.computation.is_none() && c.settings.scheme != "none"
    });
    let encoded = encoded.map(|(c, look, name)| {
        let size = bytes(c.weight_bytes);
        let text = c.bits_per_weight.map_or(size.clone(), |_| format!("{size}, {} bpw", bits(c.bits_per_weight)));
        bar(name, look, c.weight_bytes, text)
    });
    let bars: Vec<Bar> = [plain].into_iter().chain(encoded).collect();
    Some(Plot {
        title: "Sizes",
        reading: "Bytes of all weights as stored, plain ones included, and bits per weight (bpw) of the encoded ones."
            .to_owned(),
        drawings: bars::draw("bytes of all weights", &bars).map(|svg| (None, svg)).into_iter().collect(),
    })
}

//! The weight error of each encoded linear, by block.

use super::{
    super::{LayerFidelity, Report},
    Plot, SMALL,
    axis::Axis,
    candidates,
    chart::{Chart, Point, Series, Shape},
    colour,
};

/// The roles of linears, as modules' names end.
const ROLES: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

pub(super) fn plot(report: &Report) -> Option<Plot> {
    let drawings = candidates(report).into_iter().filter_map(|(c, _, name)| {
        let series = ROLES.iter().enumerate().filter_map(|(i, role)| {
            let points = line(&c.layers, role);
            let name = role.trim_end_matches("_proj").to_owned();
            (!points.is_empty()).then(|| Series { name, look: colour(i), shape: Shape::Line, points })
        });
        let series: Vec<Series> = series.collect();
        let points = || series.iter().flat_map(|s| &s.points);
        let x = Axis::tight("block", points().map(|p| p.x).collect::<Vec<_>>())?;
        let y = Axis::linear("SQNR (dB)", points().map(|p| p.y))?;
        let chart = Chart { title: format!("SQNR of each linear, {name}"), size: SMALL, x, y, series };
        Some((Some(name), chart.draw()))
    });
    Some(Plot {
        title: "Weight error by linear (SQNR)",
        reading:
            "Signal-to-quantisation-noise ratio of each linear's weights in dB, by block and role: 6 dB more is half the \
                  error. Each panel has its own scale; exact linears are not drawn."
                .to_owned(),
        drawings: drawings.collect(),
    })
}

/// The linears of one role, in the order of blocks.
fn line(layers: &[LayerFidelity], role: &str) -> Vec<Point> {
    let point = |layer: &LayerFidelity| {
        let block = block(&layer.module, role)?;
        let y = layer.sqnr_db.filter(|db| db.is_finite())?;
        let tip = format!("{} ({}): {y:.1} dB", layer.module, layer.scheme);
        Some(Point { x: f64::from(block), y, range: None, tip })
    };
    let mut points: Vec<Point> = layers.iter().filter_map(point).collect();
    points.sort_by(|a, b| a.x.total_cmp(&b.x));
    points
}

/// The block that `module` is in, if it is a linear of `role`: 3 of `model.layers.3.self_attn.v_proj`.
fn block(module: &str, role: &str) -> Option<u32> {
    let mut parts = module.rsplit('.');
    (parts.next() == Some(role)).then(|| parts.find_map(|part| part.parse().ok()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_from_names() {
        assert_eq!(block("model.layers.13.self_attn.v_proj", "v_proj"), Some(13));
        assert_eq!(block("model.layers.13.self_attn.v_proj", "q_proj"), None);
        assert_eq!(block("lm_head", "v_proj"), None);
        assert_eq!(block("v_proj", "v_proj"), None);
    }
}

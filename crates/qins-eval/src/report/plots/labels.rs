//! Placement of labels without overlap.

/// Height of a label, and the approximate width of a letter: the font is the browser's.
pub(super) const HEIGHT: f64 = 14.0;
const LETTER: f64 = 7.2;

/// Approximate width of a text.
pub(super) fn width(text: &str) -> f64 {
    text.chars().count() as f64 * LETTER
}

/// A rectangle: left, top, right, bottom.
pub(super) type Area = [f64; 4];

fn overlap(a: &Area, b: &Area) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

/// Heights for labels, as close to `wanted` as non-overlapping labels can be, and within `low` to `high` if all fit.
pub(super) fn spread(wanted: &[f64], low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<(usize, f64)> = wanted.iter().copied().enumerate().collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut floor = low;
    for (_, y) in &mut order {
        *y = y.max(floor);
        floor = *y + HEIGHT;
    }
    let mut ceiling = high;
    for (_, y) in order.iter_mut().rev() {
        *y = y.min(ceiling);
        ceiling = *y - HEIGHT;
    }
    order.sort_by_key(|(i, _)| *i);
    order.into_iter().map(|(_, y)| y).collect()
}

/// Left ends and baselines for the names of points: each on the first side of its point where it covers neither what is
/// `taken` nor a point nor another name, and stays within `area`.
pub(super) fn beside(points: &[([f64; 2], &str)], mut taken: Vec<Area>, area: Area) -> Vec<[f64; 2]> {
    taken.extend(points.iter().map(|([x, y], _)| [x - 5.0, y - 5.0, x + 5.0, y + 5.0]));
    let mut places = Vec::new();
    for ([x, y], name) in points {
        let wide = width(name);
        let (right, left, middle) = (x + 8.0, x - 8.0 - wide, x - wide / 2.0);
        // The text's middle: beside, then above and below, each time further off.
        let around = (0..6).map(f64::from).flat_map(|far| {
            let off = HEIGHT * (far + 1.0);
            let level = HEIGHT * far;
            [(right, -level), (left, -level), (right, level), (left, level), (middle, -off), (middle, off)]
        });
        let boxes = around.map(|(x, off)| [x, y + off - HEIGHT / 2.0, x + wide, y + off + HEIGHT / 2.0]);
        let inside = |b: &Area| b[0] >= area[0] && b[1] >= area[1] && b[2] <= area[2] && b[3] <= area[3];
        let free = boxes.clone().find(|b| inside(b) && !taken.iter().any(|t| overlap(b, t)));
        let found = free.or_else(|| boxes.clone().find(inside)).unwrap_or([right, y - HEIGHT / 2.0, right + wide, *y]);
        taken.push(found);
        places.push([found[0], found[1] + HEIGHT / 2.0 + 4.0]);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_label_covers_another() {
        let found = spread(&[50.0, 50.0, 10.0, 51.0], 0.0, 60.0);
        let mut sorted = found.clone();
        sorted.sort_by(f64::total_cmp);
        assert!(sorted.windows(2).all(|w| w[1] - w[0] >= HEIGHT - 1e-9), "{found:?}");
        assert!(found.iter().all(|y| (0.0..=60.0).contains(y)), "{found:?}");

        let points: Vec<([f64; 2], &str)> = (0..6).map(|i| ([100.0 + f64::from(i), 100.0], "a name")).collect();
        let places = beside(&points, vec![[0.0, 0.0, 90.0, 200.0]], [0.0, 0.0, 400.0, 200.0]);
        assert!(places.iter().all(|place| place[0] >= 90.0), "{places:?}");
        for (i, a) in places.iter().enumerate() {
            for b in &places[i + 1..] {
                let apart = (a[0] - b[0]).abs() >= width("a name") || (a[1] - b[1]).abs() >= HEIGHT;
                assert!(apart, "{places:?}");
            }
        }
    }
}

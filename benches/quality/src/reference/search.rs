//! The searches for a block's scale that the GGUF formats' reference quantisers make.

/// The index of the level nearest to `x`, of ascending levels; the higher one half-way.
pub(super) fn nearest(levels: &[f32], x: f32) -> usize {
    levels.windows(2).filter(|pair| 2.0 * x >= pair[0] + pair[1]).count()
}

/// The element of largest magnitude, with its sign.
pub(super) fn peak(x: &[f32]) -> f32 {
    x.iter().fold(0.0_f32, |peak, &x| if x.abs() > peak.abs() { x } else { peak })
}

/// The scale of `x ≈ scale·level(x/scale)`.
///
/// For each of the candidate inverse scales, levels are chosen and the scale that suits them best follows by least
/// squares, with weights x²: large weights count more. The candidate with the smallest error wins.
pub(super) fn scale(x: &[f32], candidates: impl Iterator<Item = f32>, level: impl Fn(f32) -> f32) -> f32 {
    let (mut scale, mut best) = (0.0, 0.0);
    for inverse in candidates {
        let (mut xl, mut ll) = (0.0, 0.0);
        for &x in x {
            let (w, l) = (x * x, level(inverse * x));
            xl += w * x * l;
            ll += w * l * l;
        }
        // The error is Σwx² − (Σwxl)²/Σwl².
        if ll > 0.0 && xl * xl > best * ll {
            scale = xl / ll;
            best = scale * xl;
        }
    }
    scale
}

/// The scale and the offset of `x ≈ scale·l − offset` with l = 0, 1 … `top`; both are at least 0.
///
/// Each of the candidates divides the block's range into so many steps; levels are chosen, and scale and offset follow
/// by least squares, with weights of |x| + its root mean square. The range begins at the best offset so far, so the
/// order of the candidates matters.
pub(super) fn scale_and_offset(x: &[f32], top: f32, candidates: impl Iterator<Item = f32>) -> (f32, f32) {
    let rms = (x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32).sqrt();
    let weighted = || x.iter().map(|&x| (x, rms + x.abs()));
    let (sum_w, sum_x) = weighted().fold((0.0, 0.0), |(sw, sx), (x, w)| (sw + w, sx + w * x));
    let high = x.iter().fold(f32::NEG_INFINITY, |high, &x| high.max(x));
    let mut min = x.iter().fold(0.0_f32, |low, &x| low.min(x));
    if high == min {
        return (0.0, -min);
    }
    let level = |x: f32, steps: f32, min: f32| (steps / (high - min) * (x - min)).round_ties_even().clamp(0.0, top);
    let error = |line: [f32; 2], level: &dyn Fn(f32) -> f32| -> f32 {
        weighted().map(|(x, w)| w * (line[0] * level(x) + line[1] - x).powi(2)).sum()
    };

    let mut scale = 1.0 / (top / (high - min));
    let mut least = error([scale, min], &|x| level(x, top, min));
    for steps in candidates {
        let level = |x| level(x, steps, min);
        let (mut sum_l, mut sum_ll, mut sum_xl) = (0.0, 0.0, 0.0);
        for (x, w) in weighted() {
            let l = level(x);
            sum_l += w * l;
            sum_ll += w * l * l;
            sum_xl += w * l * x;
        }
        let determinant = sum_w * sum_ll - sum_l * sum_l;
        if determinant <= 0.0 {
            continue;
        }
        let mut line =
            [(sum_w * sum_xl - sum_x * sum_l) / determinant, (sum_ll * sum_x - sum_l * sum_xl) / determinant];
        if line[1] > 0.0 {
            line = [sum_xl / sum_ll, 0.0];
        }
        let found = error(line, &level);
        if found < least {
            least = found;
            [scale, min] = line;
        }
    }
    (scale, -min)
}

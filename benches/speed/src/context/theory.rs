//! A model of memory and time by context length.

use super::measure::Run;

/// The measurements of a KV cache scheme, and the model fitted to them.
pub(crate) struct Fit<'a> {
    pub(crate) name: &'a str,
    /// From the shortest context to the longest.
    pub(crate) runs: Vec<&'a Run>,
    /// Of the time of a token: `a + b·n`, in ms.
    token: [f64; 2],
    /// Of the time of a context: `a·n + b·n²`, in s.
    context: [f64; 2],
}

/// The schemes measured, in their order.
pub(crate) fn fits(runs: &[Run]) -> Vec<Fit<'_>> {
    let mut names: Vec<&str> = Vec::new();
    runs.iter().for_each(|run| names.extend((!names.contains(&&run.kv[..])).then_some(&run.kv[..])));
    names.into_iter().map(|name| Fit::new(name, runs)).collect()
}

impl<'a> Fit<'a> {
    fn new(name: &'a str, all: &'a [Run]) -> Self {
        let mut runs: Vec<&Run> = all.iter().filter(|run| run.kv == name).collect();
        runs.sort_by_key(|run| run.prompt_tokens);
        let points = |y: fn(&Run) -> f64| runs.iter().map(|run| (run.prompt_tokens as f64, y(run))).collect::<Vec<_>>();
        // The time of a context over its tokens is a line as well.
        let per_token = points(|run| run.seconds() / run.prompt_tokens as f64);
        Self { name, token: line(&points(Run::milliseconds)), context: line(&per_token), runs }
    }

    /// MB of the KV cache of `n` tokens, at the bytes per token of the longest context.
    pub(crate) fn megabytes(&self, n: f64) -> f64 {
        self.runs.last().map_or(0.0, |run| run.bytes_per_token() * n / 1e6)
    }

    /// Milliseconds to decode a token after `n`.
    pub(crate) fn milliseconds(&self, n: f64) -> f64 {
        self.token[0] + self.token[1] * n
    }

    /// Seconds of prefill of `n` tokens.
    pub(crate) fn seconds(&self, n: f64) -> f64 {
        (self.context[0] + self.context[1] * n) * n
    }
}

/// `[a, b]` of the a + b·x nearest to the points in relative error.
fn line(points: &[(f64, f64)]) -> [f64; 2] {
    let sum = |term: fn(f64, f64) -> f64| points.iter().map(|(x, y)| term(*x, *y)).sum::<f64>();
    let (w, wx, wxx) = (sum(|_, y| 1.0 / (y * y)), sum(|x, y| x / (y * y)), sum(|x, y| x * x / (y * y)));
    let (wy, wxy) = (sum(|_, y| 1.0 / y), sum(|x, y| x / y));
    let determinant = w * wxx - wx * wx;
    // One context gives no slope.
    if points.len() < 2 || determinant == 0.0 {
        return [wy / w, 0.0];
    }
    [(wxx * wy - wx * wxy) / determinant, (w * wxy - wx * wy) / determinant]
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_line_is_found_and_one_point_is_a_constant() {
        let [a, b] = line(&[(1.0, 5.0), (2.0, 7.0), (10.0, 23.0)]);
        assert!((a - 3.0).abs() < 1e-9 && (b - 2.0).abs() < 1e-9, "{a} {b}");
        let [a, b] = line(&[(4.0, 7.0)]);
        assert!((a - 7.0).abs() < 1e-9 && b == 0.0, "{a} {b}");
        // Half of what is not on a line is above it and half below.
        let [a, b] = line(&[(0.0, 1.0), (1.0, 3.0), (2.0, 2.0)]);
        assert!(a > 0.9 && a < 2.0 && b > 0.0, "{a} {b}");
    }
}

//! A sample of a matrix's rows.

/// Rows spread over a matrix, with about `weights` weights in total.
pub(crate) fn rows([rows, cols]: [usize; 2], weights: usize) -> impl Iterator<Item = usize> {
    let n = (weights / cols.max(1)).clamp(1, rows.max(1)).min(rows);
    (0..n).map(move |i| i * rows / n)
}

#[cfg(test)]
mod tests {
    #[test]
    fn sample_is_spread_over_all_rows() {
        let rows = |shape| super::rows(shape, 1 << 20).collect::<Vec<_>>();
        assert_eq!(rows([3, 8]), [0, 1, 2]);
        assert_eq!(rows([0, 8]), [0; 0]);
        assert_eq!(rows([4, 1 << 20]), [0]);
        let some = rows([10_000, 1024]);
        assert_eq!((some.len(), some[0], some[1023]), (1024, 0, 9990));
    }
}

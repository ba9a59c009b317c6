//! Setting the smallest weights of each row to zero.

/// The share of each row's weights that is set to zero: those of the smallest magnitude or, if columns have an
/// importance, of the smallest |x|·√importance (Sun et al., "A Simple and Effective Pruning Approach for Large Language
/// Models", 2023).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prune(f32);

impl Prune {
    /// No weight is pruned.
    pub const NONE: Self = Self(0.0);

    /// A share from 0 to 1.
    ///
    /// # Errors
    /// When it is outside that range.
    pub fn new(share: f32) -> Result<Self, String> {
        if (0.0..=1.0).contains(&share) {
            Ok(Self(share))
        } else {
            Err(format!("expected a share from 0 to 1, found {share}"))
        }
    }

    /// The share.
    pub const fn get(self) -> f32 {
        self.0
    }

    /// Prunes one row. Among equal weights the first are pruned first; without an importance, all columns count equally.
    pub(crate) fn row(self, row: &mut [f32], importance: Option<&[f32]>) {
        let n = (f64::from(self.0) * row.len() as f64).round() as usize;
        if n == 0 {
            return;
        }
        let cost =
            |i: usize| f64::from(row[i]).powi(2) * importance.and_then(|all| all.get(i)).map_or(1.0, |w| f64::from(*w));
        let mut order: Vec<usize> = (0..row.len()).collect();
        if n < row.len() {
            order.select_nth_unstable_by(n, |a, b| cost(*a).total_cmp(&cost(*b)).then(a.cmp(b)));
        }
        for i in &order[..n] {
            row[*i] = 0.0;
        }
    }
}

#[cfg(test)]
#[test]
fn prune_zeroes_the_smallest_weights() {
    let pruned = |share, importance| {
        let mut row = [0.5, -0.1, 3.0, -2.0, 0.1, 0.4];
        Prune::new(share).unwrap().row(&mut row, importance);
        row
    };
    assert_eq!(pruned(0.0, None), [0.5, -0.1, 3.0, -2.0, 0.1, 0.4]);
    assert_eq!(pruned(0.17, None), [0.5, 0.0, 3.0, -2.0, 0.1, 0.4]);
    assert_eq!(pruned(0.5, None), [0.5, 0.0, 3.0, -2.0, 0.0, 0.0]);
    assert_eq!(pruned(0.5, Some(&[0.0, 1e4, 0.0, 1.0, 1e4, 0.0])), [0.0, -0.1, 0.0, -2.0, 0.1, 0.0]);
    assert_eq!(pruned(0.17, Some(&[0.0])), [0.0, -0.1, 3.0, -2.0, 0.1, 0.4]);
    assert_eq!(pruned(1.0, None), [0.0; 6]);
    assert!(Prune::new(-0.1).is_err() && Prune::new(1.1).is_err() && Prune::new(f32::NAN).is_err());
}

//! The goal of a mixed-precision search.

/// A limit on how much a model's output may change when its linears are encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OutputGoal {
    /// Maximum mean KL divergence, in nats.
    Kl(f64),
    /// Minimum top-1 agreement, as a share from 0 to 1.
    Match(f64),
}

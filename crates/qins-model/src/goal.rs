//! What a mixture of schemes must keep.

/// What a model must still say when its linears are encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OutputGoal {
    /// Mean KL divergence at most, in nats.
    Kl(f64),
    /// Top-1 agreement at least, as a share.
    Match(f64),
}

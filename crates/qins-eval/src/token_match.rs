//! Free-running agreement: both models write on their own, and the question is how far they write the same.

/// The number of leading tokens two sequences share.
///
/// ```
/// use qins_eval::token_match::match_length;
/// assert_eq!(match_length(&[1, 2, 3], &[1, 2, 4]), 2);
/// assert_eq!(match_length(&[1, 2], &[1, 2, 4]), 2);
/// ```
pub fn match_length(baseline: &[u32], candidate: &[u32]) -> usize {
    baseline.iter().zip(candidate).take_while(|(a, b)| a == b).count()
}

/// Where and how a candidate left the baseline's text.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Divergence {
    /// Index among the generated tokens.
    pub index: usize,
    /// The baseline's token there, if it had not ended.
    pub baseline: Option<u32>,
    /// The candidate's, if it had not ended.
    pub candidate: Option<u32>,
    /// How far the baseline's logit for its token lay above the next one: a near-tie, or a real difference.
    pub margin: Option<f32>,
}

/// The first divergence, or `None` when the sequences are the same. `margins` are the baseline's, one a token.
pub fn divergence(baseline: &[u32], candidate: &[u32], margins: &[f32]) -> Option<Divergence> {
    let index = match_length(baseline, candidate);
    (baseline.len() != index || candidate.len() != index).then(|| Divergence {
        index,
        baseline: baseline.get(index).copied(),
        candidate: candidate.get(index).copied(),
        margin: margins.get(index).copied(),
    })
}

/// The largest logit less the second largest; infinite for a vocabulary of one.
pub fn margin(logits: &[f32]) -> f32 {
    let (mut first, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
    for &logit in logits {
        if logit > first {
            (first, second) = (logit, first);
        } else if logit > second {
            second = logit;
        }
    }
    first - second
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_that_end_apart_diverge_where_the_shorter_ends() {
        let d = divergence(&[5, 6], &[5], &[0.5, 0.25]).unwrap();
        assert_eq!((d.index, d.baseline, d.candidate, d.margin), (1, Some(6), None, Some(0.25)));
        let d = divergence(&[5], &[5, 6], &[0.5]).unwrap();
        assert_eq!((d.index, d.baseline, d.candidate, d.margin), (1, None, Some(6), None));
        assert_eq!(divergence(&[5, 6], &[5, 6], &[0.5, 0.25]), None);
        assert_eq!(divergence(&[], &[], &[]), None);
    }

    #[test]
    fn the_margin_is_the_lead_of_the_winner() {
        assert_eq!(margin(&[1.0, 4.0, 2.5]), 1.5);
        assert_eq!(margin(&[4.0, 4.0, 2.5]), 0.0);
        assert_eq!(margin(&[2.0]), f32::INFINITY);
    }
}

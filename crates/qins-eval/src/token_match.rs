//! Free-running agreement: each model generates from the same prompt on its own, and the generated token ids are compared from
//! the start.

/// The length of the common prefix of two token sequences, in tokens.
///
/// ```
/// use qins_eval::token_match::match_length;
/// assert_eq!(match_length(&[1, 2, 3], &[1, 2, 4]), 2);
/// assert_eq!(match_length(&[1, 2], &[1, 2, 4]), 2);
/// ```
pub fn match_length(baseline: &[u32], candidate: &[u32]) -> usize {
    baseline.iter().zip(candidate).take_while(|(a, b)| a == b).count()
}

/// Where a candidate's generated text diverges from the baseline's.
#[derive(Clone, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
pub struct Divergence {
    /// Index of the first differing token, among the generated tokens.
    pub index: usize,
    /// The baseline's token at that index; `None` where its text has ended.
    pub baseline: Option<u32>,
    /// The candidate's token at that index; `None` where its text has ended.
    pub candidate: Option<u32>,
    /// The baseline's logit margin there, its largest logit less its second largest: near 0, the two tokens were a tie. `None` where
    /// its text has ended.
    pub margin: Option<f32>,
}

/// The first divergence; `None` when the sequences are equal. `margins` are the baseline's logit margins, one per token.
pub fn divergence(baseline: &[u32], candidate: &[u32], margins: &[f32]) -> Option<Divergence> {
    let index = match_length(baseline, candidate);
    (baseline.len() != index || candidate.len() != index).then(|| Divergence {
        index,
        baseline: baseline.get(index).copied(),
        candidate: candidate.get(index).copied(),
        margin: margins.get(index).copied(),
    })
}

/// The logit margin: the largest logit less the second largest, 0 for a tie, infinite for a vocabulary of one.
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

/// A step of a survival curve.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
pub struct Survival {
    /// Length of the prefix, in tokens.
    pub tokens: usize,
    /// Estimated share of texts whose first `tokens` tokens match, from 0 to 1.
    pub share: f64,
}

/// The survival curve of matching texts: the estimated share whose first n tokens match, one step at each n where it falls, in
/// ascending order. Each text is given as the length of its matching prefix, and whether it diverges there; a text that ends
/// without diverging is censored, as nothing is known beyond its end.
///
/// This is the product-limit estimate of Kaplan and Meier, "Nonparametric estimation from incomplete observations", 1958.
///
/// ```
/// use qins_eval::token_match::{Survival, survival};
/// // One text of four diverges after 2 tokens, one ends after 5, one diverges after 7; the last goes on to its end.
/// let curve = survival([(2, true), (5, false), (7, true), (9, false)]);
/// assert_eq!(curve, [Survival { tokens: 3, share: 0.75 }, Survival { tokens: 8, share: 0.375 }]);
/// ```
pub fn survival(texts: impl IntoIterator<Item = (usize, bool)>) -> Vec<Survival> {
    let mut texts: Vec<_> = texts.into_iter().collect();
    // Of equal lengths those that diverge come first: they were at risk together.
    texts.sort_unstable_by_key(|&(length, diverges)| (length, !diverges));
    let (mut curve, mut share): (Vec<Survival>, f64) = (Vec::new(), 1.0);
    for (i, &(length, diverges)) in texts.iter().enumerate() {
        if !diverges || i > 0 && texts[i - 1] == (length, true) {
            continue;
        }
        // A text that ends here is not at risk of diverging after its end.
        let at_risk = texts[i..].iter().filter(|text| **text != (length, false)).count();
        let diverging = texts[i..].iter().take_while(|text| **text == (length, true)).count();
        share *= 1.0 - diverging as f64 / at_risk as f64;
        curve.push(Survival { tokens: length + 1, share });
    }
    curve
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survival_without_censoring_is_the_share_of_matching_texts() {
        let lengths = [3, 9, 3, 0, 20, 20, 7, 3];
        let curve = survival(lengths.map(|length| (length, length < 20)));
        for tokens in 1..25 {
            let expected = lengths.iter().filter(|l| **l >= tokens || **l == 20).count() as f64 / 8.0;
            let found = curve.iter().rfind(|step| step.tokens <= tokens).map_or(1.0, |step| step.share);
            assert!((found - expected).abs() < 1e-15, "{tokens}: {found}, {expected}");
        }
        assert_eq!(survival([(4, false), (0, false)]), []);
        assert_eq!(survival([(0, true), (0, true)]), [Survival { tokens: 1, share: 0.0 }]);
        // A text that ends where another diverges was not at risk beyond.
        assert_eq!(survival([(4, true), (4, false), (6, false)]), [Survival { tokens: 5, share: 0.5 }]);
    }

    #[test]
    fn divergence_is_where_the_shorter_sequence_ends() {
        let d = divergence(&[5, 6], &[5], &[0.5, 0.25]).unwrap();
        assert_eq!((d.index, d.baseline, d.candidate, d.margin), (1, Some(6), None, Some(0.25)));
        let d = divergence(&[5], &[5, 6], &[0.5]).unwrap();
        assert_eq!((d.index, d.baseline, d.candidate, d.margin), (1, None, Some(6), None));
        assert_eq!(divergence(&[5, 6], &[5, 6], &[0.5, 0.25]), None);
        assert_eq!(divergence(&[], &[], &[]), None);
    }

    #[test]
    fn margin_is_top1_less_top2() {
        assert_eq!(margin(&[1.0, 4.0, 2.5]), 1.5);
        assert_eq!(margin(&[4.0, 4.0, 2.5]), 0.0);
        assert_eq!(margin(&[2.0]), f32::INFINITY);
    }
}

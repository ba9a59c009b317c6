//! The first element of a long slice with a property that few have.

use rayon::prelude::*;

/// The index of the first element that `is` so; asked of elements after it too.
pub(crate) fn first<T: Sync>(elements: &[T], is: impl Fn(&T) -> bool + Sync) -> Option<usize> {
    const PIECE: usize = 1 << 14;
    // Within a piece without an early end, so that it vectorises.
    let any = |piece: &[T]| piece.iter().fold(false, |any, element| any | is(element));
    let start = PIECE * elements.par_chunks(PIECE).position_first(any)?;
    elements[start..].iter().position(&is).map(|index| start + index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_is_that_of_the_first() {
        let numbers: Vec<u32> = (0..100_000).collect();
        for threshold in [0, 1, 16_383, 16_384, 70_000, 99_999] {
            assert_eq!(first(&numbers, |n| *n >= threshold), Some(threshold as usize));
        }
        assert_eq!(first(&numbers, |n| *n == 100_000), None);
        assert_eq!(first(&[], |_: &u8| true), None);
    }
}

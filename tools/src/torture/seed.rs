//! Random numbers that a seed repeats. SplitMix64: small, and good enough to choose what to do.

/// A source of random numbers.
#[derive(Debug)]
pub(super) struct Seed(u64);

impl Seed {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A source of its own for each of several users, so that they do not take from each other.
    pub(super) fn branch(&mut self) -> Self {
        Self(self.next())
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 if there is none.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next().checked_rem(end).unwrap_or(0)
    }

    /// A number of `from..to`.
    pub(super) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from))
    }

    /// True so many times in a hundred.
    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of several.
    pub(super) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let at = self.below(u64::try_from(of.len()).unwrap_or(0));
        of.get(usize::try_from(at).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_and_branches_differ() {
        let (mut one, mut two) = (Seed::new(7), Seed::new(7));
        assert!((0..100).all(|_| one.next() == two.next()));
        let (mut left, mut right) = (one.branch(), one.branch());
        assert_ne!(left.next(), right.next());
    }

    #[test]
    fn numbers_stay_within_their_bounds() {
        let mut seed = Seed::new(1);
        assert!((0..1000).all(|_| (5..9).contains(&seed.between(5, 9))));
        assert_eq!(seed.below(0), 0);
        assert!(!seed.percent(0) && seed.percent(100));
    }
}

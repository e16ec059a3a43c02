use model::Moment;

/// What a client may do that costs us work and brings it nothing: so much at once, so much a second, and more for all that
/// it does in earnest.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    left: u32,
    most: u32,
    per_second: u32,
    /// When it was filled up last.
    at: Moment,
}

impl Budget {
    pub(super) const fn new(most: u32, per_second: u32, now: Moment) -> Self {
        Self {
            left: most,
            most,
            per_second,
            at: now,
        }
    }

    /// Takes one; false if there is none left.
    #[must_use]
    pub(super) fn spend(&mut self, now: Moment) -> bool {
        if self.left == 0 {
            let gained = now.since(self.at).as_secs() * u64::from(self.per_second);
            if gained == 0 {
                return false;
            }
            self.at = now;
            self.left = u32::try_from(gained).map_or(self.most, |gained| gained.min(self.most));
        }
        self.left -= 1;
        true
    }

    /// Puts some back.
    pub(super) fn earn(&mut self, n: u32) {
        self.left = (self.left + n).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_comes_back_with_time_and_with_earnest_work() {
        let at = |seconds: u64| Moment::from_millis(seconds * 1_000);
        let mut budget = Budget::new(3, 2, at(0));
        for _ in 0..3 {
            assert!(budget.spend(at(0)));
        }
        assert!(!budget.spend(at(0)), "all at once");
        budget.earn(1);
        assert!(budget.spend(at(0)));
        assert!(!budget.spend(at(0)));
        assert!(budget.spend(at(1)) && budget.spend(at(1)), "two a second");
        assert!(!budget.spend(at(1)));
        for _ in 0..3 {
            assert!(budget.spend(at(1_000)), "no more than the burst");
        }
        assert!(!budget.spend(at(1_000)));
    }
}

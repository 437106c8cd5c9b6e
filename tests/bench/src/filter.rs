//! What an import filter costs bird-rs and BIRD, and whether that is too much.

use std::fmt;

use crate::record::Row;

/// What it may cost bird-rs, in CPU times of BIRD's for the same file.
const LIMIT: f64 = 1.0;
/// Less than this many seconds are noise.
const LEAST: f64 = 0.5;

/// What an import filter costs in CPU seconds: announcing everything through it, and how much of that is the filter's.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cost {
    all: f64,
    alone: f64,
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Filter {
    ours: Cost,
    birds: Cost,
}

impl Filter {
    /// Nothing when it was not measured with both.
    pub(crate) fn of(rows: &[Row]) -> Option<Self> {
        let cpu = |row: &str, daemon: &str| {
            let same = |r: &&Row| r.row == row && r.daemon == daemon && r.phase == "announce";
            let measured = rows.iter().find(same)?.result.as_ref().ok()?;
            Some(measured.cpu.as_secs_f64())
        };
        let cost = |daemon| {
            let all = cpu("filter", daemon)?;
            let alone = all - cpu("filter-base", daemon)?;
            Some(Cost { all, alone })
        };
        let (ours, birds) = (cost("bird-rs")?, cost("bird")?);
        Some(Filter { ours, birds })
    }

    fn ratio(ours: f64, birds: f64) -> f64 {
        ours / birds.max(0.01)
    }

    /// Does it cost more than it may?
    pub(crate) fn is_too_much(self) -> bool {
        let exceeds = |ours, birds| birds >= LEAST && Self::ratio(ours, birds) > LIMIT;
        exceeds(self.ours.all, self.birds.all) || exceeds(self.ours.alone, self.birds.alone)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Filter { ours, birds } = self;
        write!(
            f,
            "the import filter, CPU of bird-rs against BIRD: {:.2} s to {:.2} s in all, x {:.2}; \
             the filter alone {:.2} s to {:.2} s, x {:.2}; at most x {LIMIT}",
            ours.all,
            birds.all,
            Self::ratio(ours.all, birds.all),
            ours.alone,
            birds.alone,
            Self::ratio(ours.alone, birds.alone)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::row;

    fn filter(ours: (f64, f64), birds: (f64, f64)) -> Filter {
        let cost = |(all, alone)| Cost { all, alone };
        Filter {
            ours: cost(ours),
            birds: cost(birds),
        }
    }

    #[test]
    fn a_filter_may_cost_as_much_as_birds() {
        assert!(!filter((2.0, 1.0), (2.0, 1.0)).is_too_much());
        assert!(filter((2.1, 1.0), (2.0, 1.0)).is_too_much());
        assert!(filter((2.0, 1.1), (2.0, 1.0)).is_too_much());
        // Too little to be told from noise.
        assert!(!filter((2.0, 0.3), (2.0, 0.1)).is_too_much());
        assert!(!filter((0.3, 0.3), (0.1, 0.1)).is_too_much());
    }

    #[test]
    fn it_costs_what_it_adds() {
        let rows = [
            row("filter-base", "announce", "bird-rs", 1000),
            row("filter", "announce", "bird-rs", 2000),
            row("filter-base", "announce", "bird", 1000),
            row("filter", "announce", "bird", 1400),
        ];
        let text = Filter::of(&rows).unwrap().to_string();
        assert!(text.contains("1.00 s to 0.70 s in all, x 1.43"), "{text}");
        assert!(text.contains("0.50 s to 0.20 s, x 2.50"), "{text}");
        assert!(Filter::of(&rows[..2]).is_none());
    }
}

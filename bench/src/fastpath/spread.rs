//! Decides how many single times are told as three numbers.

use serde::Serialize;

/// Microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the times are at most this.
    pub p50: f64,
    /// 99 of 100 times are at most this.
    pub p99: f64,
    /// All times are at most this.
    pub max: f64,
}

impl Spread {
    /// The spread of times in nanoseconds; all zero if there are none.
    pub fn of(times_ns: impl Iterator<Item = u64>) -> Self {
        let mut times: Vec<u64> = times_ns.collect();
        times.sort_unstable();
        // The smallest time that this share of all times does not exceed.
        let at = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100).saturating_sub(1);
            times.get(rank).map_or(0.0, |time| *time as f64 / 1000.0)
        };
        Self {
            p50: at(50),
            p99: at(99),
            max: at(100),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn ranks_are_nearest_ranks() {
        let spread = Spread::of((1..=1000).rev().map(|time| time * 1000));
        assert_eq!(
            spread,
            Spread {
                p50: 500.0,
                p99: 990.0,
                max: 1000.0
            }
        );
        assert_eq!(
            Spread::of([1500].into_iter()),
            Spread {
                p50: 1.5,
                p99: 1.5,
                max: 1.5
            }
        );
        assert_eq!(Spread::of(std::iter::empty()), Spread::default());
    }
}

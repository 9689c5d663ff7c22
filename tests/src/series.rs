//! Repeated measurements.

use serde::{Deserialize, Serialize};

/// Measurements of one thing, in order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Series {
    /// The median: the middle one, or the mean of the middle two.
    pub median: f64,
    /// All of them.
    pub all: Vec<f64>,
}

impl Series {
    /// Requires at least one value.
    pub fn of(all: Vec<f64>) -> Self {
        let mut sorted = all.clone();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
        let value = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
        Self { median: f64::midpoint(value(low), value(high)), all }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert!((Series::of(vec![9.0, 1.0, 2.0]).median - 2.0).abs() < 1e-9);
        assert!((Series::of(vec![4.0, 1.0, 2.0, 9.0]).median - 3.0).abs() < 1e-9);
        assert!((Series::of(vec![4.0]).median - 4.0).abs() < 1e-9);
    }
}

//! What many samples come to: percentiles, and how fast something grows.

use std::time::Duration;

/// The sample that `share` (0 to 1) of all are at or below; nothing for no samples. Sorts them.
pub(crate) fn percentile(samples: &mut [Duration], share: f64) -> Duration {
    samples.sort_unstable();
    let rank = (share * samples.len() as f64).ceil() as usize;
    samples
        .get(rank.clamp(1, samples.len().max(1)) - 1)
        .copied()
        .unwrap_or_default()
}

/// The slope of the line of least squares through (x, y); 0 when there is none.
pub(crate) fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let over: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let under: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    if under > 0.0 { over / under } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let ms = Duration::from_millis;
        let mut samples: Vec<Duration> = (1..=200).rev().map(ms).collect();
        assert_eq!(percentile(&mut samples, 0.5), ms(100));
        assert_eq!(percentile(&mut samples, 0.99), ms(198));
        assert_eq!(percentile(&mut samples, 1.0), ms(200));
        assert_eq!(percentile(&mut [], 0.5), Duration::ZERO);
    }

    #[test]
    fn a_line_has_its_slope_and_a_point_has_none() {
        let points: Vec<(f64, f64)> = (0..10).map(|x| (f64::from(x), 100.0 + 3.0 * f64::from(x))).collect();
        assert!((slope(&points) - 3.0).abs() < 1e-9);
        assert!(slope(&points[..1]).abs() < 1e-9);
        assert!(slope(&[]).abs() < 1e-9);
    }
}

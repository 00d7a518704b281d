//! The gamma distribution: numbers drawn from it, and how much of it lies below a value.

use crate::random::Random;

/// Between 0 and 1, both left out.
pub(crate) fn uniform(random: &mut Random) -> f64 {
    (random.below(1 << 30) as f64 + 0.5) / f64::from(1 << 30)
}

fn normal(random: &mut Random) -> f64 {
    let (radius, turn) = (uniform(random), uniform(random));
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * turn).cos()
}

/// A number of gamma(shape, scale), for shapes of at least one (Marsaglia and Tsang, ACM TOMS 2000).
pub(crate) fn gamma(random: &mut Random, shape: f64, scale: f64) -> f64 {
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(random);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && uniform(random).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v * scale;
        }
    }
}

/// The part of gamma(shape, scale) below `value`: the regularised lower incomplete gamma function, by its series.
pub(crate) fn below(value: f64, shape: f64, scale: f64) -> f64 {
    let x = value / scale;
    if x <= 0.0 {
        return 0.0;
    }
    let mut term = 1.0 / shape;
    let mut sum = term;
    let mut n = shape;
    while term > sum * 1e-15 {
        n += 1.0;
        term *= x / n;
        sum += term;
    }
    sum * (shape * x.ln() - x - ln_gamma(shape)).exp()
}

/// By Stirling's series, after moving the argument up to where it is exact to fourteen digits.
fn ln_gamma(mut x: f64) -> f64 {
    let mut shift = 0.0;
    while x < 15.0 {
        shift += x.ln();
        x += 1.0;
    }
    let (inverse, square) = (1.0 / x, 1.0 / (x * x));
    let series = inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0)));
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - shift
}

//! Mathematics that gives the same bits everywhere.
//!
//! `+ - * /` and `sqrt` of `f32` are exact by IEEE 754 on every machine. Everything else of the
//! standard library (`f32::sin`, `powf`, `exp`, …) calls the platform and may differ between builds
//! and machines: use these instead. They are [`libm`], compiled with the game.
//!
//! ```
//! use rekindle_sim::math;
//!
//! assert_eq!(math::atan2(0.0, -1.0).to_bits(), 0x4049_0fdb);
//! assert_eq!(math::normalize(3.0, 4.0), (0.6, 0.8));
//! assert_eq!(math::normalize(0.0, 0.0), (0.0, 0.0));
//! ```

/// Square root, correctly rounded.
#[inline]
pub fn sqrt(x: f32) -> f32 {
    x.sqrt()
}

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident $libm:ident;)*) => {$(
        $(#[$doc])*
        #[inline]
        pub fn $name(x: f32) -> f32 {
            libm::$libm(x)
        }
    )*};
}

unary! {
    /// Sine of radians.
    sin sinf;
    /// Cosine of radians.
    cos cosf;
    /// Tangent of radians.
    tan tanf;
    /// Arc sine in radians.
    asin asinf;
    /// Arc cosine in radians.
    acos acosf;
    /// Arc tangent in radians.
    atan atanf;
    /// e to the power of `x`.
    exp expf;
    /// 2 to the power of `x`.
    exp2 exp2f;
    /// Natural logarithm.
    ln logf;
    /// Logarithm to base 2.
    log2 log2f;
    /// Logarithm to base 10.
    log10 log10f;
    /// Cube root.
    cbrt cbrtf;
    /// Hyperbolic tangent.
    tanh tanhf;
}

/// Sine and cosine of radians.
#[inline]
pub fn sin_cos(x: f32) -> (f32, f32) {
    libm::sincosf(x)
}

/// The angle of the vector `(x, y)` in radians, `-pi..=pi`.
#[inline]
pub fn atan2(y: f32, x: f32) -> f32 {
    libm::atan2f(y, x)
}

/// `x` to the power of `y`.
#[inline]
pub fn powf(x: f32, y: f32) -> f32 {
    libm::powf(x, y)
}

/// The length of the vector `(x, y)`.
#[inline]
pub fn hypot(x: f32, y: f32) -> f32 {
    (x * x + y * y).sqrt()
}

/// The vector `(x, y)` at length 1; `(0, 0)` if it has no direction.
#[inline]
pub fn normalize(x: f32, y: f32) -> (f32, f32) {
    let length = hypot(x, y);
    if length > 0.0 && length.is_finite() { (x / length, y / length) } else { (0.0, 0.0) }
}

/// An angle in radians, brought into `-pi..pi`.
#[inline]
pub fn wrap_angle(x: f32) -> f32 {
    const TURN: f32 = std::f32::consts::TAU;
    let wrapped = x - TURN * libm::floorf((x + std::f32::consts::PI) / TURN);
    if wrapped >= std::f32::consts::PI { wrapped - TURN } else { wrapped }
}

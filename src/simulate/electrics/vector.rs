//! Vectors in the body: left, down, back. Dipoles in mV at the body surface (scaled as Frank's leads).

/// Left, down, back.
pub type Vector = [f64; 3];

/// a + s b.
pub fn add(a: Vector, s: f64, b: Vector) -> Vector {
    [a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2]]
}

/// a s.
pub fn scale(a: Vector, s: f64) -> Vector {
    a.map(|v| v * s)
}

/// Inner product.
pub fn dot(a: Vector, b: Vector) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Length.
pub fn length(a: Vector) -> f64 {
    dot(a, a).sqrt()
}

/// The direction of a vector; left where it has none.
pub fn unit(a: Vector) -> Vector {
    let size = length(a);
    if size > 1e-12 {
        scale(a, 1.0 / size)
    } else {
        [1.0, 0.0, 0.0]
    }
}

/// Turned in the frontal plane from left (lead I) to down (aVF).
pub fn turn_frontal(a: Vector, degrees: f64) -> Vector {
    let (sin, cos) = degrees.to_radians().sin_cos();
    [a[0] * cos - a[1] * sin, a[0] * sin + a[1] * cos, a[2]]
}

/// Turned in the transverse plane from left to back.
pub fn turn_transverse(a: Vector, degrees: f64) -> Vector {
    let (sin, cos) = degrees.to_radians().sin_cos();
    [a[0] * cos - a[2] * sin, a[1], a[0] * sin + a[2] * cos]
}

//! The numbers of a weights file: f32, or f16 for half the size.

use half::f16;

/// How exactly a weights file holds its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// All in f32.
    #[default]
    F32,
    /// Half the size: matrices and kernels in f16. Vectors stay f32: they are few, and running variances and scales may
    /// be smaller than f16 can tell from zero.
    F16,
}

impl Encoding {
    /// How the numbers of a tensor with so many axes are written.
    pub(super) fn of(self, rank: usize) -> Number {
        match self {
            Encoding::F16 if rank > 1 => Number::F16,
            _ => Number::F32,
        }
    }
}

/// How the numbers of a tensor stand in the file, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    F32,
    F16,
}

impl Number {
    /// The word in the header.
    pub(super) fn name(self) -> &'static str {
        match self {
            Number::F32 => "F32",
            Number::F16 => "F16",
        }
    }

    /// The encoding of that word.
    pub(super) fn from_name(name: &str) -> Option<Number> {
        [Number::F32, Number::F16].into_iter().find(|number| number.name() == name)
    }

    /// Bytes of one number.
    pub(super) fn width(self) -> usize {
        match self {
            Number::F32 => 4,
            Number::F16 => 2,
        }
    }

    /// Appends the numbers that `bytes` hold.
    pub(super) fn decode(self, bytes: &[u8], into: &mut Vec<f32>) {
        match self {
            Number::F32 => into.extend(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b))),
            Number::F16 => into.extend(bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32())),
        }
    }

    /// The bytes of `values`, rounded to the nearest number of this encoding.
    pub(super) fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Number::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Number::F16 => values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{fill, Kind, Models, Weights};
    use crate::data::Provenance;
    use crate::model::pamae;
    use candle_core::{Device, Tensor};
    use std::path::Path;

    fn decoded(number: Number, bytes: &[u8]) -> Vec<f32> {
        let mut values = Vec::new();
        number.decode(bytes, &mut values);
        values
    }

    #[test]
    fn f16_is_that_of_ieee_754() {
        // One, a third, the largest, the smallest normal, the smallest of all, minus two, minus zero, infinity.
        let bytes = [0x00, 0x3c, 0x55, 0x35, 0xff, 0x7b, 0x00, 0x04, 0x01, 0x00, 0x00, 0xc0, 0x00, 0x80, 0x00, 0x7c];
        let values = decoded(Number::F16, &bytes);
        let expected = [1.0, 0.333_251_95, 65_504.0, 6.103_515_6e-5, 5.960_464_5e-8, -2.0, -0.0, f32::INFINITY];
        assert_eq!(values, expected);
        assert!(values[6].is_sign_negative());
        assert_eq!(Number::F16.encode(&values), bytes);
        assert!(decoded(Number::F16, &[0x01, 0x7e])[0].is_nan());
    }

    #[test]
    fn f16_takes_the_nearest_number_and_the_even_one_of_two() {
        // 2049 and 2051 lie half way between even neighbours; 65519 is nearer to 65504 than to 65536.
        assert_eq!(decoded(Number::F16, &Number::F16.encode(&[2049.0, 2051.0, 65_519.0])), [2048.0, 2052.0, 65_504.0]);
        assert_eq!(decoded(Number::F16, &Number::F16.encode(&[2e-8, 4e-8, 0.1])), [0.0, 5.960_464_5e-8, 0.099_975_586]);
    }

    #[test]
    fn f32_comes_back_to_the_bit() {
        let values = [1.0, -0.1, f32::MIN_POSITIVE, 3.4e38];
        assert_eq!(Number::F32.encode(&[1.0]), [0x00, 0x00, 0x80, 0x3f]);
        assert_eq!(decoded(Number::F32, &Number::F32.encode(&values)), values);
    }

    fn small() -> Models {
        let mut models = Models::default();
        models.configs.pamae = Some(pamae::Config::tiny());
        fill::init(&mut models, Kind::Pamae, 3).unwrap();
        models
    }

    fn saved(models: &Models, encoding: Encoding, path: &Path) -> Vec<u8> {
        models.save_in(encoding, path, &Provenance::now("test", "test".into())).unwrap();
        std::fs::read(path).unwrap()
    }

    fn set(models: &mut Models, name: &str, value: f32) {
        let shape = models.tensors[name].shape().clone();
        models.tensors.insert(name.to_owned(), Tensor::full(value, shape, &Device::Cpu).unwrap());
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    const VARIANCE: &str = "pamae.encoder.stem.1.running_var";
    const KERNEL: &str = "pamae.encoder.stem.0.weight";

    #[test]
    fn vectors_stay_exact_and_matrices_are_rounded() {
        let folder = tempfile::tempdir().unwrap();
        let mut models = small();
        set(&mut models, VARIANCE, 1e-12);
        set(&mut models, KERNEL, 0.1);
        let bytes = saved(&models, Encoding::F16, &folder.path().join("half"));
        let whole = saved(&models, Encoding::F32, &folder.path().join("whole"));
        assert!((bytes.len() as f64) < 0.55 * whole.len() as f64, "{} {}", bytes.len(), whole.len());
        let weights = Weights::from_bytes("w", bytes).unwrap();
        weights.check(Kind::Pamae).unwrap();
        assert!(weights.untrained(Kind::Pamae));
        for (name, before) in &models.tensors {
            let after = values(&weights.tensor(name, &Device::Cpu).unwrap());
            for (after, before) in after.iter().zip(values(before)) {
                // Half of the last of 11 binary digits, or of the smallest number.
                let allowed = if models.tensors[name].rank() > 1 { (before.abs() / 2048.0).max(3e-8) } else { 0.0 };
                assert!((after - before).abs() <= allowed, "{name}: {before} became {after}");
            }
        }
        assert_eq!(values(&weights.tensor(KERNEL, &Device::Cpu).unwrap())[0], 0.099_975_586);
        assert_eq!(values(&weights.tensor(VARIANCE, &Device::Cpu).unwrap())[0], 1e-12);
        pamae::Encoder::new(&pamae::Config::tiny(), weights.builder(Kind::Pamae, &Device::Cpu).unwrap().pp("encoder"))
            .unwrap();
    }

    #[test]
    fn half_a_file_read_and_written_again_is_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let provenance = Provenance::now("test", "test".into());
        let [first, second] = ["a", "b"].map(|name| folder.path().join(name));
        small().save_in(Encoding::F16, &first, &provenance).unwrap();
        let mut again = Models::default();
        again.take(Kind::Pamae, &Weights::open(&first).unwrap()).unwrap();
        again.save_in(Encoding::F16, &second, &provenance).unwrap();
        assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
    }

    #[test]
    fn tensors_begin_at_multiples_of_their_width() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = saved(&small(), Encoding::F16, &folder.path().join("w"));
        let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + size]).unwrap();
        let mut seen = [0, 0];
        for (name, place) in header.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__") {
            let width = if place["dtype"] == "F16" { 2 } else { 4 };
            seen[width / 4] += 1;
            assert_eq!((8 + size + place["data_offsets"][0].as_u64().unwrap() as usize) % width, 0, "{name}");
            assert_eq!(place["dtype"] == "F16", place["shape"].as_array().unwrap().len() > 1, "{name}");
        }
        assert!(seen[0] > 10 && seen[1] > 10, "{seen:?}");
    }

    #[test]
    fn numbers_too_large_for_f16_are_refused_by_name_and_leave_no_file() {
        let path = tempfile::tempdir().unwrap().path().join("w.safetensors");
        for (value, fits) in [(65_519.0, true), (-65_519.0, true), (65_520.0, false), (-1e6, false)] {
            let mut models = small();
            set(&mut models, KERNEL, value);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let done = models.save_in(Encoding::F16, &path, &Provenance::now("test", "test".into()));
            assert_eq!(done.is_ok(), fits, "{value}");
            let Err(error) = done else { continue };
            assert!(error.to_string().contains(&format!("field {KERNEL}: expected at most 65504 for f16, found")));
            assert!(error.to_string().contains("w.safetensors"), "{error}");
            assert!(error.hint().unwrap().contains("without --half"));
            models.save(&path, &Provenance::now("test", "test".into())).unwrap();
        }
        let mut models = small();
        set(&mut models, VARIANCE, 1e6); // a vector: stays f32
        models.save_in(Encoding::F16, &path, &Provenance::now("test", "test".into())).unwrap();
    }

    #[test]
    fn only_the_models_asked_for_are_kept() {
        let mut models = small();
        let missing = models.clone().keep(&[Kind::Vae]).unwrap_err().to_string();
        assert!(missing.contains("expected vae, found pamae"), "{missing}");
        models.configs.vae = Some(crate::model::vae::Config::tiny());
        fill::init(&mut models, Kind::Vae, 3).unwrap();
        models.keep(&[Kind::Vae]).unwrap();
        assert_eq!(models.configs.kinds(), [Kind::Vae]);
        assert!(models.tensors.keys().all(|name| name.starts_with("vae.")));
        assert_eq!(models.origin.keys().collect::<Vec<_>>(), ["vae"]);
        models.check().unwrap();
    }
}

//! The tensors of an open safetensors file, read one by one from their place, so that memory holds those in use and no
//! others.
//!
//! ```text
//! 8 bytes: length of the header | header: JSON, name -> {dtype, shape, data_offsets} | data
//! ```
//!
//! Layout: <https://github.com/huggingface/safetensors#format>.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::sync::{Mutex, PoisonError};

use candle_core::{Device, Tensor};
use serde::Deserialize;

use crate::checkpoint::encoding::Number;
use crate::checkpoint::shapes::Shapes;
use crate::error::{Fault, Result};

/// Bytes read at a time; whole numbers of every encoding.
const PIECE: usize = 1 << 20;

/// What tensors can be read from.
pub trait Bytes: Read + Seek + Send {}

impl<T: Read + Seek + Send> Bytes for T {}

/// Where a tensor lies: bytes from the start of the data.
#[derive(Debug, Deserialize)]
pub struct Place {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// The tensors of a file.
pub struct Store {
    bytes: Mutex<Box<dyn Bytes>>,
    tensors: BTreeMap<String, Place>,
    /// Where the data begin.
    start: u64,
}

impl Store {
    /// Checks that the bytes of every tensor fit its shape and encoding, and that together they are the data to the end.
    ///
    /// # Errors
    /// A sentence for what does not fit.
    pub fn new(
        bytes: Box<dyn Bytes>,
        tensors: BTreeMap<String, Place>,
        start: u64,
        end: u64,
    ) -> std::result::Result<Store, String> {
        let mut places: Vec<(&String, &Place)> = tensors.iter().collect();
        places.sort_by_key(|(_, place)| place.data_offsets);
        let mut expected = 0;
        for (name, Place { dtype, shape, data_offsets: [from, to] }) in places {
            if let Some(number) = Number::from_name(dtype) {
                let size = shape.iter().try_fold(number.width() as u64, |n, side| n.checked_mul(*side as u64));
                if *from != expected || to.checked_sub(*from) != size {
                    let place = format!("bytes {from} to {to} for {dtype} of shape {shape:?}");
                    return Err(format!("{name}: {place}, after {expected} bytes"));
                }
            }
            expected = *to;
        }
        if start.checked_add(expected) != Some(end) {
            return Err(format!("{expected} bytes of tensors in {} bytes of data", end.saturating_sub(start)));
        }
        Ok(Store { bytes: Mutex::new(bytes), tensors, start })
    }

    /// Names and shapes.
    ///
    /// # Errors
    /// Where a tensor is neither f32 nor f16.
    pub fn shapes(&self) -> Result<Shapes> {
        let mut shapes = Shapes::new();
        for (name, Place { dtype, shape, .. }) in &self.tensors {
            if Number::from_name(dtype).is_none() {
                return Err(Fault::new("opening weights", "").field(name).expected("type F32 or F16", dtype).into());
            }
            shapes.insert(name.clone(), shape.clone());
        }
        Ok(shapes)
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Reads a tensor, as f32 whatever its encoding.
    ///
    /// # Errors
    /// Where there is no such tensor, or it cannot be read.
    pub fn load(&self, name: &str, device: &Device) -> candle_core::Result<Tensor> {
        let Some(place) = self.tensors.get(name) else { candle_core::bail!("there is no tensor {name}") };
        let Some(number) = Number::from_name(&place.dtype) else { candle_core::bail!("{name} is {}", place.dtype) };
        let [from, to] = place.data_offsets;
        // The file holds so many, as checked.
        let mut values = Vec::with_capacity((to - from) as usize / number.width());
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.seek(SeekFrom::Start(self.start + from))?;
        let mut piece = vec![0u8; PIECE.min((to - from) as usize)];
        let mut left = (to - from) as usize;
        while left > 0 {
            let n = left.min(piece.len());
            let (piece, _) = piece.split_at_mut(n);
            bytes.read_exact(piece)?;
            number.decode(piece, &mut values);
            left -= n;
        }
        drop(bytes);
        Tensor::from_vec(values, place.shape.as_slice(), device)
    }
}

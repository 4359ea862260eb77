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

use crate::checkpoint::shapes::Shapes;
use crate::error::{Fault, Result};

/// Bytes of one f32.
const WIDTH: u64 = 4;
/// Bytes read at a time.
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
    /// Checks that every tensor is f32, that its bytes fit its shape, and that together they are the data to the end.
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
            let count = shape.iter().try_fold(WIDTH, |n, side| n.checked_mul(*side as u64));
            if dtype == "F32" && (*from != expected || to.checked_sub(*from) != count) {
                return Err(format!("{name}: bytes {from} to {to} for shape {shape:?}, after {expected} bytes"));
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
    /// Where a tensor is not f32.
    pub fn shapes(&self) -> Result<Shapes> {
        let mut shapes = Shapes::new();
        for (name, Place { dtype, shape, .. }) in &self.tensors {
            if dtype != "F32" {
                return Err(Fault::new("opening weights", "").field(name).expected("type F32", dtype).into());
            }
            shapes.insert(name.clone(), shape.clone());
        }
        Ok(shapes)
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Reads a tensor.
    ///
    /// # Errors
    /// Where there is no such tensor, or it cannot be read.
    pub fn load(&self, name: &str, device: &Device) -> candle_core::Result<Tensor> {
        let Some(place) = self.tensors.get(name) else { candle_core::bail!("there is no tensor {name}") };
        let [from, to] = place.data_offsets;
        let mut values = Vec::with_capacity(((to - from) / WIDTH) as usize); // no more than the file, as checked
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.seek(SeekFrom::Start(self.start + from))?;
        let mut piece = vec![0u8; PIECE.min((to - from) as usize)];
        let mut left = (to - from) as usize;
        while left > 0 {
            let n = left.min(piece.len());
            let (piece, _) = piece.split_at_mut(n);
            bytes.read_exact(piece)?;
            values.extend(piece.chunks_exact(4).map(|b| b.try_into().map_or(f32::NAN, f32::from_le_bytes)));
            left -= n;
        }
        drop(bytes);
        Tensor::from_vec(values, place.shape.as_slice(), device)
    }
}

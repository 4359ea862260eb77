//! Named tensors and texts as one stream of bytes: safetensors, f32, in the order of the names.
//!
//! ```text
//! 8 bytes: length of the header | header: JSON, name -> {dtype, shape, data_offsets}, __metadata__ | data
//! ```

use std::collections::BTreeMap;
use std::io::{Read, Write};

use candle_core::{Device, Tensor};
use serde::Deserialize;
use serde_json::json;

use super::variables::Tensors;
use crate::error::{Error, Fault, Result};
use crate::model::op;

const READING: &str = "reading the state of a training";
const WRITING: &str = "writing the state of a training";
/// Longest header.
const HEADER: u64 = 64 << 20;

/// Texts by name.
pub type Texts = BTreeMap<String, String>;

/// Writes them.
///
/// # Errors
/// Where a tensor cannot be fetched or the stream cannot be written.
pub fn write(out: &mut dyn Write, texts: &Texts, tensors: &Tensors) -> Result<()> {
    let mut header = BTreeMap::from([("__metadata__", json!(texts))]);
    let mut start = 0;
    for (name, tensor) in tensors {
        let stop = start + tensor.elem_count() * size_of::<f32>();
        header.insert(name, json!({"dtype": "F32", "shape": tensor.dims(), "data_offsets": [start, stop]}));
        start = stop;
    }
    let mut header = serde_json::to_string(&header).map_err(Error::compute(WRITING))?;
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(Error::compute(WRITING));
    put(&(header.len() as u64).to_le_bytes())?;
    put(header.as_bytes())?;
    for tensor in tensors.values() {
        let bytes = |x: &[f32]| x.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let tensor = tensor.contiguous().map_err(Error::compute(WRITING))?;
        put(&op::with_values(&tensor, bytes).map_err(Error::compute(WRITING))?)?;
    }
    out.flush().map_err(Error::compute(WRITING))
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__", default)]
    texts: Texts,
    #[serde(flatten)]
    tensors: BTreeMap<String, Place>,
}

#[derive(Deserialize)]
struct Place {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// Reads what [`write()`] wrote.
///
/// # Errors
/// Where it is anything else, or cut short.
pub fn read(mut from: &mut dyn Read) -> Result<(Texts, Tensors)> {
    let other = |found: &str| {
        let fault = Fault::new(READING, "").expected("a state written by train --state", found);
        Error::from(fault.hint("name another file, or remove this one to start afresh"))
    };
    let short = |_| other("a file that ends early");
    let mut length = [0; 8];
    from.read_exact(&mut length).map_err(short)?;
    let length = u64::from_le_bytes(length);
    if length > HEADER {
        return Err(other("another kind of file"));
    }
    let mut header = Vec::new();
    (&mut from).take(length).read_to_end(&mut header).map_err(Error::compute(READING))?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| other("another kind of file"))?;
    let mut places: Vec<(String, Place)> = header.tensors.into_iter().collect();
    places.sort_by_key(|(_, place)| place.data_offsets);
    let (mut tensors, mut place) = (Tensors::new(), 0);
    for (name, Place { dtype, shape, data_offsets: [start, stop] }) in places {
        let bytes = shape.iter().try_fold(size_of::<f32>(), |n, side| n.checked_mul(*side));
        if dtype != "F32" || start != place || bytes.is_none() || stop.checked_sub(start) != bytes {
            return Err(other(&format!("tensor {name} of {dtype} {shape:?} in bytes {start} to {stop}")));
        }
        place = stop;
        let mut bytes = Vec::new();
        (&mut from).take((stop - start) as u64).read_to_end(&mut bytes).map_err(Error::compute(READING))?;
        if bytes.len() != stop - start {
            return Err(other("a file that ends early"));
        }
        let values = bytes.chunks_exact(4).map(|b| b.try_into().map_or(f32::NAN, f32::from_le_bytes)).collect();
        let tensor = Tensor::from_vec::<_, f32>(values, shape, &Device::Cpu).map_err(Error::compute(READING))?;
        tensors.insert(name, tensor);
    }
    Ok((header.texts, tensors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_cut_is_refused() {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let tensors = Tensors::from([("b".into(), tensor(&[1.0, f32::MIN_POSITIVE])), ("a".into(), tensor(&[-0.0]))]);
        let texts = Texts::from([("said".into(), "yes \u{b5}".into())]);
        let mut bytes = Vec::new();
        write(&mut bytes, &texts, &tensors).unwrap();
        let (again, back) = read(&mut bytes.as_slice()).unwrap();
        assert_eq!(again, texts);
        assert_eq!(back["b"].to_vec1::<f32>().unwrap(), [1.0, f32::MIN_POSITIVE]);
        assert!(back["a"].to_vec1::<f32>().unwrap()[0].is_sign_negative());
        for end in [0, 7, 40, bytes.len() - 1] {
            assert!(read(&mut &bytes[..end]).unwrap_err().to_string().contains("expected a state"), "{end}");
        }
        assert!(read(&mut [b'x'; 64].as_slice()).is_err());
    }
}

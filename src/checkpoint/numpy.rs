//! Pickled dictionaries of NumPy arrays, such as parameters of Flax: nested names, arrays at the leaves.
//!
//! The pickle is read by the machine that runs nothing ([`pickle`](super::pickle)). Arrays are little-endian 32-bit
//! floats in C order, the only kind such files hold; every claimed size is compared with the bytes that are there.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use crate::checkpoint::pickle::{Array, Id, Node, Pickle};
use crate::error::{Error, Fault, Result};

const DOING: &str = "reading pickled NumPy arrays";
/// How deep dictionaries may nest.
const DEEPEST: usize = 8;
/// Most names, counted each time one is come by: dictionaries may be shared.
const MOST_NAMES: usize = 10_000;

/// Whether bytes start as a pickle of protocol 3 to 5 does; PyTorch's own old files have protocol 2.
pub fn recognise(head: &[u8]) -> bool {
    matches!(head, [0x80, 3..=5, ..])
}

/// The arrays, by their names with dots between.
///
/// # Errors
/// Where the bytes are no such pickle, or an array is of another type or does not have the bytes of its shape.
pub fn tensors(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let pickle = Pickle::parse(bytes)?;
    let mut found = BTreeMap::new();
    let mut open = vec![(String::new(), pickle.root(), 0)];
    let mut seen = 0;
    while let Some((name, id, depth)) = open.pop() {
        match pickle.node(id) {
            Node::Dict(entries) => {
                seen += entries.len();
                if depth == DEEPEST || seen > MOST_NAMES {
                    return Err(Fault::new(DOING, "too many or too deep dictionaries").field(name).into());
                }
                let mut last = BTreeMap::new(); // of equal keys the last counts
                for (key, value) in entries {
                    let key = pickle.text(*key).ok_or_else(|| unexpected(&name, "names that are strings", "others"))?;
                    last.insert(key, *value);
                }
                open.extend(last.into_iter().map(|(key, value)| {
                    let name = if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
                    (name, value, depth + 1)
                }));
            }
            Node::Array(Some(array)) => {
                let tensor = load(&pickle, array, bytes, &name)?;
                found.insert(name, tensor);
            }
            _ => return Err(unexpected(&name, "dictionaries of NumPy arrays", "something else")),
        }
    }
    Ok(found)
}

fn unexpected(field: &str, expected: &str, found: impl std::fmt::Display) -> Error {
    Fault::new(DOING, "").field(field).expected(expected, found).into()
}

fn load(pickle: &Pickle, array: &Array, bytes: &[u8], name: &str) -> Result<Tensor> {
    let dtype = dtype(pickle, array.dtype);
    if dtype != "<f4" || array.fortran {
        let order = if array.fortran { "Fortran" } else { "C" };
        return Err(unexpected(name, "<f4 in C order", format!("{dtype} in {order} order")));
    }
    let data = match pickle.node(array.data) {
        Node::Bytes(from, to) => bytes.get(*from..*to).unwrap_or_default(),
        _ => return Err(unexpected(name, "bytes", "something else")),
    };
    let size = array.shape.iter().try_fold(4u64, |product, size| product.checked_mul(*size));
    if size != Some(data.len() as u64) {
        return Err(unexpected(name, &format!("the bytes of the shape {:?}", array.shape), data.len()));
    }
    let values = data.chunks_exact(4).filter_map(|b| b.try_into().ok().map(f32::from_le_bytes)).collect();
    let shape: Vec<usize> = array.shape.iter().map(|size| *size as usize).collect();
    Tensor::from_vec::<_, f32>(values, shape, &Device::Cpu).map_err(Error::compute(DOING))
}

/// Byte order and code of a NumPy type.
fn dtype(pickle: &Pickle, id: Id) -> String {
    match pickle.node(id) {
        Node::Dtype(code, order) => {
            format!("{}{}", pickle.text(*order).unwrap_or("?"), pickle.text(*code).unwrap_or("?"))
        }
        _ => "an unknown type".to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn text(text: &str) -> Vec<u8> {
        [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
    }

    /// A pickle as Python writes one of nested dictionaries with float arrays: names with dots, shapes, bytes.
    pub fn pickled(arrays: &[(&str, &[u8], &[u8])]) -> Vec<u8> {
        let mut arrays = arrays.to_vec();
        arrays.sort();
        [b"\x80\x03", &dictionary(&arrays)[..], b"."].concat()
    }

    fn dictionary(arrays: &[(&str, &[u8], &[u8])]) -> Vec<u8> {
        let mut bytes = b"}(".to_vec();
        let scope = |name: &str| name.split_once('.').map(|(scope, _)| scope.to_owned());
        for group in arrays.chunk_by(|a, b| scope(a.0).is_some() && scope(a.0) == scope(b.0)) {
            let (name, shape, data) = group[0];
            match scope(name) {
                Some(scope) => {
                    let inner: Vec<_> = group.iter().map(|(n, s, d)| (&n[scope.len() + 1..], *s, *d)).collect();
                    bytes.extend([text(&scope), dictionary(&inner)].concat());
                }
                None => bytes.extend([text(name), array(shape, data)].concat()),
            }
        }
        bytes.push(b'u');
        bytes
    }

    fn array(shape: &[u8], data: &[u8]) -> Vec<u8> {
        let mut bytes = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R(K\x01(".to_vec();
        shape.iter().for_each(|size| bytes.extend([b'K', *size]));
        bytes.extend(b"tcnumpy\ndtype\n");
        bytes.extend([&text("f4")[..], b"\x89\x88\x87R(K\x03", &text("<")[..], b"NNNtb\x89B"].concat());
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
        bytes.extend(b"tb");
        bytes
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn reads_nested_dictionaries_of_arrays() {
        let (a, b) = (floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), floats(&[7.0]));
        let found = tensors(&pickled(&[("net.conv.kernel", &[2, 3], &a), ("head", &[1], &b)])).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["head", "net.conv.kernel"]);
        assert_eq!(found["net.conv.kernel"].to_vec2::<f32>().unwrap(), [[1., 2., 3.], [4., 5., 6.]]);
    }

    #[test]
    fn names_arrays_that_are_not_what_they_claim() {
        let error = |bytes: &[u8]| tensors(bytes).unwrap_err().to_string();
        let short = pickled(&[("a.b", &[2, 3], &floats(&[1.0]))]);
        assert!(
            error(&short).contains("field a.b: expected the bytes of the shape [2, 3], found 4"),
            "{}",
            error(&short)
        );
        let good = pickled(&[("a", &[1], &floats(&[1.0]))]);
        let swap = |from: &[u8], to: &[u8]| {
            let at = good.windows(from.len()).position(|w| w == from).unwrap();
            [&good[..at], to, &good[at + from.len()..]].concat()
        };
        assert!(error(&swap(b"f4", b"f8")).contains("expected <f4 in C order, found <f8 in C order"));
        assert!(error(&swap(b"<", b">")).contains("found >f4"));
        assert!(error(&swap(b"NNNtb\x89", b"NNNtb\x88")).contains("found <f4 in Fortran order"));
        assert!(error(&swap(b"_reconstruct", b"_rebuilds___")).contains("expected dictionaries of NumPy arrays"));
        assert!(error(b"\x80\x03cos\nsystem\nX\x02\0\0\0ls\x85R.").contains("found something else"));
        for length in 0..good.len() {
            assert!(tensors(&good[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_dictionary_inside_itself_ends() {
        assert!(tensors(b"\x80\x03}q\0X\x01\0\0\0ah\0s.").unwrap_err().to_string().contains("too deep"));
    }
}

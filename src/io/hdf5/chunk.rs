//! Chunks of a large dataset as they are stored: shuffled, then deflated.
//!
//! The library packs and unpacks one chunk at a time, whatever the number of threads. Here it only moves stored bytes
//! (H5Dwrite_chunk, H5Dread_chunk); packing is done by the threads of ours, with a deflate for planes. Any reader of HDF5 finds
//! what it would find otherwise: filters shuffle (id 2) and deflate (id 1, a zlib stream, RFC 1950).
//!
//! Shuffle puts the first bytes of all numbers before their second bytes, and so on. Of noisy numbers, the bytes that hold the
//! lower digits do not get shorter: planes that look like that are stored as they are, which a zlib stream may hold beside
//! deflated ones.

use std::cell::RefCell;

use fdeflate::Decompressor;
use hdf5::datatype::ByteOrder;
use hdf5::types::{FloatSize, IntSize, TypeDescriptor};
use hdf5::{Dataset, H5Type};
use simd_adler32::Adler32;

use super::deflate::Deflate;
use crate::kernel::simd::{vectorise, Plain};

/// Level of deflate that a dataset states.
pub(super) const LEVEL: u8 = 1;
/// Bits a byte above which deflate saves next to nothing; noise has 7.98 where a seventh of a record of twelve leads is looked at.
const DENSE: f64 = 7.9;
/// A zlib stream, deflated as fast as can be, with a window of 32 KB (RFC 1950).
const HEADER: [u8; 2] = [0x78, 0x01];
/// Numbers of filters.
const DEFLATE: i32 = 1;
const SHUFFLE: i32 = 2;
/// Deflate shrinks by 1032 at most.
const SHRINK: usize = 1032;
/// Most bytes that a thread keeps to inflate into.
const KEPT: usize = 4 << 20;
/// Every so many bytes are looked at.
const STRIDE: usize = 7;

/// Whether the library moves chunks as they are stored, and says how long they are (1.10.5).
pub(super) const MOVES: bool = cfg!(hdf5_chunks);

/// A number of a large dataset, at most four bytes wide.
pub trait Number: H5Type + Copy + Send {
    /// Its byte at this place, as the processor keeps them.
    fn byte<const PLACE: usize>(self) -> u8;
}

macro_rules! number {
    ($($kind:ty),*) => {
        $(impl Number for $kind {
            #[inline(always)]
            fn byte<const PLACE: usize>(self) -> u8 {
                self.to_ne_bytes().get(PLACE).copied().unwrap_or(0)
            }
        })*
    };
}
number!(f32, i32, u8);

/// Packs numbers into a zlib stream: header, blocks, checksum.
pub(super) fn pack<T: Number>(numbers: &[T]) -> Vec<u8> {
    let size = size_of_val(numbers);
    let mut out = Vec::with_capacity(size + size / 64 + 256);
    out.extend(HEADER);
    let (mut checksum, mut deflate) = (Adler32::new(), Deflate::after(out));
    let mut plane = Vec::with_capacity(numbers.len());
    for place in 0..size_of::<T>() {
        plane.clear();
        match place {
            0 => vectorise(Plane::<T, 0> { numbers, plane: &mut plane }),
            1 => vectorise(Plane::<T, 1> { numbers, plane: &mut plane }),
            2 => vectorise(Plane::<T, 2> { numbers, plane: &mut plane }),
            _ => vectorise(Plane::<T, 3> { numbers, plane: &mut plane }),
        }
        checksum.write(&plane);
        if is_dense(&plane) {
            deflate.store(&plane);
        } else {
            deflate.shorten(&plane);
        }
    }
    let mut out = deflate.finish();
    out.extend(checksum.finish().to_be_bytes());
    out
}

/// One byte of every number.
struct Plane<'a, T, const PLACE: usize> {
    numbers: &'a [T],
    plane: &'a mut Vec<u8>,
}

impl<T: Number, const PLACE: usize> Plain for Plane<'_, T, PLACE> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.plane.extend(self.numbers.iter().map(|number| number.byte::<PLACE>()));
    }
}

/// Numbers of the planes of their four bytes.
struct Unshuffled<'a> {
    planes: [&'a [u8]; 4],
}

impl Plain for Unshuffled<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn run(self) -> Vec<f64> {
        let [a, b, c, d] = self.planes;
        let mut values = Vec::with_capacity(a.len());
        values.extend(a.iter().zip(b).zip(c.iter().zip(d)).map(|((a, b), (c, d))| {
            let word = u32::from(*a) | u32::from(*b) << 8 | u32::from(*c) << 16 | u32::from(*d) << 24;
            f64::from(f32::from_bits(word))
        }));
        values
    }
}

/// Whether the bytes of a plane are spread so evenly that deflate would not shorten them (entropy of order 0).
fn is_dense(plane: &[u8]) -> bool {
    let mut counts = [0u32; 256];
    plane.iter().step_by(STRIDE).for_each(|b| counts[usize::from(*b)] += 1);
    let total = f64::from(counts.iter().sum::<u32>());
    let bits = |n: &u32| f64::from(*n) * (total / f64::from(*n)).log2();
    let entropy = counts.iter().filter(|n| **n > 0).map(bits).sum::<f64>() / total.max(1.0);
    plane.len() >= 4096 && entropy > DENSE
}

/// Stores packed numbers as the chunk that begins with record `at`, its only one.
///
/// # Errors
/// Where the library refuses.
#[cfg(hdf5_chunks)]
#[allow(unsafe_code)] // hdf5-metno has no call for it
pub(super) fn store(dataset: &Dataset, at: usize, packed: &[u8]) -> hdf5::Result<()> {
    let offset = offset(dataset, at);
    let _alone = hdf5_sys::LOCK.lock();
    // SAFETY: the dataset is open, the offset has one number a dimension, and the library copies the bytes before it returns;
    // the lock is the one that hdf5-metno takes for its own calls.
    let code = unsafe {
        hdf5_sys::h5d::H5Dwrite_chunk(
            dataset.id(),
            hdf5_sys::h5p::H5P_DEFAULT,
            0,
            offset.as_ptr(),
            packed.len(),
            packed.as_ptr().cast(),
        )
    };
    match code {
        0.. => Ok(()),
        _ => Err(hdf5::Error::query()?),
    }
}

/// The same for a library that cannot.
#[cfg(not(hdf5_chunks))]
pub(super) fn store(_: &Dataset, _: usize, _: &[u8]) -> hdf5::Result<()> {
    Err("HDF5 1.10.5 is needed to store chunks".into())
}

/// How the records of a dataset are stored, where that is known well enough to unpack them here: a chunk a record, shuffled or
/// deflated or both, numbers of a common type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packing {
    shuffle: bool,
    deflate: bool,
    kind: Kind,
    /// Numbers of a record.
    count: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    F32,
    F64,
    I16,
}

impl Kind {
    fn width(self) -> usize {
        match self {
            Kind::I16 => 2,
            Kind::F32 => 4,
            Kind::F64 => 8,
        }
    }

    fn value(self, bytes: &[u8]) -> f64 {
        match (self, bytes) {
            (Kind::F32, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
            (Kind::I16, &[a, b]) => f64::from(i16::from_le_bytes([a, b])),
            (Kind::F64, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
            _ => f64::NAN,
        }
    }
}

impl Packing {
    /// That of a dataset of records; none where the library must unpack it.
    pub(super) fn of(dataset: &Dataset) -> Option<Packing> {
        let (shape, chunk) = (dataset.shape(), dataset.chunk()?);
        let is_one = MOVES && chunk.first() == Some(&1) && chunk.get(1..) == shape.get(1..);
        let stored_as = dataset.dtype().ok()?;
        let kind = match stored_as.to_descriptor().ok()? {
            TypeDescriptor::Float(FloatSize::U4) => Kind::F32,
            TypeDescriptor::Float(FloatSize::U8) => Kind::F64,
            TypeDescriptor::Integer(IntSize::U2) => Kind::I16,
            _ => return None,
        };
        // No filters: left to the library, because H5Dget_chunk_storage_size then gives the size of the shape, not of the stored
        // bytes.
        let (shuffle, deflate) = match filters(dataset)?.as_slice() {
            [SHUFFLE] => (true, false),
            [DEFLATE] => (false, true),
            [SHUFFLE, DEFLATE] => (true, true),
            _ => return None,
        };
        let count = shape.iter().skip(1).try_fold(1usize, |n, d| n.checked_mul(*d))?;
        let packing = Packing { shuffle, deflate, kind, count };
        (is_one && stored_as.byte_order() == ByteOrder::LittleEndian).then_some(packing)
    }

    /// The numbers of a stored chunk to which all filters but those in `mask` were applied; none where it is damaged. The library
    /// is not asked what is wrong: it reads on behind its memory where a chunk is shorter than it should be.
    pub(super) fn unpack(mut self, stored: &[u8], mask: u32) -> Option<Vec<f64>> {
        let was = |filter: bool, number: u32| filter && mask >> number & 1 == 0;
        (self.shuffle, self.deflate) = (was(self.shuffle, 0), was(self.deflate, u32::from(self.shuffle)));
        let size = self.count.checked_mul(self.kind.width())?;
        if !self.deflate {
            return self.values(stored);
        }
        if size / SHRINK > stored.len() {
            return None; // before anything is allocated
        }
        ROOM.with_borrow_mut(|room| {
            let values = inflate(stored, size, room).and_then(|bytes| self.values(bytes));
            if room.len() > KEPT {
                *room = Vec::new();
            }
            values
        })
    }

    /// The numbers of inflated bytes.
    fn values(&self, bytes: &[u8]) -> Option<Vec<f64>> {
        let width = self.kind.width();
        if bytes.len() != self.count.checked_mul(width)? {
            return None;
        }
        if !self.shuffle {
            return Some(bytes.chunks_exact(width).map(|bytes| self.kind.value(bytes)).collect());
        }
        let planes: Vec<&[u8]> = bytes.chunks_exact(self.count.max(1)).collect();
        match planes.as_slice() {
            [a, b, c, d] if self.kind == Kind::F32 => Some(vectorise(Unshuffled { planes: [a, b, c, d] })),
            planes => {
                let mut number = [0u8; 8];
                let value = |n: usize| {
                    number.iter_mut().zip(planes).for_each(|(byte, plane)| *byte = plane.get(n).copied().unwrap_or(0));
                    self.kind.value(number.get(..width).unwrap_or_default())
                };
                Some((0..self.count).map(value).collect())
            }
        }
    }
}

thread_local! {
    /// Where a thread inflates: the same memory again and again stays in its cache.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Numbers of the filters of a dataset, in their order; none where they cannot be known.
#[allow(unsafe_code)] // hdf5-metno's own trusts the file's word on how many values a filter has
pub(super) fn filters(dataset: &Dataset) -> Option<Vec<i32>> {
    let list = dataset.dcpl().ok()?;
    let _alone = hdf5_sys::LOCK.lock();
    // SAFETY: the list is open.
    let count = unsafe { hdf5_sys::h5p::H5Pget_nfilters(list.id()) };
    let number = |place| {
        let (mut flags, mut values, mut config) = (0, 0, 0);
        let none = std::ptr::null_mut();
        // SAFETY: as above; no room is offered for values and name, so none are written.
        unsafe {
            hdf5_sys::h5p::H5Pget_filter2(list.id(), place, &mut flags, &mut values, none, 0, none.cast(), &mut config)
        }
    };
    Some((0..u32::try_from(count).ok()?).map(number).collect())
}

/// Inflates a zlib stream of `size` bytes into `room`; none where it is damaged or has another size.
fn inflate<'a>(stored: &[u8], size: usize, room: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    let most = size.checked_add(1)?; // one more, so that what is too long is seen
    if room.len() < most {
        room.resize(most, 0);
    }
    let room = room.get_mut(..most)?;
    let (mut inflate, mut taken, mut made) = (Decompressor::new(), 0, 0);
    while !inflate.is_done() {
        let (read, written) = inflate.read(stored.get(taken..)?, room, made, true).ok()?;
        (taken, made) = (taken + read, made + written);
        let stands = (read, written) == (0, 0) && !inflate.is_done();
        if made > size || stands {
            return None;
        }
    }
    room.get(..made)
}

#[cfg(hdf5_chunks)]
#[allow(unsafe_code)] // hdf5-metno-sys has only H5Dget_chunk_info_by_coord, which walks past all chunks before
extern "C" {
    fn H5Dget_chunk_storage_size(dataset: hdf5_sys::h5i::hid_t, offset: *const u64, size: *mut u64) -> i32;
}

/// A chunk as it is found in a file.
pub(super) enum Chunk {
    /// Its bytes; bit n of the mask says that filter n was not applied to it.
    Stored(Vec<u8>, u32),
    /// There is none, or an empty one; the library fills it or says what is wrong.
    Absent,
    /// The file does not hold what it says.
    Damaged,
}

/// The chunk of record `at` as it is stored, of a dataset that is packed so; `most` bytes at most.
#[cfg(hdf5_chunks)]
#[allow(unsafe_code)] // hdf5-metno has no call for it
pub(super) fn load(dataset: &Dataset, _: Packing, at: usize, most: u64) -> Chunk {
    let offset = offset(dataset, at);
    let (mut size, mut mask) = (0u64, 0u32);
    let _alone = hdf5_sys::LOCK.lock();
    // SAFETY: as in `store`; the size is written to a number of the type that the library takes.
    let code = unsafe { H5Dget_chunk_storage_size(dataset.id(), offset.as_ptr(), &mut size) };
    if code < 0 || size == 0 {
        return Chunk::Absent;
    }
    let Some(size) = usize::try_from(size).ok().filter(|_| size <= most) else { return Chunk::Damaged };
    let mut stored = Vec::<u8>::with_capacity(size);
    // SAFETY: the buffer has the size that the library just said. With filters, which every `Packing` has, this is also what
    // H5Dread_chunk writes. Nobody else uses the library in between.
    let code = unsafe {
        hdf5_sys::h5d::H5Dread_chunk1(
            dataset.id(),
            hdf5_sys::h5p::H5P_DEFAULT,
            offset.as_ptr(),
            &mut mask,
            stored.as_mut_ptr().cast(),
        )
    };
    if code < 0 {
        return Chunk::Damaged;
    }
    // SAFETY: the library has written all of it, and said so.
    unsafe { stored.set_len(size) };
    Chunk::Stored(stored, mask)
}

/// The same for a library that cannot; nobody asks it.
#[cfg(not(hdf5_chunks))]
pub(super) fn load(_: &Dataset, _: Packing, _: usize, _: u64) -> Chunk {
    Chunk::Absent
}

/// Where the chunk of record `at` begins.
#[cfg(hdf5_chunks)]
fn offset(dataset: &Dataset, at: usize) -> Vec<u64> {
    let mut offset = vec![0u64; dataset.ndim()];
    offset.iter_mut().take(1).for_each(|first| *first = at as u64);
    offset
}

#[cfg(test)]
mod tests;

//! The records of one file, one by one, whatever noun they are.

use std::marker::PhantomData;

use hdf5::Dataset;

use super::Reader;
use crate::data::Provenance;
use crate::error::Result;
use crate::io::Source;

/// A noun that HDF5 files hold.
pub trait Noun: Sized {
    /// Value of the root attribute `format`.
    const FORMAT: &'static str;
    /// Its large dataset.
    const DATASET: &'static str;
    /// Dimensions of one record in it.
    const RANK: usize;

    /// What must hold of the whole file before a record is read.
    ///
    /// # Errors
    /// The fault.
    fn check(_reader: &Reader, _main: &Dataset) -> Result<()> {
        Ok(())
    }

    /// Record `i`; `main` is the large dataset.
    ///
    /// # Errors
    /// Where the record is malformed.
    fn read(reader: &mut Reader, main: &Dataset, i: usize) -> Result<Self>;
}

/// The records of a file, one after the other or in any order.
pub struct Records<N> {
    reader: Reader,
    main: Dataset,
    next: usize,
    noun: PhantomData<fn() -> N>,
}

impl<N: Noun> Records<N> {
    /// Opens the file.
    ///
    /// # Errors
    /// Where it is malformed or holds another noun.
    pub fn open(source: Source) -> Result<Records<N>> {
        let reader = Reader::open(source, N::FORMAT)?;
        let main = reader.dataset(N::DATASET, N::RANK)?;
        N::check(&reader, &main)?;
        Ok(Records { reader, main, next: 0, noun: PhantomData })
    }

    /// Number of records.
    pub fn records(&self) -> usize {
        self.reader.records()
    }

    /// Record `i`, in any order and as often as it is wanted.
    ///
    /// # Errors
    /// Where the record is malformed.
    pub fn get(&mut self, i: usize) -> Result<N> {
        N::read(&mut self.reader, &self.main, i)
    }

    /// The ids of all records.
    ///
    /// # Errors
    /// Where one is malformed, or two are the same.
    pub fn ids(&mut self) -> Result<Vec<String>> {
        (0..self.records()).map(|i| self.reader.id(i)).collect()
    }

    /// The string of each record in an optional text dataset; none where there is none.
    pub fn texts(&self, name: &str) -> Option<Vec<String>> {
        (0..self.records()).map(|i| self.reader.string(name, i)).collect()
    }

    /// Origin of the file.
    pub fn provenance(&self) -> Provenance {
        self.reader.provenance()
    }

    /// Dimensions of every record; K is the noun's rank.
    pub fn size<const K: usize>(&self) -> [usize; K] {
        let shape = self.main.shape();
        std::array::from_fn(|axis| shape.get(axis + 1).copied().unwrap_or(0))
    }
}

impl<N: Noun> Iterator for Records<N> {
    type Item = Result<N>;

    fn next(&mut self) -> Option<Self::Item> {
        let i = self.next;
        self.next += 1;
        (i < self.records()).then(|| N::read(&mut self.reader, &self.main, i))
    }
}

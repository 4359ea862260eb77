use super::*;
use std::io::Read;

/// Noise in the lower two bytes, most of the third, and nothing in the fourth.
fn numbers() -> Vec<f32> {
    let mix = |n: u32| (n ^ (n >> 15)).wrapping_mul(0x85eb_ca77);
    (0..70_000u32).map(|n| f32::from_bits(0x3f80_0000 | (mix(n.wrapping_mul(0x9e37_79b1)) >> 9))).collect()
}

fn packing(deflate: bool, count: usize) -> Packing {
    Packing { shuffle: true, deflate, kind: Kind::F32, count }
}

#[test]
fn dense_planes_are_kept_and_the_others_deflated() {
    let bytes: Vec<u8> = numbers().iter().flat_map(|v| v.to_le_bytes()).collect();
    let plane = |number: usize| bytes.iter().skip(number).step_by(4).copied().collect::<Vec<u8>>();
    assert_eq!([0, 1, 2, 3].map(|number| is_dense(&plane(number))), [true, true, false, false]);
    let packed = pack(&numbers());
    assert!((140_000..220_000).contains(&packed.len()), "{}", packed.len());
    assert_eq!(packed[..7], [0x78, 0x01, 0, 0xff, 0xff, 0, 0]); // a block of 65,535 bytes
    let mut unpacked = Vec::new();
    flate2::read::ZlibDecoder::new(packed.as_slice()).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, [0, 1, 2, 3].map(plane).concat());
}

#[test]
fn what_is_packed_is_unpacked() {
    for x in [numbers(), vec![0.0; 5000], vec![1.5], vec![]] {
        let packed = pack(&x);
        let found = packing(true, x.len()).unpack(&packed, 0);
        assert_eq!(found.unwrap(), x.iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
        assert!(x.len() < 5000 || packed.len() < 4 * x.len(), "{} of {}", packed.len(), 4 * x.len());
    }
}

#[test]
fn what_is_too_long_too_short_or_damaged_is_refused() {
    let bytes: Vec<u8> = numbers().iter().flat_map(|v| v.to_le_bytes()).collect();
    let packed = pack(&numbers());
    assert!(packing(true, 70_000).unpack(&packed, 0).is_some());
    for count in [69_999, 70_001, usize::MAX] {
        assert!(packing(true, count).unpack(&packed, 0).is_none(), "{count}");
    }
    assert!(packing(true, 70_000).unpack(&packed[..packed.len() / 2], 0).is_none());
    assert!(packing(true, 70_000).unpack(&packed[1..], 0).is_none());
    assert!(packing(false, 70_000).unpack(&bytes[1..], 0).is_none());
    assert!(packing(true, 1 << 40).unpack(&packed, 0).is_none()); // terabytes
}

#[test]
fn unshuffled_whole_numbers_are_read() {
    let plain = Packing { shuffle: false, deflate: false, kind: Kind::I16, count: 2 };
    assert_eq!(plain.unpack(&[1, 0, 0xfe, 0xff], 0).unwrap(), [1.0, -2.0]);
    let shuffled = Packing { shuffle: true, ..plain };
    assert_eq!(shuffled.unpack(&[1, 0xfe, 0, 0xff], 0).unwrap(), [1.0, -2.0]);
    let both = Packing { shuffle: true, deflate: true, ..plain };
    assert_eq!(both.unpack(&[1, 0xfe, 0, 0xff], 0b10).unwrap(), [1.0, -2.0]); // deflate was passed over
    assert_eq!(both.unpack(&[1, 0, 0xfe, 0xff], 0b11).unwrap(), [1.0, -2.0]);
    assert!(both.unpack(&[1, 0, 0xfe, 0xff], 0).is_none());
}

/// A file of records, sound but for their stored chunks; `name` is `ecg`, or that of an array of other people.
#[cfg(hdf5_chunks)]
fn write_stored(path: &std::path::Path, name: &str, filters: [bool; 2], stored: &[&[u8]]) {
    let file = hdf5::File::create(path).unwrap();
    file.new_attr::<f64>().create("fs").unwrap().write_scalar(&500.0).unwrap();
    let ids: Vec<hdf5::types::VarLenUnicode> = (0..stored.len()).map(|k| format!("r{k}").parse().unwrap()).collect();
    file.new_dataset_builder().with_data(&ids).create("id").unwrap();
    let mut builder = file.new_dataset::<f32>().shape((stored.len(), 12, 50)).chunk((1, 12, 50));
    let [shuffle, deflate] = filters;
    builder = if shuffle { builder.shuffle() } else { builder };
    builder = if deflate { builder.deflate(1) } else { builder };
    let dataset = builder.create(name).unwrap();
    stored.iter().enumerate().for_each(|(at, stored)| store(&dataset, at, stored).unwrap());
    drop(dataset);
    file.close().unwrap();
}

/// The values of each record.
#[cfg(hdf5_chunks)]
fn read_all(path: &std::path::Path) -> crate::Result<Vec<Vec<f64>>> {
    let options = crate::io::ReadOptions { unit: Some(crate::io::Unit::Millivolt), ..Default::default() };
    let records = crate::io::hdf5::open_ecg(crate::io::Source::open(path)?, &options)?;
    records.map(|record| Ok(record?.samples_mv.into_iter().collect())).collect()
}

#[test]
#[cfg(hdf5_chunks)]
fn damaged_chunks_are_refused_and_never_read_behind_their_room() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.h5");
    let read = |name: &str, filters: [bool; 2], stored: &[&[u8]]| {
        write_stored(&path, name, filters, stored);
        read_all(&path)
    };
    let values: Vec<f32> = (0..600u16).map(|n| 1.0 + f32::from(n % 7)).collect();
    let expected: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
    let plain: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(read("ecg", [true, true], &[&pack(&values)]).unwrap(), [expected.as_slice()]);
    assert_eq!(read("ecg", [false, false], &[&plain]).unwrap(), [expected.as_slice()]);
    // Found by fuzzing: of a chunk without filters the library says one size and reads another.
    for size in [40, 2399, 2401, 20_000, 500_000] {
        let mut stored = plain.clone();
        stored.resize(size, 0xff);
        let error = read("ecg", [false, false], &[&stored]).unwrap_err().to_string();
        assert!(error.contains(&format!("expected chunks of 2400 bytes, found {size} bytes")), "{error}");
    }
    // Sizes that add up: what the file holds from there on is read, and nothing from elsewhere.
    for name in ["ecg", "tracings"] {
        let (short, long) = (&plain[..40], [plain.as_slice(), &plain[..2360]].concat());
        let found = read(name, [false, false], &[short, &long]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(40).position(|window| window == short).unwrap();
        let number = |b: &[u8]| f64::from(f32::from_le_bytes(b.try_into().unwrap()));
        let there: Vec<f64> = bytes[at..at + 2400].chunks_exact(4).map(number).collect();
        let same = |a: &f64, b: &f64| a == b || a.is_nan() && b.is_nan();
        assert!(found[0].iter().zip(&there).all(|(a, b)| same(a, b)), "{name}: {:?} {there:?}", found[0]);
        assert_eq!(found[1], expected, "{name}");
    }
    // And where a chunk came out of its filters too short, the library read on behind it.
    let short = pack(&values[..300]);
    for (filters, stored) in [
        ([true, true], &short[..]),
        ([true, true], &pack(&values)[..40]),
        ([true, false], &plain[..2399]),
        ([true, false], &[plain.as_slice(), &[0]].concat()),
        ([false, true], &plain),
    ] {
        let error = read("ecg", filters, &[stored]).unwrap_err().to_string();
        assert!(error.contains("a.h5, record r0, field /ecg"), "{error}");
        assert!(error.contains("expected a chunk of 12 x 50 samples, found damaged bytes"), "{error}");
    }
}

//! Checkpoints made to harm: nothing runs, nothing panics, nothing allocates by claims.

use std::path::Path;

use super::archive::tests::zip;
use super::import::{import, Options};
use super::pickle::{Node, Pickle};
use super::shapes::expected;
use super::torch::{self, Value};
use super::{fill, Configs, Encoding, Kind, Models, Weights};
use crate::data::Provenance;
use crate::model::{amdf, pamae};

/// Puts pickles together, as `torch.save` would.
#[derive(Default, Clone)]
struct Writer(Vec<u8>);

impl Writer {
    fn new() -> Self {
        Writer(vec![0x80, 2])
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        self.raw(b"X").raw(&(text.len() as u32).to_le_bytes()).raw(text.as_bytes())
    }

    fn int(self, value: i64) -> Self {
        self.raw(&[0x8a, 8]).raw(&value.to_le_bytes())
    }

    fn ints(self, values: &[i64]) -> Self {
        values.iter().fold(self.raw(b"("), |writer, value| writer.int(*value)).raw(b"t")
    }

    fn storage(self, class: &str, count: i64) -> Self {
        let writer = self.raw(b"(").text("storage").raw(b"ctorch\n").raw(class.as_bytes()).raw(b"\n");
        writer.text("0").text("cpu").int(count).raw(b"tQ")
    }

    fn tensor(self, class: &str, count: i64, offset: i64, shape: &[i64], stride: &[i64]) -> Self {
        let writer = self.raw(b"ctorch._utils\n_rebuild_tensor_v2\n(").storage(class, count).int(offset);
        writer.ints(shape).ints(stride).raw(b"\x89ccollections\nOrderedDict\n)RtR")
    }

    fn stop(self) -> Vec<u8> {
        self.raw(b".").0
    }
}

fn floats(count: usize) -> Vec<u8> {
    (0..count).flat_map(|i| (i as f32).to_le_bytes()).collect()
}

fn checkpoint(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    zip(&[("x/data.pkl", pickle), ("x/byteorder", b"little"), ("x/data/0", storage)])
}

fn load(pickle: Vec<u8>, storage: &[u8]) -> crate::Result<Vec<f32>> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), checkpoint(&pickle, storage)).unwrap();
    let checkpoint = torch::read(file.path())?;
    let tensor = checkpoint.root().tensor().expect("a tensor").load()?;
    Ok(tensor.flatten_all().unwrap().to_vec1().unwrap())
}

/// Visits everything a reader of checkpoints would touch.
fn visit(value: Value, depth: usize) {
    let _ = value.what();
    if let Some(tensor) = value.tensor() {
        let _ = (tensor.shape(), tensor.load().map(|tensor| tensor.elem_count()));
    }
    for (_, inner) in value.entries().unwrap_or_default().into_iter().take(if depth < 3 { 20 } else { 0 }) {
        visit(inner, depth + 1);
    }
}

#[test]
fn views_of_any_stride_become_contiguous() {
    let transposed = Writer::new().tensor("FloatStorage", 7, 1, &[2, 3], &[1, 2]).stop();
    assert_eq!(load(transposed, &floats(7)).unwrap(), [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
    let odd = Writer::new().tensor("FloatStorage", 4, 0, &[1, 2, 1, 2], &[64, 2, 99, 1]).stop();
    assert_eq!(load(odd, &floats(4)).unwrap(), [0.0, 1.0, 2.0, 3.0]);
    let scalar = Writer::new().tensor("FloatStorage", 4, 3, &[], &[]).stop();
    assert_eq!(load(scalar, &floats(4)).unwrap(), [3.0]);
    let empty = Writer::new().tensor("FloatStorage", 0, 0, &[0, 3], &[3, 1]).stop();
    assert!(load(empty, &[]).unwrap().is_empty());
}

#[test]
fn other_types_become_floats() {
    let one = |class, bytes: &[u8]| load(Writer::new().tensor(class, 1, 0, &[1], &[1]).stop(), bytes).unwrap();
    assert_eq!(one("DoubleStorage", &2.5f64.to_le_bytes()), [2.5]);
    assert_eq!(one("HalfStorage", &[0x00, 0x3e]), [1.5]);
    assert_eq!(one("BFloat16Storage", &[0xc0, 0x3f]), [1.5]);
    assert_eq!(one("LongStorage", &(-3i64).to_le_bytes()), [-3.0]);
    assert_eq!(one("IntStorage", &(-3i32).to_le_bytes()), [-3.0]);
    assert_eq!(one("ShortStorage", &(-3i16).to_le_bytes()), [-3.0]);
    assert_eq!(one("BoolStorage", &[1]), [1.0]);
    let complex = load(Writer::new().tensor("ComplexFloatStorage", 1, 0, &[1], &[1]).stop(), &[0; 8]);
    assert!(complex.unwrap_err().to_string().contains("found ComplexFloatStorage"));
}

#[test]
fn views_outside_their_storage_are_refused() {
    let huge = i64::MAX;
    let views: [(i64, i64, &[i64], &[i64]); 9] = [
        (4, 1, &[4], &[1]),
        (4, 0, &[2], &[4]),
        (huge, 0, &[huge], &[1]),
        (4, 0, &[huge, huge, huge], &[1, 1, 1]),
        (4, huge, &[1], &[1]),
        (4, 0, &[2], &[huge]),
        (4, 0, &[2, 2, 2], &[huge, huge, huge]),
        (4, 0, &[1 << 40], &[0]),
        (4, 0, &[1 << 40, 1 << 40, 0], &[1, 1, 1]),
    ];
    for (count, offset, shape, stride) in views {
        let error = load(Writer::new().tensor("FloatStorage", count, offset, shape, stride).stop(), &floats(4));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("outside its storage"), "{shape:?} {stride:?}: {error}");
    }
    let negative: [(i64, &[i64], &[i64]); 4] =
        [(-1, &[1], &[1]), (0, &[-1], &[1]), (0, &[1], &[-1]), (0, &[1], &[1, 1])];
    for (offset, shape, stride) in negative {
        let error = load(Writer::new().tensor("FloatStorage", 4, offset, shape, stride).stop(), &floats(4));
        assert!(error.unwrap_err().to_string().contains("a tensor is not described as PyTorch does"));
    }
}

#[test]
fn calls_of_the_system_stay_inert() {
    let mark = tempfile::tempdir().unwrap().path().join("mark");
    let command = format!("touch {}", mark.display());
    let pickles = [
        Writer::new().raw(b"cos\nsystem\n(").text(&command).raw(b"tR").stop(),
        Writer::new().text("posix").text("system").raw(b"\x93(").text(&command).raw(b"tR").stop(),
        Writer::new().raw(b"cbuiltins\neval\n(").text(&command).raw(b"t\x81").stop(),
    ];
    for bytes in pickles {
        let pickle = Pickle::parse(&bytes).unwrap();
        assert!(matches!(pickle.node(pickle.root()), Node::Other(_)));
    }
    assert!(!mark.exists());
    let text_opcode = Writer::new().raw(b"(S'x'\nios\nsystem\n").stop();
    assert!(Pickle::parse(&text_opcode).unwrap_err().to_string().contains("not one that torch.save writes"));
}

#[test]
fn shared_and_nested_structure_costs_no_more_than_its_bytes() {
    // Forty lists, each holding the one before twice: 2^40 leaves if copied.
    let mut bomb = Writer::new().raw(b"]q\x00");
    for _ in 0..40 {
        bomb = bomb.raw(b"](h\x00h\x00eq\x00");
    }
    Pickle::parse(&bomb.stop()).unwrap();
    // A list nested a million deep; recursion anywhere would overflow the stack.
    let mut deep = Writer::new().raw(&vec![b']'; 1_000_000]).raw(&vec![b'a'; 999_999]).stop();
    drop(Pickle::parse(&deep).unwrap());
    // A list that holds itself.
    Pickle::parse(&Writer::new().raw(b"]q\x00h\x00a").stop()).unwrap();
    // A dictionary built from one long list, again and again.
    let list = Writer::new().raw(b"(").raw(&b"NN\x86".repeat(1000)).raw(b"l\x85q\x00");
    let again = b"ccollections\nOrderedDict\nh\x00R0".repeat(1000);
    let error = Pickle::parse(&list.raw(&again).raw(b"N").stop()).unwrap_err().to_string();
    assert!(error.contains("again and again"), "{error}");
    deep.pop();
    assert!(Pickle::parse(&deep).unwrap_err().to_string().contains("cut off"));
}

#[test]
fn claimed_lengths_are_bounded_by_the_bytes_left() {
    for instruction in [&b"X"[..], b"B", b"T", b"\x8b"] {
        let bytes = Writer::new().raw(instruction).raw(&[0xff; 4]).raw(b"abc").stop();
        assert!(Pickle::parse(&bytes).unwrap_err().to_string().contains("cut off"));
    }
    for instruction in [b"\x8d", b"\x8e", b"\x96"] {
        let bytes = Writer::new().raw(instruction).raw(&[0xff; 8]).raw(b"abc").stop();
        assert!(Pickle::parse(&bytes).unwrap_err().to_string().contains("cut off"));
    }
    for bytes in [&b""[..], b".", b"\x80\x02.", b"\x80\x09N.", b"(.", b"a.", b"(a.", b"h\x07.", b"t.", b"\x87."] {
        assert!(Pickle::parse(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn old_and_foreign_files_are_named_for_what_they_are() {
    let place = tempfile::tempdir().unwrap();
    let message = |bytes: &[u8]| {
        let path = place.path().join("file.pth");
        std::fs::write(&path, bytes).unwrap();
        let error = torch::read(&path).unwrap_err();
        assert!(error.to_string().contains("file.pth"), "{error}");
        format!("{error} / {}", error.hint().unwrap_or_default())
    };
    assert!(
        message(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.").contains("before PyTorch 1.6 / in Python: torch.save")
    );
    assert!(message(b"hello, world").contains("expected a ZIP archive"));
    assert!(message(b"").contains("expected a ZIP archive"));
    assert!(message(&zip(&[("a.txt", b"x")])).contains("no PyTorch checkpoint"));
    let big = zip(&[("x/data.pkl", b"N."), ("x/byteorder", b"big")]);
    assert!(message(&big).contains("field byteorder: expected little, found big"));
    assert!(torch::read(Path::new("/no/such/file")).is_err());
}

/// A small PyTorch checkpoint with two tensors, an optimizer and numbers.
fn sample() -> (Vec<u8>, Vec<u8>) {
    let tensors = Writer::new().raw(b"}q\x00(").text("model_state_dict").raw(b"ccollections\nOrderedDict\n)Rq\x01(");
    let tensors = tensors.text("a.weight").tensor("FloatStorage", 12, 0, &[2, 3], &[3, 1]);
    let tensors = tensors.text("b.weight").tensor("FloatStorage", 12, 6, &[3, 2], &[1, 3]).raw(b"u}b");
    let rest = tensors.text("epoch").raw(b"K\x07").text("args").raw(b"cargparse\nNamespace\n)\x81}");
    let rest = rest.text("lr").raw(b"G").raw(&1e-4f64.to_be_bytes()).raw(b"sb").text("list").raw(b"](NM\x01\x02J");
    (rest.raw(&[1, 2, 3, 4]).raw(b"\x88\x85\x86eu").stop(), floats(12))
}

/// A deterministic stream of numbers below a bound.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        (fill::splitmix(self.0) % bound.max(1) as u64) as usize
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..1 + self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            let stop = (at + 1 + self.below(8)).min(bytes.len());
            match self.below(6) {
                0 => bytes[at] = self.below(256) as u8,
                1 => bytes[at] ^= 1 << self.below(8),
                2 => bytes[at..stop].fill(if self.below(2) == 0 { 0xff } else { 0 }),
                3 => drop(bytes.drain(at..stop)),
                4 => bytes.truncate(at.max(1)),
                _ => {
                    let copy = bytes[at..stop].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, copy);
                }
            }
        }
    }
}

#[test]
fn mutated_pickles_never_panic() {
    let (pickle, storage) = sample();
    let file = tempfile::NamedTempFile::new().unwrap();
    let (mut dice, mut read) = (Dice(1), 0);
    for _ in 0..4000 {
        let mut bytes = pickle.clone();
        dice.mutate(&mut bytes);
        let Ok(_) = Pickle::parse(&bytes) else { continue };
        std::fs::write(file.path(), checkpoint(&bytes, &storage)).unwrap();
        visit(torch::read(file.path()).unwrap().root(), 0);
        read += 1;
    }
    assert!(read > 100, "{read} of the mutated pickles could still be read");
}

#[test]
fn mutated_archives_never_panic() {
    let (pickle, storage) = sample();
    let whole = checkpoint(&pickle, &storage);
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut dice = Dice(2);
    for _ in 0..2000 {
        let mut bytes = whole.clone();
        dice.mutate(&mut bytes);
        std::fs::write(file.path(), &bytes).unwrap();
        if let Ok(checkpoint) = torch::read(file.path()) {
            visit(checkpoint.root(), 0);
        }
        let _ = import(&[file.path().to_owned()], &Options::default());
    }
}

fn small_weights(encoding: Encoding) -> (tempfile::TempDir, std::path::PathBuf) {
    let mut models = Models::default();
    models.configs.pamae = Some(pamae::Config { base_width: 1, feature_dim: 2, ..pamae::Config::tiny() });
    fill::init(&mut models, Kind::Pamae, 3).unwrap();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("w.safetensors");
    models.save_in(encoding, &path, &Provenance::now("test", "test".into())).unwrap();
    (place, path)
}

#[test]
fn mutated_weights_files_never_panic() {
    for encoding in [Encoding::F32, Encoding::F16] {
        let (_place, path) = small_weights(encoding);
        let whole = std::fs::read(&path).unwrap();
        assert!(Weights::open(&path).unwrap().untrained(Kind::Pamae));
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        let mut dice = Dice(4);
        for _ in 0..1000 {
            let mut bytes = whole[..header].to_vec();
            dice.mutate(&mut bytes);
            bytes.extend(&whole[header..]);
            let Ok(weights) = Weights::from_bytes("w", bytes) else { continue };
            let _ = weights.check(Kind::Pamae);
            for name in weights.shapes().keys() {
                weights.tensor(name, &candle_core::Device::Cpu).unwrap();
            }
        }
        for length in (0..header).step_by(101).chain([whole.len() - 1]) {
            assert!(Weights::from_bytes("w", whole[..length].to_vec()).is_err(), "{length}");
        }
    }
}

/// A weights file with one word replaced by another of the same length, once.
fn changed(whole: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = whole.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    let mut bytes = whole.to_vec();
    bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
    bytes
}

fn refused(bytes: Vec<u8>) -> String {
    Weights::from_bytes("w", bytes).and_then(|weights| weights.check(Kind::Pamae)).unwrap_err().to_string()
}

#[test]
fn tensors_of_another_size_than_their_encoding_are_refused() {
    let (_place, path) = small_weights(Encoding::F16);
    let whole = std::fs::read(&path).unwrap();
    let wider = refused(changed(&whole, "\"F16\"", "\"F32\""));
    assert!(wider.contains("for F32 of shape"), "{wider}");
    let narrower = refused(changed(&whole, "\"F32\"", "\"F16\""));
    assert!(narrower.contains("for F16 of shape"), "{narrower}");
    let other = refused(changed(&whole, "\"F16\"", "\"I16\""));
    assert!(other.contains("expected type F32 or F16, found I16"), "{other}");
    let (_place, path) = small_weights(Encoding::F32);
    let halved = refused(changed(&std::fs::read(&path).unwrap(), "\"F32\"", "\"F16\""));
    assert!(halved.contains("for F16 of shape"), "{halved}");
}

#[test]
fn changed_weights_files_are_refused_with_expected_and_found() {
    let (_place, path) = small_weights(Encoding::F32);
    let whole = std::fs::read(&path).unwrap();
    let changed = |from: &str, to: &str| refused(changed(&whole, from, to));
    assert!(changed("ecgflow.weights", "ecgflow.Weights").contains("expected ecgflow.weights, found ecgflow.Weights"));
    assert!(changed("_version\":\"1", "_version\":\"2").contains("field format_version: expected 1, found 2"));
    assert!(changed("\"pamae.decoder.final", "\"other.decoder.final").contains("a tensor of no configured model"));
    let renamed = changed("final_conv.bias", "final_conv.bios");
    assert!(renamed.contains("decoder.final_conv.bias: expected [12], found nothing"), "{renamed}");
    assert!(renamed.contains("decoder.final_conv.bios: expected nothing, found [12]"), "{renamed}");
    assert!(changed("base_width", "bass_width").contains("unknown field `bass_width`"));
    let wider = changed("\\\"feature_dim\\\":2", "\\\"feature_dim\\\":3");
    assert!(wider.contains("encoder.feature_proj.weight: expected [3, 8, 1], found [2, 8, 1]"), "{wider}");
}

#[test]
fn weights_that_are_not_finite_are_refused_by_name() {
    let mut models = Models::default();
    models.configs.pamae = Some(pamae::Config::tiny());
    fill::init(&mut models, Kind::Pamae, 0).unwrap();
    let bad = candle_core::Tensor::new(&[1f32, f32::NAN], &candle_core::Device::Cpu).unwrap();
    let name = "pamae.encoder.phase_head.2.bias".to_owned();
    models.tensors.insert(name.clone(), bad);
    let error = models.check().unwrap_err().to_string();
    assert!(error.contains(&format!("field {name}: expected finite numbers, found NaN")), "{error}");
}

#[test]
fn tensors_that_show_one_storage_without_end_are_refused() {
    let names = (0..100).map(|k| format!("encoder_3d.{k}"));
    let entry = |writer: Writer, name: String| writer.text(&name).tensor("FloatStorage", 1000, 0, &[1000], &[1]);
    let pickle = names.fold(Writer::new().raw(b"}("), entry).raw(b"u").stop();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), checkpoint(&pickle, &floats(1000))).unwrap();
    let error = import(&[file.path().to_owned()], &Options::default()).unwrap_err().to_string();
    assert!(error.contains("the tensors show the same bytes too often (expected at most 2 elements"), "{error}");
}

#[test]
fn mutated_sizes_cost_no_memory() {
    let flow = Some(amdf::Config { width: 4096, depth: 1, ..amdf::Config::tiny() });
    let shapes = expected(Kind::Flow, &Configs { flow, ..Configs::default() }).unwrap();
    assert_eq!(shapes["blocks.0.mlp.0.weight"], [16_384, 4096]); // packed for the kernels, the block takes 1.3 GB
}

/// Runs the tests of mutated files once more where the system grants little memory: an allocation by claim aborts.
#[cfg(target_os = "linux")]
#[test]
fn mutated_files_are_read_in_little_memory() {
    let this = std::env::current_exe().unwrap();
    let script = format!(
        "ulimit -v 1000000 && exec '{}' hostile::mutated_ --skip little_memory --test-threads=1",
        this.display()
    );
    let run = std::process::Command::new("sh").arg("-c").arg(script).env("RAYON_NUM_THREADS", "1").output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert!(String::from_utf8_lossy(&run.stdout).contains("4 passed"));
}

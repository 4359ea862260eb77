//! SCP-ECG written by hand from the standard, against what an independent reader makes of it
//! (testdata/golden/scp_golden.py).

use std::fs;

use serde_json::Value;

use crate::formats::{assert_equals_golden, read_one};
use crate::program::root;

#[test]
fn scp_of_every_encoding_equals_an_independent_reader() {
    let golden = fs::read_to_string(root().join("testdata/golden/scp.json")).unwrap();
    let golden: Value = serde_json::from_str(&golden).unwrap();
    for name in ["plain", "huffman", "huffman_1", "huffman_2"] {
        let record = read_one(&root().join("testdata/ecg/scp").join(format!("{name}.scp")));
        assert_equals_golden(&record, &golden[name], name);
    }
}

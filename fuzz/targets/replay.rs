//! Runs the corpus.

use super::{TARGETS, corpus};
use std::fs;
use std::path::Path;

#[test]
fn every_input_of_the_corpus_is_handled() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in TARGETS {
        let text = fs::read_to_string(dir.join(name)).unwrap();
        let inputs = corpus::parse(&text);
        assert!(inputs.len() > 3, "{name} has {} inputs", inputs.len());
        for (line, input) in (1..).zip(&inputs) {
            let result = std::panic::catch_unwind(|| target(input));
            assert!(result.is_ok(), "fuzz/corpus/{name}:{line}");
        }
    }
    let files = fs::read_dir(&dir).unwrap().count();
    assert_eq!(files, TARGETS.len(), "fuzz/corpus has files of no target");
}

#[test]
fn a_corpus_is_read_as_it_was_written() {
    let inputs = [&b""[..], b"\\", b"\n\"'\r\t\0\xff", b"plain {text}"];
    let text = corpus::write(&inputs.map(<[u8]>::to_vec));
    assert_eq!(corpus::parse(&text), inputs);
}

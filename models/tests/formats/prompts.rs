//! Prompts as text, by a tokenizer small enough to follow by hand.

use crate::support::{distance, fixtures};
use robust_core::Kind;
use robust_models::hf::{Text, TextTower};
use serde_json::{Value, json};
use std::path::Path;

/// As CLIP's: lower case, words apart, pairs of pieces joined, a start and an end around.
fn small([start, end]: [u32; 2]) -> Value {
    let pattern = r"<\|startoftext\|>|<\|endoftext\|>|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    let special = |id: u32, text: &str| json!({ "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": true });
    json!({
        "version": "1.0",
        "truncation": { "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0 },
        "padding": null,
        "added_tokens": [special(start, "<|startoftext|>"), special(end, "<|endoftext|>")],
        "normalizer": { "type": "Sequence", "normalizers": [{ "type": "NFC" }, { "type": "Lowercase" }] },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Removed", "invert": true },
            { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        ] },
        "post_processor": { "type": "RobertaProcessing", "sep": ["<|endoftext|>", end], "cls": ["<|startoftext|>", start],
            "trim_offsets": false, "add_prefix_space": false },
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<|endoftext|>", "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>", "fuse_unk": false, "byte_fallback": false,
            "vocab": { "a": 0, "c": 1, "t": 2, "a</w>": 3, "t</w>": 4, "s</w>": 5, "ca": 6, "cat</w>": 7, "s": 8, "cat": 9,
                "<|startoftext|>": start, "<|endoftext|>": end },
            "merges": ["c a", "ca t</w>", "ca t"],
        },
    })
}

fn folder(tokenizer: &[u8], kind: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({ "model_type": kind, "text_config": { "max_position_embeddings": 5 } });
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer).unwrap();
    folder
}

fn ask(folder: &Path, prompts: &[&str]) -> robust_core::Result<Vec<Vec<u32>>> {
    let prompts: Vec<String> = prompts.iter().map(|p| p.to_string()).collect();
    TextTower::open(&folder.to_string_lossy())?.tokenised(&prompts, None)
}

fn zero_shot(folder: &Path, prompts: &[Vec<u32>]) -> robust_core::Result<Text> {
    TextTower::open(&folder.to_string_lossy())?.embed(prompts)
}

#[test]
fn prompts_become_numbers_of_one_length() {
    let folder = folder(small([10, 11]).to_string().as_bytes(), "clip");
    let rows = ask(folder.path(), &["A cat", "cats", "a  CAT a"]).unwrap();
    assert_eq!(rows, [vec![10, 3, 7, 11, 11], vec![10, 9, 5, 11, 11], vec![10, 3, 7, 3, 11]]);
    for (prompt, why) in [("a a a a", "has 6 tokens, the tower reads 5"), (" ", "1 to 4096"), ("", "1 to 4096")] {
        let error = ask(folder.path(), &[prompt]).unwrap_err();
        assert!(error.kind == Kind::Usage && error.message.contains(why), "{error}");
    }
    assert_eq!(ask(folder.path(), &[]).unwrap_err().kind, Kind::Usage);
}

#[test]
fn what_fills_a_prompt_up_changes_nothing() {
    let Some(root) = fixtures() else { return };
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(root.join("huggingface/clip").join(file), folder.path().join(file)).unwrap();
    }
    std::fs::write(folder.path().join("tokenizer.json"), small([97, 98]).to_string()).unwrap();
    let both = ask(folder.path(), &["cat", "a cats cat"]).unwrap();
    assert_eq!(both, [vec![97, 7, 98, 98, 98, 98], vec![97, 3, 9, 5, 7, 98]]);
    let together = zero_shot(folder.path(), &both).unwrap().embeddings;
    for (i, prompt) in ["cat", "a cats cat"].into_iter().enumerate() {
        let alone = zero_shot(folder.path(), &ask(folder.path(), &[prompt]).unwrap()).unwrap().embeddings;
        let gap = distance(&alone.get(0).unwrap(), &together.get(i).unwrap());
        assert!(gap < 1e-12, "{prompt}: {gap:e}");
    }
}

#[test]
fn damaged_and_hostile_tokenizers_are_refused() {
    let whole = small([10, 11]).to_string();
    for cut in (0..whole.len()).step_by(97) {
        let error = ask(folder(&whole.as_bytes()[..cut], "clip").path(), &["a"]).unwrap_err();
        assert!(error.kind == Kind::Load && error.message.contains("tokenizer.json"), "{cut}: {error}");
    }
    let with = |change: fn(&mut Value)| {
        let mut all = small([10, 11]);
        change(&mut all);
        ask(folder(all.to_string().as_bytes(), "clip").path(), &["a cat"])
    };
    let changes: [fn(&mut Value); 5] = [
        |t| t["model"]["merges"] = json!(["q z"]),
        |t| t["model"]["vocab"] = json!({ "a": -1 }),
        |t| t["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!("((("),
        |t| t["model"]["type"] = json!("Unheard"),
        |t| t["model"] = json!(null),
    ];
    for (i, change) in changes.into_iter().enumerate() {
        assert_eq!(with(change).unwrap_err().kind, Kind::Load, "{i}");
    }
    // What the fuzzer of byte flips makes of it: an answer or an error, never the end.
    let mut state = 7u64;
    for _ in 0..300 {
        let mut bytes = whole.clone().into_bytes();
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] ^= 1 << (state >> 60 & 7);
        }
        if let Err(e) = ask(folder(&bytes, "clip").path(), &["a cat"]) {
            assert!([Kind::Load, Kind::Usage].contains(&e.kind), "{e}");
            assert!(!e.message.contains("gave up"), "{e}");
        }
    }
    let bare = folder(b"", "clip");
    std::fs::remove_file(bare.path().join("tokenizer.json")).unwrap();
    let error = ask(bare.path(), &["a"]).unwrap_err();
    assert!(error.message.contains("there is no tokenizer.json") && error.hint.is_some(), "{error}");
}

//! Which files of a model are fetched: of transformers' folders, of OpenCLIP's, of those that hold both, and their tokenizers.

use super::*;

const OPEN_CONFIG: &str = "open_clip_config.json";
const OPEN_WEIGHTS: &str = "open_clip_model.safetensors";

fn names(place: &Place) -> Vec<String> {
    let start = format!("snapshots/{COMMIT}/");
    place.files().into_iter().filter_map(|f| f.strip_prefix(&start).map(String::from)).collect()
}

#[test]
fn folders_of_open_clip_arrive_with_their_tokenizer_and_are_not_asked_for_again() {
    for weights in [OPEN_WEIGHTS, "open_clip_pytorch_model.bin"] {
        // The settings are timm's or nobody's: transformers could not build them.
        for config in [None, Some(r#"{"architecture": "vit_base_patch32_clip_224"}"#)] {
            let mut repo = Repo::new(&[
                (OPEN_CONFIG, b"{}"),
                (weights, &super::weights()),
                ("tokenizer.json", b"words"),
                ("README.md", b"#"),
            ]);
            if let Some(config) = config {
                repo.files.push(("config.json".into(), config.into()));
                repo.files.push(("model.safetensors".into(), b"timm".to_vec()));
            }
            let (hub, store) = pair(repo);
            let place = Place::new(&hub.address);
            let folder = place.get("org/net").unwrap();
            assert_eq!(std::fs::read(folder.join(weights)).unwrap(), super::weights());
            let mut wanted = vec![OPEN_CONFIG, weights, "tokenizer.json"];
            wanted.extend(config.map(|_| "config.json"));
            wanted.sort_unstable();
            assert_eq!(names(&place), wanted);
            assert_eq!(store.lines(), [format!("GET /{weights}")]);
            let asked = hub.lines().len();
            assert_eq!(place.get("org/net").unwrap(), folder);
            assert_eq!(hub.lines().len(), asked, "a whole folder needs no question");
            std::fs::remove_file(folder.join(weights)).unwrap();
            place.get("org/net").unwrap();
            assert_eq!(names(&place), wanted);
        }
    }
}

#[test]
fn of_both_layouts_transformers_is_fetched() {
    let mut repo = Repo::encoder();
    repo.files.push((OPEN_CONFIG.into(), b"{}".to_vec()));
    repo.files.push((OPEN_WEIGHTS.into(), b"not wanted".to_vec()));
    let (hub, store) = pair(repo);
    let place = Place::new(&hub.address);
    place.get("org/net").unwrap();
    assert_eq!(names(&place), ["config.json", "model.safetensors", "preprocessor_config.json"]);
    assert_eq!(store.lines(), ["GET /model.safetensors"]);
    // Settings that another tool has left decide nothing: the same files complete them.
    let place = Place::new(&hub.address);
    let snapshot = place.at(&format!("snapshots/{COMMIT}"));
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::write(snapshot.join(OPEN_CONFIG), b"{}").unwrap();
    place.get(&format!("org/net@{COMMIT}")).unwrap();
    assert!(names(&place).contains(&"model.safetensors".to_string()) && !snapshot.join(OPEN_WEIGHTS).exists());
    // Weights of OpenCLIP's that are there are used as they are.
    let place = Place::new(&hub.address);
    let snapshot = place.at(&format!("snapshots/{COMMIT}"));
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::write(snapshot.join(OPEN_CONFIG), b"{}").unwrap();
    std::fs::write(snapshot.join(OPEN_WEIGHTS), b"x").unwrap();
    let asked = hub.lines().len();
    assert_eq!(place.get(&format!("org/net@{COMMIT}")).unwrap(), snapshot);
    assert_eq!(hub.lines().len(), asked);
}

#[test]
fn open_clips_files_are_bounded_and_checked_like_the_others() {
    let repo = |tokenizer: &[u8]| {
        Repo::new(&[(OPEN_CONFIG, b"{}"), (OPEN_WEIGHTS, &super::weights()), ("tokenizer.json", tokenizer)])
    };
    let flipped = Server::start(move |seen| {
        let mut reply = repo(b"words").answer(seen);
        if seen.method == "GET" && seen.path.ends_with(OPEN_WEIGHTS) {
            reply.body[7] ^= 1;
        }
        reply
    });
    let place = Place::new(&flipped.address);
    place.fails("org/net", Kind::Load, &[OPEN_WEIGHTS, "its sha256 is"]);
    assert!(!place.at(&format!("snapshots/{COMMIT}/{OPEN_WEIGHTS}")).exists());
    // A size is believed before anything is sent.
    for (file, size) in
        [("tokenizer.json", (64u64 << 20) + 1), (OPEN_WEIGHTS, (4 << 30) + 1), (OPEN_CONFIG, (32 << 20) + 1)]
    {
        let large = Server::start(move |seen| {
            let mut reply = repo(b"words").answer(seen);
            if seen.path.ends_with(file) {
                reply.headers.retain(|(k, _)| k != "x-linked-size");
                reply = reply.with("x-linked-size", size);
            }
            reply
        });
        let place = Place::new(&large.address);
        place.fails("org/net", Kind::Load, &[file, "are supported"]);
        assert!(!place.at(&format!("snapshots/{COMMIT}/{file}")).exists());
    }
    let (hub, _store) = pair(Repo::new(&[(OPEN_CONFIG, b"{}"), ("model.onnx", b"x")]));
    Place::new(&hub.address).fails("org/net", Kind::Load, &["no such folder", OPEN_WEIGHTS]);
}

#[test]
fn a_tokenizer_that_the_cache_lacks_is_fetched_when_words_are_wanted() {
    let words = |place: &Place| {
        fetch_words(&|| Ok(place.settings.clone()), place.cache.path(), &Wanted::parse("org/net").unwrap())
    };
    let filled = |place: &Place| {
        let snapshot = place.at(&format!("snapshots/{COMMIT}"));
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::create_dir_all(place.at("refs")).unwrap();
        std::fs::write(place.at("refs/main"), COMMIT).unwrap();
        for name in ["config.json", "preprocessor_config.json", "model.safetensors"] {
            std::fs::write(snapshot.join(name), b"{}").unwrap();
        }
        snapshot
    };
    let mut repo = Repo::encoder();
    repo.files.push(("tokenizer.json".into(), b"words".to_vec()));
    let (hub, store) = pair(repo);
    let place = Place::new(&hub.address);
    let snapshot = filled(&place);
    // The image tower is whole without it.
    place.get("org/net").unwrap();
    assert!(hub.seen().is_empty());
    words(&place).unwrap();
    assert_eq!(std::fs::read(snapshot.join("tokenizer.json")).unwrap(), b"words");
    assert!(store.seen().is_empty() && hub.lines()[0].ends_with(COMMIT), "{:?}", hub.lines());
    let asked = hub.lines().len();
    words(&place).unwrap();
    assert_eq!(hub.lines().len(), asked);
    // What has none is asked once; what cannot be asked is not an error.
    let (hub, _store) = pair(Repo::encoder());
    let place = Place::new(&hub.address);
    filled(&place);
    words(&place).unwrap();
    let asked = hub.lines().len();
    words(&place).unwrap();
    assert_eq!((hub.lines().len(), asked > 0), (asked, true));
    let mut place = Place::new(&hub.address);
    place.settings.offline = Some("HF_HUB_OFFLINE");
    filled(&place);
    words(&place).unwrap();
    assert_eq!(hub.lines().len(), asked);
    words(&Place::new("http://127.0.0.1:9")).unwrap();
}

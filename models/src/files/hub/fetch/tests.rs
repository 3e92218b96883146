//! A hub is played on a loopback port: what it does well must arrive as its own tools would have it, what it does badly
//! must not.

mod layouts;
mod server;
mod trust;

use super::*;
use crate::files::hub::Progress;
use server::{Ending, Reply, Seen, Server};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_secret";

/// The files of `org/net` at [`COMMIT`]: content, and the host where large ones lie.
#[derive(Clone, Default)]
struct Repo {
    files: Vec<(String, Vec<u8>)>,
    elsewhere: Option<String>,
}

fn sha256(bytes: &[u8]) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
    hash.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// Etags of small files: here any name that differs with the content.
fn small(bytes: &[u8]) -> String {
    sha256(bytes)[..40].to_string()
}

impl Repo {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let files = files.iter().map(|(n, b)| (n.to_string(), b.to_vec())).collect();
        Self { files, elsewhere: None }
    }

    fn encoder() -> Self {
        Self::new(&[
            ("config.json", b"{\"model_type\": \"vit\"}"),
            ("preprocessor_config.json", b"{}"),
            ("README.md", b"#"),
            ("model.safetensors", &weights()),
        ])
    }

    /// As the hub answers: the list, small files behind a redirect of its own, large ones elsewhere.
    fn answer(&self, seen: &Seen) -> Reply {
        let list = "/api/models/org/net/revision/";
        if let Some(revision) = seen.path.strip_prefix(list) {
            if !["main", COMMIT].contains(&revision) {
                return Reply::new(404).with("x-error-code", "RevisionNotFound");
            }
            let names: Vec<_> = self.files.iter().map(|(n, _)| serde_json::json!({ "rfilename": n })).collect();
            let body = serde_json::json!({ "sha": COMMIT, "id": "org/net", "siblings": names }).to_string();
            return Reply::new(200).body(body.as_bytes());
        }
        let asked = seen.path.split_once(&format!("{COMMIT}/")).map_or("", |(_, name)| name);
        let Some((name, bytes)) = self.files.iter().find(|(n, _)| n == asked) else {
            return Reply::new(404).with("x-error-code", "EntryNotFound").with("x-repo-commit", COMMIT);
        };
        let large = name.ends_with(".safetensors") || name.ends_with(".bin");
        let reply = |status| Reply::new(status).with("x-repo-commit", COMMIT);
        match (large, &self.elsewhere) {
            (true, Some(host)) => reply(302)
                .with("x-linked-etag", format!("\"{}\"", sha256(bytes)))
                .with("x-linked-size", bytes.len())
                .with("location", format!("{host}/{name}"))
                .body(b"Found. Redirecting."),
            (true, None) => part(seen, bytes, reply(200)).with("etag", format!("\"{}\"", sha256(bytes))),
            (false, _) if seen.path.starts_with("/org/") => {
                reply(307).with("location", format!("/api/resolve-cache/models/org/net/{COMMIT}/{name}"))
            }
            (false, _) => reply(200).with("etag", format!("W/\"{}\"", small(bytes))).body(bytes),
        }
    }
}

/// The range that is asked for.
fn part(seen: &Seen, bytes: &[u8], whole: Reply) -> Reply {
    let from = seen.header("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    match from {
        None => whole.body(bytes),
        Some(from) if from >= bytes.len() => Reply { status: 416, ..whole },
        Some(from) => Reply { status: 206, ..whole }
            .with("content-range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()))
            .body(&bytes[from..]),
    }
}

/// More than one chunk.
fn weights() -> Vec<u8> {
    (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

struct Place {
    cache: tempfile::TempDir,
    settings: Settings,
}

impl Place {
    fn new(endpoint: &str) -> Self {
        let settings = Settings {
            endpoint: crate::files::hub::address::Address::parse(endpoint).unwrap(),
            token: Some(TOKEN.to_string()),
            offline: None,
            authorities: None,
            proxies: false,
            pause: Duration::from_millis(1),
            patience: Duration::from_secs(5),
            watch: None,
        };
        Self { cache: tempfile::tempdir().unwrap(), settings }
    }

    fn get(&self, name: &str) -> Result<PathBuf> {
        fetch(&|| Ok(self.settings.clone()), self.cache.path(), &Wanted::parse(name)?)
    }

    fn fails(&self, name: &str, kind: Kind, parts: &[&str]) {
        let error = self.get(name).unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "`{part}` is not in: {error}");
        }
        assert!(!error.to_string().contains(TOKEN), "{error}");
    }

    fn at(&self, path: &str) -> PathBuf {
        self.cache.path().join("models--org--net").join(path)
    }

    /// Files below the model's folder, by their relative names.
    fn files(&self) -> Vec<String> {
        fn walk(folder: &Path, root: &Path, all: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.file_type().unwrap().is_dir() {
                    true => walk(&entry.path(), root, all),
                    false => all.push(entry.path().strip_prefix(root).unwrap().to_string_lossy().into_owned()),
                }
            }
        }
        let mut all = vec![];
        walk(&self.at(""), &self.at(""), &mut all);
        all.sort();
        all
    }
}

/// The hub, and the host of its large files.
fn pair(repo: Repo) -> (Server, Server) {
    let files = repo.files.clone();
    let store = Server::start(move |seen| {
        let name = seen.path.trim_start_matches('/');
        files.iter().find(|(n, _)| n == name).map_or(Reply::new(404), |(_, bytes)| part(seen, bytes, Reply::new(200)))
    });
    let repo = Repo { elsewhere: Some(store.address.clone()), ..repo };
    (Server::start(move |seen| repo.answer(seen)), store)
}

#[test]
fn a_folder_arrives_in_the_layout_of_the_hubs_tools_and_is_not_asked_for_again() {
    let (hub, store) = pair(Repo::encoder());
    let place = Place::new(&hub.address);
    let folder = place.get("org/net").unwrap();
    assert_eq!(folder, place.at(&format!("snapshots/{COMMIT}")));
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights());
    assert_eq!(std::fs::read_to_string(place.at("refs/main")).unwrap(), COMMIT);
    let blob = place.at("blobs").join(sha256(&weights()));
    assert!(blob.symlink_metadata().unwrap().is_file());
    #[cfg(unix)]
    assert_eq!(
        std::fs::read_link(folder.join("model.safetensors")).unwrap(),
        Path::new("../../blobs").join(sha256(&weights()))
    );
    // Three contents, three names, one branch, and that there is no tokenizer; nothing half done, nothing that was not needed.
    assert_eq!(place.files().len(), 8, "{:?}", place.files());
    // The token is for the hub; the other host never sees it.
    assert!(hub.seen().iter().all(|s| s.header("authorization") == Some("Bearer hf_secret")));
    assert!(store.seen().iter().all(|s| s.header("authorization").is_none() && s.method == "GET"));
    assert_eq!(store.lines(), ["GET /model.safetensors"]);
    let asked = hub.lines().len();
    for name in ["org/net", "org/net@main", &format!("org/net@{COMMIT}")] {
        assert_eq!(place.get(name).unwrap(), folder);
    }
    assert_eq!(hub.lines().len(), asked, "a whole folder needs no question");
    assert!(hub.lines().iter().all(|l| !l.contains("README")));
}

#[test]
fn without_preprocessing_the_answer_is_remembered_and_a_python_cache_is_completed() {
    let repo = Repo::new(&[("config.json", b"{}"), ("pytorch_model.bin", b"weights")]);
    let (hub, _store) = pair(repo);
    let place = Place::new(&hub.address);
    place.get("org/net").unwrap();
    assert!(place.at(&format!(".no_exist/{COMMIT}/preprocessor_config.json")).is_file());
    let asked = hub.lines().len();
    place.get("org/net").unwrap();
    assert_eq!(hub.lines().len(), asked);

    // A cache that another tool has filled in part: the same commit is completed, the branch is not asked for.
    let (hub, _store) = pair(Repo::encoder());
    let place = Place::new(&hub.address);
    let snapshot = place.at(&format!("snapshots/{COMMIT}"));
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(place.at("refs")).unwrap();
    std::fs::write(place.at("refs/main"), COMMIT).unwrap();
    std::fs::write(snapshot.join("config.json"), b"mine").unwrap();
    place.get("org/net").unwrap();
    assert_eq!(std::fs::read(snapshot.join("config.json")).unwrap(), b"mine");
    assert_eq!(std::fs::read(snapshot.join("model.safetensors")).unwrap(), weights());
    assert!(hub.lines()[0].ends_with(COMMIT), "{:?}", hub.lines());

    // Weights of another format than would be chosen are weights: only the settings of images are fetched.
    let (hub, store) = pair(Repo::encoder());
    let place = Place::new(&hub.address);
    let snapshot = place.at(&format!("snapshots/{COMMIT}"));
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::write(snapshot.join("config.json"), b"{}").unwrap();
    std::fs::write(snapshot.join("pytorch_model.bin"), b"x").unwrap();
    place.get(&format!("org/net@{COMMIT}")).unwrap();
    assert!(snapshot.join("preprocessor_config.json").is_file() && store.seen().is_empty());
}

#[test]
fn what_can_be_loaded_is_used_where_the_hub_cannot_be_asked() {
    // Nobody listens there.
    let place = Place::new("http://127.0.0.1:9");
    let snapshot = place.at(&format!("snapshots/{COMMIT}"));
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::write(snapshot.join("config.json"), b"{}").unwrap();
    let name = format!("org/net@{COMMIT}");
    place.fails(&name, Kind::Load, &["cannot be reached", "HF_ENDPOINT"]);
    std::fs::write(snapshot.join("model.safetensors"), b"").unwrap();
    assert_eq!(place.get(&name).unwrap(), snapshot);
    // What is whole needs no settings either.
    std::fs::write(snapshot.join("preprocessor_config.json"), b"{}").unwrap();
    let broken = || -> Result<Settings> { Err(Error::usage("HF_TOKEN holds no token")) };
    assert_eq!(fetch(&broken, place.cache.path(), &Wanted::parse(&name).unwrap()).unwrap(), snapshot);
}

#[test]
fn offline_no_connection_is_made_and_the_error_says_so() {
    let (hub, _store) = pair(Repo::encoder());
    for flag in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        let mut place = Place::new(&hub.address);
        place.settings.offline = Some(flag);
        place.fails("org/net", Kind::Load, &[flag, "nothing is asked"]);
    }
    assert!(hub.seen().is_empty());
    let mut place = Place::new(&hub.address);
    place.get("org/net").unwrap();
    place.settings.offline = Some("HF_HUB_OFFLINE");
    place.get("org/net").unwrap();
    place.fails("org/net@v2", Kind::Load, &["HF_HUB_OFFLINE"]);
}

#[test]
fn a_broken_download_goes_on_where_it_stopped_in_one_process_and_in_the_next() {
    let tries = Arc::new(AtomicUsize::new(0));
    let count = tries.clone();
    // Two connections break, the second after the beginning that the first one brought.
    let hub = Server::start(move |seen| {
        let reply = Repo::encoder().answer(seen);
        match seen.method == "GET" && seen.path.ends_with(".safetensors") && count.fetch_add(1, SeqCst) < 2 {
            true => reply.ending(Ending::Cut(100_000)),
            false => reply,
        }
    });
    let place = Place::new(&hub.address);
    let folder = place.get("org/net").unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights());
    let ranges: Vec<_> = hub.seen().iter().filter_map(|s| s.header("range").map(str::to_string)).collect();
    assert_eq!(ranges, ["bytes=100000-", "bytes=200000-"]);

    // Stopped by the user, then asked again.
    let hub = Server::start(move |seen| Repo::encoder().answer(seen));
    let mut place = Place::new(&hub.address);
    place.settings.watch = Some(Arc::new(|p: &Progress| p.done == 0));
    place.fails("org/net", Kind::Interrupted, &["stopped while downloading", "the same command goes on"]);
    place.settings.watch = Some(Arc::new(|p: &Progress| p.file != "model.safetensors" || p.done == 0));
    place.fails("org/net", Kind::Interrupted, &["model.safetensors"]);
    let half = place.at("blobs").join(sha256(&weights()) + ".incomplete");
    let arrived = half.metadata().unwrap().len();
    assert!(arrived > 0 && arrived < weights().len() as u64);
    place.settings.watch = None;
    place.get("org/net").unwrap();
    assert!(hub.seen().iter().any(|s| s.header("range") == Some(&format!("bytes={arrived}-"))));
    assert!(!half.exists());
}

#[test]
fn a_beginning_that_is_another_files_is_thrown_away() {
    let (hub, _store) = pair(Repo::encoder());
    for wrong in [vec![7u8; 1000], vec![7u8; weights().len()], vec![7u8; weights().len() + 5]] {
        let place = Place::new(&hub.address);
        std::fs::create_dir_all(place.at("blobs")).unwrap();
        std::fs::write(place.at("blobs").join(sha256(&weights()) + ".incomplete"), &wrong).unwrap();
        let folder = place.get("org/net").unwrap();
        assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights(), "{}", wrong.len());
    }
}

/// An honest hub but for the body of the weights.
fn spoilt(change: impl Fn(Reply) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |seen| {
        let reply = Repo::encoder().answer(seen);
        match seen.method == "GET" && seen.path.ends_with(".safetensors") {
            true => change(reply),
            false => reply,
        }
    })
}

#[test]
fn wrong_bodies_are_refused_and_leave_nothing_that_could_be_taken_for_the_file() {
    let flipped = |mut reply: Reply| {
        reply.body[1234] ^= 1;
        reply
    };
    let cases: [(&str, Server); 5] = [
        ("its sha256 is", spoilt(flipped)),
        ("more than the 300000 bytes that were announced", spoilt(|r| r.ending(Ending::Never))),
        (
            "300001 bytes are sent where 300000 were announced",
            spoilt(|r| Reply { body: [&r.body[..], b"x"].concat(), ..r }),
        ),
        ("of 300000 bytes", spoilt(|r| r.ending(Ending::Cut(10)))),
        ("503", spoilt(|_| Reply::new(503).with("retry-after", "0"))),
    ];
    for (part, hub) in cases {
        let place = Place::new(&hub.address);
        let error = place.get("org/net").unwrap_err();
        // The body's end may be noticed by the client or by the count.
        let cut = part == "of 300000 bytes" && error.to_string().contains("connection");
        assert!(error.kind == Kind::Load && (error.to_string().contains(part) || cut), "{part}: {error}");
        assert!(!place.at("blobs").join(sha256(&weights())).exists(), "{part}");
        assert!(!place.at(&format!("snapshots/{COMMIT}/model.safetensors")).exists(), "{part}");
    }
}

#[test]
fn passing_troubles_are_waited_for_and_others_are_not() {
    for status in [429, 500, 503] {
        let tries = Arc::new(AtomicUsize::new(0));
        let count = tries.clone();
        let hub = Server::start(move |seen| match count.fetch_add(1, SeqCst) % 4 {
            0 | 1 => Reply::new(status),
            _ => Repo::encoder().answer(seen),
        });
        let place = Place::new(&hub.address);
        place.get("org/net").unwrap();
    }
    let hub = Server::start(|_| Reply::new(500));
    Place::new(&hub.address).fails("org/net", Kind::Load, &["500"]);
    assert_eq!(hub.seen().len(), 5);
    let hub = Server::start(|_| Reply::new(400));
    Place::new(&hub.address).fails("org/net", Kind::Load, &["400"]);
    assert_eq!(hub.seen().len(), 1);
}

#[test]
fn refusals_say_what_to_do() {
    let refuse =
        |status: u16, code: &'static str| Server::start(move |_| Reply::new(status).with("x-error-code", code));
    let at = |server: &Server| Place::new(&server.address);
    let hub = refuse(404, "RepoNotFound");
    let mut place = at(&hub);
    place.fails("org/net", Kind::Load, &["gated or misspelt", "org/net", "HF_TOKEN"]);
    place.settings.token = None;
    place.fails("org/net", Kind::Load, &["gated or misspelt", "set HF_TOKEN"]);
    assert!(hub.seen().last().unwrap().header("authorization").is_none());
    for status in [401, 403] {
        let hub = refuse(status, "GatedRepo");
        at(&hub).fails("org/net", Kind::Load, &["it is gated", "HF_TOKEN", &hub.address]);
    }
    let hub = refuse(401, "");
    at(&hub).fails("org/net", Kind::Load, &["gated or misspelt", "no longer valid"]);
    let (hub, _store) = pair(Repo::encoder());
    at(&hub).fails("org/net@v9", Kind::Load, &["no revision `v9`"]);
    let hub = Server::start(|_| Reply::new(200).body(b"<html>a captive portal</html>"));
    at(&hub).fails("org/net", Kind::Load, &["does not answer as a hub does"]);
    let (hub, _store) = pair(Repo::new(&[("config.json", b"{}"), ("flax_model.msgpack", b"x")]));
    at(&hub).fails("org/net", Kind::Load, &["no such folder", "ONNX"]);
}

#[test]
fn the_token_goes_to_no_other_host_and_not_in_the_clear() {
    // The list itself leads elsewhere: nothing of it is believed to be the hub's, and nothing secret is said.
    let thief = Server::start(|seen| Repo::encoder().answer(seen));
    let to = thief.address.clone();
    let hub = Server::start(move |seen| Reply::new(302).with("location", format!("{to}{}", seen.path)));
    let place = Place::new(&hub.address);
    place.fails("org/net", Kind::Load, &["X-Repo-Commit"]);
    assert!(!thief.seen().is_empty() && thief.seen().iter().all(|s| s.header("authorization").is_none()));
    let hub = Server::start(|seen| Reply::new(302).with("location", &seen.path));
    Place::new(&hub.address).fails("org/net", Kind::Load, &["leads on"]);
}

/// A model of two shards whose index says what the test wants.
fn sharded(names: &[&str], there: &[&str]) -> Repo {
    let map: serde_json::Map<_, _> = names.iter().enumerate().map(|(i, n)| (format!("t{i}"), (*n).into())).collect();
    let index = serde_json::json!({ "weight_map": map }).to_string();
    let mut repo = Repo::new(&[("config.json", b"{}"), ("model.safetensors.index.json", index.as_bytes())]);
    repo.files.extend(there.iter().map(|n| (n.to_string(), n.as_bytes().to_vec())));
    repo
}

#[test]
fn shards_arrive_and_names_that_lead_out_do_not() {
    let two = ["model-1-of-2.safetensors", "model-2-of-2.safetensors"];
    let (hub, _store) = pair(sharded(&two, &two));
    let place = Place::new(&hub.address);
    let folder = place.get("org/net").unwrap();
    assert_eq!(std::fs::read(folder.join(two[1])).unwrap(), two[1].as_bytes());
    let asked = hub.lines().len();
    place.get("org/net").unwrap();
    assert_eq!(hub.lines().len(), asked);
    std::fs::remove_file(folder.join(two[0])).unwrap();
    place.get("org/net").unwrap();
    assert!(folder.join(two[0]).is_file() && hub.lines().len() > asked);

    for name in [
        "../../../evil.safetensors",
        "/tmp/evil.safetensors",
        "a/evil.safetensors",
        "..",
        ".evil.safetensors",
        "config.json",
        "a\\evil.safetensors",
        "evil%2f.safetensors",
        "gone.safetensors",
        "e\u{301}.safetensors",
    ] {
        let there: Vec<&str> = [name].into_iter().filter(|n| !n.starts_with("gone")).collect();
        let (hub, store) = pair(sharded(&[name], &there));
        let place = Place::new(&hub.address);
        place.fails("org/net", Kind::Load, &["shard"]);
        assert!(store.seen().is_empty(), "{name}: {:?}", store.lines());
        assert!(place.files().iter().all(|f| !f.contains("evil")), "{name}: {:?}", place.files());
    }
}

#[test]
fn etags_commits_and_sizes_that_make_no_sense_are_refused() {
    let with = |name: &'static str, value: &'static str| {
        Server::start(move |seen| {
            let mut reply = Repo::encoder().answer(seen);
            let api = seen.path.starts_with("/api/models");
            reply.headers.retain(|(k, _)| api || k != name);
            if !api && !value.is_empty() { reply.with(name, value) } else { reply }
        })
    };
    for (name, value, part) in [
        ("x-linked-etag", "\"../../../evil\"", "not a name for a file"),
        ("x-linked-etag", "\".hidden\"", "not a name for a file"),
        ("x-linked-etag", "\"abc.lock\"", "not a name for a file"),
        ("x-linked-size", "99999999999999", "are supported"),
        ("x-repo-commit", "fedcba9876543210fedcba9876543210fedcba98", "another commit"),
        ("x-repo-commit", "", "X-Repo-Commit"),
    ] {
        let hub = with(name, value);
        let place = Place::new(&hub.address);
        place.fails("org/net", Kind::Load, &[part]);
        assert!(place.files().iter().all(|f| !f.starts_with("blobs")), "{:?}", place.files());
    }
    for sha in ["main", "../../evil", ""] {
        let body = serde_json::json!({ "sha": sha, "siblings": [] }).to_string();
        let hub = Server::start(move |_| Reply::new(200).body(body.as_bytes()));
        Place::new(&hub.address).fails("org/net", Kind::Load, &["names no commit"]);
    }
}

#[cfg(unix)]
#[test]
fn links_in_the_cache_are_not_written_through() {
    let (hub, _store) = pair(Repo::encoder());
    let place = Place::new(&hub.address);
    let victim = place.cache.path().join("victim");
    std::fs::write(&victim, b"precious").unwrap();
    std::fs::create_dir_all(place.at("blobs")).unwrap();
    let half = place.at("blobs").join(sha256(&weights()) + ".incomplete");
    std::os::unix::fs::symlink(&victim, &half).unwrap();
    place.get("org/net").unwrap();
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
}

#[test]
fn two_at_once_fetch_each_content_once() {
    let (hub, store) = pair(Repo::encoder());
    let place = Place::new(&hub.address);
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| place.get("org/net").unwrap())).collect();
        runs.into_iter().for_each(|run| assert!(run.join().unwrap().join("model.safetensors").is_file()));
    });
    assert_eq!(store.lines().len(), 1);
}

//! What is asked for is what is taken, no more often than needed, and by no way but the one that was meant.

use super::*;

const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba98";

/// A snapshot of `commit` with these files, and the branch that stands for it.
fn snapshot(place: &Place, commit: &str, names: &[&str]) -> PathBuf {
    let folder = place.at(&format!("snapshots/{commit}"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::create_dir_all(place.at("refs")).unwrap();
    std::fs::write(place.at("refs/main"), commit).unwrap();
    names.iter().for_each(|name| std::fs::write(folder.join(name), b"{}").unwrap());
    folder
}

#[test]
fn a_commit_that_is_asked_for_is_the_one_that_is_taken() {
    // Whatever is asked for, the list is that of one commit.
    let hub = Server::start(|seen| {
        let mut asked = seen.clone();
        asked.path = asked.path.replace(OTHER, COMMIT);
        Repo::encoder().answer(&asked)
    });
    let place = Place::new(&hub.address);
    place.fails(&format!("org/net@{OTHER}"), Kind::Load, &[OTHER, COMMIT, "HF_ENDPOINT"]);
    assert!(place.files().is_empty(), "{:?}", place.files());
    // A local snapshot that lacks its weights, then one that has them.
    let folder = snapshot(&place, OTHER, &["config.json"]);
    place.fails("org/net", Kind::Load, &[OTHER, COMMIT]);
    std::fs::write(folder.join("model.safetensors"), b"").unwrap();
    assert_eq!(place.get("org/net").unwrap(), folder);
    assert_eq!(std::fs::read_to_string(place.at("refs/main")).unwrap(), OTHER);
    assert_eq!(place.files().len(), 3, "{:?}", place.files());
    // A branch may stand for any.
    let place = Place::new(&hub.address);
    assert_eq!(place.get("org/net").unwrap(), place.at(&format!("snapshots/{COMMIT}")));
}

#[test]
fn of_what_can_be_loaded_a_hub_in_trouble_is_asked_once() {
    let hub = Server::start(|_| Reply::new(503));
    let place = Place::new(&hub.address);
    let folder = snapshot(&place, COMMIT, &["config.json", "model.safetensors"]);
    assert_eq!(place.get("org/net").unwrap(), folder);
    assert_eq!(hub.lines().len(), 1, "{:?}", hub.lines());
}

#[test]
fn what_is_for_this_machine_goes_through_no_proxy() {
    const INSIDE: &str = "ROBUST_TEST_PROXIED";
    if std::env::var_os(INSIDE).is_none() {
        // The environment names proxies, and only a process of its own can have another one.
        let proxy = Server::start(|_| Reply::new(502));
        let (_, place) = module_path!().split_once("::").unwrap();
        let own = format!("{place}::what_is_for_this_machine_goes_through_no_proxy");
        let run = std::process::Command::new(std::env::current_exe().unwrap())
            .args([own.as_str(), "--exact"])
            .env(INSIDE, "1")
            .env("ALL_PROXY", &proxy.address)
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && said.contains("1 passed"), "{said}");
        let lines = proxy.lines();
        assert!(!lines.is_empty() && lines.iter().all(|l| l.contains("hub.example")), "{lines:?}");
        return;
    }
    let proxied = |endpoint: &str| {
        let mut place = Place::new(endpoint);
        place.settings.proxies = true;
        place
    };
    proxied("http://hub.example").fails("org/net", Kind::Load, &["hub.example"]);
    let (hub, _store) = pair(Repo::encoder());
    proxied(&hub.address).get("org/net").unwrap();
}

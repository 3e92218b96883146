//! What the environment says of the hub: the variables of the hub's own tools.

use super::address::Address;
use crate::bytes;
use crate::files::hf::cache;
use robust_core::{Error, Result};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const PUBLIC: &str = "https://huggingface.co";
/// Bytes of a file that holds a token, and of one that holds certificates.
const MAX_TOKEN: u64 = 4096;
const MAX_CERTIFICATES: u64 = 16 << 20;

/// How a hub is asked.
#[derive(Clone)]
pub struct Settings {
    pub(super) endpoint: Address,
    pub(super) token: Option<String>,
    /// The variable that forbids every connection.
    pub(super) offline: Option<&'static str>,
    /// PEM of the authorities to trust in place of those in the binary.
    pub(super) authorities: Option<Vec<u8>>,
    /// Whether the variables of proxies are followed.
    pub(super) proxies: bool,
    /// Before the second try; doubled before each further one.
    pub(super) pause: Duration,
    /// Longest silence of the other side.
    pub(super) patience: Duration,
    pub(super) watch: Option<Watch>,
}

/// Told of progress; answers whether to go on.
pub type Watch = Arc<dyn Fn(&Progress) -> bool + Send + Sync>;

/// How far a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    pub model: &'a str,
    pub file: &'a str,
    /// Bytes, those of earlier tries included.
    pub done: u64,
    pub of: u64,
}

impl Settings {
    /// The settings of this process's environment.
    ///
    /// # Errors
    /// Kind `Usage` for variables that make no sense, kind `Load` for files they name and that cannot be read.
    pub fn of_this_process() -> Result<Self> {
        Self::of(&|key| std::env::var_os(key))
    }

    pub(super) fn of(var: &dyn Fn(&str) -> Option<OsString>) -> Result<Self> {
        let text = |key: &str| var(key).map(|v| v.to_string_lossy().trim().to_string()).filter(|v| !v.is_empty());
        let on = |key: &str| {
            text(key).is_some_and(|v| ["1", "on", "yes", "true"].contains(&v.to_ascii_lowercase().as_str()))
        };
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| PUBLIC.to_string());
        let endpoint = Address::parse(endpoint.trim_end_matches('/')).map_err(|e| e.within("HF_ENDPOINT"))?;
        let bundle = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"].into_iter().find_map(text);
        let authorities = bundle.map(|path| bytes::read_small(path.as_ref(), MAX_CERTIFICATES)).transpose()?;
        Ok(Self {
            endpoint,
            token: if on("HF_HUB_DISABLE_IMPLICIT_TOKEN") { None } else { token(var)? },
            offline: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find(|key| on(key)),
            authorities,
            proxies: true,
            pause: Duration::from_secs(1),
            patience: Duration::from_secs(30),
            watch: WATCH.get().cloned(),
        })
    }
}

/// `HF_TOKEN` or its former name, or what `hf auth login` wrote down.
fn token(var: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<String>> {
    let set = |key: &str| var(key).filter(|v| !v.is_empty());
    let said = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].into_iter().find_map(|key| set(key).map(|v| (v, key)));
    let (text, from) = match said {
        Some((text, key)) => (text.to_string_lossy().into_owned(), key.to_string()),
        None => {
            let file = set("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| cache::home(var).map(|h| h.join("token")));
            let Some(file) = file.filter(|f| f.is_file()) else { return Ok(None) };
            let bytes = bytes::read_small(&file, MAX_TOKEN)?;
            (String::from_utf8_lossy(&bytes).into_owned(), file.display().to_string())
        }
    };
    let text = text.trim();
    // What is sent as a header must not hold a second one. The token itself is never shown.
    if !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err(Error::usage(format!("{from} holds no token: one word of visible characters is wanted")));
    }
    Ok(Some(text.to_string()).filter(|t| !t.is_empty()))
}

static WATCH: OnceLock<Watch> = OnceLock::new();

/// Has every later download of this process watched; the first call counts.
pub fn watch(watch: Watch) {
    WATCH.get_or_init(|| watch);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(vars: &[(&str, &str)]) -> Result<Settings> {
        Settings::of(&|key| vars.iter().find(|(k, _)| *k == key).map(|(_, v)| OsString::from(v)))
    }

    #[test]
    fn the_variables_of_the_hubs_tools_are_understood() {
        let settings = of(&[]).unwrap();
        assert_eq!(settings.endpoint.to_string(), PUBLIC);
        assert!(settings.token.is_none() && settings.offline.is_none());
        let settings = of(&[("HF_ENDPOINT", "https://mirror.example/hub/"), ("HF_TOKEN", " hf_a\n")]).unwrap();
        assert_eq!(settings.endpoint.to_string(), "https://mirror.example/hub");
        assert_eq!(settings.token.as_deref(), Some("hf_a"));
        assert!(of(&[("HF_TOKEN", "a"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).unwrap().token.is_none());
        assert_eq!(
            of(&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "YES")]).unwrap().offline,
            Some("TRANSFORMERS_OFFLINE")
        );
        for wrong in [("HF_TOKEN", "a\r\nhost: b"), ("HF_ENDPOINT", "ftp://a"), ("HF_ENDPOINT", "https://u:p@a")] {
            let Err(error) = of(&[wrong]) else { panic!("{wrong:?}") };
            assert!(!error.to_string().contains("host: b") && !error.to_string().contains(":p@"), "{error}");
        }
        for key in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
            let Err(error) = of(&[(key, "two words")]) else { panic!("{key}") };
            assert!(error.to_string().contains(&format!("{key} holds no token")), "{error}");
        }
        assert!(of(&[("SSL_CERT_FILE", "/nothing/here.pem")]).is_err());
    }

    #[test]
    fn the_token_file_is_where_login_puts_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().to_string_lossy().into_owned();
        assert!(of(&[("HF_HOME", &path)]).unwrap().token.is_none());
        std::fs::write(home.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(of(&[("HF_HOME", &path)]).unwrap().token.as_deref(), Some("hf_file"));
        assert_eq!(of(&[("HF_HOME", &path), ("HF_TOKEN", "hf_var")]).unwrap().token.as_deref(), Some("hf_var"));
        let elsewhere = home.path().join("mine");
        std::fs::write(&elsewhere, "hf_mine").unwrap();
        let there = elsewhere.to_string_lossy().into_owned();
        assert_eq!(of(&[("HF_HOME", &path), ("HF_TOKEN_PATH", &there)]).unwrap().token.as_deref(), Some("hf_mine"));
    }
}

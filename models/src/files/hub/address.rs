//! Addresses and where they may lead.

use robust_core::{Error, Result};
use ureq::http::Uri;

/// An absolute `http` or `https` address without a user's name in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    uri: Uri,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.uri.to_string().trim_end_matches('/'))
    }
}

impl Address {
    pub fn parse(text: &str) -> Result<Self> {
        // A name and a password in an address would be shown in messages: nor is this one.
        let wrong = || Error::usage("it is not an http:// or https:// address without a name in it");
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        let named = uri.authority().is_none_or(|a| a.as_str().contains('@') || a.host().is_empty());
        if known && !named { Ok(Self { uri }) } else { Err(wrong()) }
    }

    /// The address with a path appended.
    pub fn below(&self, path: &str) -> Result<Self> {
        Self::parse(&format!("{self}/{path}"))
    }

    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Scheme, host and port, with the usual port where none is said.
    fn origin(&self) -> (&str, String, u16) {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        let usual = if scheme == "https" { 443 } else { 80 };
        (scheme, self.host(), self.uri.port_u16().unwrap_or(usual))
    }

    pub fn same_origin(&self, other: &Self) -> bool {
        self.origin() == other.origin()
    }

    /// Host and port, for messages.
    pub fn place(&self) -> &str {
        self.uri.authority().map_or("", |a| a.as_str())
    }

    fn host(&self) -> String {
        self.uri.host().unwrap_or_default().to_ascii_lowercase()
    }

    pub fn is_https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// Whether nobody else can listen: encrypted, or not leaving the machine.
    pub fn is_private(&self) -> bool {
        self.is_https() || self.is_loopback()
    }

    /// Whether it is this machine's own.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    }

    /// Where a `Location` leads from here.
    ///
    /// # Errors
    /// Kind `Load` for what is not an address, and for a way from https to http.
    pub fn follow(&self, location: &str) -> Result<Self> {
        let origin = || format!("{}://{}", self.origin().0, self.place());
        let absolute = match location {
            l if l.starts_with("//") => format!("{}:{l}", self.origin().0),
            l if l.starts_with('/') => origin() + l,
            // A scheme comes before all else; later a colon may be part of a path or a question.
            l if l.split(['/', '?', '#']).next().is_some_and(|start| start.contains(':')) => l.to_string(),
            // Beside the last part of the path.
            l => format!("{}{}/{l}", origin(), self.uri.path().rsplit_once('/').map_or("", |(folder, _)| folder)),
        };
        let to = Self::parse(&absolute)
            .map_err(|_| Error::load(format!("an answer of {}", self.place()), "it leads to no address"))?;
        if self.is_https() && !to.is_https() {
            return Err(Error::load(
                format!("an answer of {}", self.place()),
                "it leads from https to http, which is not followed",
            ));
        }
        Ok(to)
    }
}

/// Whether a revision is a commit in full, which no branch or tag is taken for.
pub(crate) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn ways_lead_where_a_browser_would_go() {
        let here = at("https://hub.example:8443/org/net/resolve/main/a");
        for (location, to) in [
            ("/api/b?c=d", "https://hub.example:8443/api/b?c=d"),
            ("b", "https://hub.example:8443/org/net/resolve/main/b"),
            ("b?u=https://y", "https://hub.example:8443/org/net/resolve/main/b?u=https://y"),
            ("//cdn.example/b", "https://cdn.example/b"),
            ("https://cdn.example/b?x=https://y", "https://cdn.example/b?x=https://y"),
        ] {
            assert_eq!(here.follow(location).unwrap(), at(to), "{location}");
        }
        for wrong in
            ["http://hub.example:8443/b", "file:///etc/passwd", "https://user@hub.example/b", "https://", "ftp://a/b"]
        {
            assert!(here.follow(wrong).is_err(), "{wrong}");
        }
        assert!(at("http://a/b").follow("https://a/b").is_ok());
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let hub = at("https://hub.example");
        for same in ["https://hub.example/x", "https://HUB.example:443/y"] {
            assert!(hub.same_origin(&at(same)), "{same}");
        }
        for other in [
            "http://hub.example",
            "https://hub.example:444",
            "https://cdn.hub.example",
            "https://hub.example.evil.example",
        ] {
            assert!(!hub.same_origin(&at(other)), "{other}");
        }
        assert!(Address::parse("https://hub.example@evil.example/").is_err());
        assert!(at("http://127.0.0.2:80").is_private() && at("http://[::1]:1/").is_private());
        assert!(at("http://localhost").is_private() && !at("http://127.0.0.1.evil.example").is_private());
        assert!(at("https://localhost:8443").is_loopback() && !at("https://hub.example").is_loopback());
        assert!(!at("http://hub.example").is_private() && at("https://hub.example").is_private());
    }
}

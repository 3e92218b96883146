//! The few questions put to a hub, and what its answers mean.

use super::address::Address;
use super::settings::Settings;
use crate::files::hf::cache::Wanted;
use robust_core::{Error, Kind, Result};
use serde::Deserialize;
use std::io::Read;
use std::time::Duration;
use ureq::http::{HeaderMap, Method, Request, Response, StatusCode};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

/// Bytes of a list of files.
const MAX_LIST: u64 = 16 << 20;
/// Hops of one question.
const MAX_HOPS: usize = 5;
const CONNECT: Duration = Duration::from_secs(10);
/// Longest wait that an answer may ask for.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Why a question has no answer.
pub enum Trouble {
    /// Asking again may help, after so long if the other side says so.
    Passing(Error, Option<Duration>),
    Final(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Final(error)
    }
}

pub type HubAnswer<T> = std::result::Result<T, Trouble>;

/// The files of a revision.
pub struct Listing {
    pub commit: String,
    pub files: Vec<String>,
}

/// What a hub says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Names the content: its sha256 for large files.
    pub etag: String,
    pub size: u64,
}

/// A body and where in the file it begins.
pub struct Content {
    pub body: Box<dyn Read>,
    pub from: u64,
}

pub struct Client<'a> {
    agent: Agent,
    /// Asks this machine's own addresses: what is sent to them must not leave it by a proxy.
    direct: Agent,
    settings: &'a Settings,
}

/// The last answer of a chain, and the headers of all that the endpoint itself gave, the first first.
struct Answer {
    response: Response<Body>,
    said: Vec<HeaderMap>,
    /// The answer is another host's.
    elsewhere: bool,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.said.iter().find_map(|h| h.get(name)).and_then(|v| v.to_str().ok())
    }
}

impl<'a> Client<'a> {
    /// # Errors
    /// Kind `Load` for certificates that are none.
    pub fn new(settings: &'a Settings) -> Result<Self> {
        let direct = Self::agent(settings, false)?;
        let agent = if settings.proxies { Self::agent(settings, true)? } else { direct.clone() };
        Ok(Self { agent, direct, settings })
    }

    fn agent(settings: &Settings, proxied: bool) -> Result<Agent> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("robust/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(settings.patience))
            .timeout_per_read(Some(settings.patience));
        if !proxied {
            config = config.proxy(None);
        }
        if let Some(pem) = &settings.authorities {
            let roots = authorities(pem)?;
            config = config.tls_config(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots)).build());
        }
        Ok(config.build().new_agent())
    }

    /// The commit behind a revision, and its files.
    pub fn list(&self, wanted: &Wanted, revision: &str) -> HubAnswer<Listing> {
        #[derive(Deserialize)]
        struct File {
            rfilename: String,
        }
        #[derive(Deserialize)]
        struct Model {
            sha: String,
            #[serde(default)]
            siblings: Vec<File>,
        }
        let path = format!("api/models/{}/revision/{}", wanted.model, revision.replace('/', "%2F"));
        let answer = self.ask(Method::GET, &self.settings.endpoint.below(&path)?, None)?;
        let mut answer = self.approved(answer, wanted, revision, None)?;
        let mut bytes = vec![];
        let mut body = answer.response.body_mut().as_reader().take(MAX_LIST + 1);
        body.read_to_end(&mut bytes).map_err(|e| self.cut(&e))?;
        let fail = |why: &str| Trouble::Final(wanted.missing(format!("{} {why}", self.host())));
        if bytes.len() as u64 > MAX_LIST {
            return Err(fail("lists more files than a model has"));
        }
        let model: Model = serde_json::from_slice(&bytes).map_err(|_| fail("does not answer as a hub does"))?;
        if !crate::files::hub::address::is_commit(&model.sha) {
            return Err(fail("names no commit"));
        }
        Ok(Listing { commit: model.sha, files: model.siblings.into_iter().map(|f| f.rfilename).collect() })
    }

    /// Etag and size of a file; nothing of its content moves.
    pub fn meta(&self, wanted: &Wanted, commit: &str, file: &str) -> HubAnswer<Meta> {
        let mut answer = self.ask(Method::HEAD, &self.file(wanted, commit, file)?, None)?;
        // The way to another host is the answer: large files lie elsewhere.
        if !answer.elsewhere {
            answer = self.approved(answer, wanted, commit, Some(file))?;
        }
        let fail = |why: &str| Trouble::Final(wanted.missing(format!("{file}: {} {why}", self.host())));
        match answer.header("x-repo-commit") {
            None => return Err(fail("does not answer as a hub does: there is no X-Repo-Commit")),
            Some(said) if said != commit => return Err(fail("answers with another commit than was asked for")),
            Some(_) => {}
        }
        let own = if answer.elsewhere { None } else { answer.said.last() };
        let of_last = |name: &str| own.and_then(|h| h.get(name)).and_then(|v| v.to_str().ok());
        let etag = answer.header("x-linked-etag").or_else(|| of_last("etag"));
        let etag = etag.map(|e| e.trim().trim_start_matches("W/").trim_matches('"').to_string());
        let size = answer.header("x-linked-size").or_else(|| of_last("content-length"));
        match (etag, size.and_then(|s| s.trim().parse().ok())) {
            (None, _) => Err(fail("gives it no ETag")),
            (_, None) => Err(fail("announces no size")),
            (Some(etag), Some(size)) => Ok(Meta { etag, size }),
        }
    }

    /// The content from `from` on, or from the start where the other side cannot begin in the middle.
    pub fn content(&self, wanted: &Wanted, commit: &str, file: &str, (from, size): (u64, u64)) -> HubAnswer<Content> {
        let range = (from > 0).then(|| format!("bytes={from}-"));
        let answer = self.ask(Method::GET, &self.file(wanted, commit, file)?, range.as_deref())?;
        if answer.response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            // What is there is no beginning of the file.
            return Ok(Content { body: Box::new(std::io::empty()), from: 0 });
        }
        let answer = self.approved(answer, wanted, commit, Some(file))?;
        let fail = |why: String| Trouble::Final(wanted.missing(format!("{file}: {why}")));
        let part = answer.response.status() == StatusCode::PARTIAL_CONTENT;
        let header = |name: &str| answer.response.headers().get(name).and_then(|v| v.to_str().ok());
        let begins = match part {
            true => {
                let said = header("content-range").unwrap_or_default();
                if said != format!("bytes {from}-{}/{size}", size.saturating_sub(1)) {
                    return Err(fail("the other side sends another part than was asked for".to_string()));
                }
                from
            }
            false => 0,
        };
        let sent = header("content-length").and_then(|s| s.parse::<u64>().ok());
        if let Some(sent) = sent.filter(|s| *s != size.saturating_sub(begins)) {
            return Err(fail(format!("{sent} bytes are sent where {} were announced", size - begins)));
        }
        Ok(Content { body: Box::new(answer.response.into_body().into_reader()), from: begins })
    }

    fn file(&self, wanted: &Wanted, commit: &str, file: &str) -> Result<Address> {
        self.settings.endpoint.below(&format!("{}/resolve/{commit}/{file}", wanted.model))
    }

    fn host(&self) -> &str {
        self.settings.endpoint.place()
    }

    /// One question, followed by hand: the token goes to the endpoint's own origin and nowhere else. A HEAD ends where
    /// another host begins.
    fn ask(&self, method: Method, address: &Address, range: Option<&str>) -> HubAnswer<Answer> {
        let (mut at, mut said) = (address.clone(), vec![]);
        for _ in 0..MAX_HOPS {
            let home = at.same_origin(&self.settings.endpoint);
            let response = self.send(&method, &at, range, home)?;
            if home {
                said.push(response.headers().clone());
            }
            let status = response.status();
            let location = response.headers().get("location").and_then(|v| v.to_str().ok());
            match location.filter(|_| status.is_redirection()) {
                None => return Ok(Answer { response, said, elsewhere: !home }),
                Some(location) => {
                    let to = at.follow(location)?;
                    if method == Method::HEAD && !to.same_origin(&self.settings.endpoint) {
                        return Ok(Answer { response, said, elsewhere: true });
                    }
                    at = to;
                }
            }
        }
        Err(Trouble::Final(Error::load(address, format!("it leads on more than {MAX_HOPS} times"))))
    }

    fn send(&self, method: &Method, at: &Address, range: Option<&str>, home: bool) -> HubAnswer<Response<Body>> {
        let mut request = Request::builder().method(method).uri(at.uri());
        if let (Some(token), true) = (&self.settings.token, home && at.is_private()) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(range) = range {
            request = request.header("range", range);
        }
        let request =
            request.body(()).map_err(|_| Error::load(at.place(), "no question can be made of its address"))?;
        let agent = if at.is_loopback() { &self.direct } else { &self.agent };
        agent.run(request).map_err(|e| self.unreached(at, &e))
    }

    fn unreached(&self, at: &Address, error: &ureq::Error) -> Trouble {
        use std::io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionReset, Interrupted, TimedOut, UnexpectedEof, WouldBlock,
        };
        let passing = match error {
            ureq::Error::Timeout(_) | ureq::Error::Protocol(_) | ureq::Error::BodyStalled => true,
            ureq::Error::Io(e) => matches!(
                e.kind(),
                BrokenPipe | ConnectionAborted | ConnectionReset | Interrupted | TimedOut | UnexpectedEof | WouldBlock
            ),
            _ => false,
        };
        let told = Error::load(at.place(), format!("it cannot be reached ({error})")).hint(
            "is there a connection? Proxies are named by HTTPS_PROXY, mirrors by HF_ENDPOINT, own authorities by SSL_CERT_FILE",
        );
        if passing { Trouble::Passing(told, None) } else { Trouble::Final(told) }
    }

    /// The connection ended in the middle of an answer.
    pub fn cut(&self, why: &std::io::Error) -> Trouble {
        Trouble::Passing(Error::load(self.host(), format!("the connection broke ({why})")), None)
    }

    /// Turns what is not a success into what to do about it.
    fn approved(&self, answer: Answer, wanted: &Wanted, revision: &str, file: Option<&str>) -> HubAnswer<Answer> {
        let status = answer.response.status();
        if status.is_success() {
            return Ok(answer);
        }
        if status.is_server_error() || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status) {
            let wait = answer.response.headers().get("retry-after").and_then(|v| v.to_str().ok());
            let wait = wait.and_then(|v| v.trim().parse().ok()).map(|s| Duration::from_secs(s).min(MAX_WAIT));
            let told = wanted.missing(format!("{} answers {status}", self.host()));
            return Err(Trouble::Passing(told.hint("try again later; what has arrived is kept"), wait));
        }
        let code = answer.header("x-error-code").unwrap_or_default();
        Err(Trouble::Final(self.refused(status, code, wanted, revision, file, answer.elsewhere)))
    }

    fn refused(
        &self,
        status: StatusCode,
        code: &str,
        wanted: &Wanted,
        revision: &str,
        file: Option<&str>,
        elsewhere: bool,
    ) -> Error {
        let (host, model) = (self.host(), &wanted.model);
        let page = format!("{}/{model}", self.settings.endpoint);
        let open = !self.settings.endpoint.is_private();
        let way = match (&self.settings.token, open) {
            (Some(_), true) => "the token is not sent over plain http: use an https:// HF_ENDPOINT",
            (Some(_), false) => {
                "the token there is (HF_TOKEN or `hf auth login`) does not open it, or is no longer valid"
            }
            (None, _) => "for a private or gated model set HF_TOKEN, or use `hf auth login`",
        };
        match (status.as_u16(), code) {
            _ if elsewhere => wanted.missing(format!("the host that {host} sends to answers {status}")),
            (_, "GatedRepo") => {
                wanted.missing("it is gated: its owner wants to be asked first").hint(format!("ask at {page}; {way}"))
            }
            (404, "RevisionNotFound") => wanted.missing(format!("{host} has no revision `{revision}` of it")),
            (404, "EntryNotFound") => wanted.missing(format!("{host} has no file {} in it", file.unwrap_or_default())),
            (401 | 404, _) => wanted
                .missing(format!("{host} shows no such model: it is private, gated or misspelt"))
                .hint(format!("is {page} the page you mean? {way}")),
            (403, _) => wanted.missing(format!("{host} refuses it ({status})")).hint(way),
            _ => wanted.missing(format!("{host} answers {status}")),
        }
    }
}

fn authorities(pem: &[u8]) -> Result<Vec<Certificate<'static>>> {
    let items = parse_pem(pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(c)) => Some(Ok(c)),
        Ok(_) => None,
        Err(e) => Some(Err(Error::new(Kind::Load, format!("the authorities of SSL_CERT_FILE are not PEM ({e})")))),
    });
    let all: Vec<_> = items.collect::<Result<_>>()?;
    match all.is_empty() {
        true => Err(Error::new(Kind::Load, "there is no certificate in the file of SSL_CERT_FILE")),
        false => Ok(all),
    }
}

//! Reports: what they say, what they refuse to say, and what a browser makes of them.

use crate::support::Place;
use crate::synthetic::Made;
use robust::core::Verdict::{CleanMiss, Failed, Fooled, Held};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

const EVIL: [&str; 4] =
    ["<img src=x onerror=alert(1)>", "=cmd|'/C calc'!A0", "../../etc/passwd", "a\u{1b}[31m\u{202e}|`$\\x{%"];

/// The section of a Markdown report below a heading.
fn part<'a>(text: &'a str, heading: &str) -> &'a str {
    let from = text.find(heading);
    assert!(from.is_some(), "no `{heading}` in\n{text}");
    let from = from.unwrap();
    let rest = &text[from + heading.len()..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

#[test]
fn a_small_run_says_what_was_counted_by_hand() {
    let place = Place::new();
    let made = Made::new(&["one", "two"], &[("a", 0.1), ("b", 0.1), ("c", 0.2)], 4);
    // Sample 0 holds everywhere but falls to `b` on `one`; 1 is missed clean by both; 2 falls to `c`; 3 falls to `a` on `two`.
    made.write(&place.path("run"), |m, a, id| match (m, a, id) {
        (_, _, 1) => CleanMiss,
        (0, 1, 0) | (_, 2, 2) | (1, 0, 3) => Fooled,
        _ => Held,
    });
    let text = place.ok("report run").out;
    let board = part(&text, "### Linf 0.1 on made-up");
    assert!(board.contains("| one | 75.0 | 75.0 | 50.0 | 50.0 | 15.0 - 85.0 | 4 | 0 |"), "{board}");
    assert!(board.contains("| two | 75.0 | 50.0 | 75.0 | 50.0 |"), "{board}");
    let curve = part(&text, "## Robust accuracy against epsilon");
    // What fell at 0.1 has fallen at 0.2, whatever the attack there says.
    assert!(curve.contains("| 0.2 | 25.0 (") && curve.contains("| 0.1 | 50.0 ("), "{curve}");
    let deltas = part(&text, "## Differences between models");
    assert!(deltas.contains("| one → two | +0.0 |") && deltas.contains("| 1 | 1 | 1.0000 |"), "{deltas}");
    let classes = part(&text, "### one under Linf 0.1");
    assert!(classes.contains("| class-0 | 1 | 100.0 | 0.0 | 100.0 |"), "{classes}");
    assert!(part(&text, "## Cost").contains("| one | a | 43.0 | 40.0 | 1.5 | 4 |"), "{text}");
    assert!(part(&text, "## Provenance").contains("made up with 2 threads"), "{text}");
    let json: Value = serde_json::from_str(&place.ok("report run --json -").out).unwrap();
    let first = &json["models"][0];
    assert_eq!(
        (&first["external"], &first["clean_acc"], &first["autoattack_acc"]),
        (&"50.00".into(), &"75.00".into(), &Value::Null)
    );
}

#[test]
fn what_is_not_comparable_stands_apart() {
    let place = Place::new();
    let held = |_: usize, _: usize, _: u64| Held;
    Made::new(&["a"], &[("x", 0.1)], 40).write(&place.path("all"), held);
    Made::new(&["b"], &[("x", 0.1)], 40).write(&place.path("same"), held);
    Made::new(&["c"], &[("x", 0.2)], 40).write(&place.path("eps"), held);
    Made::new(&["d"], &[("x", 0.1)], 20).write(&place.path("fewer"), held);
    let other = Made { data: "other".into(), ..Made::new(&["e"], &[("x", 0.1)], 40) };
    other.write(&place.path("other"), held);
    let wide = place.ok("report all same eps fewer other --csv-wide -").out;
    let mut reader = csv::Reader::from_reader(wide.as_bytes());
    let groups: Vec<(String, String)> =
        reader.records().map(|r| r.unwrap()).map(|r| (r[3].to_string(), r[0].to_string())).collect();
    let of = |model: &str| groups.iter().find(|(m, _)| m == model).unwrap().1.clone();
    assert_eq!(of("a"), of("b"));
    let apart: std::collections::BTreeSet<String> = ["a", "c", "d", "e"].map(of).into_iter().collect();
    assert_eq!(apart.len(), 4, "{groups:?}");
}

#[test]
fn given_points_are_credited_to_the_model_they_were_made_for() {
    let place = Place::new();
    Made::new(&["one"], &[("a", 0.1)], 4).write(&place.path("made"), |_, _, _| Fooled);
    let given = [("file-12345678-linf:eps=0.1", 0.1)];
    Made::new(&["two"], &given, 4).write(&place.path("given"), |_, _, id| match id {
        0 => CleanMiss,
        1 => Fooled,
        _ => Held,
    });
    // One of three correctly classified samples; what was missed clean counts for nothing.
    let both = place.ok("report made given").out;
    assert!(part(&both, "## Transfer").contains("| one under a | 33.3 (6.1 - 79.2), n = 3 |"), "{both}");
    // Alone, the file has its own name.
    let alone = place.ok("report given").out;
    assert!(part(&alone, "## Transfer").contains("| file-12345678-linf&#58;eps=0.1 | 33.3 ("), "{alone}");
    assert!(!place.ok("report made").out.contains("## Transfer"));
}

#[test]
fn corruptions_are_shaded_and_images_are_left_out_with_a_reason() {
    let place = Place::new();
    place.ok("eval --model builtin:mnist-std --corruptions mnist-c:only=fog+shear --attack fgsm:eps=0.2 --first 32 --out run --no-doctor");
    let html = |more: &str| {
        place.ok(&format!("report run --html page.html {more}"));
        place.read("page.html")
    };
    let page = html("");
    let heat = part(&page, "id=\"corruptions\"").split("</section>").next().unwrap();
    assert_eq!((heat.matches("class=\"n heat h").count(), heat.matches("<th scope=\"row\"").count()), (2, 2), "{heat}");
    assert!(page.contains(", clean, ") && page.contains(", ten times the difference on grey"));
    assert!(!html("--images 0").contains("data:image/png"));
    let moved = html("--dataset npz:nowhere.npz");
    assert!(
        moved.contains("No clean images of run") && moved.contains(", adversarial, taken for "),
        "adversarial alone"
    );
    assert!(!moved.contains(", ten times the difference on grey"));
    // A point that is not its line's is not shown.
    for file in std::fs::read_dir(place.path("run/evidence")).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let end = bytes.len();
        bytes[end - 28 * 28 * 4 * 8..].fill(0);
        std::fs::write(path, bytes).unwrap();
    }
    assert!(html("").matches("data:image/png").count() < page.matches("data:image/png").count());
}

#[test]
fn names_are_text_in_every_format() {
    let place = Place::new();
    let mut made = Made::new(&EVIL, &[("x", 0.1), ("<script>alert(2)</script>", 0.1)], 30);
    made.classes = EVIL.map(String::from).to_vec();
    made.data = "</script><script>alert(3)</script>".into();
    made.write(&place.path("run"), |m, _, id| [Held, Fooled, Failed][(m + id as usize) % 3]);
    place.ok("report run --html r.html --md r.md --latex r.tex --csv r.csv --csv-wide w.csv --json r.json");
    let html = place.read("r.html");
    for tag in ["<img src=x", "<script>alert", "<b>NaN", "\u{1b}", "\u{202e}"] {
        assert!(!html.contains(tag), "{tag:?}");
    }
    assert!(html.contains("&lt;img src=x onerror=alert(1)&gt;"));
    assert_eq!(html.matches("<script").count(), 2);
    let json: Value =
        serde_json::from_str(html.split("id=\"robust-data\">").nth(1).unwrap().split("</script>").next().unwrap())
            .unwrap();
    assert_eq!(json["results"][0]["model"], EVIL[0]);
    let markdown = place.read("r.md");
    assert!(!markdown.contains("<img") && !markdown.contains("<script") && !markdown.contains('\u{1b}'));
    assert!(markdown.lines().filter(|l| l.contains("\\|\\`\\$")).count() > 3, "{markdown}");
    let latex = place.read("r.tex");
    assert!(latex.contains("\\textbackslash{}x\\{\\%") && !latex.contains("\u{1b}"), "{latex}");
    for name in ["r.csv", "w.csv"] {
        let text = place.read(name);
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        for cell in reader.records().flat_map(|r| r.unwrap().iter().map(String::from).collect::<Vec<_>>()) {
            assert!(!cell.starts_with(['=', '@', '\t', '\r']) && !cell.contains('\u{1b}'), "{name}: {cell}");
        }
    }
    if let Some(browser) = browser("hostile names in a browser") {
        let (_, complaints, asked) = open(&browser, &html);
        assert!(complaints.is_empty() && asked.len() == 1, "{complaints:?} {asked:?}");
    }
    // Names name no files.
    assert_eq!(std::fs::read_dir(place.dir.path()).unwrap().count(), 7);
}

#[test]
fn odd_runs_have_reports_too() {
    let place = Place::new();
    let html = |run: &str| {
        place.ok(&format!("report {run} --html {run}.html"));
        place.read(&format!("{run}.html"))
    };
    let one = |models: &[&str], n| Made::new(models, &[("x", 0.1)], n);
    one(&["m"], 5).write(&place.path("failed"), |_, _, id| if id == 2 { Failed } else { Held });
    assert!(html("failed").contains("1 samples of m under x could not be judged"));
    let single = Made { classes: vec!["only".into()], ..one(&["m"], 5) };
    single.write(&place.path("single"), |_, _, _| Held);
    assert!(html("single").contains(">only</th>"));
    one(&["m", "n"], 50).write(&place.path("zero"), |_, _, _| Fooled);
    let zero = html("zero");
    assert!(zero.contains("0.0 - 7.1") && zero.contains("kept no adversarial points"));
    let many = Made { classes: (0..1000).map(|c| format!("class {c}")).collect(), ..one(&["m"], 2000) };
    many.write(&place.path("many"), |_, _, id| if id % 1000 < 300 { Fooled } else { Held });
    assert!(html("many").contains("16 classes of 1000"));
    one(&["m"], 200).write(&place.path("growing"), |_, _, _| Held);
    let lines = place.read("growing/outcomes.jsonl");
    std::fs::write(place.path("growing/outcomes.jsonl"), &lines[..lines.len() / 2]).unwrap();
    assert!(html("growing").contains("of 200 outcomes are missing"));
    std::fs::write(place.path("growing/outcomes.jsonl"), "").unwrap();
    assert!(html("growing").contains("200 of 200 outcomes are missing"));
    place.ok("report growing --csv x --csv-wide y --json z --latex l --md m");
    // The whole lot in one page.
    place.ok("report failed single zero many growing --html all.html");
}

#[test]
fn the_same_runs_give_the_same_bytes_and_a_large_one_stays_small() {
    let place = Place::new();
    let attacks = [("a", 0.1), ("b", 0.1), ("c", 0.2), ("d", 0.2), ("e", 0.3), ("f", 0.3)];
    let made = Made::new(&["m1", "m2", "m3", "m4", "m5"], &attacks, 1000);
    made.write(&place.path("run"), |m, a, id| {
        [Held, Fooled, Held, CleanMiss][(id as usize * 7 + m * 3 + usize::from(id % 10 < a as u64)) % 4]
    });
    place.ok("report run --html one.html");
    place.ok("report run --html two.html");
    let (one, two) = (place.read("one.html"), place.read("two.html"));
    assert!(one == two && one.len() < 1_000_000, "{}", one.len());
    assert!(one.matches("class=\"mark").count() > 100);
}

/// `cargo test --release --test cli report:: -- --ignored --nocapture` shows the numbers.
#[test]
#[ignore = "300,000 outcomes: half a minute and 200 MB on disk"]
fn ten_thousand_samples_five_models_and_six_attacks_report_in_three_seconds() {
    let place = Place::new();
    let attacks = [("a", 0.1), ("b", 0.1), ("c", 0.2), ("d", 0.2), ("e", 0.3), ("f", 0.3)];
    let made = Made::new(&["m1", "m2", "m3", "m4", "m5"], &attacks, 10_000);
    made.write(&place.path("run"), |m, a, id| {
        [Held, Fooled, Held, CleanMiss][(id as usize * 7 + m * 3 + usize::from(id % 10 < a as u64)) % 4]
    });
    let clock = robust::clock::Stopwatch::start();
    place.ok("report run --html page.html");
    let (seconds, bytes) = (clock.seconds(), place.read("page.html").len());
    println!("{seconds:.2} s, {bytes} bytes");
    assert!(bytes < 5_000_000 && (cfg!(debug_assertions) || seconds < 3.), "{seconds} s, {bytes} bytes");
}

#[test]
fn a_run_that_is_none_or_was_edited_is_refused() {
    let place = Place::new();
    place.fails("report nowhere", 4, &["run.json"]);
    Made::new(&["m"], &[("x", 0.1)], 5).write(&place.path("run"), |_, _, _| Held);
    place.fails("report run run", 2, &["given twice"]);
    place.fails("report run --html no/such/folder/x.html", 75, &["make its folder"]);
    let edited = place.read("run/run.json").replace("\"seed\": 0", "\"seed\": 1");
    std::fs::write(place.path("run/run.json"), edited).unwrap();
    place.fails("report run", 1, &["edited"]);
    assert!(place.ok("report --help").out.contains("Examples:"));
}

#[cfg(feature = "serve")]
#[test]
fn a_served_report_answers_its_token_alone_and_grows_with_its_run() {
    let place = Place::new();
    place.fails("report run --serve=0.0.0.0:0", 2, &["0.0.0.0:0", "other machines", "ssh"]);
    Made::new(&["m"], &[("x", 0.1)], 128).write(&place.path("run"), |_, _, _| Held);
    let lines = place.read("run/outcomes.jsonl");
    let half: String = lines.lines().take(64).map(|l| format!("{l}\n")).collect();
    std::fs::write(place.path("run/outcomes.jsonl"), half).unwrap();
    let mut child = place.command("report run --serve").stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    let url = said.split("http://").nth(1).unwrap().split(' ').next().unwrap().to_string();
    let (host, path) = url.split_once('/').unwrap();
    let ask = |method: &str, path: &str| {
        let mut stream = TcpStream::connect(host).unwrap();
        write!(stream, "{method} /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let first = ask("GET", path);
    assert!(
        first.starts_with("HTTP/1.1 200") && first.contains("Refresh: 5") && first.contains("64 of 128 outcomes"),
        "{first:.600}"
    );
    assert!(ask("GET", "").starts_with("HTTP/1.1 404") && ask("POST", path).starts_with("HTTP/1.1 405"));
    std::fs::write(place.path("run/outcomes.jsonl"), lines).unwrap();
    let whole = ask("GET", path);
    assert!(
        whole.starts_with("HTTP/1.1 200") && !whole.contains("Refresh:") && !whole.contains("are missing"),
        "{whole:.600}"
    );
    let silent = TcpStream::connect(host).unwrap();
    assert!(ask("HEAD", path).starts_with("HTTP/1.1 200"), "a connection that says nothing must not hold up others");
    drop(silent);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A browser without a window, or a printed reason why there is none.
fn browser(test: &str) -> Option<String> {
    let named = std::env::var("ROBUST_BROWSER").ok();
    let usual = ["chromium-headless-shell", "chromium", "chromium-browser"].map(String::from);
    let runs = |name: &String| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success());
    let found = named.into_iter().chain(usual).find(runs);
    if found.is_none() {
        println!("{test}: skipped, no chromium in PATH (scripts/install_browser.sh, or set ROBUST_BROWSER)");
    }
    found
}

/// What the browser's page looks like after its script ran, what it complained of, and what it asked for.
fn open(browser: &str, html: &str) -> (String, Vec<String>, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = std::sync::Arc::new(std::sync::Mutex::new(vec![]));
    let (page, list) = (html.to_string(), asked.clone());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut first = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            reader.read_line(&mut first).ok();
            if first.is_empty() {
                continue;
            }
            list.lock().unwrap().push(first.trim().to_string());
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                line.clear();
            }
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\n";
            write!(stream, "{head}Content-Length: {}\r\n\r\n{page}", page.len()).ok();
        }
    });
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(browser)
        .args(["--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("http://{address}/"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let complaints = said.lines().filter(|l| l.contains("CONSOLE")).map(String::from).collect();
    let asked = asked.lock().unwrap().clone();
    (String::from_utf8_lossy(&output.stdout).into_owned(), complaints, asked)
}

#[test]
fn a_browser_shows_every_mark_loads_nothing_more_and_complains_of_nothing() {
    let Some(browser) = browser("report in a browser") else { return };
    let place = Place::new();
    place.ok("eval --model builtin:mnist-std --model builtin:mnist-at --attack fgsm:eps=0.1 --attack fgsm:eps=0.3 --attack bim:eps=0.3,steps=5 --first 64 --out run --no-doctor");
    place.ok("report run --html page.html --images 12");
    let html = place.read("page.html");
    let (dom, complaints, asked) = open(&browser, &html);
    assert_eq!(complaints, Vec::<String>::new());
    assert_eq!(asked, ["GET / HTTP/1.1"], "one request, no more");
    // Two models: two marks each on two boards; three epsilons each; the end of each query curve; and so on.
    let marks = |text: &str| text.matches("class=\"mark").count();
    let board = dom.split("id=\"leaderboard\"").nth(1).unwrap().split("</section>").next().unwrap();
    assert_eq!(marks(board), 8);
    // The legend repeats one mark per model.
    let curves = dom.split("id=\"epsilon\"").nth(1).unwrap().split("</section>").next().unwrap();
    assert_eq!((marks(curves), curves.matches("class=\"band\"").count()), (8, 2));
    assert_eq!(marks(&dom), marks(&html));
    // Two samples for each of six model-attack pairs at most, three images each.
    let images = dom.matches("<img src=\"data:image/png;base64,").count();
    assert!((9..=36).contains(&images) && images % 3 == 0, "{images}");
    // The script ran under the page's policy: every head of a table is a button.
    assert_eq!(dom.matches("<th scope=\"col\"").count(), dom.matches("<button type=\"button\">").count());
    // The page needs no script.
    let (before, after) = html.rsplit_once("<script>").unwrap();
    let (plain, complaints, _) = open(&browser, &format!("{before}{}", after.split_once("</script>").unwrap().1));
    assert!(!plain.contains("<button") && marks(&plain) == marks(&html) && complaints.is_empty());
    // A click sorts, another turns the order round.
    let (_, policy) = html.split_once("<meta http-equiv=\"Content-Security-Policy\"").unwrap();
    let policy = policy.split_once('>').unwrap().0;
    let clicks = |times: usize| {
        let script = "document.querySelectorAll('#leaderboard th')[3].querySelector('button').click();".repeat(times);
        let page =
            html.replace(policy, " data-x=\"\"").replace("</body>", &format!("<script>{script}</script></body>"));
        let (dom, ..) = open(&browser, &page);
        let board = dom.split("id=\"leaderboard\"").nth(1).unwrap();
        let body = board.split("<tbody>").nth(1).unwrap().split("</th>").next().unwrap().to_string();
        (dom.contains("aria-sort=\"descending\""), dom.contains("aria-sort=\"ascending\""), body.contains("mnist-std"))
    };
    let (down, up) = (clicks(1), clicks(2));
    assert_eq!((down.0, down.1, up.0, up.1), (true, false, false, true));
    assert_ne!(down.2, up.2);
    // What this test listens for is heard: a script that the policy does not name is refused, an image is not fetched.
    let (_, complaints, asked) = open(&browser, &html.replace("</main>", "<script>1</script><img src=\"/x\"></main>"));
    assert!(complaints.len() >= 2 && asked.len() == 1, "{complaints:?} {asked:?}");
}

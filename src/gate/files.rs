//! The report for machines: JUnit, GitLab's code quality, SARIF 2.1.0.

use super::{Check, Finding, Report, Rule, Verdict};
use crate::escape::{line, xml};
use robust_core::{Error, Result};
use serde_json::{Value, json};

/// JUnit XML: a test suite per suite and model, a test case per check. What cannot be judged is an error, what fails a
/// failure.
pub fn to_junit(report: &Report) -> String {
    let mut groups: Vec<(String, Vec<&Check>)> = vec![];
    for c in &report.checks {
        let name = format!("{}.{}", c.suite, c.model);
        match groups.iter_mut().find(|(n, _)| *n == name) {
            Some((_, checks)) => checks.push(c),
            None => groups.push((name, vec![c])),
        }
    }
    let failed = |c: &&&Check| fails(report, c);
    let broken = |c: &&&Check| c.verdict == Verdict::Incomplete;
    let counts = |checks: &[&Check]| {
        format!(
            "tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{:.3}\"",
            checks.len(),
            checks.iter().filter(failed).count(),
            checks.iter().filter(broken).count(),
            checks.iter().map(|c| c.seconds).sum::<f64>()
        )
    };
    let all: Vec<&Check> = report.checks.iter().collect();
    let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_string();
    text += &format!("<testsuites name=\"robust gate\" {}>\n", counts(&all));
    for (name, checks) in &groups {
        text += &format!("  <testsuite name=\"{}\" {}>\n", xml(name), counts(checks));
        checks.iter().for_each(|c| text += &case(report, name, c));
        text += "  </testsuite>\n";
    }
    text + "</testsuites>\n"
}

fn fails(report: &Report, c: &Check) -> bool {
    match c.verdict {
        Verdict::Fail | Verdict::Untrustworthy => true,
        Verdict::Inconclusive => report.settings.strict,
        Verdict::Pass | Verdict::NoBaseline | Verdict::Incomplete => false,
    }
}

fn case(report: &Report, class: &str, c: &Check) -> String {
    let head =
        format!("    <testcase name=\"{}\" classname=\"{}\" time=\"{:.3}\"", xml(&c.attack), xml(class), c.seconds);
    let said: Vec<String> = c.findings.iter().map(|f| format!("{}: {}", f.rule.name(), line(&f.text))).collect();
    let body = format!("{}\nmeasure it again: {}", said.join("\n"), line(&c.repro));
    let message = xml(said.first().map_or("", String::as_str));
    let element = match c.verdict {
        _ if fails(report, c) => "failure",
        Verdict::Incomplete => "error",
        _ if said.is_empty() => return format!("{head}/>\n"),
        _ => return format!("{head}>\n      <system-out>{}</system-out>\n    </testcase>\n", xml(&body)),
    };
    format!(
        "{head}>\n      <{element} message=\"{message}\" type=\"{}\">{}</{element}>\n    </testcase>\n",
        c.verdict,
        xml(&body)
    )
}

fn warnings(report: &Report) -> impl Iterator<Item = (&Check, &Finding)> {
    report.checks.iter().flat_map(|c| c.findings.iter().filter(|f| f.rule.warns()).map(move |f| (c, f)))
}

/// Names a finding across runs: not its numbers.
fn fingerprint(c: &Check, f: &Finding) -> String {
    let parts = json!([f.rule.name(), c.suite, c.model, c.attack]);
    blake3::hash(parts.to_string().as_bytes()).to_hex().chars().take(32).collect()
}

fn message(c: &Check, f: &Finding) -> String {
    format!("{} under {}: {}", line(&c.model), line(&c.attack), line(&f.text))
}

fn pretty(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value).map_err(|e| Error::internal(format!("gate: {e}")))? + "\n")
}

/// GitLab's code quality report; `file` is `robust.toml`'s path from the repository's root.
///
/// # Errors
/// None in practice.
pub fn to_code_quality(report: &Report, file: &str) -> Result<String> {
    let severity = |rule: Rule| match rule.verdict() {
        Verdict::Fail | Verdict::Untrustworthy => "critical",
        Verdict::Incomplete => "major",
        Verdict::Inconclusive => "minor",
        Verdict::Pass | Verdict::NoBaseline => "info",
    };
    let items: Vec<Value> = warnings(report)
        .map(|(c, f)| {
            json!({ "description": message(c, f), "check_name": format!("robust/{}", f.rule.name()),
                    "fingerprint": fingerprint(c, f), "severity": severity(f.rule),
                    "location": { "path": file, "lines": { "begin": c.line } } })
        })
        .collect();
    pretty(&Value::from(items))
}

/// SARIF 2.1.0; results point at the line of `robust.toml` that asks for the check.
///
/// # Errors
/// None in practice.
pub fn to_sarif(report: &Report, file: &str) -> Result<String> {
    let level = |rule: Rule| match rule.verdict() {
        Verdict::Fail | Verdict::Untrustworthy | Verdict::Incomplete => "error",
        Verdict::Inconclusive => "warning",
        Verdict::Pass | Verdict::NoBaseline => "note",
    };
    let rules: Vec<Value> = Rule::ALL
        .iter()
        .map(|r| json!({ "id": r.name(), "shortDescription": { "text": r.meaning() }, "defaultConfiguration": { "level": level(*r) } }))
        .collect();
    let results: Vec<Value> = warnings(report)
        .map(|(c, f)| {
            json!({ "ruleId": f.rule.name(), "level": level(f.rule), "message": { "text": message(c, f) },
                    "locations": [{ "physicalLocation": {
                        "artifactLocation": { "uri": uri(file) }, "region": { "startLine": c.line } } }],
                    "partialFingerprints": { "robustCheck/v1": fingerprint(c, f) } })
        })
        .collect();
    pretty(&json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{ "tool": { "driver": { "name": "robust", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
                   "results": results }],
    }))
}

/// A relative path as a URI reference.
fn uri(path: &str) -> String {
    let keep = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    path.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

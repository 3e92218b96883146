//! Names come from files and strangers: what each format needs before one may stand in it.

/// For HTML text and double-quoted attributes.
pub fn html(text: &str) -> String {
    escape(text, |c| match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '"' => Some("&quot;"),
        '\'' => Some("&#39;"),
        _ => None,
    })
}

/// For XML 1.0 text and attributes: as HTML, line ends as references so that attributes keep them, and without the
/// control characters that no reference can express.
pub fn xml(text: &str) -> String {
    let known = |c: char| match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '"' => Some("&quot;"),
        '\'' => Some("&#39;"),
        '\n' => Some("&#10;"),
        '\r' => Some("&#13;"),
        '\t' => Some("&#9;"),
        '\u{fffe}' | '\u{ffff}' => Some("\u{fffd}"),
        c if c.is_control() => Some("\u{fffd}"),
        _ => None,
    };
    escape(text, known)
}

/// A text cell of CSV, to be quoted by the writer: one that a spreadsheet would take for a formula begins with `'`.
pub fn cell(text: &str) -> String {
    let clean = line(text);
    // Spreadsheets trim blanks and strip control characters before they look for a formula.
    let looks = |c: char| matches!(c, '=' | '+' | '-' | '@' | '|' | '%' | '＝' | '＋' | '－' | '＠');
    let formula = clean.trim_start().starts_with(looks) || text.starts_with(['\t', '\r', '\n']);
    if formula { format!("'{clean}") } else { clean }
}

/// For a cell or a line of Markdown (GitHub's and GitLab's): no HTML, no markup, no column ends, no mentions.
pub fn markdown(text: &str) -> String {
    escape(&line(text), |c| match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '|' => Some("\\|"),
        '\\' => Some("\\\\"),
        '`' => Some("\\`"),
        '*' => Some("\\*"),
        '_' => Some("\\_"),
        '[' => Some("\\["),
        ']' => Some("\\]"),
        '#' => Some("\\#"),
        '~' => Some("\\~"),
        '!' => Some("\\!"),
        '$' => Some("\\$"),
        // An entity shows the letter and makes no mention and no automatic link.
        '@' => Some("&#64;"),
        ':' => Some("&#58;"),
        _ => None,
    })
}

/// For LaTeX text.
pub fn latex(text: &str) -> String {
    escape(&line(text), |c| match c {
        '\\' => Some("\\textbackslash{}"),
        '{' => Some("\\{"),
        '}' => Some("\\}"),
        '$' => Some("\\$"),
        '&' => Some("\\&"),
        '#' => Some("\\#"),
        '%' => Some("\\%"),
        '_' => Some("\\_"),
        '^' => Some("\\textasciicircum{}"),
        '~' => Some("\\textasciitilde{}"),
        '<' => Some("\\textless{}"),
        '>' => Some("\\textgreater{}"),
        '|' => Some("\\textbar{}"),
        '"' => Some("\\textquotedbl{}"),
        _ => None,
    })
}

/// The message of a GitHub workflow command.
pub fn github(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    escape(&text, |c| match c {
        '%' => Some("%25"),
        '\n' => Some("%0A"),
        '\r' => Some("%0D"),
        c if c.is_control() => Some("\u{fffd}"),
        _ => None,
    })
}

/// A property of a GitHub workflow command, such as its title.
pub fn github_property(text: &str) -> String {
    github(text).replace(':', "%3A").replace(',', "%2C")
}

/// For terminals and single-line formats: every control character, and those that turn the direction of writing,
/// becomes U+FFFD.
pub fn line(text: &str) -> String {
    escape(text, |c| steers(c).then_some("\u{fffd}"))
}

/// Control characters, C1 among them, and those that turn the direction of writing or end a line.
fn steers(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns
}

/// For several lines of our own that hold names of strangers: as [`line()`] but for line ends, and no line is a command to a
/// CI runner (`::error`, `##[group]`, `##vso[`), which runners take from any output.
pub fn terminal(text: &str) -> String {
    let text = escape(text, |c| (c != '\n' && steers(c)).then_some("\u{fffd}"));
    let one = |line: &str| {
        let line = ["##[", "##vso[", "##teamcity["]
            .iter()
            .fold(line.to_string(), |line, mark| line.replace(mark, &format!("#\u{fffd}{}", &mark[1..])));
        if line.trim_start().starts_with("::") { format!("\u{fffd}{line}") } else { line }
    };
    text.split('\n').map(one).collect::<Vec<_>>().join("\n")
}

/// A word of a command that can be pasted into a POSIX shell.
pub fn shell(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:@%+=,".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_string(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// One part of a file name: letters, digits, `-`, `_` and inner dots stay, everything else is `_`; never empty, at most
/// `most` characters.
pub fn file_name(text: &str, most: usize) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    let name: String = text.chars().map(keep).take(most.max(1)).collect();
    let name = name.trim_matches('.');
    if name.is_empty() { "_".to_string() } else { name.to_string() }
}

fn escape(text: &str, replace: impl Fn(char) -> Option<&'static str>) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match replace(c) {
            Some(with) => out.push_str(with),
            None => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hostile_gets_through() {
        let evil = "<img src=x onerror='a(\"b\")'>&\u{1b}[2J|*_\n::error::x";
        for (name, safe) in [("html", html(evil)), ("xml", xml(evil)), ("markdown", markdown(evil))] {
            assert!(!safe.contains('<') && !safe.contains(">"), "{name}: {safe}");
        }
        assert!(!html(evil).contains('"') && !html(evil).contains('\''));
        assert!(xml(evil).chars().all(|c| !c.is_control()), "{}", xml(evil));
        assert_eq!(markdown("a|b`c`[d](e)@f"), "a\\|b\\`c\\`\\[d\\](e)&#64;f");
        assert_eq!(latex("50% of $x_1$ & \\input{a}"), "50\\% of \\$x\\_1\\$ \\& \\textbackslash{}input\\{a\\}");
        assert!(!line(evil).contains('\u{1b}') && !line("a\u{202e}b").contains('\u{202e}'));
    }

    #[test]
    fn a_formula_is_no_formula_in_a_cell_and_a_name_stays_a_name() {
        for evil in ["=cmd|' /C calc'!A0", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\n=1", "＝1"] {
            let safe = cell(evil);
            assert!(safe.starts_with('\'') && !safe.contains(['\t', '\r', '\n']), "{evil:?} -> {safe:?}");
        }
        assert_eq!(cell("mnist-at"), "mnist-at");
        assert_eq!(cell("wrn 28-10, \"a\""), "wrn 28-10, \"a\"");
    }

    #[test]
    fn no_line_for_a_terminal_steers_it_or_the_runner_of_a_job() {
        let evil = "net x\n::error file=a::b\n  ::stop-commands::x\u{1b}]0;t\u{7}\r\u{9b}31m##[group]a ##vso[task.setvariable]b\u{61c}";
        let safe = terminal(evil);
        assert_eq!(safe.lines().count(), 3, "our own line ends stay");
        assert!(safe.lines().all(|l| !l.trim_start().starts_with("::")), "{safe}");
        assert!(!safe.contains("##[") && !safe.contains("##vso[") && !safe.contains('\u{61c}'), "{safe}");
        assert!(safe.chars().all(|c| c == '\n' || !c.is_control()), "{safe:?}");
        let plain = "## Results\na::b | c\n  hint: `x`\n";
        assert_eq!(terminal(plain), plain);
    }

    #[test]
    fn words_of_commands_can_be_pasted() {
        assert_eq!((shell("runs/net-1"), shell("my runs/it's")), ("runs/net-1".into(), "'my runs/it'\\''s'".into()));
        assert_eq!((shell(""), shell("$(x)")), ("''".into(), "'$(x)'".into()));
    }

    #[test]
    fn a_workflow_command_ends_where_it_should() {
        assert_eq!(github("50%\r\n::error::x\u{7}"), "50%25%0A::error::x\u{fffd}");
        assert_eq!(github_property("a:b,c\n"), "a%3Ab%2Cc%0A");
    }

    #[test]
    fn a_file_name_cannot_leave_its_folder() {
        assert_eq!(file_name("../../etc/passwd", 40), "_.._etc_passwd");
        assert_eq!(
            (file_name("..", 9), file_name("", 9), file_name("a b\0c", 3)),
            ("_".into(), "_".into(), "a_b".into())
        );
    }
}

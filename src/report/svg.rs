//! Charts as inline SVG: plain marks with titles, colours from the page's style sheet, text that was escaped here.

use crate::escape;
use std::fmt::Write;

/// Width of every chart in its own units; the page scales it.
const WIDTH: f64 = 560.;

/// Colours (with dashes and marks) that differ; a style beyond them repeats a colour with other dashes.
pub const STYLES: usize = 7;

/// Text for an element or a quoted attribute: one line, escaped.
pub fn text(raw: &str) -> String {
    escape::html(&escape::line(raw))
}

/// At most `most` characters, the last an ellipsis where some are missing.
pub fn short(raw: &str, most: usize) -> String {
    match raw.chars().count() > most {
        true => raw.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
        false => raw.to_string(),
    }
}

/// Coordinates with one decimal, none where it is zero: a report has thousands.
fn px(v: f64) -> String {
    let rounded = if v.is_finite() { (v * 10.).round() / 10. } else { 0. };
    format!("{}", rounded + 0.)
}

/// Numbers on a line of pixels.
#[derive(Debug, Clone, Copy)]
struct Scale {
    from: f64,
    to: f64,
    low: f64,
    high: f64,
    log: bool,
}

impl Scale {
    fn at(&self, v: f64) -> f64 {
        let on = |v: f64| if self.log { v.max(1e-300).log10() } else { v };
        let (from, to) = (on(self.from), on(self.to));
        let share = if to > from { (on(v) - from) / (to - from) } else { 0. };
        self.low + share.clamp(0., 1.) * (self.high - self.low)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let (from, to) = (self.from.log10().floor() as i32, self.to.log10().ceil() as i32);
            let parts: &[f64] = if to - from > 3 { &[1.] } else { &[1., 2., 5.] };
            let all = (from..=to).flat_map(|e| parts.iter().map(move |p| p * 10f64.powi(e)));
            return all.filter(|v| *v >= self.from && *v <= self.to * 1.0001).collect();
        }
        let span = (self.to - self.from).max(1e-12);
        let rough = span / 5.;
        let unit = 10f64.powf(rough.log10().floor());
        let step = [1., 2., 5., 10.].into_iter().map(|f| f * unit).find(|s| *s >= rough * 0.999).unwrap_or(unit);
        let first = (self.from / step - 1e-9).ceil() as i64;
        (first..first + 12).map(|i| i as f64 * step).filter(|v| *v <= self.to + step * 1e-6).collect()
    }
}

/// A number as an axis shows it.
pub fn number(v: f64) -> String {
    match v.abs() {
        0. => "0".to_string(),
        a if a >= 1000. && (a.log10().fract() == 0.) => format!("10^{}", a.log10() as i32),
        a if (1e-3..1e6).contains(&a) => {
            let text = format!("{v:.4}");
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        }
        _ => format!("{v:.1e}"),
    }
}

fn open(height: f64, id: &str, title: &str, about: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\"><title id=\"{id}-t\">{}</title>\
         <desc id=\"{id}-d\">{}</desc>\n",
        px(WIDTH),
        px(height),
        text(title),
        text(about)
    )
}

fn label(out: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    write!(out, "<text x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>", px(x), px(y), text(words)).ok();
}

fn rule(out: &mut String, class: &str, a: (f64, f64), b: (f64, f64)) {
    let [x1, y1, x2, y2] = [a.0, a.1, b.0, b.1].map(px);
    write!(out, "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>").ok();
}

/// The outline of a style's mark around the origin.
fn shape(style: usize) -> &'static str {
    match style % 5 {
        0 => "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        1 => "M-3.5-3.5h7v7h-7z",
        2 => "M0-4.5L4.3 3.3h-8.6z",
        3 => "M0-5L4 0L0 5L-4 0z",
        _ => "M-4.3-3.3h8.6L0 4.5z",
    }
}

/// A mark with its tooltip; `open` ones are hollow.
fn mark(out: &mut String, style: usize, hollow: bool, (x, y): (f64, f64), tip: &str) {
    let class = if hollow { "mark hollow" } else { "mark" };
    let (x, y) = (px(x), px(y));
    let (shape, tip) = (shape(style), text(tip));
    write!(out, "<path class=\"{class}\" d=\"{shape}\" transform=\"translate({x} {y})\"><title>{tip}</title></path>")
        .ok();
}

/// The colour and dash of a series.
pub fn class(style: usize) -> String {
    format!("s{} d{}", style % STYLES, (style / STYLES + style % STYLES) % 4)
}

/// A legend's sample of a style.
pub fn swatch(style: usize) -> String {
    format!(
        "<svg class=\"swatch\" viewBox=\"0 0 32 12\" aria-hidden=\"true\"><g class=\"{}\"><path class=\"line\" \
         d=\"M1 6H31\"/><path class=\"mark\" d=\"{}\" transform=\"translate(16 6)\"/></g></svg>",
        class(style),
        shape(style)
    )
}

/// One curve of a chart.
#[derive(Debug, Clone, Default)]
pub struct Line {
    pub style: usize,
    /// `(x, y)` in ascending x.
    pub points: Vec<(f64, f64)>,
    /// `(x, low, high)`.
    pub band: Vec<(f64, f64, f64)>,
    /// The value stays until the next point.
    pub step: bool,
    /// `(x, y, tooltip)`.
    pub marks: Vec<(f64, f64, String)>,
}

/// What a chart of curves is about; y runs from 0 to 1 and is shown in percent.
pub struct Axes<'a> {
    pub id: &'a str,
    pub title: &'a str,
    pub about: &'a str,
    pub x: &'a str,
    pub y: &'a str,
    pub range: (f64, f64),
    pub log: bool,
}

/// Curves over one x-axis.
pub fn lines(axes: &Axes, all: &[Line]) -> String {
    let height = 320.;
    let (left, right, top, bottom) = (58., WIDTH - 20., 14., height - 50.);
    let x = Scale { from: axes.range.0, to: axes.range.1, low: left, high: right, log: axes.log };
    let y = Scale { from: 0., to: 1., low: bottom, high: top, log: false };
    let mut out = open(height, axes.id, axes.title, axes.about);
    out += "<g class=\"axis\">";
    for v in y.ticks() {
        rule(&mut out, "grid", (left, y.at(v)), (right, y.at(v)));
        label(&mut out, left - 8., y.at(v) + 5., "end", &number(100. * v));
    }
    for v in x.ticks() {
        rule(&mut out, "grid", (x.at(v), top), (x.at(v), bottom));
        label(&mut out, x.at(v), bottom + 18., "middle", &number(v));
    }
    label(&mut out, (left + right) / 2., height - 8., "middle", axes.x);
    let middle = px((top + bottom) / 2.);
    let words = text(axes.y);
    out += &format!("<text x=\"14\" y=\"{middle}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {middle})\">");
    out += &format!("{words}</text></g>\n");
    for line in all {
        write!(out, "<g class=\"{} series k{}\">", class(line.style), line.style).ok();
        curve(&mut out, line, x, y);
        out += "</g>\n";
    }
    out + "</svg>"
}

fn curve(out: &mut String, line: &Line, x: Scale, y: Scale) {
    let place = |(a, b): (f64, f64)| format!("{} {}", px(x.at(a)), px(y.at(b)));
    if line.band.len() > 1 {
        let above = line.band.iter().map(|(a, _, high)| place((*a, *high)));
        let below = line.band.iter().rev().map(|(a, low, _)| place((*a, *low)));
        let all: Vec<String> = above.chain(below).collect();
        write!(out, "<path class=\"band\" d=\"M{}z\"/>", all.join("L")).ok();
    }
    let points = if line.step { steps(&line.points, x) } else { line.points.clone() };
    if points.len() > 1 {
        let all: Vec<String> = points.into_iter().map(place).collect();
        write!(out, "<path class=\"line\" d=\"M{}\"/>", all.join("L")).ok();
    }
    for (a, b, tip) in &line.marks {
        mark(out, line.style, false, (x.at(*a), y.at(*b)), tip);
    }
}

/// The corners of a step curve, at most one step a pixel: more cannot be seen.
fn steps(points: &[(f64, f64)], x: Scale) -> Vec<(f64, f64)> {
    let mut corners: Vec<(f64, f64)> = vec![];
    let column = |v: f64| x.at(v).round() as i64;
    for (i, point) in points.iter().enumerate() {
        if points.get(i + 1).is_some_and(|next| column(next.0) == column(point.0)) && i > 0 {
            continue;
        }
        if let Some(last) = corners.last().copied() {
            corners.push((point.0, last.1));
        }
        corners.push(*point);
    }
    if let Some(last) = corners.last().copied() {
        corners.push((x.to, last.1));
    }
    corners
}

/// Letters of a row's name that are shown.
const NAME: usize = 30;

/// What the longest name takes.
fn room<'a>(names: impl Iterator<Item = &'a str>) -> f64 {
    let most = names.map(|n| n.chars().count()).max().unwrap_or(0).min(NAME);
    (22. + 7.6 * most as f64).max(56.)
}

/// One mark of a row: a value, its interval, hollow or not, and the tooltip.
#[derive(Debug, Clone)]
pub struct Dot {
    pub value: f64,
    pub interval: Option<(f64, f64)>,
    pub hollow: bool,
    pub tip: String,
}

/// One row of a chart of rows.
#[derive(Debug, Clone)]
pub struct Dots {
    pub name: String,
    pub style: usize,
    pub dots: Vec<Dot>,
}

/// Rows of marks on one axis in percent; `linked` joins the marks of a row, a zero line stands where the range crosses it.
pub fn rows(id: &str, title: &str, about: &str, range: (f64, f64), linked: bool, all: &[Dots]) -> String {
    let (left, right, top, pitch) = (room(all.iter().map(|d| d.name.as_str())), WIDTH - 18., 8., 24.);
    let bottom = top + pitch * all.len() as f64;
    let height = bottom + 28.;
    let x = Scale { from: range.0, to: range.1, low: left, high: right, log: false };
    let mut out = open(height, id, title, about);
    out += "<g class=\"axis\">";
    for v in x.ticks() {
        let class = if v == 0. && range.0 < 0. { "zero" } else { "grid" };
        rule(&mut out, class, (x.at(v), top), (x.at(v), bottom));
        label(&mut out, x.at(v), bottom + 18., "middle", &number(100. * v));
    }
    for (i, row) in all.iter().enumerate() {
        let y = top + pitch * (i as f64 + 0.5);
        label(&mut out, left - 10., y + 4., "end", &short(&row.name, NAME));
    }
    out += "</g>\n";
    for (i, row) in all.iter().enumerate() {
        let y = top + pitch * (i as f64 + 0.5);
        write!(out, "<g class=\"{} series k{}\">", class(row.style), row.style).ok();
        if let (true, [first, .., last]) = (linked, row.dots.as_slice()) {
            rule(&mut out, "link", (x.at(first.value), y), (x.at(last.value), y));
        }
        for dot in &row.dots {
            if let Some((low, high)) = dot.interval {
                rule(&mut out, "whisker", (x.at(low), y), (x.at(high), y));
            }
            mark(&mut out, row.style, dot.hollow, (x.at(dot.value), y), &dot.tip);
        }
        out += "</g>\n";
    }
    out + "</svg>"
}

/// One bar: name, style, value, tooltip.
pub type Bar = (String, usize, f64, String);

/// Horizontal bars from zero.
pub fn bars(id: &str, title: &str, about: &str, all: &[Bar]) -> String {
    let (left, right, top, pitch) = (room(all.iter().map(|b| b.0.as_str())), WIDTH - 64., 8., 22.);
    let height = top + pitch * all.len() as f64 + 8.;
    let most = all.iter().map(|b| b.2).fold(0., f64::max);
    let x = Scale { from: 0., to: most.max(1e-9), low: left, high: right, log: false };
    let mut out = open(height, id, title, about);
    for (i, (name, style, value, tip)) in all.iter().enumerate() {
        let y = top + pitch * i as f64;
        out += "<g class=\"axis\">";
        label(&mut out, left - 10., y + 14., "end", &short(name, NAME));
        label(&mut out, x.at(*value) + 6., y + 14., "start", &number((value * 10.).round() / 10.));
        let (y, width, tip) = (px(y + 4.), px((x.at(*value) - left).max(0.5)), text(tip));
        out +=
            &format!("</g><g class=\"{} series k{style}\"><rect class=\"mark bar\" x=\"{}\"", class(*style), px(left));
        out += &format!(" y=\"{y}\" width=\"{width}\" height=\"13\"><title>{tip}</title></rect></g>\n");
    }
    out + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_inside_the_range() {
        let ticks = |from, to, log| Scale { from, to, low: 0., high: 1., log }.ticks();
        assert_eq!(ticks(0., 1., false), [0., 0.2, 0.4, 0.6000000000000001, 0.8, 1.]);
        assert_eq!(ticks(1., 10., true), [1., 2., 5., 10.]);
        assert_eq!(ticks(1., 10_000., true), [1., 10., 100., 1000., 10_000.]);
        assert!(ticks(-0.07, 0.13, false).contains(&0.));
        assert!(ticks(0., 0., false).len() <= 12 && ticks(0., 1e-30, false).len() <= 12);
    }

    #[test]
    fn a_name_cannot_leave_its_text_and_a_number_is_always_one() {
        let line = Line { marks: vec![(f64::NAN, 0.5, "<script>\u{0}\"".into())], ..Line::default() };
        let axes = Axes { id: "a", title: "<b>", about: "", x: "&", y: "", range: (0., 1.), log: false };
        let svg = lines(&axes, &[line]);
        assert!(!svg.contains("<script") && !svg.contains("<b>") && !svg.contains('\u{0}'), "{svg}");
        assert!(!svg.contains("NaN") && svg.contains("&lt;script&gt;\u{fffd}&quot;"), "{svg}");
    }

    #[test]
    fn a_curve_of_many_steps_keeps_one_a_pixel() {
        let points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), f64::from(i) / 1e5)).collect();
        let x = Scale { from: 0., to: 1e5, low: 0., high: 500., log: false };
        let corners = steps(&points, x);
        assert!(corners.len() < 1100, "{}", corners.len());
        assert!((corners[corners.len() - 1].1 - 0.99999).abs() < 1e-9);
    }
}

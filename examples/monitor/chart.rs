//! The chart: the 99th percentile of each second, by policy.

use core::fmt::Write as _;

use crate::world::{PHASES, Seen, summary};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 50.0;
/// Milliseconds at the bottom and at the top.
const RANGE: (f64, f64) = (40.0, 2_500.0);
const COLOURS: [&str; 6] = ["#9a9a9a", "#c2571a", "#b59a1f", "#1f6fb4", "#8a4fb4", "#3a9a5b"];

/// An SVG that is legible on a light and on a dark page.
pub(crate) fn draw(runs: &[(&str, Seen)], seconds: f64) -> String {
    let all = seconds * PHASES.len() as f64;
    let x = |time: f64| LEFT + time / all * WIDTH;
    let y = |ms: f64| {
        let share = (ms.clamp(RANGE.0, RANGE.1) / RANGE.0).ln() / (RANGE.1 / RANGE.0).ln();
        TOP + HEIGHT * (1.0 - share)
    };
    let (width, height) = (LEFT + WIDTH + 20.0, TOP + HEIGHT + 30.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\" fill=\"#777\">\n<title>99th percentile of response times, by second and policy</title>\n"
    );
    for ms in [50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0] {
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {0:.1}h{WIDTH}\" stroke=\"#8884\"/><text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{ms} ms</text>",
            y(ms),
            LEFT - 6.0,
            y(ms) + 4.0
        );
    }
    for (n, phase) in PHASES.iter().enumerate() {
        let start = x(n as f64 * seconds);
        let _ = writeln!(
            svg,
            "<path d=\"M{start:.1} {TOP}v{HEIGHT}\" stroke=\"#8888\"/><text x=\"{:.1}\" y=\"{}\">{}</text>",
            start + 4.0,
            TOP + HEIGHT + 16.0,
            phase.name
        );
    }
    for ((name, seen), (n, colour)) in runs.iter().zip(COLOURS.iter().enumerate()) {
        let points: Vec<String> = (0..all as usize)
            .map(|second| {
                let (p99, _) = summary(seen, second as f64, second as f64 + 1.0, 99.0);
                format!("{:.1},{:.1}", x(second as f64 + 0.5), y(p99))
            })
            .collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" points=\"{}\"/>\
             <text x=\"{}\" y=\"24\" fill=\"{colour}\" font-weight=\"bold\">{name}</text>",
            points.join(" "),
            LEFT + n as f64 * 147.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

//! The figures at a glance: three plots of bars, as SVG.

use std::path::Path;

use anyhow::Context;
use svg::Document;
use svg::node::element::{Line, Rectangle, Text};

use crate::goals::goal;
use crate::summary::Summary;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 270.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 60.0;
const ROW: f64 = 34.0;
const BAR: f64 = 22.0;
const LABEL: f64 = 50.0;
const FLOOR: &str = "#4878a8";
const OVERHEAD: &str = "#d98c4a";
const GOAL: &str = "#b02020";

/// One bar: its name, its parts from the left, and where its goal lies.
struct Bar {
    name: String,
    parts: Vec<(f64, &'static str)>,
    goal: Option<f64>,
    label: String,
}

/// What a reader looks for first.
const LINES: [(&str, &str); 6] = [
    ("intermediate, GMAC", "intermediate.gmac.1k"),
    ("intermediate, HMAC", "intermediate.hmac.1k"),
    ("entrance of 3 hops, GMAC", "entrance.hops3.gmac.1k"),
    ("entrance of 3 hops, HMAC", "entrance.hops3.hmac.1k"),
    ("exit, GMAC", "exit.gmac.1k"),
    ("exit, HMAC", "exit.hmac.1k"),
];

/// Writes `efficiency.svg`, `cycles.svg` and `gbps.svg` into a folder.
///
/// # Errors
/// When a file cannot be written.
pub fn write(summary: &Summary, folder: &Path) -> anyhow::Result<()> {
    let figure = |name: &str, what: &str| summary.figure(&format!("{name}.{what}"));
    let efficiency = LINES.iter().filter_map(|(title, name)| {
        let value = figure(name, "efficiency")?;
        Some(Bar {
            name: (*title).into(),
            parts: vec![(value, FLOOR)],
            goal: goal(&format!("{name}.efficiency")),
            label: format!("{value:.2}"),
        })
    });
    let title = "Efficiency: bare primitives over packet path, 1000 AIVTs (red: the goal)";
    save(folder, "efficiency.svg", title, &efficiency.collect::<Vec<_>>())?;
    let cycles = LINES.iter().filter_map(|(title, name)| {
        let (path, floor) = (figure(name, "cycles")?, figure(name, "floor_cycles")?);
        Some(Bar {
            name: (*title).into(),
            parts: vec![(floor.min(path), FLOOR), ((path - floor).max(0.0), OVERHEAD)],
            goal: None,
            label: format!("{floor:.0} + {:.0}", path - floor),
        })
    });
    let title = "Cycles a packet: bare primitives (blue) and all the rest (orange), 1000 AIVTs";
    save(folder, "cycles.svg", title, &cycles.collect::<Vec<_>>())?;
    let gbps = ["1", "1k", "100k", "1M"].into_iter().filter_map(|count| {
        let name = format!("intermediate.gmac.{count}");
        let value = figure(&name, "gbps")?;
        Some(Bar {
            name: format!("{count} AIVTs"),
            parts: vec![(value, FLOOR)],
            goal: goal(&format!("{name}.gbps")),
            label: format!("{value:.1}"),
        })
    });
    save(
        folder,
        "gbps.svg",
        "Gb/s a core, intermediate AIN, GMAC (red: the goal)",
        &gbps.collect::<Vec<_>>(),
    )
}

fn save(folder: &Path, file: &str, title: &str, bars: &[Bar]) -> anyhow::Result<()> {
    let path = folder.join(file);
    svg::save(&path, &draw(title, bars)).with_context(|| format!("writing {}", path.display()))
}

fn draw(title: &str, bars: &[Bar]) -> Document {
    let longest = bars.iter().map(|bar| {
        bar.parts
            .iter()
            .map(|part| part.0)
            .sum::<f64>()
            .max(bar.goal.unwrap_or(0.0))
    });
    let scale = (WIDTH - LEFT - RIGHT) / longest.fold(f64::MIN_POSITIVE, f64::max);
    let height = TOP + ROW * bars.len() as f64 + 20.0;
    let mut document = Document::new()
        .set("viewBox", (0, 0, WIDTH, height))
        .set("font-family", "sans-serif")
        .set("font-size", 14)
        .add(rectangle(0.0, 0.0, WIDTH, height, "#ffffff"))
        .add(text(title, 20.0, 32.0, "start").set("font-size", 17));
    for (row, bar) in bars.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        document = document.add(text(&bar.name, LEFT - 12.0, y + 16.0, "end"));
        let mut x = LEFT;
        for (value, colour) in &bar.parts {
            document = document.add(rectangle(x, y, value * scale, BAR, colour));
            x += value * scale;
        }
        let goal = bar.goal.map(|goal| LEFT + goal * scale);
        // Not under the goal's line.
        let end = goal.filter(|goal| (x..x + LABEL).contains(goal)).unwrap_or(x);
        document = document.add(text(&bar.label, end + 8.0, y + 16.0, "start"));
        if let Some(x) = goal {
            let line = Line::new()
                .set("x1", x)
                .set("x2", x)
                .set("y1", y - 4.0)
                .set("y2", y + BAR + 4.0);
            document = document.add(line.set("stroke", GOAL).set("stroke-width", 3));
        }
    }
    document
}

fn rectangle(x: f64, y: f64, width: f64, height: f64, colour: &str) -> Rectangle {
    Rectangle::new()
        .set("x", x)
        .set("y", y)
        .set("width", width)
        .set("height", height)
        .set("fill", colour)
}

fn text(what: &str, x: f64, y: f64, anchor: &str) -> Text {
    Text::new(what).set("x", x).set("y", y).set("text-anchor", anchor)
}

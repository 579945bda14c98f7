//! A series as an SVG: a panel for each unit, one below the other.

use std::fmt::{self, Write};

use super::{
    page::grouped,
    series::{Database, Figures, Line, Panel, Scale, Series},
};
use crate::report::number;

const WIDTH: f64 = 800.0;
/// The plotting area of a panel.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 500.0;
const TOP: f64 = 34.0;
const HEIGHT: f64 = 180.0;
/// From one panel to the next: room for the labels of both axes.
const PANEL: f64 = TOP + HEIGHT + 46.0;

/// The background follows the reader's colour scheme, and belongs to the picture.
const STYLE: &str = "
text{font:12px system-ui,sans-serif;fill:#24292f}
.back{fill:#fff}.grid{stroke:#d0d7de;stroke-width:1}.axis{fill:none;stroke:#57606a;stroke-width:1}
.line{fill:none;stroke-width:2}.Sqlite{stroke-dasharray:6 4}
.q0{stroke:#0969da}.q1{stroke:#bc4c00}.q2{stroke:#1a7f37}.q3{stroke:#8250df}.q4{stroke:#bf3989}.q5{stroke:#7d6400}.q6{stroke:#6e7781}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}.back{fill:#0d1117}.grid{stroke:#30363d}.axis{stroke:#8b949e}
.q0{stroke:#58a6ff}.q1{stroke:#f0883e}.q2{stroke:#3fb950}.q3{stroke:#bc8cff}.q4{stroke:#f778ba}.q5{stroke:#d29922}.q6{stroke:#8b949e}}
";

/// A series, to be drawn.
pub(super) struct Plot<'a> {
    pub(super) series: &'a Series,
    pub(super) figures: &'a Figures,
}

impl fmt::Display for Plot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { series, figures } = self;
        let height = PANEL * series.panels.len() as f64 + 8.0;
        writeln!(
            f,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">"#
        )?;
        writeln!(f, "<title>{}</title>", escaped(series.name))?;
        writeln!(f, "<style>{STYLE}</style>")?;
        writeln!(
            f,
            r#"<rect class="back" width="{WIDTH}" height="{height}"/>"#
        )?;
        let across = Ruler::across(&figures.sizes(), series.grows.scale);
        for (index, panel) in series.panels.iter().enumerate() {
            let lines = figures.lines(panel);
            let up = Ruler::up(&lines, panel.scale);
            let offset = PANEL * index as f64;
            writeln!(f, r#"<g transform="translate(0 {offset})">"#)?;
            axes(f, &across, &up, [series.grows.label, panel.unit])?;
            for (place, line) in lines.iter().enumerate() {
                draw(f, &across, &up, (panel, line))?;
                legend(f, place, (panel, line))?;
            }
            writeln!(f, "</g>")?;
        }
        writeln!(f, "</svg>")
    }
}

fn axes(f: &mut dyn Write, across: &Ruler, up: &Ruler, labels: [&str; 2]) -> fmt::Result {
    let bottom = TOP + HEIGHT;
    for (value, text) in &up.ticks {
        let y = up.place(*value);
        writeln!(f, r#"<path class="grid" d="M{LEFT} {y:.1}H{RIGHT}"/>"#)?;
        let (x, y) = (LEFT - 6.0, y + 4.0);
        writeln!(
            f,
            r#"<text x="{x}" y="{y:.1}" text-anchor="end">{text}</text>"#
        )?;
    }
    for (value, text) in &across.ticks {
        let (x, y, end) = (across.place(*value), bottom + 18.0, bottom + 4.0);
        writeln!(f, r#"<path class="axis" d="M{x:.1} {bottom}V{end}"/>"#)?;
        writeln!(
            f,
            r#"<text x="{x:.1}" y="{y}" text-anchor="middle">{text}</text>"#
        )?;
    }
    writeln!(
        f,
        r#"<path class="axis" d="M{LEFT} {TOP}V{bottom}H{RIGHT}"/>"#
    )?;
    let [across, up] = labels.map(escaped);
    let (middle, below, above) = ((LEFT + RIGHT) / 2.0, bottom + 36.0, TOP - 12.0);
    writeln!(
        f,
        r#"<text x="{middle}" y="{below}" text-anchor="middle">{across}</text>"#
    )?;
    writeln!(f, r#"<text x="8" y="{above}">{up}</text>"#)
}

fn draw(f: &mut dyn Write, across: &Ruler, up: &Ruler, of: (&Panel, &Line<'_>)) -> fmt::Result {
    let class = class(of);
    let mut path = String::new();
    for (size, spread) in of.1.points() {
        let x = across.place(size as f64);
        let command = if path.is_empty() { 'M' } else { 'L' };
        write!(path, "{command}{x:.1} {:.1}", up.place(spread.median))?;
        let (from, to) = (up.place(spread.lowest), up.place(spread.highest));
        writeln!(
            f,
            r#"<path class="{class}" style="stroke-dasharray:none" d="M{x:.1} {from:.1}V{to:.1}m-3 0h6"/>"#
        )?;
    }
    writeln!(f, r#"<path class="{class}" d="{path}"/>"#)
}

fn legend(f: &mut dyn Write, place: usize, of: (&Panel, &Line<'_>)) -> fmt::Result {
    let (x, y) = (RIGHT + 16.0, TOP + 8.0 + 17.0 * place as f64);
    let (end, text, base) = (x + 24.0, x + 30.0, y + 4.0);
    let name = escaped(&format!("{}: {}", of.1.database.name(), of.1.quantity));
    writeln!(f, r#"<path class="{}" d="M{x} {y}H{end}"/>"#, class(of))?;
    writeln!(
        f,
        r#"<text x="{text}" y="{base}" style="font-size:10px">{name}</text>"#
    )
}

/// A colour for each quantity, a dash for each database.
fn class((panel, line): (&Panel, &Line<'_>)) -> String {
    let mut quantities = panel.quantities.iter();
    let index = quantities.position(|quantity| *quantity == line.quantity);
    let dash = match line.database {
        Database::Postgres => "",
        Database::Sqlite => " Sqlite",
    };
    format!("line q{}{dash}", index.unwrap_or_default())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// Where values lie along an axis.
struct Ruler {
    scale: Scale,
    /// The values at both ends, after `position`.
    between: [f64; 2],
    /// Both ends in the picture.
    ends: [f64; 2],
    steps: Vec<u64>,
    ticks: Vec<(f64, String)>,
}

impl Ruler {
    fn across(sizes: &[u64], scale: Scale) -> Self {
        let ticks = sizes.iter().map(|size| (*size as f64, grouped(*size)));
        let mut ruler = Self {
            scale,
            between: [0.0, 1.0],
            ends: [LEFT + 16.0, RIGHT - 24.0],
            steps: sizes.to_vec(),
            ticks: ticks.collect(),
        };
        if let (Some(first), Some(last)) = (sizes.first(), sizes.last()) {
            ruler.between = [*first, *last].map(|size| ruler.position(size as f64));
        }
        ruler
    }

    fn up(lines: &[Line<'_>], scale: Scale) -> Self {
        let spreads = lines
            .iter()
            .flat_map(Line::points)
            .map(|(_, spread)| spread);
        let (mut lowest, mut highest) = (f64::INFINITY, f64::MIN_POSITIVE);
        for spread in spreads {
            lowest = lowest.min(spread.lowest);
            highest = highest.max(spread.highest);
        }
        let values = match scale {
            Scale::Log => decades(lowest.max(highest / 1e9), highest),
            Scale::Linear | Scale::Steps => multiples(lowest.min(0.0), highest),
        };
        let mut ruler = Self {
            scale,
            between: [0.0, 1.0],
            ends: [TOP + HEIGHT, TOP],
            steps: Vec::new(),
            ticks: values.iter().map(|value| (*value, tick(*value))).collect(),
        };
        if let (Some(first), Some(last)) = (values.first(), values.last()) {
            ruler.between = [*first, *last].map(|value| ruler.position(value));
        }
        ruler
    }

    fn position(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
            Scale::Steps => {
                let step = self.steps.iter().position(|step| *step as f64 == value);
                step.map_or(value, |step| step as f64)
            }
        }
    }

    /// The place of a value in the picture, which is never left.
    fn place(&self, value: f64) -> f64 {
        let ([first, last], [from, to]) = (self.between, self.ends);
        let share = (self.position(value) - first) / (last - first).max(f64::MIN_POSITIVE);
        from + (to - from) * share.clamp(0.0, 1.0)
    }
}

fn tick(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    number(value)
}

/// Powers of ten around the values, at least two.
fn decades(lowest: f64, highest: f64) -> Vec<f64> {
    let first = lowest.log10().floor() as i32;
    let last = (highest.log10().ceil() as i32).max(first + 1);
    (first..=last).map(|power| 10_f64.powi(power)).collect()
}

/// Four to nine multiples of 1, 2 or 5 times a power of ten, around the values.
fn multiples(lowest: f64, highest: f64) -> Vec<f64> {
    let rough = (highest - lowest) / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let step = factors
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(rough);
    let (first, last) = (
        (lowest / step).floor() as i32,
        (highest / step).ceil() as i32,
    );
    (first..=last)
        .map(|multiple| f64::from(multiple) * step)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Ruler, decades, multiples};
    use crate::growth::series::Scale;

    #[test]
    fn ticks_lie_around_the_values() {
        assert_eq!(decades(0.3, 42.0), [0.1, 1.0, 10.0, 100.0]);
        assert_eq!(decades(10.0, 10.0), [10.0, 100.0]);
        assert_eq!(multiples(0.0, 87.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
    }

    #[test]
    fn steps_are_as_far_apart_as_each_other() {
        let ruler = Ruler::across(&[0, 100_000, 1_000_000], Scale::Steps);
        let places = [0.0, 100_000.0, 1_000_000.0].map(|value| ruler.place(value));
        assert!(places[2] - places[1] - (places[1] - places[0]) < 1e-9);
    }
}

//! Pictures of a graph: Mermaid (GitHub and many wikis show it), DOT (Graphviz), SVG (drawn here, no other program needed).
//!
//! Each box says the step's name and its operator; the shape or colour says the kind. The text is the same for the same graph.

use layout::backends::svg::SVGWriter;
use layout::core::base::Orientation;
use layout::core::color::Color;
use layout::core::geometry::Point;
use layout::core::style::StyleAttr;
use layout::std_shapes::shapes::{Arrow, Element, ShapeKind};
use layout::topo::layout::VisualGraph;

use crate::graph::{Graph, Step};
use crate::operator::Kind;

/// Fill of a box, `0xRRGGBB`: pale, so that black text stays readable.
fn fill(kind: Kind) -> u32 {
    match kind {
        Kind::Source => 0x00d7_ebd7,
        Kind::Measure => 0x00e8_eef7,
        Kind::Filter => 0x00fb_e5d6,
        Kind::Expand => 0x00ed_e3f5,
        Kind::Sink => 0x00ee_eeee,
    }
}

fn edges(graph: &Graph) -> impl Iterator<Item = (usize, usize)> + '_ {
    graph.steps.iter().enumerate().flat_map(|(to, step)| step.inputs.iter().map(move |&from| (from, to)))
}

/// A `flowchart` for Mermaid.
pub fn mermaid(graph: &Graph) -> String {
    let mut out = String::from("flowchart TD\n");
    for (i, step) in graph.steps.iter().enumerate() {
        let (open, close) = match step.kind() {
            Kind::Source => ("([", "])"),
            Kind::Measure => ("[", "]"),
            Kind::Filter => ("{{", "}}"),
            Kind::Expand => ("[/", "\\]"),
            Kind::Sink => ("[(", ")]"),
        };
        // Numbers as ids: a step may be called `end`, which is a word of Mermaid's.
        out.push_str(&format!("    s{i}{open}\"{}<br/><i>{}</i>\"{close}\n", step.name, step.operator.name()));
    }
    for (from, to) in edges(graph) {
        out.push_str(&format!("    s{from} --> s{to}\n"));
    }
    out
}

/// A `digraph` for Graphviz.
pub fn dot(graph: &Graph) -> String {
    // Names have letters, digits, `-` and `_` only: nothing to escape.
    let mut out =
        format!("digraph \"{}\" {{\n    node [shape=box, style=filled, fontname=\"sans-serif\"];\n", graph.pipeline.name);
    for step in &graph.steps {
        let shape = match step.kind() {
            Kind::Source => "ellipse",
            Kind::Measure => "box",
            Kind::Filter => "hexagon",
            Kind::Expand => "invtrapezium",
            Kind::Sink => "cylinder",
        };
        let (name, operator, color) = (&step.name, step.operator.name(), fill(step.kind()));
        out.push_str(&format!("    \"{name}\" [label=\"{name}\\n{operator}\", shape={shape}, fillcolor=\"#{color:06x}\"];\n"));
    }
    for (from, to) in edges(graph) {
        out.push_str(&format!("    \"{}\" -> \"{}\";\n", graph.steps[from].name, graph.steps[to].name));
    }
    out.push_str("}\n");
    out
}

/// A drawing.
pub fn svg(graph: &Graph) -> String {
    const FONT: usize = 14;
    let direction = Orientation::TopToBottom;
    let mut picture = VisualGraph::new(direction);
    let boxed = |step: &Step| {
        let label = format!("{}\n{}", step.name, step.operator.name());
        let letters = label.lines().map(str::len).max().unwrap_or_default();
        let width = u32::try_from(letters.max(8) * FONT * 2 / 3 + 24).unwrap_or(u32::MAX);
        // The crate's colours end with the opacity.
        let style = StyleAttr::new(Color::new(0x4444_44ff), 1, Some(Color::new(fill(step.kind()) << 8 | 0xff)), 6, FONT);
        Element::create(ShapeKind::new_box(&label), style, direction, Point::new(f64::from(width), 52.0))
    };
    let nodes: Vec<_> = graph.steps.iter().map(|step| picture.add_node(boxed(step))).collect();
    for (from, to) in edges(graph) {
        picture.add_edge(Arrow::simple(""), nodes[from], nodes[to]);
    }
    let mut writer = SVGWriter::new();
    picture.do_it(false, false, false, &mut writer);
    writer.finalize()
}

//! YAML text as trees of scalars, lists and maps that know their lines. Scalars stay text: what a plain word means is
//! decided by the field it is given to, not by the word.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Tag};

/// Nodes of a file, copies by aliases included, beyond which it is refused: an alias bomb must not fill the memory.
const MAX_NODES: usize = 2_000_000;

/// A value in a document.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where it begins, from 1.
    pub(super) line: usize,
    pub(super) shape: Shape,
    /// Nodes in this subtree.
    size: usize,
}

#[derive(Debug, Clone)]
pub(super) enum Shape {
    Scalar {
        text: String,
        /// Without quotes and without the tag `!!str`: may mean something else than its text.
        plain: bool,
    },
    Seq(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) value: Node,
}

/// Text that is no YAML we read.
pub(super) struct BadYaml {
    pub(super) document: usize,
    pub(super) line: usize,
    pub(super) reason: String,
}

impl Node {
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match &self.shape {
            Shape::Map(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.value),
            Shape::Scalar { .. } | Shape::Seq(_) => None,
        }
    }

    /// A scalar field's line and text.
    pub(super) fn text(&self, key: &str) -> Option<(usize, &str)> {
        let node = self.get(key)?;
        match &node.shape {
            Shape::Scalar { text, .. } => Some((node.line, text)),
            Shape::Seq(_) | Shape::Map(_) => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        match &self.shape {
            Shape::Scalar { text, plain } => *plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"),
            Shape::Seq(_) | Shape::Map(_) => false,
        }
    }
}

/// Every document of a text.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, BadYaml> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| builder.syntax(&e))?;
        builder.event(event, span.start.line())?;
    }
    Ok(builder.done)
}

#[derive(Default)]
struct Builder {
    done: Vec<Node>,
    /// Lists and maps that are not closed yet.
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

struct Open {
    line: usize,
    anchor: usize,
    shape: OpenShape,
}

enum OpenShape {
    Seq(Vec<Node>),
    Map(OpenMap),
}

#[derive(Default)]
struct OpenMap {
    entries: Vec<Entry>,
    /// On which line each key was given.
    seen: HashMap<String, usize>,
    /// What `<<` brought; keys of the map itself come before them.
    merged: Vec<Entry>,
    /// The key is here while its value is being read.
    key: Option<(String, usize)>,
}

impl Builder {
    fn bad(&self, line: usize, reason: impl Into<String>) -> BadYaml {
        BadYaml {
            document: self.done.len() + 1,
            line,
            reason: reason.into(),
        }
    }

    fn syntax(&self, e: &ScanError) -> BadYaml {
        let (line, column) = (e.marker().line(), e.marker().col() + 1);
        self.bad(line, format!("not YAML: {} (line {line}, column {column})", e.info()))
    }

    fn event(&mut self, event: Event<'_>, line: usize) -> Result<(), BadYaml> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !self.is_string_tag(tag.as_deref(), line)?;
                let shape = Shape::Scalar {
                    text: text.into_owned(),
                    plain,
                };
                self.add(Node { line, shape, size: 1 }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.is_string_tag(tag.as_deref(), line)?;
                self.open.push(Open {
                    line,
                    anchor,
                    shape: OpenShape::Seq(Vec::new()),
                });
                Ok(())
            }
            Event::MappingStart(_, anchor, tag) => {
                self.is_string_tag(tag.as_deref(), line)?;
                self.open.push(Open {
                    line,
                    anchor,
                    shape: OpenShape::Map(OpenMap::default()),
                });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(id) => match self.anchors.get(&id) {
                Some(node) => {
                    let copy = node.clone();
                    self.charge(copy.size, line)?;
                    self.add(copy, 0)
                }
                None => Err(self.bad(line, "an alias inside of what it names")),
            },
            Event::DocumentStart(..) => {
                self.anchors.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Only YAML's own tags mean anything here.
    fn is_string_tag(&self, tag: Option<&Tag>, line: usize) -> Result<bool, BadYaml> {
        match tag {
            None => Ok(false),
            Some(tag) if tag.is_yaml_core_schema() => Ok(tag.is_yaml_core_schema_tag("str")),
            Some(tag) => Err(self.bad(line, format!("tag {tag} means nothing in a manifest"))),
        }
    }

    fn close(&mut self) -> Result<(), BadYaml> {
        let Some(Open { line, anchor, shape }) = self.open.pop() else {
            return Ok(());
        };
        let (shape, size) = match shape {
            OpenShape::Seq(items) => {
                let size = items.iter().map(|n| n.size).sum::<usize>();
                (Shape::Seq(items), size)
            }
            OpenShape::Map(map) => {
                let entries = map.finish();
                let size = entries.iter().map(|e| e.value.size).sum::<usize>();
                (Shape::Map(entries), size)
            }
        };
        self.add(
            Node {
                line,
                shape,
                size: size + 1,
            },
            anchor,
        )
    }

    fn charge(&mut self, nodes: usize, line: usize) -> Result<(), BadYaml> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(self.bad(
                line,
                format!("too large: more than {MAX_NODES} values, copies by aliases counted"),
            ));
        }
        Ok(())
    }

    /// Puts a finished node where it belongs.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), BadYaml> {
        self.charge(1, node.line)?;
        if anchor != 0 {
            self.charge(node.size, node.line)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|o| &mut o.shape) {
            None => self.done.push(node),
            Some(OpenShape::Seq(items)) => items.push(node),
            Some(OpenShape::Map(map)) => {
                let added = map.add(node);
                added.map_err(|(line, reason)| self.bad(line, reason))?;
            }
        }
        Ok(())
    }
}

impl OpenMap {
    /// Takes a key, or the value of the key it has. An error has a line.
    fn add(&mut self, node: Node) -> Result<(), (usize, String)> {
        match self.key.take() {
            None => match node.shape {
                Shape::Scalar { text, .. } => self.key = Some((text, node.line)),
                Shape::Seq(_) | Shape::Map(_) => return Err((node.line, "a key must be text".to_owned())),
            },
            Some((key, line)) if key == "<<" => merge(node, &mut self.merged).map_err(|reason| (line, reason))?,
            Some((key, line)) => {
                if let Some(first) = self.seen.insert(key.clone(), line) {
                    return Err((line, format!("key '{key}' is given twice, first on line {first}")));
                }
                self.entries.push(Entry { key, line, value: node });
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Vec<Entry> {
        for entry in self.merged {
            if self.seen.insert(entry.key.clone(), entry.line).is_none() {
                self.entries.push(entry);
            }
        }
        self.entries
    }
}

/// The value of `<<`: a map, or a list of maps of which the first to have a key wins.
fn merge(node: Node, merged: &mut Vec<Entry>) -> Result<(), String> {
    match node.shape {
        Shape::Map(entries) => merged.extend(entries),
        Shape::Seq(items) => items.into_iter().try_for_each(|item| merge(item, merged))?,
        Shape::Scalar { .. } => return Err("'<<' wants an object, or a list of objects".to_owned()),
    }
    Ok(())
}
